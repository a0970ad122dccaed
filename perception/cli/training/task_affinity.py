"""Measure which tasks help which, and propose groups.

    perception task-affinity CONFIG [CHECKPOINT ...] [--batches N] [--out FILE.json]

At every checkpoint (without any: at the weights a training would start from) the cosine between the tasks'
gradients in the shared parameters, and by how much each task's loss falls when the shared parameters take a
small step along another's gradient. Prints tables and a proposal of which tasks to train together; --out
writes them as JSON and a picture beside it. Nothing is trained.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import add_config_options, at_least

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', help='configuration file, e.g. configs/world/camera_lidar.py')
    parser.add_argument('checkpoints', nargs='*', metavar='CHECKPOINT', help='of one training, in its order')
    parser.add_argument(
        '--batches', type=at_least(1), default=20, metavar='N', help='training batches (default: 20)')
    parser.add_argument(
        '--move', type=float, default=1e-3, metavar='SHARE',
        help='length of the look-ahead step over that of the shared parameters (default: 0.001)')
    parser.add_argument('--out', metavar='FILE', help='also write JSON, and a picture beside it')
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse steps of no length."""
    if not 0 < args.move < 1:
        parser.error(f'argument --move: expected a number between 0 and 1, found {args.move}')


def main(args: argparse.Namespace) -> None:
    """Measure, print, write."""
    import torch
    from mmengine.registry import init_default_scope

    from ...core.checkpoint import match_weights, read_checkpoint
    from ...core.config import SCOPE, read_config
    from ...registry import MODELS
    from ...training.balancing.affinity import format_affinity, measure_affinity, propose_groups
    from .profile_step import batches

    init_default_scope(SCOPE)
    config = read_config(args.config, args.cfg_options)
    torch.manual_seed(config.get('randomness', {}).get('seed', 0))
    model = MODELS.build(config.model.to_dict())

    measured = []
    for path in args.checkpoints or [None]:
        if path is not None:
            match_weights(model, read_checkpoint(path)['state_dict'], path)
        # the same batches at every checkpoint, and nothing remembered of the last one
        model.forget()
        load = batches(config.train_dataloader, model.memory is not None)
        affinity = measure_affinity(model, load, args.batches, args.move)
        name = 'start' if path is None else Path(path).stem
        measured.append((name, affinity))
        print(f'\n## {name}\n\n{format_affinity(affinity)}')

    tasks = measured[0][1].tasks
    mean = torch.stack([affinity.gains_TT for _, affinity in measured]).nanmean(0)
    groups, gain = propose_groups(mean)
    named = [[tasks[i] for i in group] for group in groups]
    together = '; '.join(' + '.join(group) for group in named)
    print(f'\ntrain together: {together} (mean gain {gain:+.2%} a step)')
    if args.out:
        write_affinity(args.out, measured, named, gain)


def write_affinity(path: str, measured: list, groups: list[list[str]], gain: float) -> None:
    """JSON at `path`, the picture beside it."""
    from ...core.files import write_json
    from .affinity_picture import draw_matrices

    tasks = measured[0][1].tasks
    report = {
        'tasks': tasks, 'groups': groups, 'mean_gain': gain,
        'checkpoints': {
            name: {'cosines': known(affinity.cosines_TT), 'gains': known(affinity.gains_TT),
                   'batches': affinity.batches_TT.tolist()}
            for name, affinity in measured}}
    write_json(path, report, indent=1)
    rows = [
        (name, {'cosine of gradients': affinity.cosines_TT.tolist(),
                'gain in percent, row acts on column': (100 * affinity.gains_TT).tolist()})
        for name, affinity in measured]
    print(f'{path}, {draw_matrices(Path(path).with_suffix(".png"), tasks, rows)}')


def known(matrix_TT: Tensor) -> list[list[float | None]]:
    """Rows of numbers; None for a pair that no batch had labels of."""
    return [[None if value != value else value for value in row] for row in matrix_TT.tolist()]
