"""Which samples are drawn: balanced classes, every process its share, the same on every machine, new in every
epoch."""
from __future__ import annotations

from collections import Counter
from itertools import islice

import mmengine.dataset  # noqa: F401  registers its samplers and wrappers
import numpy as np
import pytest

from perception.core.selection import split_draw
from perception.datasets.reading import sampler as module
from perception.datasets.reading.sampler import (
    ClassBalancedSampler,
    NumberedSampler,
    SeededSampler,
    number_draws,
    read_class_counts,
)
from perception.registry import DATA_SAMPLERS


class Numbers:
    """A dataset of which only its length and its boxes per class are known."""

    def __init__(self, counts: np.ndarray, accepts_draws: bool = False) -> None:
        self.counts, self.accepts_draws = np.asarray(counts), accepts_draws

    def __len__(self) -> int:
        return len(self.counts)

    def class_counts(self) -> np.ndarray:
        return self.counts


def rare_dataset(**options) -> Numbers:
    """100 samples: all have cars, 10 have buses as well, 2 have bicycles, the last 5 have nothing."""
    counts = np.zeros((100, 10), int)
    counts[:95, 0], counts[:10, 2], counts[3:5, 7] = 4, 1, 2
    return Numbers(counts, **options)


def in_processes(monkeypatch: pytest.MonkeyPatch, count: int, make):
    """One sampler per process, as each would be built there."""
    samplers = []
    for rank in range(count):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, count))
        samplers.append(make())
    return samplers


def test_draws_are_numbered() -> None:
    numbers = number_draws(np.array([2, 0, 2, 1, 2]), epoch=0, size=3)
    assert [split_draw(n, 3) for n in numbers] == [(0, 2), (0, 0), (1, 2), (0, 1), (2, 2)]
    assert min(numbers) >= 3  # or draw 0 would look like a plain index
    later = number_draws(np.array([2, 0, 2, 1, 2]), epoch=1, size=3)
    assert [split_draw(n, 3)[1] for n in later] == [2, 0, 2, 1, 2]
    assert not set(numbers.tolist()) & set(later.tolist())
    assert number_draws(np.zeros(0, int), 0, 3).shape == (0,)


def test_a_plain_index_has_no_draw() -> None:
    assert split_draw(5, 10) == (None, 5)


@pytest.mark.parametrize('inner', ['DefaultSampler', 'InfiniteSampler'])
def test_draws_of_other_samplers_are_numbered(inner: str) -> None:
    dataset = Numbers(np.ones((4, 10), int), accepts_draws=True)
    make = lambda: DATA_SAMPLERS.build(  # noqa: E731
        dict(type='NumberedSampler', sampler=dict(type=inner)), default_args=dict(dataset=dataset, seed=3))
    sampler = make()
    draws = [split_draw(n, 4) for n in islice(sampler, 8)]
    if inner == 'DefaultSampler':  # this one ends
        sampler.set_epoch(1)
        draws += [split_draw(n, 4) for n in sampler]

    assert len(set(draws)) == 8 and None not in [draw for draw, _ in draws]
    # the order is the other sampler's, and the same from the same seed
    plain = DATA_SAMPLERS.build(dict(type=inner), default_args=dict(dataset=dataset, seed=3))
    assert [index for _, index in draws[:4]] == list(islice(plain, 4))
    assert draws[:4] == [split_draw(n, 4) for n in islice(make(), 4)]
    assert list(islice(NumberedSampler([5, 6], [1, 0]), 2)) == [1, 0]  # who takes no draws gets none


def test_passes_count_themselves() -> None:
    """Whoever forgets `set_epoch` gets new orders and new draws all the same."""
    told, forgotten = (SeededSampler(rare_dataset(accepts_draws=True), seed=0) for _ in range(2))
    for epoch in range(3):
        told.set_epoch(epoch)
        assert list(told) == list(forgotten)


def test_a_pass_can_begin_inside() -> None:
    sampler = SeededSampler(rare_dataset(accepts_draws=True), seed=0)
    whole = list(sampler)
    sampler.set_epoch(0)
    sampler.start_at(97)
    assert list(sampler) == whole[97:] and len(sampler) == 100
    assert len(list(sampler)) == 100  # the next one is whole


def test_draws_of_an_epoch_are_all_different() -> None:
    sampler = ClassBalancedSampler(rare_dataset(accepts_draws=True), seed=0)
    numbers = list(sampler)
    assert len(set(numbers)) == len(numbers)
    sampler.set_epoch(1)
    assert not set(numbers) & set(sampler)
    assert max(split_draw(n, 100)[1] for n in numbers) < 100


