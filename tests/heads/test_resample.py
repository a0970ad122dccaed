"""Grid to grid in metres."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from perception.core.grid import BEVGrid
from perception.heads.resample import GridResample

SOURCE = BEVGrid((-51.2, 51.2), (-51.2, 51.2), 0.8)


def ramp(grid: BEVGrid) -> torch.Tensor:
    """A map `(1, 2, Y, X)` that holds the x and the y of each cell's centre."""
    return torch.from_numpy(grid.centres_m()).permute(2, 0, 1)[None]


@pytest.mark.parametrize('target', [BEVGrid((-50, 50), (-50, 50), 0.5), BEVGrid((-40, 40), (-40, 40), 0.4),
                                    BEVGrid((-30, 30), (-15, 15), 0.5), BEVGrid((0, 20), (5, 10), 1.0)])
def test_metres_stay_metres(target: BEVGrid) -> None:
    found = GridResample(SOURCE, target)(ramp(SOURCE))
    torch.testing.assert_close(found, ramp(target), atol=1e-4, rtol=0)


def test_equal_grids_pass_the_map_through() -> None:
    bev = torch.rand(2, 3, *SOURCE.shape_YX)
    assert GridResample(SOURCE, BEVGrid((-51.2, 51.2), (-51.2, 51.2), 0.8))(bev) is bev


def test_outside_reads_zero_or_the_rim() -> None:
    target = BEVGrid((60, 64), (0, 4), 1.0)
    bev = torch.ones(1, 1, *SOURCE.shape_YX)
    assert GridResample(SOURCE, target)(bev).abs().max() == 0
    assert GridResample(SOURCE, target, 'border')(bev).min() == 1


def test_dtype_is_kept_and_positions_are_not_saved() -> None:
    layer = GridResample(SOURCE, BEVGrid((-50, 50), (-50, 50), 0.5))
    assert layer(ramp(SOURCE).bfloat16()).dtype == torch.bfloat16
    assert not layer.state_dict()


def test_a_point_keeps_its_place() -> None:
    grid, target = BEVGrid((-8, 8), (-4, 4), 1.0), BEVGrid((-4, 4), (-4, 4), 1.0)
    bev = torch.zeros(1, 1, *grid.shape_YX)
    column, row = np.floor(grid.to_cells(np.array([2.5, -1.5]))).astype(int)
    bev[0, 0, row, column] = 1
    found = GridResample(grid, target)(bev)[0, 0]
    column, row = np.floor(target.to_cells(np.array([2.5, -1.5]))).astype(int)
    assert found[row, column] == pytest.approx(1.0, abs=1e-5) and found.sum() == pytest.approx(1.0, abs=1e-5)
