"""What a frame costs: python tools/benchmark.py CONFIG [CHECKPOINT] [--export DIR] [--engine openvino:bf16,...] [--out FILE]"""
from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction
    parser = argparse.ArgumentParser(description='Latency (p50, p90, p99) of the network in every engine at hand and of the '
                                                 'stages around it, memory, first call, share of this machine\'s best.')
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?', default='none', help="weights; 'none' (default) for random ones")
    parser.add_argument('--export', metavar='DIR', help='folder of tools/export.py: used when it holds an export, else written')
    parser.add_argument('--engine', help='some engines, e.g. torch:fp32,openvino:bf16 (default: all at hand)')
    parser.add_argument('--out', metavar='FILE', help='write the figures as JSON')
    parser.add_argument('--runs', type=int, default=30, help='counted calls of each')
    parser.add_argument('--quick', action='store_true', help='a tenth of the time for the machine\'s peak, fewer runs')
    parser.add_argument('--threads', type=int, default=0, help='of ONNX Runtime and OpenVINO; 0: their choice')
    parser.add_argument('--budget-s', type=float, default=120.0, help='stop counting after this many seconds for each table')
    parser.add_argument('--random-frames', nargs='?', const=34_752, type=int, metavar='POINTS',
                        help='invented frames (six images of the test size, this many LiDAR points) instead of the data')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def random_frames(config: object, points: int) -> object:
    """A ring of six cameras and a cloud, without files: for machines without data, and for sizes the data does not have."""
    import numpy as np
    import torch

    from perception.contracts import Batch, Frame
    from perception.deployment.benchmark import Frames
    from perception.geometry import make_transform
    (h, w), n, rng = config.test_dataloader.collate_fn['image_size_hw'], 6, np.random.default_rng(0)
    yaws = [2 * math.pi * i / n for i in range(n)]
    poses = np.stack([make_transform(np.array([[math.sin(a), 0, math.cos(a)], [-math.cos(a), 0, math.sin(a)], [0, -1, 0]]),
                                     np.array([0.0, 0.0, 1.5])) for a in yaws]).astype(np.float32)
    K = torch.tensor([[0.7 * w, 0, w / 2], [0, 0.7 * w, h / 2], [0, 0, 1.0]]).expand(1, n, 3, 3).contiguous()
    cloud = np.concatenate([rng.normal(0, 15, (points, 2)), rng.uniform(-1, 2, (points, 1)), rng.uniform(0, 255, (points, 1)),
                            rng.integers(0, 32, (points, 1)), np.zeros((points, 1))], 1).astype(np.float32)
    batch = Batch((Frame('random', 0, np.eye(4)),), torch.from_numpy(rng.integers(0, 256, (1, n, 3, h, w), dtype=np.uint8)), K,
                  torch.from_numpy(poses)[None], torch.ones(1, n, dtype=torch.bool), (torch.from_numpy(cloud),),
                  torch.ones(1, dtype=torch.bool))
    return Frames(lambda i: batch, 1)


def data_frames(config: object) -> object:
    """Frames of the test split, from their files."""
    from perception.deployment.benchmark import Frames
    from perception.registry import DATASETS, FUNCTIONS
    dataset, collate = DATASETS.build(config.test_dataloader.dataset), dict(config.test_dataloader.collate_fn)
    make_batch = FUNCTIONS.get(collate.pop('type'))
    return Frames(lambda i: make_batch([dataset[i]], **collate)['inputs'], len(dataset))


def prepared_export(args: argparse.Namespace, config: object, model: object, frames: object) -> Path:
    """The folder of the network: the one given when it holds an export, else a new one."""
    from perception.deployment.export import export_network, plain
    from perception.deployment.sidecar import SIDECAR_NAME, Sidecar
    folder = Path(args.export or Path(tempfile.mkdtemp(prefix='export_')))
    if (folder / SIDECAR_NAME).is_file():
        sidecar = Sidecar.read(folder)
        if args.checkpoint != 'none':
            sidecar.check_weights(model, args.checkpoint)
    else:
        export_network(model, frames.read(0), folder, plain(config.model), plain(config.test_dataloader.dataset))
    return folder


