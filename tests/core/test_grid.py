"""The grid: metres to cells and back, borders, and errors at birth."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from perception.core.grid import BEVGrid
from perception.registry import MODELS

SMALL = BEVGrid((0, 4), (-3, 3), 0.5)  # 8 columns ahead, 12 rows across
VOXELS = BEVGrid((-40, 40), (-40, 40), 0.4, (-1, 5.4), 0.4)


def test_sizes() -> None:
    assert SMALL.shape_YX == (12, 8) and SMALL.shape_ZYX == (1, 12, 8) and SMALL.origin_m == (0, -3, -5)
    assert VOXELS.shape_ZYX == (16, 200, 200)
    np.testing.assert_allclose(VOXELS.z_edges_m, np.arange(17) * 0.4 - 1)
    assert VOXELS.has_heights and not SMALL.has_heights
    # no heights: one cell takes the whole range
    assert SMALL.z_edges_m.tolist() == [-5, 3] and SMALL.z_centres_m.tolist() == [-1]


def test_layers_by_hand() -> None:
    """Layers at 0, 0.8 and 2 m meet at 0.4 and 1.4 m."""
    grid = BEVGrid((0, 4), (-3, 3), 0.5, heights_m=[0, 0.8, 2])
    assert grid.has_heights and grid.shape_ZYX == (3, 12, 8) and grid.z_range_m == pytest.approx((-0.4, 2.6))
    np.testing.assert_allclose(grid.z_edges_m, [-0.4, 0.4, 1.4, 2.6])
    np.testing.assert_allclose(grid.voxel_centres_m()[:, 0, 0], [[0.25, -2.75, z] for z in (0, 0.8, 2)])
    assert grid.scaled(2).heights_m == grid.heights_m and hash(grid) != hash(SMALL)


@pytest.mark.parametrize(
    ('x', 'cell', 'size'),
    [((-51.2, 51.2), 0.8, 128), ((-54, 54), 0.075, 1440), ((0, 0.3), 0.1, 3), ((-30, 30), 0.15, 400)])
def test_sizes_survive_binary_fractions(x: tuple, cell: float, size: int) -> None:
    assert BEVGrid(x, x, cell).shape_YX == (size, size)


def test_lists_of_a_configuration_become_tuples() -> None:
    grid = MODELS.build(dict(type='BEVGrid', x_range_m=[0, 4], y_range_m=[-3, 3], cell_m=0.5))
    assert grid == SMALL and hash(grid) == hash(SMALL)


def test_scaled_covers_the_same_ground() -> None:
    assert SMALL.scaled(2).shape_YX == (6, 4) and SMALL.scaled(0.5).shape_YX == (24, 16)
    assert VOXELS.scaled(2).shape_ZYX == (16, 100, 100)
    with pytest.raises(ValueError, match='not a whole number'):
        SMALL.scaled(3)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'x_range_m': (4, 0)}, r'x_range_m: expected two finite numbers, low < high'),
        ({'y_range_m': (0, float('inf'))}, 'y_range_m'), ({'cell_m': 0}, 'must be positive'),
        ({'cell_m': -1}, 'must be positive'), ({'cell_m': float('nan')}, 'must be positive'),
        ({'cell_m': 0.3}, r'4 m is not a whole number of 0.3 m cells'),
        ({'x_range_m': (0, 1, 2)}, r'x_range_m: expected \(low, high\)'),
        ({'z_range_m': (0, 1), 'height_cell_m': 0.3}, 'z_range_m: 1 m is not a whole number'),
        ({'height_cell_m': -1.0}, 'must be positive'),
        ({'heights_m': (0.0,)}, r'heights_m: expected two or more rising heights in metres, found \(0.0,\)'),
        ({'heights_m': (0.0, 1.0, 1.0)}, 'two or more rising heights'),
        ({'heights_m': (0.0, float('inf'))}, 'two or more rising heights'),
        ({'heights_m': (0.0, 1.0), 'height_cell_m': 1.0}, 'expected heights_m or height_cell_m, found both')],
)
def test_bad_grids(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BEVGrid(**{'x_range_m': (0, 4), 'y_range_m': (-3, 3), 'cell_m': 0.5, **options})


@pytest.mark.parametrize(
    ('xy', 'column_row'),
    [((0, -3), (0, 0)), ((0.25, -2.75), (0.5, 0.5)), ((4, 3), (8, 12)), ((-1, 0), (-2, 6))])
@pytest.mark.parametrize('make', [np.asarray, torch.as_tensor])
def test_cells_values(xy: tuple, column_row: tuple, make) -> None:
    found = SMALL.to_cells(make(np.array(xy, dtype=float)))
    np.testing.assert_allclose(np.asarray(found), column_row)
    np.testing.assert_allclose(np.asarray(SMALL.to_metres(found)), xy)


def test_round_trip() -> None:
    xy = np.random.default_rng(0).uniform(-60, 60, (5, 7, 2))
    np.testing.assert_allclose(VOXELS.to_metres(VOXELS.to_cells(xy)), xy, atol=1e-12)


def test_low_borders_in_high_borders_out() -> None:
    xy = np.array([[0, -3], [3.999, 2.999], [4, 0], [1, 3], [-0.001, 0], [np.nan, 0]])
    assert SMALL.contains(xy).tolist() == [True, True, False, False, False, False]
    assert SMALL.contains(torch.from_numpy(xy)).tolist() == SMALL.contains(xy).tolist()


def test_centres_fall_into_their_own_cells() -> None:
    centres = SMALL.centres_m()
    assert centres.shape == (12, 8, 2) and centres.dtype == np.float32
    np.testing.assert_allclose(centres[0, 0], [0.25, -2.75])
    np.testing.assert_allclose(centres[11, 7], [3.75, 2.75])
    columns_rows = np.floor(SMALL.to_cells(centres)).astype(int)
    rows, columns = np.mgrid[:12, :8]
    np.testing.assert_array_equal(columns_rows, np.stack([columns, rows], -1))


def test_rows_run_left_and_columns_forward() -> None:
    centres = SMALL.centres_m()
    assert (np.diff(centres[..., 1], axis=0) > 0).all() and (np.diff(centres[..., 0], axis=1) > 0).all()


def test_voxel_centres() -> None:
    centres = VOXELS.voxel_centres_m()
    assert centres.shape == (16, 200, 200, 3)
    np.testing.assert_allclose(centres[0, 0, 0], [-39.8, -39.8, -0.8], atol=1e-5)
    np.testing.assert_allclose(centres[15, 199, 100], [0.2, 39.8, 5.2], atol=1e-5)


def test_normalised_is_what_grid_sample_reads() -> None:
    """A map that holds its own metres, sampled at normalised places, returns those metres."""
    world = torch.from_numpy(SMALL.centres_m()).permute(2, 0, 1)[None]
    xy = torch.tensor([[0.25, -2.75], [2.0, 0.1], [3.7, 2.7], [1.13, -0.4]])
    places = SMALL.normalised(xy)[None, None]
    found = torch.nn.functional.grid_sample(world, places, align_corners=False)[0, :, 0].T
    np.testing.assert_allclose(found.numpy(), xy.numpy(), atol=1e-5)
    np.testing.assert_allclose(SMALL.normalised(xy.numpy()), SMALL.normalised(xy).numpy(), atol=1e-6)
