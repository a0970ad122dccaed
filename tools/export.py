"""Export a model: python tools/export.py CONFIG CHECKPOINT --out DIR [--compare]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction
    parser = argparse.ArgumentParser(description='Write network.onnx and sidecar.json: fixed shapes, ordinary operators only, '
                                                 'calibration as inputs, so that one file serves every car.')
    parser.add_argument('config')
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones (timing only)")
    parser.add_argument('--out', required=True, metavar='DIR')
    parser.add_argument('--tasks', help='some of the configuration\'s tasks, e.g. detection,lanes')
    parser.add_argument('--sensors', help='some of the configuration\'s sensors, e.g. lidar')
    parser.add_argument('--opset', type=int, default=18, help='17 to 20')
    parser.add_argument('--compare', action='store_true', help='run the exported network in every runtime at hand and compare')
    parser.add_argument('--tolerance', type=float, default=1e-3, help='largest relative difference of fp32 engines')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Export, and compare when asked."""
    args = parse_args()
    from perception.deployment.export import export_network, plain, select_parts
    from perception.registry import DATASETS, FUNCTIONS, MODELS
    from perception.training.checkpoint import load_weights
    from perception.training.runner import read_config
    config = read_config(args.config, args.cfg_options)
    data = config.test_dataloader
    dataset, collate = DATASETS.build(data.dataset), dict(data.collate_fn)
    make_batch = FUNCTIONS.get(collate.pop('type'))
    batches = [make_batch([dataset[i]], **collate)['inputs'] for i in range(min(3, len(dataset)))]
    sensors, tasks = (words.split(',') if words else None for words in (args.sensors, args.tasks))
    model_config = select_parts(plain(config.model), sensors, tasks)
    model = MODELS.build(model_config)
    if args.checkpoint != 'none':
        load_weights(model, args.checkpoint, strict=not (args.tasks or args.sensors))
    sidecar = export_network(model, batches[0], args.out, model_config, plain(data.dataset), args.opset)
    size_mb = (Path(args.out) / 'network.onnx').stat().st_size / 1e6
    print(f'{args.out}: network.onnx ({size_mb:.1f} MB, opset {sidecar.opset}), {len(sidecar.inputs)} inputs, '
          f'{len(sidecar.outputs)} outputs, plugin-free')
    if args.compare:
        compare(args, model, batches)


def compare(args: argparse.Namespace, model: object, batches: list) -> None:
    """Print what every runtime answers against torch, and fail on a difference in fp32."""
    from perception.deployment.compare import compare_engines, format_differences, require_parity
    from perception.deployment.engines import EngineUnavailable, open_engine
    from perception.deployment.graph import graph_inputs
    inputs = [graph_inputs(model, batch) for batch in batches]
    reference = open_engine('torch', args.out, 'fp32', model)
    for name, precision in (('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'), ('tensorrt', 'fp16')):
        try:
            found = compare_engines(reference, open_engine(name, args.out, precision), inputs)
        except (EngineUnavailable, ImportError) as error:
            print(f'{name} {precision}: {error}')
            continue
        print(format_differences(f'{name} {precision}', found))
        require_parity(found, args.tolerance if precision == 'fp32' else float('inf'), f'{name} {precision}')


if __name__ == '__main__':
    main()
