"""What a frame costs: python tools/benchmark.py CONFIG [CHECKPOINT] [--export DIR] [--engine
openvino:bf16,...] [--out FILE]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description='Latency (p50, p90, p99) of the network in every engine at hand and of the '
        "stages around it, memory, first call, share of this machine's best."
    )
    parser.add_argument('config')
    parser.add_argument(
        'checkpoint', nargs='?', default='none', help="weights; 'none' (default) for random ones"
    )
    parser.add_argument(
        '--export', metavar='DIR',
        help='folder of tools/export.py: used when it holds an export, else written')
    parser.add_argument(
        '--engine',
        help='some engines: ENGINE:PRECISION[:VARIANT], e.g. openvino:bf16,torch:fp32:compile,'
        'torch:fp16:cuda_graph,onnxruntime:fp32:tensorrt (default: all at hand)',
    )
    parser.add_argument('--out', metavar='FILE', help='write the figures as JSON')
    parser.add_argument('--runs', type=int, default=30, help='counted calls of each')
    parser.add_argument(
        '--quick', action='store_true', help="a tenth of the time for the machine's peak, fewer runs"
    )
    parser.add_argument(
        '--threads', type=int, default=0, help='of ONNX Runtime and OpenVINO; 0: their choice'
    )
    parser.add_argument(
        '--budget-s', type=float, default=120.0, help='stop counting after this many seconds for each table'
    )
    parser.add_argument(
        '--random-frames',
        nargs='?',
        const=34_752,
        type=int,
        metavar='POINTS',
        help='an invented frame (six images of the test size, a sweep of this many points) instead of the data',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Measure and print; write JSON when asked."""
    args = parse_args()
    from perception.core.config import read_config
    from perception.core.files import finite, write_json
    from perception.deployment.deployed import build_model
    from perception.deployment.engines.choices import DEFAULT, parse_engines
    from perception.deployment.errors import EngineUnavailable
    from perception.deployment.export.network import plain
    from perception.deployment.frames import data_frames, random_frames
    from perception.deployment.measure import benchmark
    config = read_config(args.config, args.cfg_options)
    model_config, loader = plain(config.model), config.test_dataloader
    model = build_model(model_config, args.checkpoint)
    frames = data_frames(loader) if args.random_frames is None else \
        random_frames(tuple(loader.collate_fn['image_size_hw']), args.random_frames)
    folder = benchmark.prepared_export(
        args.export, model, frames, model_config, plain(loader.dataset), args.checkpoint
    )
    choices = parse_engines(args.engine) if args.engine else DEFAULT
    try:
        result = benchmark.run_benchmark(
            model, frames, folder, choices, min(args.runs, 10) if args.quick else args.runs, args.budget_s,
            args.threads, 0.2 if args.quick else 1.5)
    except EngineUnavailable as error:
        sys.exit(str(error))
    print(benchmark.format_result(result))
    if args.out:
        figures = finite({'config': args.config, 'checkpoint': args.checkpoint, **result})
        print(f'figures: {write_json(args.out, figures, indent=1)}')


if __name__ == '__main__':
    main()
