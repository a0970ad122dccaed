"""Train a model of a configuration.

    perception train configs/world/camera_lidar.py
    perception train CONFIG --work-dir DIR --resume --amp --cfg-options train_dataloader.batch_size=4
    perception train CONFIG --work-dir DIR --overwrite
    torchrun --standalone --nproc_per_node 2 tools/train.py CONFIG --launcher pytorch

Logs and checkpoints go to the work dir.
"""
from __future__ import annotations

import argparse

from ..options import add_config_options, add_launcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='configuration file, e.g. configs/world/camera_lidar.py')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from a checkpoint, or from the newest whole one of the work dir, if there is any')
    parser.add_argument(
        '--overwrite', action='store_true',
        help='start from nothing in a work dir that has checkpoints: they are removed')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bfloat16 where computed, float16 on other GPUs'
    )
    parser.add_argument('--seed', type=int, help="seed of everything (default: the configuration's)")
    add_launcher(parser)
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse what contradicts itself."""
    if args.resume and args.overwrite:
        parser.error('--resume goes on from what --overwrite would remove: leave one of the two out')


def main(args: argparse.Namespace) -> None:
    """Build the runner from the command line and train."""
    from ...core.processes import terminate_as_interrupt
    from ...training.launch import build_runner

    terminate_as_interrupt()
    runner = build_runner(
        args.config, work_dir=args.work_dir, resume=args.resume, amp=args.amp, launcher=args.launcher,
        seed=args.seed, options=args.cfg_options, overwrite=args.overwrite)
    runner.train()
