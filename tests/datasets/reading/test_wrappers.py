"""Augmentation is fresh in every epoch, whatever hands out the indices and whatever wraps the dataset."""
from __future__ import annotations

from pathlib import Path

import mmengine.dataset  # noqa: F401  registers its samplers and wrappers
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset, RandomSampler

from perception.core.selection import join_draw, split_draw
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.reading.sampler import SeededSampler
from perception.registry import DATASETS


class Echo(Dataset):
    """Gives (its name, draw, index); sample 0 alone has class 7."""

    accepts_draws = True
    metainfo = {'classes': ('car',)}

    def __init__(self, size: int, name: str = 'a') -> None:
        self.size, self.name = size, name

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> tuple[str, int | None, int]:
        return self.name, *split_draw(number, self.size)

    def get_cat_ids(self, index: int) -> list[int]:
        return [0] if index else [0, 7]

    def class_counts(self, index: int) -> np.ndarray:
        return np.bincount(self.get_cat_ids(index), minlength=10)


def flat_dataset(root: Path, **options: object) -> NuScenesDataset:
    """Frames without a sensor whose lanes the pipeline turns at random."""
    return NuScenesDataset(
        root, sensors=(), tasks=('detection',), reading=dict(lidar_sweeps=0, radar_sweeps=0),
        pipeline=[dict(type='RandomFlipRotateScale')], **options
    )


def poses(loader: DataLoader) -> np.ndarray:
    """Where the pipeline has put the car in each sample `(S,)`: a number for each augmentation."""
    return np.array([pair[0].frame.global_T_ego[0, 0] for pairs in loader for pair in pairs])


def first_of(pairs: list) -> list:
    """A collate function that collates nothing."""
    return pairs


def test_a_plain_loader_augments_afresh_for_any_number_of_workers(tiny_world: Path) -> None:
    epochs = []
    for workers in (0, 2):
        loader = DataLoader(flat_dataset(tiny_world), 1, num_workers=workers, collate_fn=first_of)
        epochs.append([poses(loader) for _ in range(3)])

    alone, together = epochs
    np.testing.assert_array_equal(alone, together)
    assert len(np.unique(alone)) == np.size(alone) == 9


def test_a_test_is_always_the_same(tiny_world: Path) -> None:
    dataset = flat_dataset(tiny_world, test_mode=True)
    loader = DataLoader(dataset, 1, collate_fn=first_of)
    np.testing.assert_array_equal(poses(loader), poses(loader))


def test_a_repeated_world_augments_every_copy(tiny_world: Path) -> None:
    inner = dict(
        type='perception.NuScenesDataset', root=str(tiny_world), sensors=(), tasks=('detection',),
        pipeline=[dict(type='RandomFlipRotateScale')], reading=dict(lidar_sweeps=0, radar_sweeps=0))
    # ours, ours by the sampler, and mmengine's own
    ours, theirs = 'RepeatDataset', 'mmengine.RepeatDataset'
    for kind, seeded in ((ours, False), (ours, True), (theirs, False)):
        dataset = DATASETS.build(dict(type=kind, times=2, dataset=dict(inner)))
        sampler = SeededSampler(dataset, seed=0) if seeded else None
        loader = DataLoader(dataset, 1, sampler=sampler, collate_fn=first_of)
        found = np.concatenate([poses(loader), poses(loader)])
        assert len(dataset) == 6 and len(np.unique(found)) == 12, (kind, seeded)


def test_roots_stand_one_after_another() -> None:
    dataset = DATASETS.build(dict(type='ConcatDataset', datasets=[Echo(2), Echo(3, 'b')]))
    assert [dataset[join_draw(4, i, 5)] for i in range(5)] == [
        ('a', 4, 0), ('a', 4, 1), ('b', 4, 0), ('b', 4, 1), ('b', 4, 2)]
    assert dataset[3] == ('b', None, 1) and dataset[-1] == ('b', None, 2)
    assert dataset.class_counts().shape == (5, 10) and dataset.get_cat_ids(2) == [0, 7]


def test_copies_share_the_draws_out() -> None:
    dataset = DATASETS.build(dict(type='RepeatDataset', times=3, dataset=Echo(2)))
    drawn = [dataset[join_draw(draw, i, 6)] for draw in range(2) for i in range(6)]
    assert len(set(drawn)) == 12 and {draw for _, draw, _ in drawn} == set(range(6))


def test_rare_classes_come_more_often() -> None:
    """Class 7 is in 1 of 8 samples: sqrt(0.5 / 0.125) = 2; class 0 is in all of them."""
    dataset = DATASETS.build(dict(type='ClassBalancedDataset', oversample_thr=0.5, dataset=Echo(8)))
    assert [dataset[i][2] for i in range(len(dataset))] == [0, 0, 1, 2, 3, 4, 5, 6, 7]


def test_what_does_not_fit_together_is_refused() -> None:
    other = Echo(2)
    other.metainfo = {'classes': ('bus',)}
    with pytest.raises(ValueError, match=r"dataset 1: classes: expected \('car',\), found \('bus',\)"):
        DATASETS.build(dict(type='ConcatDataset', datasets=[Echo(2), other]))
    with pytest.raises(ValueError, match='times: expected an integer from 1 on, found 0'):
        DATASETS.build(dict(type='RepeatDataset', times=0, dataset=Echo(2)))
    tested = Echo(2)
    tested.test_mode = True
    with pytest.raises(ValueError, match='test_mode: expected one value'):
        DATASETS.build(dict(type='ConcatDataset', datasets=[Echo(2), tested]))


def test_a_random_sampler_of_torch_has_fresh_draws_too(tiny_world: Path) -> None:
    dataset = flat_dataset(tiny_world)
    loader = DataLoader(dataset, 1, sampler=RandomSampler(dataset, num_samples=9), collate_fn=first_of)
    assert len(np.unique(poses(loader))) == 9