def test_every_sample_once() -> None:
    sampler = SeededSampler(rare_dataset(), seed=0)
    assert sorted(sampler) == list(range(100)) and len(sampler) == 100
    assert list(SeededSampler(rare_dataset(), shuffle=False, seed=0)) == list(range(100))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    make = lambda seed: SeededSampler(rare_dataset(), seed=seed)  # noqa: E731
    assert list(make(0)) == list(make(0)) != list(make(1))
    sampler = make(0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


@pytest.mark.parametrize(('processes', 'round_up', 'lengths'), [(2, True, [50, 50]), (3, True, [34, 34, 34]),
                                                                (3, False, [34, 33, 33])])
def test_processes_share_the_samples(monkeypatch, processes: int, round_up: bool, lengths: list) -> None:
    samplers = in_processes(
        monkeypatch, processes, lambda: SeededSampler(rare_dataset(), seed=0, round_up=round_up)
    )
    shares = [list(s) for s in samplers]
    assert [len(s) for s in shares] == lengths == [len(s) for s in samplers]
    assert set().union(*shares) == set(range(100))


def test_the_same_global_batch_for_any_number_of_processes(monkeypatch) -> None:
    alone = list(SeededSampler(rare_dataset(accepts_draws=True), seed=0))
    two = [
        list(s)
        for s in in_processes(monkeypatch, 2, lambda: SeededSampler(rare_dataset(accepts_draws=True), seed=0))
    ]
    assert [n for both in zip(*two, strict=True) for n in both] == alone


def test_the_epoch_reaches_a_dataset_that_asks() -> None:
    class Asking(Numbers):
        epoch = None

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    dataset = Asking(np.ones((3, 10), int))
    SeededSampler(dataset, seed=0).set_epoch(4)
    assert dataset.epoch == 4


def test_every_class_draws_its_share() -> None:
    """95 + 10 + 2 = 107 samples by class, three classes: 35 draws each."""
    sampler = ClassBalancedSampler(rare_dataset(), seed=0)
    drawn = Counter(sampler)
    assert len(sampler) == sum(drawn.values()) == 105 and sampler.per_class == 35
    bicycles, buses = drawn[3] + drawn[4], sum(drawn[i] for i in range(10))
    assert bicycles >= 35 and buses >= 70  # those with a bicycle have a bus too
    assert not any(drawn[i] for i in range(95, 100))  # nothing in them: never drawn


@pytest.mark.parametrize(('tasks', 'boxed', 'empty'), [
    (('detection',), 105, 0), (('detection', 'map_segmentation'), 105, 5), (('occupancy', 'lanes'), 95, 5)])
def test_samples_without_boxes_are_drawn_for_the_other_tasks(tasks, boxed, empty) -> None:
    """Once each an epoch; and where no boxes are learned every sample is."""
    dataset = rare_dataset()
    dataset.tasks = tasks
    sampler = ClassBalancedSampler(dataset, seed=0)
    drawn = Counter(sampler)
    assert len(sampler) == boxed + empty
    assert [drawn[i] for i in range(95, 100)] == [empty // 5] * 5
    assert ('detection' in tasks) == (max(drawn.values()) > 1)


def test_balance_over_many_epochs_is_that_of_the_paper() -> None:
    sampler = ClassBalancedSampler(rare_dataset(), seed=0)
    drawn = Counter()
    for epoch in range(200):
        sampler.set_epoch(epoch)
        drawn.update(sampler)
    mean = np.array([drawn[i] for i in range(100)]) / 200
    np.testing.assert_allclose(mean[10:95], 35 / 95, atol=0.2)  # cars alone
    np.testing.assert_allclose(mean[[0, 1, 2]], 35 / 95 + 35 / 10, atol=0.5)  # and buses
    np.testing.assert_allclose(mean[[3, 4]], 35 / 95 + 35 / 10 + 35 / 2, atol=1.5)  # and bicycles


def test_balanced_draws_are_shared_by_processes(monkeypatch) -> None:
    alone = list(ClassBalancedSampler(rare_dataset(), seed=5))
    shares = [
        list(s) for s in in_processes(monkeypatch, 4, lambda: ClassBalancedSampler(rare_dataset(), seed=5))
    ]
    assert [len(s) for s in shares] == [27] * 4
    # three repeated to fill up
    assert Counter(n for s in shares for n in s) - Counter(alone) == Counter(alone[:3])


@pytest.mark.parametrize('count', [10, 500])
def test_epoch_of_another_length(count: int) -> None:
    sampler = ClassBalancedSampler(rare_dataset(), seed=0, samples_per_epoch=count)
    assert len(sampler) == len(list(sampler)) == count


def test_counts_asked_one_by_one() -> None:
    class OneByOne(Numbers):
        def class_counts(self, index: int) -> np.ndarray:
            return self.counts[index]

    dataset = OneByOne(rare_dataset().counts)
    np.testing.assert_array_equal(read_class_counts(dataset), dataset.counts)
    assert list(ClassBalancedSampler(dataset, seed=0)) == list(ClassBalancedSampler(rare_dataset(), seed=0))


def test_errors() -> None:
    with pytest.raises(ValueError, match='none of the dataset'):
        ClassBalancedSampler(Numbers(np.zeros((4, 10), int)), seed=0)
    with pytest.raises(ValueError, match='needs a method class_counts'):
        ClassBalancedSampler([1, 2, 3], seed=0)
    broken = rare_dataset()
    broken.class_counts = lambda: np.zeros(10)
    with pytest.raises(ValueError, match=r'expected shape \(100, classes\), found \(10,\)'):
        ClassBalancedSampler(broken, seed=0)


def test_built_as_the_runner_builds_them() -> None:
    sampler = DATA_SAMPLERS.build(
        dict(type='ClassBalancedSampler'), default_args=dict(dataset=rare_dataset(), seed=3)
    )
    assert isinstance(sampler, ClassBalancedSampler) and sampler.seed == 3
    sampler = DATA_SAMPLERS.build(
        dict(type='SeededSampler', shuffle=False), default_args=dict(dataset=rare_dataset(), seed=3)
    )
    assert list(sampler)[:3] == [0, 1, 2]
