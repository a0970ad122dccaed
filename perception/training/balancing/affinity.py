"""Which tasks help which: angles between their gradients, and what one task's step does to the others."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .base import TaskLosses
from .flat import moved
from .gradients import cosines, flat_gradient, forward_apart, shared_parameters

MOST_TASKS = 10
"""Partitions of more tasks than that are too many to try: there are 115975 of ten."""


@dataclass(frozen=True)
class Affinity:
    """What a set of batches says of T tasks.

    Attributes:
        tasks: their names.
        cosines_TT: mean cosine of the gradients in the shared parameters.
        gains_TT: [i, j] is by which share the loss of task j falls when the shared parameters take a step
            along task i's gradient, mean over the batches (Fifty et al. 2021, arXiv 2109.04617, eq. 1).
        batches: how many counted for each pair `(T, T)`: those with labels of both.
    """

    tasks: tuple[str, ...]
    cosines_TT: Tensor
    gains_TT: Tensor
    batches_TT: Tensor


def measure_affinity(
    model: nn.Module, load: Callable[[], Any], batches: int, move: float = 1e-3
) -> Affinity:
    """Angles and look-ahead gains of a model as it stands; its weights and statistics stay.

    Args:
        model: with heads and shared parameters; it is put into training.
        load: the next batch, as a loader gives it.
        batches: how many.
        move: length of the look-ahead step, in lengths of the vector of shared parameters: equal for all
            tasks, whatever their losses' scale.

    Raises:
        ValueError: fewer than two tasks, or they share no trained parameter.
    """
    tasks = tuple(getattr(model, 'heads', {}))
    if len(tasks) < 2:
        raise ValueError(f'affinity: expected at least 2 tasks, found {len(tasks)} ({", ".join(tasks)})')
    shared = list(shared_parameters(model).values())
    length = float(torch.cat([parameter.detach().float().flatten() for parameter in shared]).norm())

    model.train()
    angles, gains, counts = (torch.zeros(len(tasks), len(tasks), dtype=torch.float64) for _ in range(3))
    for number in range(batches):
        inputs = model.data_preprocessor(load(), True)
        losses = _losses(model, inputs, tasks, number)
        before_T = losses.values()
        rows_TP = torch.stack([flat_gradient(loss, shared) for loss in losses.sums()])
        active_T = (before_T > 0) & (rows_TP.norm(dim=1) > 0).cpu()
        both_TT = active_T[:, None] & active_T

        counts += both_TT
        angles += torch.where(both_TT, cosines((rows_TP @ rows_TP.T).double().cpu()), 0.0)
        for i in active_T.nonzero().flatten().tolist():
            step = -rows_TP[i] * (move * length / rows_TP[i].norm())
            with moved(shared, step), torch.no_grad():
                after_T = _losses(model, inputs, tasks, number).values()
            gains[i] += torch.where(both_TT[i], 1 - after_T / before_T, 0.0)
    return Affinity(tasks, angles / counts, gains / counts, counts)


def _losses(model: nn.Module, inputs: dict[str, Any], tasks: Sequence[str], draw: int) -> TaskLosses:
    """Losses with the same random draws every time, the norms' statistics put back."""
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        terms = forward_apart(model, inputs)
    return TaskLosses(terms, tuple(tasks))


def propose_groups(gains_TT: Tensor) -> tuple[tuple[tuple[int, ...], ...], float]:
    """The partition of the tasks in which they help one another most.

    A task's gain in a group is the mean of what the others' steps do for it; alone it is 0 (Fifty et al.
    2021, section 3.2, every task trained once).

    Args:
        gains_TT: see `Affinity`; what is not a number counts as 0.

    Returns:
        The groups, and the mean over the tasks of their gain.

    Raises:
        ValueError: too many tasks to try all partitions.
    """
    gains = gains_TT.nan_to_num(0.0).tolist()
    if len(gains) > MOST_TASKS:
        raise ValueError(f'affinity: groups are proposed for up to {MOST_TASKS} tasks, found {len(gains)}')

    def worth(groups: list[list[int]]) -> float:
        return sum(
            sum(gains[i][j] for i in group if i != j) / (len(group) - 1)
            for group in groups if len(group) > 1 for j in group) / len(gains)

    best = max(partitions(len(gains)), key=worth)
    return tuple(tuple(group) for group in best), worth(best)


def partitions(count: int) -> Iterator[list[list[int]]]:
    """All ways to part 0 ... count - 1 into groups."""
    if count == 0:
        yield []
        return
    last = count - 1
    for groups in partitions(last):
        yield [*groups, [last]]
        for place, group in enumerate(groups):
            yield [*groups[:place], [*group, last], *groups[place + 1:]]


def format_affinity(affinity: Affinity) -> str:
    """Both matrices as tables of markdown: rows act, columns are acted on."""
    head = '| | ' + ' | '.join(affinity.tasks) + ' |\n|---|' + '---|' * len(affinity.tasks)
    lines = ['cosine of the gradients in the shared parameters', '', head]
    for task, row in zip(affinity.tasks, affinity.cosines_TT.tolist(), strict=True):
        lines.append(f'| {task} | ' + ' | '.join(f'{value:+.2f}' for value in row) + ' |')

    lines += ['', "percent by which the column's loss falls after a step along the row's gradient", '', head]
    for task, row in zip(affinity.tasks, affinity.gains_TT.tolist(), strict=True):
        lines.append(f'| {task} | ' + ' | '.join(f'{100 * value:+.2f}' for value in row) + ' |')
    return '\n'.join(lines)
