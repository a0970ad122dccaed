"""Time a frame of ours and mmdet3d's CenterPoint-pillar in turns, in OpenMMLab's environment.

    .venv-mm/bin/python tools/benchmark_peers.py CONFIG [CHECKPOINT] [--engine openvino:bf16] [--out FILE]

Both start from an invented frame in memory and end with decoded predictions; the peer is eager torch, LiDAR
boxes alone. Prints medians and ratios, of the clock and of processor time.
"""
from __future__ import annotations

import argparse

from ..options import add_config_options, at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?', default='none', help="weights; 'none' for random ones")
    parser.add_argument(
        '--export', metavar='DIR', help='folder of the export: used when it holds one, else written')
    parser.add_argument(
        '--engine', default='openvino:fp32', help='ENGINE:PRECISION[:VARIANT], several with commas')
    parser.add_argument('--points', type=at_least(1), default=34_752, help='of the sweep')
    parser.add_argument('--runs', type=at_least(1), default=10, help='counted calls of each')
    parser.add_argument(
        '--threads', type=at_least(0), default=0, help='of torch, ONNX Runtime and OpenVINO; 0: their choice')
    parser.add_argument('--out', metavar='FILE', help='write the measurements as JSON')
    add_config_options(parser)


def main(args: argparse.Namespace) -> None:
    """Measure and print; write JSON when asked."""
    from functools import partial

    import torch

    from ...core.config import read_config
    from ...core.files import write_json
    from ...deployment.deployed import DeployedModel, build_model
    from ...deployment.engines.choices import parse_engines
    from ...deployment.export.graph import graph_inputs
    from ...deployment.export.network import plain
    from ...deployment.frames import random_frames
    from ...deployment.measure import benchmark, peers
    from ...deployment.processor import machine_words

    if args.threads:
        torch.set_num_threads(args.threads)
    config, choices = read_config(args.config, args.cfg_options), parse_engines(args.engine)
    loader, model_config = config.test_dataloader, plain(config.model)
    frames = random_frames(tuple(loader.collate_fn['image_size_hw']), args.points)
    batch = frames.read(0)
    peer = peers.peer_call(batch.lidar_points[0])  # before ours is exported, which takes minutes

    model = build_model(model_config, args.checkpoint)
    folder = benchmark.prepared_export(
        args.export, model, frames, model_config, plain(loader.dataset), args.checkpoint)
    opened = benchmark.open_engines(folder, choices, model, graph_inputs(model, batch), args.threads)
    calls = {
        str(choice): partial(DeployedModel(model, one.engine), batch) for choice, one in opened.items()}
    rows = peers.time_in_turns({**calls, 'CenterPoint-pillar, eager': peer}, args.runs)

    print(machine_words())
    print(peers.format_peers(rows))
    if args.out:
        content = {'config': args.config, 'peer': peers.PEER, 'machine': machine_words(), 'rows': rows}
        print(f'measurements: {write_json(args.out, content, indent=1)}')
