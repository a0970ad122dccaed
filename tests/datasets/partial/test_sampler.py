"""Every task is drawn at its share, again in the same order for the same seed, on any number of processes."""
from __future__ import annotations

import numpy as np
import pytest

from perception.datasets.partial import sampler as module
from perception.datasets.partial.sampler import TaskBalancedSampler


class Labelled:
    """100 samples: all have boxes, ten have lanes, two occupancy too; one more has nothing."""

    tasks = ('detection', 'occupancy', 'lanes')

    def __init__(self) -> None:
        self.table = np.zeros((101, 3), bool)
        self.table[:100, 0], self.table[:2, 1], self.table[5:15, 2] = True, True, True

    def __len__(self) -> int:
        return 101

    def label_table(self) -> np.ndarray:
        return self.table


def test_every_task_draws_its_share() -> None:
    sampler = TaskBalancedSampler(Labelled(), seed=0)
    assert sampler.counts() == {'detection': 34, 'occupancy': 33, 'lanes': 33} and len(sampler) == 100
    drawn = np.array(list(sampler))
    counts = np.bincount(drawn, minlength=101)
    assert counts[100] == 0 and counts[:2].sum() >= 33 and counts[5:15].sum() >= 33
    assert counts[:2].min() >= 16  # in rounds: no sample twice more often than another of its task
    assert abs(int(counts[5:15].max()) - int(counts[5:15].min())) <= 2


def test_shares_and_length_can_be_chosen() -> None:
    shares = {'detection': 3, 'lanes': 1}
    sampler = TaskBalancedSampler(Labelled(), shares=shares, seed=0, samples_per_epoch=40)
    assert sampler.counts() == {'detection': 30, 'lanes': 10} and len(sampler) == 40
    counts = np.bincount(list(sampler), minlength=101)
    assert counts[5:15].min() >= 1 and counts.sum() == 40


def test_seed_epoch_and_resuming() -> None:
    one, other = (TaskBalancedSampler(Labelled(), seed=1) for _ in range(2))
    first, second = list(one), list(one)
    assert first == list(other) and first != second
    other.set_epoch(1)
    other.start_at(30)
    assert list(other) == second[30:]
    assert first != list(TaskBalancedSampler(Labelled(), seed=2))


def test_processes_share_the_draws_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(TaskBalancedSampler(Labelled(), seed=1))
    parts = []
    for rank in range(2):
        monkeypatch.setattr('perception.datasets.reading.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(list(TaskBalancedSampler(Labelled(), seed=1)))
    assert parts[0] == whole[::2] and parts[1] == whole[1::2]
    assert module.SeededSampler in TaskBalancedSampler.__mro__


@pytest.mark.parametrize(('shares', 'message'), [
    ({'map_segmentation': 1}, r"some sample has labels of \(detection, occupancy, lanes\), found 'map_seg"),
    ({'lanes': 0}, r"shares\['lanes'\]: expected a number above 0, found 0"),
    ({}, 'shares: expected at least one task, found none'),
])
def test_bad_shares(shares: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskBalancedSampler(Labelled(), shares=shares)


def test_without_any_label() -> None:
    bare = Labelled()
    bare.table[:] = False
    with pytest.raises(ValueError, match='none of the samples has labels of detection, occupancy, lanes'):
        TaskBalancedSampler(bare)
    with pytest.raises(ValueError, match='list: task-balanced sampling needs a method label_table'):
        TaskBalancedSampler([])
