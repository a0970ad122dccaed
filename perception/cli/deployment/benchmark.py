"""Measure what a frame costs in every available engine.

    perception benchmark CONFIG [CHECKPOINT] [--export DIR] [--engine openvino:bf16,...] [--out FILE]

Latency (p50, p90, p99, p99.9) of the network in every engine and of the stages around it, memory, the first
call, and the fraction of this machine's best.
"""
from __future__ import annotations

import argparse
import sys

from ..options import add_config_options, at_least, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config')
    parser.add_argument(
        'checkpoint', nargs='?', default='none', help="weights; 'none' (default) for random ones"
    )
    parser.add_argument(
        '--export', metavar='DIR',
        help='folder of the export: used when it holds one, else written')
    parser.add_argument(
        '--engine',
        help='some engines: ENGINE:PRECISION[:VARIANT], e.g. openvino:bf16,torch:fp32:compile,'
        'torch:fp16:cuda_graph,onnxruntime:fp32:tensorrt (default: all that are available)',
    )
    parser.add_argument(
        '--yardstick', action='store_true',
        help="also, in the same turns, a random network of BEVFormer-tiny's shape, MLPerf Automotive's, "
        'in ONNX Runtime')
    parser.add_argument('--out', metavar='FILE', help='write the measurements as JSON')

    # how long and on what it measures
    parser.add_argument(
        '--runs', type=at_least(1), default=30,
        help='counted calls of each; p99.9 is the worst of fewer than 1000')
    parser.add_argument(
        '--quick', action='store_true', help="a tenth of the time for the machine's peak, fewer runs"
    )
    parser.add_argument(
        '--threads', type=at_least(0), default=0, help='of ONNX Runtime and OpenVINO; 0: their choice'
    )
    parser.add_argument(
        '--budget-s', type=positive, default=120.0,
        help='stop counting after this many seconds for each table'
    )
    parser.add_argument(
        '--random-frames', nargs='?', const=34_752, type=at_least(1), metavar='POINTS',
        help='an invented frame (six images of the test size, a sweep of this many points) instead of the '
        'data')
    add_config_options(parser)


def main(args: argparse.Namespace) -> None:
    """Measure and print; write JSON when asked."""
    from ...core.config import read_config
    from ...core.files import finite, write_json
    from ...deployment.deployed import build_model
    from ...deployment.engines.choices import DEFAULT, parse_engines
    from ...deployment.errors import EngineUnavailable
    from ...deployment.export.network import plain
    from ...deployment.frames import data_frames, random_frames
    from ...deployment.measure import benchmark

    choices = parse_engines(args.engine) if args.engine else DEFAULT
    config = read_config(args.config, args.cfg_options)
    model_config, loader = plain(config.model), config.test_dataloader
    model = build_model(model_config, args.checkpoint)
    if args.random_frames is None:
        frames = data_frames(loader)
    else:
        frames = random_frames(tuple(loader.collate_fn['image_size_hw']), args.random_frames)

    folder = benchmark.prepared_export(
        args.export, model, frames, model_config, plain(loader.dataset), args.checkpoint
    )
    runs = min(args.runs, 10) if args.quick else args.runs
    peak_s = 0.2 if args.quick else 1.5
    try:
        result = benchmark.run_benchmark(
            model, frames, folder, choices, runs, args.budget_s, args.threads, peak_s,
            yardstick=args.yardstick)
    except EngineUnavailable as error:
        sys.exit(str(error))

    print(benchmark.format_result(result))
    if args.out:
        content = finite({'config': args.config, 'checkpoint': args.checkpoint, **result})
        print(f'measurements: {write_json(args.out, content, indent=1)}')
