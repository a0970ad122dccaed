"""Label the training frames that lack labels with what a trained model is sure of.

    perception pseudo-label CONFIG CHECKPOINT --out FOLDER [--tasks detection lanes]
    perception pseudo-label CONFIG CHECKPOINT --out FOLDER --confidence detection=0.5 occupancy=0.9

Predictions of at least a task's confidence become labels, weighted by how sure the model is. A training
reads them with `train_dataloader.dataset.reading.pseudo_labels=FOLDER`; a frame's own labels go first. A run
that was stopped goes on where it was. docs/multi_task.md says what the losses make of the weights.
"""
from __future__ import annotations

import argparse

from ..options import add_config_options

TASKS = ('detection', 'map_segmentation', 'occupancy', 'lanes')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='whose training split to label, e.g. configs/world/camera_lidar.py')
    parser.add_argument('checkpoint', help="the teacher's weights, of the same configuration")
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder to write, or to go on with')
    parser.add_argument(
        '--tasks', nargs='+', choices=TASKS, metavar='TASK', help='only these (default: all it predicts)')
    parser.add_argument(
        '--confidence', nargs='+', default=[], metavar='TASK=X',
        help='what a label of a task needs at least, above 0 and at most 1 (default: 0.4 for boxes and '
        'lanes, 0.75 for cells of the map and voxels)')
    parser.add_argument(
        '--everywhere', action='store_true',
        help='also frames that have labels: to compare the two; a training reads its own first all the same')
    parser.add_argument('--device', help='cpu or cuda (default: cuda where there is one)')
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Read TASK=X."""
    confidence = {}
    for word in args.confidence:
        task, _, number = word.partition('=')
        try:
            confidence[task] = float(number)
        except ValueError:
            confidence[task] = 0.0
        if task not in TASKS or not 0 < confidence[task] <= 1:
            parser.error(
                f'argument --confidence: expected TASK=X of {", ".join(TASKS)}, X above 0 and at most 1, '
                f'found {word!r}')
    args.confidence = confidence


def main(args: argparse.Namespace) -> None:
    """Label, and say how much."""
    import torch
    from mmengine.registry import init_default_scope

    from ...core.config import SCOPE, read_config
    from .teacher import TeacherOptions, label_frames

    init_default_scope(SCOPE)
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    tasks = None if args.tasks is None else tuple(dict.fromkeys(args.tasks))
    options = TeacherOptions(tasks, args.confidence, args.everywhere, device)
    counts = label_frames(
        read_config(args.config, args.cfg_options), args.checkpoint, args.out, options,
        lambda line: print(line, flush=True))
    print(f'{args.out}: ' + ', '.join(f'{task} {count} frames' for task, count in counts.items()))
