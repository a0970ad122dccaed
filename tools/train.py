"""Train a model: python tools/train.py CONFIG [--work-dir DIR] [--resume] [--amp] [--launcher pytorch]
[--cfg-options k=v ...]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction
    parser = argparse.ArgumentParser(description='Train a multi-task perception model with mmengine.')
    parser.add_argument('config', help='configuration file, e.g. configs/world/camera_lidar.py')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='go on from a checkpoint, or from the newest one of the work dir')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bfloat16 where computed, float16 on other GPUs'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='pytorch: started by torchrun, on GPUs (nccl) or CPUs (gloo)')
    parser.add_argument('--seed', type=int, help='seed of everything (default: the configuration\'s)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='change values of the configuration, e.g. train_dataloader.batch_size=4')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Build the runner from the command line and train."""
    args = parse_args()
    from perception.training.launch import build_runner

    runner = build_runner(
        args.config, work_dir=args.work_dir, resume=args.resume, amp=args.amp, launcher=args.launcher,
        seed=args.seed, options=args.cfg_options)
    runner.train()


if __name__ == '__main__':
    main()
