"""Export a model: python tools/export.py CONFIG CHECKPOINT --out DIR [--compare] [--stages] [--int8]
[--measure]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description='Write network.onnx and sidecar.json: fixed shapes, ordinary operators only, '
        'calibration as inputs, so that one file serves every car.'
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones (timing only)")
    parser.add_argument('--out', required=True, metavar='DIR')
    parser.add_argument('--tasks', help='some of the configuration\'s tasks, e.g. detection,lanes')
    parser.add_argument('--sensors', help='some of the configuration\'s sensors, e.g. lidar')
    parser.add_argument('--opset', type=int, default=18, help='17 to 20')
    parser.add_argument(
        '--compare', action='store_true', help='run the exported network in every runtime at hand and compare'
    )
    parser.add_argument(
        '--stages',
        action='store_true',
        help='also write one graph per sensor and one for fusion and heads '
        '(DIR/stages); --compare then names the first stage that differs',
    )
    parser.add_argument(
        '--tolerance', type=float, default=1e-3, help='largest relative difference of fp32 engines'
    )
    parser.add_argument(
        '--int8',
        type=float,
        nargs='?',
        const=0.01,
        metavar='SHARE',
        help='also write int8 networks: layers in int8 as long as every task keeps all but SHARE (default '
        '0.01) of its float score',
    )
    parser.add_argument(
        '--int8-engine',
        default='onnxruntime,openvino',
        metavar='ENGINES',
        help='engines that int8 is for: each gets a network of its own and judges it itself (default: '
        'onnxruntime,openvino; also openvino:nncf, tensorrt, any: one for engines not at hand)',
    )
    parser.add_argument(
        '--int8-error', type=float, metavar='LOSS',
        help="hold the outputs' L2 error under LOSS instead, which needs no labels and no trained weights")
    parser.add_argument(
        '--samples', type=int, default=8, help='frames of the training split that give int8 its ranges'
    )
    parser.add_argument(
        '--score-samples', type=int, default=32, metavar='N',
        help='frames of the test split that scores are judged on, by --int8 and --measure; 0: all of them')
    parser.add_argument(
        '--measure', action='store_true', help='write scores and latency of every engine into the sidecar'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Export; compare, quantise and measure when asked."""
    args = parse_args()
    from perception.core.config import read_config
    from perception.deployment.deployed import build_model
    from perception.deployment.export.graph import graph_inputs
    from perception.deployment.export.network import export_network, plain, select_parts
    from perception.deployment.frames import data_frames
    from perception.deployment.measure.compare import compare_export
    config = read_config(args.config, args.cfg_options)
    frames = data_frames(config.test_dataloader)
    sensors, tasks = (words.split(',') if words else None for words in (args.sensors, args.tasks))
    config.model = select_parts(plain(config.model), sensors, tasks)
    model = build_model(plain(config.model), args.checkpoint, strict=not (args.tasks or args.sensors))
    batch = frames.read(0)
    sidecar = export_network(
        model, batch, args.out, plain(config.model), plain(config.test_dataloader.dataset), args.opset
    )
    print(
        f'{args.out}: network.onnx ({(Path(args.out) / "network.onnx").stat().st_size / 1e6:.1f} MB, opset {sidecar.opset}), '
        f'{len(sidecar.inputs)} inputs, {len(sidecar.outputs)} outputs, plugin-free'
    )
    if args.stages:
        from perception.deployment.measure.stages import export_stages
        print(
            f'{args.out}/stages: '
            + ', '.join(
                f'{stage.name}.onnx'
                for stage in export_stages(model, batch, Path(args.out) / 'stages', args.opset)
            )
        )
    if args.compare:
        inputs = [graph_inputs(model, frames.read(index)) for index in frames.spread(3)]
        compare_export(args.out, model, inputs, args.tolerance, args.stages)
    if args.int8 is not None or args.int8_error is not None:
        quantise(args, config, model, frames)
    if args.measure:
        from perception.deployment.export.sidecar import Sidecar
        from perception.deployment.measure.table import fill_table, format_table, make_job
        rows = fill_table(make_job(config, args.checkpoint, args.out, args.score_samples or None))
        Sidecar.read(args.out).with_rows(rows).write(args.out)
        print(format_table(rows))


def quantise(args: argparse.Namespace, config: object, model: object, frames: object) -> None:
    """Write an int8 network for each engine, and what it lost into the sidecar."""
    from perception.deployment.export.graph import graph_inputs
    from perception.deployment.frames import data_frames
    from perception.deployment.int8.export import quantise_export
    from perception.deployment.measure.scores import Scorer
    known = data_frames(config.test_dataloader, split=config.train_dataloader.dataset.split)
    scorer = (
        Scorer(model, frames, config.test_evaluator, args.score_samples or None)
        if args.int8_error is None
        else None
    )
    found = quantise_export(
        args.out, (graph_inputs(model, known.read(i)) for i in known.spread(args.samples)),
        args.int8 if args.int8_error is None else args.int8_error, scorer, args.int8_engine)
    for report in found.values():
        print(
            f'{report.path}: {report.layers - len(report.kept)} of {report.layers} layers in int8, lost {report.loss:.4f} '
            f'(all: {report.loss_all:.4f})'
        )


if __name__ == '__main__':
    main()
