"""Export a model: python tools/export.py CONFIG CHECKPOINT --out DIR [--compare] [--stages] [--int8 0.05]"""
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
    parser.add_argument('--stages', action='store_true', help='also write one graph per sensor and one for fusion and heads '
                                                              '(DIR/stages); --compare then names the first stage that differs')
    parser.add_argument('--int8', type=float, nargs='?', const=0.05, metavar='LOSS',
                        help='also write network.int8.onnx: layers in int8 as long as the outputs\' relative L2 error stays '
                             'under LOSS (default 0.05)')
    parser.add_argument('--samples', type=int, default=8, help='frames that give int8 its ranges')
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
    chosen = range(0, len(dataset), max(1, len(dataset) // (args.samples if args.int8 is not None else 3)))
    batches = [make_batch([dataset[i]], **collate)['inputs'] for i in chosen[:args.samples if args.int8 is not None else 3]]
    sensors, tasks = (words.split(',') if words else None for words in (args.sensors, args.tasks))
    model_config = select_parts(plain(config.model), sensors, tasks)
    model = MODELS.build(model_config)
    if args.checkpoint != 'none':
        load_weights(model, args.checkpoint, strict=not (args.tasks or args.sensors))
    sidecar = export_network(model, batches[0], args.out, model_config, plain(data.dataset), args.opset)
    size_mb = (Path(args.out) / 'network.onnx').stat().st_size / 1e6
    print(f'{args.out}: network.onnx ({size_mb:.1f} MB, opset {sidecar.opset}), {len(sidecar.inputs)} inputs, '
          f'{len(sidecar.outputs)} outputs, plugin-free')
    if args.stages:
        from perception.deployment.stages import export_stages
        stages = export_stages(model, batches[0], Path(args.out) / 'stages', args.opset)
        print(f'{args.out}/stages: ' + ', '.join(f'{stage.name}.onnx' for stage in stages))
    if args.int8 is not None:
        quantise(args, model, batches)
    if args.compare:
        compare(args, model, batches[:3])


def quantise(args: argparse.Namespace, model: object, batches: list) -> None:
    """Write the int8 network and what it lost into the sidecar."""
    from dataclasses import replace

    from perception.deployment.engines import INT8_NAME
    from perception.deployment.graph import graph_inputs
    from perception.deployment.quantise import Quantiser
    from perception.deployment.sidecar import Sidecar
    quantiser = Quantiser(Path(args.out) / 'network.onnx', [graph_inputs(model, batch) for batch in batches])
    report = quantiser.quantise(Path(args.out) / INT8_NAME, args.int8, report=print)
    sidecar = Sidecar.read(args.out)
    replace(sidecar, measured={**sidecar.measured, 'int8': report.as_dict()}).write(args.out)
    print(f'{report.path}: {report.layers - len(report.kept)} of {report.layers} layers in int8, relative L2 error of the worst '
          f'output {report.loss:.4f} (all layers: {report.loss_all:.4f})')


def compare(args: argparse.Namespace, model: object, batches: list) -> None:
    """Print what every runtime answers against torch, and fail on a difference in fp32."""
    from perception.deployment.compare import compare_engines, format_differences, require_parity
    from perception.deployment.engines import EngineUnavailable, open_engine
    from perception.deployment.graph import graph_inputs
    inputs = [graph_inputs(model, batch) for batch in batches]
    if args.stages:
        compare_by_stage(args, model, inputs)
    reference = open_engine('torch', args.out, 'fp32', model)
    for name, precision in (('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'), ('tensorrt', 'fp16')):
        try:
            found = compare_engines(reference, open_engine(name, args.out, precision), inputs)
        except EngineUnavailable as error:
            print(f'{name} {precision}: {error}')
            continue
        print(format_differences(f'{name} {precision}', found))
        require_parity(found, args.tolerance if precision == 'fp32' else float('inf'), f'{name} {precision}')


def compare_by_stage(args: argparse.Namespace, model: object, inputs: list) -> None:
    """Print what every stage answers against torch on the same stage inputs, and fail at the first one that differs in fp32."""
    from perception.deployment.compare import format_differences, require_parity
    from perception.deployment.stages import compare_stages
    for name, precision in (('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16')):
        found = compare_stages(model, Path(args.out) / 'stages', inputs, name, precision)
        print(format_differences(f'by stage: {name} {precision}', found))
        require_parity(found, args.tolerance if precision == 'fp32' else float('inf'), f'{name} {precision}')


if __name__ == '__main__':
    main()
