"""Every place of a batch follows a drive of its own, whoever shares the places."""
from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from perception.core.selection import Part, split_draw, spread_drives
from perception.datasets.drives import sampler as module
from perception.datasets.drives.sampler import StreamSampler
from perception.datasets.reading.wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset

LENGTHS = (5, 3, 7, 1, 4)


class Drives:
    """Drives of some lengths, their frames interleaved, so that neighbours belong to different ones."""

    accepts_draws = True
    test_mode = False

    def __init__(self, lengths: tuple[int, ...] = LENGTHS) -> None:
        frames = sorted((i, d) for d, n in enumerate(lengths) for i in range(n))
        self.places = [(d, i) for i, d in frames]
        self.followed = False

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple:
        draw, index = split_draw(number, len(self))
        return (draw, *self.places[index])

    def drives(self) -> list[list[int]]:
        drives: dict[int, list[int]] = {}
        for index, (drive, _) in enumerate(self.places):
            drives.setdefault(drive, []).append(index)
        return list(drives.values())

    def follow_drives(self) -> None:
        self.followed = True

    def get_cat_ids(self, index: int) -> list[int]:
        return [0] if self.places[index] == (0, 0) else []

    def class_counts(self) -> np.ndarray:
        """The class 0 in drive 1 alone, the class 1 everywhere."""
        counts = np.zeros((len(self), 10), int)
        counts[[place == (1, 2) for place in self.places], 0] = 1
        counts[:, 1] = 2
        return counts


def make(batch_size: int = 1, processes: int = 1, rank: int = 0, dataset=None, **options) -> StreamSampler:
    """A sampler of one process of several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'get_dist_info', lambda: (rank, processes))
        return StreamSampler(dataset or Drives(), batch_size=batch_size, seed=3, **options)


def steps(sampler: StreamSampler) -> list[list[tuple]]:
    """What stands at each place of this process, step by step: [step][place] = (draw, drive, frame)."""
    frames = [sampler.dataset[number] for number in sampler]
    assert len(frames) == len(sampler)
    size = sampler.places // sampler.world_size
    return [frames[i:i + size] for i in range(0, len(frames), size)]


def all_places(processes: int, batch_size: int, **options) -> list[list[tuple]]:
    parts = [steps(make(batch_size, processes, rank, **options)) for rank in range(processes)]
    return [[part[t][p] for p in range(batch_size) for part in parts] for t in range(len(parts[0]))]


def runs_in_order(sequence: list[list[tuple]]) -> None:
    """At each place a frame follows the one before it, or another run begins; no run stands at two places."""
    seen: dict[int, int] = {}
    for place in range(len(sequence[0])):
        column = [step[place] for step in sequence]
        for (draw, drive, frame), later in pairwise(column):
            assert later[0] != draw or later[1:] == (drive, frame + 1)
        for draw, _, _ in column:
            assert seen.setdefault(draw, place) == place


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize(('processes', 'batch_size'), [(1, 1), (1, 4), (2, 2), (4, 1), (7, 1)])
def test_the_frames_of_a_step_do_not_depend_on_who_shares_them(
    shuffle: bool, processes: int, batch_size: int
) -> None:
    found = all_places(processes, batch_size, shuffle=shuffle)
    assert found == all_places(1, processes * batch_size, shuffle=shuffle)
    runs_in_order(found)
    frames = [entry[1:] for step in found for entry in step]
    assert set(frames) == set(Drives().places)
    if shuffle:
        assert len(frames) < len(Drives()) + processes * batch_size


def test_a_test_never_cuts_a_drive() -> None:
    for places in (1, 2, 5, 7):
        for place in zip(*all_places(1, places, shuffle=False), strict=True):
            assert place[0][2] == 0
            for (draw, drive, frame), later in pairwise(place):
                whole = frame + 1 == LENGTHS[drive]
                assert (later[0] == draw) == (not whole)


def test_memories_start_over_at_random_and_with_every_pass() -> None:
    sampler = make(reset=0.4)
    first, second = steps(sampler), steps(sampler)
    assert not {s[0][0] for s in first} & {s[0][0] for s in second}
    assert [s[0][1:] for s in first] != [s[0][1:] for s in second]
    inside = [now[0][0] != before[0][0] and now[0][1] == before[0][1] for before, now in pairwise(first)]
    assert 2 <= sum(inside) <= 12
    always = steps(make(reset=0.0))
    assert len({s[0][0] for s in always}) == len(LENGTHS)


def test_it_begins_inside_a_pass() -> None:
    whole = list(make(2, 2, 1))
    sampler = make(2, 2, 1)
    sampler.start_at(4)
    assert list(sampler) == whole[4:]


def test_classes_are_balanced_by_drives() -> None:
    """Half of the draws are for the class that one short drive of five shows."""
    counts = np.zeros(len(LENGTHS))
    sampler = make(balanced=True)
    for _ in range(40):
        for step in steps(sampler):
            counts[step[0][1]] += step[0][2] == 0
    assert 0.45 < counts[1] / counts.sum() < 0.75
    runs_in_order(steps(sampler))


def test_wrapped_datasets_have_drives() -> None:
    twice = RepeatDataset(Drives((2, 1)), 2)
    frames = [[twice[i][1:] for i in drive] for drive in twice.drives()]
    assert sorted(frames) == [[(0, 0), (0, 1)], [(0, 0), (0, 1)], [(1, 0)], [(1, 0)]]
    both = ConcatDataset([Drives((2,)), Drives((1, 3))])
    assert [[both[i][2] for i in drive] for drive in both.drives()] == [[0, 1], [0], [0, 1, 2]]
    runs_in_order(steps(make(dataset=both)))
    assert all(part.followed for part in both.parts)
    with pytest.raises(ValueError, match='expected all frames of a drive equally often'):
        ClassBalancedDataset(Drives((2, 1)), 2.0).drives()


def test_a_part_keeps_drives_and_draws() -> None:
    whole = Drives()
    chosen = spread_drives(whole.drives(), 6)
    part = Part(whole, chosen)
    assert sorted(map(len, part.drives())) in ([7], [3, 4], [5, 3], [1, 7], [3, 7])
    runs_in_order(steps(make(dataset=part, shuffle=False)))
    assert whole.followed
    assert spread_drives(whole.drives(), None) == list(range(len(whole)))
    assert spread_drives(whole.drives(), 99) == list(range(len(whole)))


@pytest.mark.parametrize(('options', 'message'), [
    (dict(batch_size=None), 'batch_size: expected a whole number above 0, found None'),
    (dict(reset=1.0), 'reset: expected a probability below 1, found 1.0'),
    (dict(balanced=True, shuffle=False), 'balanced draws at random'),
    (dict(dataset=[1, 2]), r'list has no drives\(\) to follow')])
def test_what_it_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