def main() -> None:
    """Measure and print; write JSON when asked."""
    args = parse_args()
    import torch

    from perception.deployment import benchmark, timing
    from perception.deployment.deployed import without_pretrained
    from perception.deployment.export import plain
    from perception.deployment.graph import graph_inputs
    from perception.registry import MODELS
    from perception.training.checkpoint import load_weights
    from perception.training.runner import read_config
    config = read_config(args.config, args.cfg_options)
    model = MODELS.build(without_pretrained(plain(config.model))).eval()
    if args.checkpoint != 'none':
        load_weights(model, args.checkpoint)
    frames = random_frames(config, args.random_frames) if args.random_frames else data_frames(config)
    runs = min(args.runs, 10) if args.quick else args.runs
    machine = timing.machine_name() | {'torch_threads': torch.get_num_threads()}
    machine |= timing.machine_peak(0.2 if args.quick else 1.5)
    folder, inputs = prepared_export(args, config, model, frames), graph_inputs(model, frames.read(0))
    choices = [tuple(word.partition(':')[::2]) for word in args.engine.split(',')] if args.engine else benchmark.CHOICES
    opened = benchmark.open_all(folder, choices, model, inputs, args.threads)
    if not opened:
        sys.exit('none of the engines asked for is to be had here')
    latencies = timing.measure_together({key: lambda e=o.engine: e.infer(inputs) for key, o in opened.items()}, runs,
                                        budget_s=args.budget_s)
    flops = benchmark.count_flops(model, inputs)
    rows = [benchmark.engine_row(key, opened[key], latencies[key], flops, machine, folder) for key in opened]
    best = min(opened, key=lambda key: latencies[key].p50_ms)
    stages = benchmark.stage_latencies(model, frames, opened[best].engine, runs, args.budget_s)
    stages['pipelined'] = benchmark.pipelined_latency(model, frames, opened[best].engine, runs)
    result = {'config': args.config, 'checkpoint': args.checkpoint, 'date': datetime.date.today().isoformat(), 'machine': machine,
              'gflop': flops / 1e9, 'engines': rows, 'stages_engine': list(best),
              'stages': {name: latency.as_dict() for name, latency in stages.items()},
              'pipelined_over_network': stages['pipelined'].p50_ms / stages['network'].p50_ms,
              'frame_over_network': stages['frame'].p50_ms / stages['network'].p50_ms, 'peak_memory_mb': timing.peak_memory_mb()}
    print_result(result)
    if args.out:
        write(Path(args.out), result)


def print_result(result: dict) -> None:
    """Everything measured, for a person."""
    from perception.deployment.benchmark import format_rows
    machine = result['machine']
    print(f'{machine["processor"]}, {machine["cores"]} cores, {" ".join(machine["instructions"])}; measured best: '
          f'{machine["matrix_fp32_gflops"]:.0f} GFLOP/s fp32, {machine["matrix_bf16_gflops"]:.0f} bf16, '
          f'{machine["copy_gb_per_s"]:.1f} GB/s copying')
    print(f'network alone, {result["gflop"]:.2f} GFLOP a frame\n' + format_rows(result['engines']))
    print(f'\nfrom sensor files to answers with {" ".join(result["stages_engine"])}: frame = all one after the other; '
          'pipelined = time between answers when the stages overlap')
    for name, latency in result['stages'].items():
        print(f'  {name:<12}{latency["p50_ms"]:>9.1f} ms p50{latency["p90_ms"]:>9.1f} p90{latency["p99_ms"]:>9.1f} p99')
    print(f'  over the network alone: frame {result["frame_over_network"]:.2f}, pipelined '
          f'{result["pipelined_over_network"]:.2f}; memory at most {result["peak_memory_mb"]:.0f} MB')


def write(path: Path, result: dict) -> None:
    """JSON under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(json.dumps(result, indent=1), encoding='utf-8')
    os.replace(partial, path)
    print(f'figures: {path}')


if __name__ == '__main__':
    main()
