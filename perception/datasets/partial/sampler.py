"""Every task seen at its share, however few samples have its labels."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ...registry import DATA_SAMPLERS
from ..reading.sampler import SeededSampler


@DATA_SAMPLERS.register_module()
class TaskBalancedSampler(SeededSampler):
    """Each task draws its share of an epoch from the samples that have its labels.

    A task's samples come once each before any comes again, in a new order every round. A sample drawn for one
    task also teaches the others that it has labels of, so every task learns from its share of an epoch at
    least. Samples without any label are never drawn.

    Args:
        dataset: has `label_table() -> bool (S, T)` and `tasks`, T of them.
        shares: {task: share of the draws}, in any unit; tasks that are not named get none of their own. None:
            as much for each task that has labels.
        seed, round_up: as in `SeededSampler`.
        samples_per_epoch: draws of an epoch; as many as there are labelled samples by default.

    Attributes:
        shares: {task: share}, together 1.

    Raises:
        ValueError: no sample has a label; a task with a share has none, or is not of the dataset; a share is
            not above 0.
    """

    def __init__(
        self,
        dataset: Any,
        shares: Mapping[str, float] | None = None,
        seed: int | None = None,
        round_up: bool = True,
        samples_per_epoch: int | None = None,
    ) -> None:
        if not hasattr(dataset, 'label_table'):
            raise ValueError(
                f'{type(dataset).__name__}: task-balanced sampling needs a method label_table, found none')
        table_ST, tasks = dataset.label_table(), tuple(dataset.tasks)
        members = {task: np.flatnonzero(table_ST[:, t]) for t, task in enumerate(tasks)}
        self.shares = _checked_shares(shares, members)
        self.members = {task: members[task] for task in self.shares}
        self.samples_per_epoch = samples_per_epoch or int(table_ST.any(1).sum())
        super().__init__(dataset, True, seed, round_up)

    def _total(self) -> int:
        return self.samples_per_epoch

    def counts(self) -> dict[str, int]:
        """Draws of an epoch for each task; what rounding leaves goes to those that it cut most."""
        exact = np.array(list(self.shares.values())) * self.samples_per_epoch
        whole = np.floor(exact + 1e-9).astype(int)
        for t in np.argsort(-(exact - whole), kind='stable')[:self.samples_per_epoch - whole.sum()]:
            whole[t] += 1
        return dict(zip(self.shares, whole.tolist(), strict=True))

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        drawn = []
        for task, count in self.counts().items():
            members = self.members[task]
            rounds = [rng.permutation(members) for _ in range(math.ceil(count / len(members)))]
            drawn.append(np.concatenate([np.zeros(0, np.int64), *rounds])[:count])
        return rng.permutation(np.concatenate(drawn))


def _checked_shares(
    shares: Mapping[str, float] | None, members: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """Shares that sum to 1."""
    labelled = [task for task, indices in members.items() if len(indices)]
    if not labelled:
        raise ValueError(
            f'task-balanced sampling: none of the samples has labels of {", ".join(members) or "any task"}')

    shares = dict.fromkeys(labelled, 1.0) if shares is None else dict(shares)
    for task, share in shares.items():
        if task not in labelled:
            raise ValueError(
                f'shares: expected tasks that some sample has labels of ({", ".join(labelled)}), found '
                f'{task!r}')
        if not isinstance(share, Real) or not 0 < share < math.inf:
            raise ValueError(f'shares[{task!r}]: expected a number above 0, found {share!r}')

    if not shares:
        raise ValueError('shares: expected at least one task, found none')
    return {task: share / sum(shares.values()) for task, share in shares.items()}
