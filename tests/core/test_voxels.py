"""The step that all voxel walks share."""
from __future__ import annotations

import numpy as np
import pytest

from perception.core.voxels import is_inside, next_voxel


@pytest.mark.parametrize(('crossings', 'voxel', 'crossed'), [
    ((0.3, 0.5, 0.7), (6, 7, 9), 0.3),
    ((0.5, 0.3, 0.7), (5, 6, 9), 0.3),
    ((0.7, 0.5, 0.3), (5, 7, 10), 0.3),
    ((0.3, 0.3, 0.3), (6, 7, 9), 0.3),
    ((0.7, 0.3, 0.3), (5, 6, 9), 0.3),
    ((np.inf, np.inf, 2.0), (5, 7, 10), 2.0)])
def test_the_border_that_comes_first_is_crossed_and_ties_go_to_the_earlier_axis(
    crossings: tuple, voxel: tuple, crossed: float
) -> None:
    gaps = (1.0, 2.0, 4.0)
    found, after, at = next_voxel((5, 7, 9), crossings, (1, -1, 1), gaps)
    assert found == voxel and at == crossed
    moved = [a != b for a, b in zip(voxel, (5, 7, 9), strict=True)]
    assert after == tuple(c + g * m for c, g, m in zip(crossings, gaps, moved, strict=True))


def test_a_walk_of_steps_visits_the_voxels_of_a_straight_line() -> None:
    """From (0.5, 0.5, 0.5) along (2, 1, 0): x, then both borders in turn."""
    voxel, crossings = (0, 0, 0), (0.25, 0.5, np.inf)
    visited = [voxel]
    for _ in range(4):
        voxel, crossings, _ = next_voxel(voxel, crossings, (1, 1, 1), (0.5, 1.0, np.inf))
        visited.append(voxel)
    assert visited == [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0), (3, 1, 0)]


@pytest.mark.parametrize(('voxel', 'inside'), [
    ((0, 0, 0), True), ((3, 4, 5), True), ((-1, 0, 0), False), ((0, -7, 0), False), ((0, 0, -1), False),
    ((4, 0, 0), False), ((0, 5, 0), False), ((0, 0, 6), False)])
def test_inside_a_grid(voxel: tuple, inside: bool) -> None:
    assert is_inside(*voxel, (4, 5, 6)) == inside
