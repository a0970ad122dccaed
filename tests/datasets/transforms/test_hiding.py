"""Pillars hidden for pre-training: exactly a share, the same along a drive, and nothing of them is left."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import LidarPoints
from perception.core.grid import BEVGrid
from perception.datasets.transforms.hiding import HidePillars

GRID = BEVGrid((-8.0, 8.0), (-8.0, 8.0), 1.0)
HIDE = HidePillars(0.7, (-8.0, 8.0), (-8.0, 8.0), 1.0)


@pytest.fixture(scope='module')
def cloud() -> np.ndarray:
    """Points in a hundred pillars of the grid, some beyond it, some of an earlier sweep."""
    rng = np.random.default_rng(0)
    cells = rng.choice(256, 100, replace=False)
    centres = np.stack([cells % 16 - 7.5, cells // 16 - 7.5], 1).repeat(5, 0)
    xy = centres + rng.uniform(-0.49, 0.49, (500, 2))
    points = np.zeros((530, 6), np.float32)
    points[:500, :2], points[500:, :2] = xy, rng.uniform(9, 20, (30, 2))
    points[:, 2] = rng.uniform(-1, 3, 530)
    points[4:500:5, 5] = 0.1  # the last of each pillar is old
    return points


def hide(pair, cloud, seed: int = 0, annotations=None):
    sample = replace(pair[0], lidar=LidarPoints(cloud))
    return HIDE(sample, annotations, np.random.default_rng(seed))


def cells_of(points: np.ndarray) -> set[tuple[int, int]]:
    inside = points[GRID.contains(points[:, :2])]
    return set(map(tuple, np.floor(GRID.to_cells(inside[:, :2])).astype(int).tolist()))


def test_exactly_a_share_of_the_pillars_is_hidden_and_stays_so(pair, cloud) -> None:
    sample, annotations = hide(pair, cloud)
    seen, labels = sample.lidar.points_P6, annotations.get('reconstruction')
    hidden = cells_of(labels.points_P3[labels.hidden_P])
    assert len(hidden) == 70 and len(cells_of(seen)) == 30 and not hidden & cells_of(seen)
    assert len(seen) == 30 * 5 + 30  # what lies beyond stays
    assert len(labels.points_P3) == 400 and labels.hidden_P.sum() == 280  # of the present moment alone
    assert annotations.boxes is None and annotations.token == sample.frame.token

    again, other = hide(pair, cloud)[0].lidar, hide(pair, cloud, 1)[0].lidar
    np.testing.assert_array_equal(again.points_P6, seen)
    assert cells_of(other.points_P6) != cells_of(seen)
    assert hide(pair, cloud, annotations=pair[1])[1].boxes is pair[1].boxes


def test_frames_of_a_drive_hide_the_same_pillars(pair, cloud) -> None:
    """The same places around the car, as far as they have points."""
    less = cloud[:300]
    one, two = (cells_of(hide(pair, points)[0].lidar.points_P6) for points in (cloud, less))
    both = cells_of(cloud) & cells_of(less)
    hidden_one, hidden_two = both - one, both - two
    assert len(hidden_two - hidden_one) <= 6 and len(hidden_one & hidden_two) >= 30 and HIDE.whole_drive


def test_nothing_is_hidden_without_lidar(pair) -> None:
    sample = replace(pair[0], lidar=None)
    assert HIDE(sample, None, np.random.default_rng(0)) == (sample, None)
    with pytest.raises(ValueError, match='HidePillars.share: expected a share between 0 and 1, found 1.0'):
        HidePillars(1.0)
