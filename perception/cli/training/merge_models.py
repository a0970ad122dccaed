"""Merge single-task models that started from the same weights, or average the weights of one model.

    perception merge-models START --models detection=a.pth lanes=b.pth --out FILE.pth
    perception merge-models START --models detection=a.pth lanes=b.pth --method breadcrumbs --out FILE.pth
    perception merge-models a.pth b.pth c.pth --out FILE.pth

Nothing is trained. Without --models: the mean of all weights, for the last epochs of a training or trainings
of one configuration from one start. With it: one model with the heads of all; prints how far each model has
gone from the start, and the angles between their ways.
"""
from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument(
        'checkpoint', nargs='+', metavar='CHECKPOINT',
        help='those whose weights are averaged; with --models: one, what all trainings started from')
    parser.add_argument('--models', nargs='+', metavar='TASK=FILE', help='a checkpoint for each task')
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')
    parser.add_argument('--method', default='arithmetic', choices=['arithmetic', 'breadcrumbs'])
    parser.add_argument(
        '--strength', type=float, default=0.3, help='of the sum of the changes (default: 0.3)')
    parser.add_argument(
        '--drop-largest', type=float, default=0.1,
        help="breadcrumbs: share of a tensor's changes to leave out, the largest (default: 0.1)")
    parser.add_argument(
        '--keep', type=float, default=0.2,
        help="breadcrumbs: share of a tensor's changes to keep, the next largest (default: 0.2)")


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Split TASK=FILE and see that the files are there."""
    if not args.models:
        if len(args.checkpoint) < 2:
            parser.error('expected --models, or at least two checkpoints to average')
        return
    if len(args.checkpoint) > 1:
        parser.error(f'--models: expected one START, found {len(args.checkpoint)} checkpoints')

    models = {}
    for word in args.models:
        task, equals, path = word.partition('=')
        if not equals or not task or task in models:
            parser.error(f'argument --models: expected TASK=FILE, each task once, found {word!r}')
        models[task] = path
    args.models = models


def main(args: argparse.Namespace) -> None:
    """Read, merge or average, write."""
    if args.models:
        merge(args)
    else:
        average(args)


def average(args: argparse.Namespace) -> None:
    """Write the mean of the weights."""
    import torch

    from ...core.checkpoint import read_checkpoint
    from ...core.files import write_whole
    from ...training.merging.arithmetic import average_weights

    states = {path: read_checkpoint(path)['state_dict'] for path in args.checkpoint}
    averaged = average_weights(states)
    meta = {'averaged': [Path(path).name for path in args.checkpoint]}
    write_whole(args.out, lambda file: torch.save({'state_dict': averaged, 'meta': meta}, file))
    print(f'{args.out}: {len(averaged)} tensors, the mean of {len(states)}')


def merge(args: argparse.Namespace) -> None:
    """Write one model with the heads of all."""
    import torch

    from ...core.checkpoint import read_checkpoint
    from ...core.files import write_whole
    from ...training.merging.arithmetic import MergeOptions, merge_models

    options = MergeOptions(args.method, args.strength, args.drop_largest, args.keep)
    start = read_checkpoint(args.checkpoint[0])['state_dict']
    models = {task: read_checkpoint(path)['state_dict'] for task, path in args.models.items()}
    merged, report = merge_models(start, models, options)

    meta = {'merged': {task: Path(path).name for task, path in args.models.items()}}
    write_whole(args.out, lambda file: torch.save({'state_dict': merged, 'meta': meta}, file))
    for task, length in report.lengths.items():
        far = '  (far: did it start there?)' if length > 1 else ''
        print(f'{task}: {length:.1%} from the start{far}')
    for pair, cosine in report.cosines.items():
        print(f'{pair}: cosine {cosine:+.2f}')
    print(f'{args.out}: {len(merged)} tensors')
