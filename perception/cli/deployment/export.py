"""Export a model to ONNX: network.onnx, network.fp16.onnx and sidecar.json.

    perception export CONFIG CHECKPOINT --out DIR [--compare] [--stages] [--int8] [--measure]

Fixed shapes, ordinary operators only, calibration as inputs, so that one file serves every car.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..options import add_config_options, at_least, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config')
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones (timing only)")
    parser.add_argument('--out', required=True, metavar='DIR')
    parser.add_argument('--tasks', help="some of the configuration's tasks, e.g. detection,lanes")
    parser.add_argument('--sensors', help="some of the configuration's sensors, e.g. lidar")
    parser.add_argument('--opset', type=int, default=18, choices=range(17, 21), metavar='N', help='17 to 20')

    # checks of the export
    parser.add_argument(
        '--compare', action='store_true',
        help='run the exported network in every available runtime and compare')
    parser.add_argument(
        '--sequence', type=at_least(0), default=0, metavar='N',
        help='with --compare: also N frames of one drive that follow each other, each runtime with a '
        'memory of its own')
    parser.add_argument(
        '--stages', action='store_true',
        help='also write one graph per sensor and one for fusion and heads (DIR/stages); --compare then '
        'names the first stage that differs')
    parser.add_argument(
        '--tolerance', type=positive, default=1e-3, help='largest relative difference of fp32 engines'
    )
    add_int8_arguments(parser)

    # measurements
    parser.add_argument(
        '--score-samples', type=at_least(0), default=32, metavar='N',
        help='frames of the test split that are scored, by --int8 and --measure; 0: all of them')
    parser.add_argument(
        '--measure', action='store_true', help='write scores and latency of every engine into the sidecar'
    )
    add_config_options(parser)


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the int8 networks."""
    parser.add_argument(
        '--int8', type=positive, nargs='?', const=0.01, metavar='FRACTION',
        help='also write int8 networks: layers in int8 as long as every task keeps all but FRACTION (default '
        '0.01) of its float score')
    parser.add_argument(
        '--int8-engine', default='onnxruntime,openvino', metavar='ENGINES',
        help='engines that int8 is for: each gets a network of its own and scores it itself (default: '
        'onnxruntime,openvino; also openvino:nncf, tensorrt, any: one for engines that are not available)')
    parser.add_argument(
        '--int8-error', type=positive, metavar='LOSS',
        help="hold the outputs' L2 error under LOSS instead, which needs no labels and no trained weights")
    parser.add_argument(
        '--samples', type=at_least(1), default=8,
        help='frames of the training split that give int8 its ranges')


def main(args: argparse.Namespace) -> None:
    """Export; compare, quantise and measure when asked."""
    from ...core.config import read_config
    from ...deployment.deployed import build_model
    from ...deployment.errors import ExportError
    from ...deployment.export.graph import describe_cuts
    from ...deployment.export.half import export_half
    from ...deployment.export.network import export_network, plain, select_parts
    from ...deployment.frames import data_frames
    from ...deployment.measure.compare import compare_export, compare_sequence
    from ...deployment.memory import first_drive, sampled_inputs

    config = read_config(args.config, args.cfg_options)
    frames = data_frames(config.test_dataloader)
    sensors = args.sensors.split(',') if args.sensors else None
    tasks = args.tasks.split(',') if args.tasks else None
    config.model = select_parts(plain(config.model), sensors, tasks)
    model = build_model(plain(config.model), args.checkpoint, strict=not (args.tasks or args.sensors))

    out, batch = Path(args.out), frames.read(0)
    sidecar = export_network(
        model, batch, out, plain(config.model), plain(config.test_dataloader.dataset), args.opset
    )
    size_mb = (out / 'network.onnx').stat().st_size / 1e6
    print(
        f'{out}: network.onnx ({size_mb:.1f} MB, opset {sidecar.opset}), {len(sidecar.inputs)} inputs, '
        f'{len(sidecar.outputs)} outputs, plugin-free'
    )
    samples = list(sampled_inputs(model, frames, frames.spread(3)))
    try:
        print(f'{out}: {export_half(out, samples).summary()}')
    except ExportError as error:
        print(f'{out}: no network in half precision: {error}')
    if args.stages:
        from ...deployment.measure.stages import export_stages
        stages = export_stages(model, batch, out / 'stages', args.opset)
        print(f'{out}/stages: ' + ', '.join(f'{stage.name}.onnx' for stage in stages))

    if args.compare:
        compare_export(args.out, model, samples, args.tolerance, args.stages)
    if args.compare and args.sequence:
        compare_sequence(args.out, model, list(first_drive(frames, args.sequence)), args.tolerance)
    if args.int8 is not None or args.int8_error is not None:
        write_int8(args, config, model, frames)
    if args.measure:
        measure_engines(args, config)
    for line in describe_cuts(model):
        print(line)


def write_int8(args: argparse.Namespace, config: Any, model: Any, frames: Any) -> None:
    """Write an int8 network for each engine, and what it lost into the sidecar."""
    from ...deployment.frames import data_frames
    from ...deployment.int8.export import quantise_export
    from ...deployment.measure.scores import Scorer
    from ...deployment.memory import sampled_inputs

    # ranges come from the training split, scores from the test split
    known = data_frames(config.test_dataloader, split=config.train_dataloader.dataset.split)
    if args.int8_error is None:
        scorer, limit = Scorer(model, frames, config.test_evaluator, args.score_samples or None), args.int8
    else:
        scorer, limit = None, args.int8_error
    reports = quantise_export(
        args.out, sampled_inputs(model, known, known.spread(args.samples)), limit, scorer, args.int8_engine)

    for report in reports.values():
        print(report.summary())


def measure_engines(args: argparse.Namespace, config: Any) -> None:
    """Write scores and latency of every engine into the sidecar and print them."""
    from ...deployment.export.sidecar import Sidecar
    from ...deployment.measure.table import fill_table, format_engine_table, make_job

    rows = fill_table(make_job(config, args.checkpoint, args.out, args.score_samples or None))
    Sidecar.read(args.out).with_rows(rows).write(args.out)
    print(format_engine_table(rows))
