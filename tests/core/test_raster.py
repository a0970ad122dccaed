"""Masks from polygons and lines: the devkit's own functions, counts one can check, cuts and resampling."""
from __future__ import annotations

import numpy as np
import pytest

from perception.core.grid import BEVGrid
from perception.core.raster import clip_polyline, draw_lines, fill_polygons, resample_polyline

GRID = BEVGrid((0, 10), (-5, 5), 0.5)  # 20 x 20 cells
SQUARE = np.array([[2.0, -2], [6, -2], [6, 2], [2, 2]])
HOLE = np.array([[3.0, -1], [5, -1], [5, 1], [3, 1]])


def test_a_square_fills_its_cells_and_the_border() -> None:
    """Corners at columns 4 and 12, rows 6 and 14; OpenCV paints both borders: 9 x 9 cells."""
    mask = fill_polygons([(SQUARE, ())], GRID)
    assert mask.dtype == np.uint8 and mask.shape == (20, 20) and mask.sum() == 81
    assert mask[6:15, 4:13].all()


def test_rows_are_left_and_columns_are_forward() -> None:
    mask = fill_polygons([(np.array([[8.0, 3], [9, 3], [9, 4.4], [8, 4.4]]), ())], GRID)
    rows, columns = np.nonzero(mask)
    assert rows.min() == 16 and columns.min() == 16 and columns.max() == 18


def test_a_hole_is_empty() -> None:
    mask = fill_polygons([(SQUARE, (HOLE,))], GRID)
    assert mask[10, 8] == 0 and mask[6, 4] == 1 and mask.sum() == 81 - 25


def test_two_polygons_make_their_union() -> None:
    other = SQUARE + [1, 1]
    both = fill_polygons([(SQUARE, ()), (other, ())], GRID)
    np.testing.assert_array_equal(
        both, fill_polygons([(SQUARE, ())], GRID) | fill_polygons([(other, ())], GRID)
    )


@pytest.mark.parametrize('shape', [SQUARE + [100, 0], SQUARE - [100, 0], SQUARE[:2]])
def test_nothing_on_the_grid(shape: np.ndarray) -> None:
    assert fill_polygons([(shape, ())], GRID).sum() == 0
    assert fill_polygons([], GRID).sum() == 0


def test_the_whole_grid() -> None:
    assert fill_polygons([(SQUARE * 100 - [200, 0], ())], GRID).all()


@pytest.mark.parametrize('seed', range(6))
def test_polygons_equal_the_devkits_pixel_rule(seed: int) -> None:
    map_api = pytest.importorskip('nuscenes.map_expansion.map_api')
    shapely = pytest.importorskip('shapely')
    rng = np.random.default_rng(seed)
    polygons, theirs = [], np.zeros(GRID.shape_YX, np.uint8)
    for _ in range(3):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 7))
        unit = np.stack([np.cos(angle), np.sin(angle)], 1)
        centre = rng.uniform([3, -2], [7, 2])
        outer, inner = centre + unit * 2.7, centre + unit * 1.1
        polygons.append((outer, (inner,)))
        shape = shapely.geometry.MultiPolygon(
            [shapely.geometry.Polygon(GRID.to_cells(outer), [GRID.to_cells(inner)])]
        )
        theirs = map_api.NuScenesMapExplorer.mask_for_polygons(shape, theirs)
    np.testing.assert_array_equal(fill_polygons(polygons, GRID), theirs)


def test_a_line_is_about_two_cells_wide() -> None:
    mask = draw_lines([np.array([[1.0, 0], [9, 0]])], GRID)
    assert mask[:, 10].sum() in (2, 3) and mask[10, 2:18].all() and mask[:8].sum() == mask[13:].sum() == 0


def test_further_columns_and_short_lines_are_ignored() -> None:
    line = np.array([[1.0, 0, 7], [9, 0, 7]])
    np.testing.assert_array_equal(draw_lines([line], GRID), draw_lines([line[:, :2]], GRID))
    assert draw_lines([line[:1]], GRID).sum() == 0


@pytest.mark.parametrize('seed', range(6))
def test_lines_equal_the_devkits_pixel_rule(seed: int) -> None:
    map_api = pytest.importorskip('nuscenes.map_expansion.map_api')
    shapely = pytest.importorskip('shapely')
    rng = np.random.default_rng(seed)
    lines = [rng.uniform([0.1, -4.9], [9.9, 4.9], (4, 2)) for _ in range(2)]
    theirs = np.zeros(GRID.shape_YX, np.uint8)
    for line in lines:
        theirs = map_api.NuScenesMapExplorer.mask_for_lines(
            shapely.geometry.LineString(GRID.to_cells(line)), theirs
        )
    np.testing.assert_array_equal(draw_lines(lines, GRID), theirs)


def test_resample_is_even_by_arc_length() -> None:
    corner = np.array([[0.0, 0], [4, 0], [4, 4]])
    np.testing.assert_allclose(resample_polyline(corner, 5), [[0, 0], [2, 0], [4, 0], [4, 2], [4, 4]])
    even = resample_polyline(np.random.default_rng(0).normal(size=(6, 3)), 4)
    assert even.shape == (4, 3)


def test_resample_keeps_ends_and_survives_repeated_points() -> None:
    line = np.array([[0.0, 0], [0, 0], [1, 0], [1, 0], [3, 0]])
    np.testing.assert_allclose(resample_polyline(line, 4), [[0, 0], [1, 0], [2, 0], [3, 0]])
    np.testing.assert_allclose(resample_polyline(np.zeros((2, 2)), 3), np.zeros((3, 2)))


RECTANGLE = ((0.0, 10.0), (-5.0, 5.0))


@pytest.mark.parametrize(('line', 'pieces'), [
    ([[1, 0], [2, 1], [3, 0]], [[[1, 0], [2, 1], [3, 0]]]),  # all inside
    ([[-5, 0], [5, 0]], [[[0, 0], [5, 0]]]),  # enters
    ([[5, 0], [15, 0]], [[[5, 0], [10, 0]]]),  # leaves
    ([[-5, 0], [15, 0]], [[[0, 0], [10, 0]]]),  # crosses
    ([[8, 0], [12, 0], [12, 2], [8, 2]], [[[8, 0], [10, 0]], [[10, 2], [8, 2]]]),  # out and in again
    ([[20, 0], [30, 1]], []), ([[-1, 4], [1, 6]], [])])  # past it; past the corner (0, 5) by nothing
def test_clip_values(line: list, pieces: list) -> None:
    found = clip_polyline(np.array(line), *RECTANGLE)
    assert len(found) == len(pieces)
    for a, b in zip(found, pieces, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize('seed', range(8))
def test_clip_equals_shapely(seed: int) -> None:
    shapely = pytest.importorskip('shapely')
    line = np.random.default_rng(seed).uniform([-6, -11], [16, 11], (12, 2))
    cut = shapely.geometry.LineString(line).intersection(shapely.geometry.box(0, -5, 10, 5))
    found = clip_polyline(line, *RECTANGLE)
    assert sum(np.linalg.norm(np.diff(p, axis=0), axis=1).sum() for p in found) == pytest.approx(cut.length)
    for piece in found:
        assert (piece >= [-1e-9, -5 - 1e-9]).all() and (piece <= [10 + 1e-9, 5 + 1e-9]).all()


def test_clip_keeps_a_ring_that_is_inside_whole() -> None:
    ring = np.concatenate([SQUARE, SQUARE[:1]])
    found = clip_polyline(ring, *RECTANGLE)
    assert len(found) == 1
    np.testing.assert_allclose(found[0], ring)
