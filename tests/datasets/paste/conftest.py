"""A database of the tiny world's objects, made once."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perception.datasets.paste.making import PasteMaking, make_database
from perception.datasets.reading.dataset import NuScenesDataset

SENSORS = ('camera', 'lidar', 'radar')
READING = dict(lidar_sweeps=2, radar_sweeps=0)


def dataset_of(root: Path, **options: object) -> NuScenesDataset:
    """The training split of a tiny world, all of its sensors."""
    reading = {**READING, **options.pop('reading', {})}
    return NuScenesDataset(
        root, **{'split': 'train', 'sensors': SENSORS, **options}, reading=reading)


@pytest.fixture(scope='session')
def tiny_database(tiny_world: Path, made_once: Callable[..., Path]) -> Path:
    """Folder of the database of the tiny world's training split."""
    def make(folder: Path) -> None:
        dataset = dataset_of(tiny_world, reading=dict(image_reduce=1))
        make_database(dataset, PasteMaking(folder, min_points=3), progress=False)
    return made_once('tiny_paste', make)
