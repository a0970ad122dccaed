"""The ground inside compiled loops: the material under a point of the local frame, height and triangles."""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from .triangles import SceneGeometry

__all__ = ['GroundLookup', 'ground_lookup', 'height_of_ground', 'ground_material']


class GroundLookup(NamedTuple):
    """The ground as compiled code takes it: raster and height, each with its local corner and density."""

    material_YX: np.ndarray
    x0_m: float
    y0_m: float
    cells_per_m: float
    outside: int
    height_YX: np.ndarray
    height_x0_m: float
    height_y0_m: float
    points_per_m: float


def ground_lookup(geometry: SceneGeometry) -> GroundLookup:
    """The scene's ground, its corners moved into the local frame."""
    ground = geometry.scene.ground
    corner = ground.origin_xy_m - geometry.origin_m[:2]
    height = geometry.scene.height
    first = height.origin_xy_m - geometry.origin_m[:2]
    return GroundLookup(ground.material_YX, float(corner[0]), float(corner[1]), 1.0 / ground.m_per_cell,
                        int(ground.outside), height.height_YX, float(first[0]), float(first[1]),
                        1.0 / height.cell_m)


@njit(cache=True, nogil=True, error_model='numpy')
def height_of_ground(ground, x, y):
    """Height of the ground's triangles at the local point (x, y), as `HeightField.height_at` gives it."""
    rows, columns = ground.height_YX.shape
    if rows < 2 or columns < 2:
        return ground.height_YX[0, 0]

    x = min(max((x - ground.height_x0_m) * ground.points_per_m, 0.0), columns - 1.0)
    y = min(max((y - ground.height_y0_m) * ground.points_per_m, 0.0), rows - 1.0)
    i, j = min(int(x), columns - 2), min(int(y), rows - 2)
    u, v = x - i, y - j
    start, end = ground.height_YX[j, i], ground.height_YX[j + 1, i + 1]
    if u >= v:
        corner = ground.height_YX[j, i + 1]
        return start + u * (corner - start) + v * (end - corner)
    corner = ground.height_YX[j + 1, i]
    return start + v * (corner - start) + u * (end - corner)


@njit(cache=True, nogil=True, error_model='numpy')
def ground_material(ground, x, y):
    """Material id of the cell that holds the local point (x, y)."""
    column = int(math.floor((x - ground.x0_m) * ground.cells_per_m))
    row = int(math.floor((y - ground.y0_m) * ground.cells_per_m))
    if 0 <= row < ground.material_YX.shape[0] and 0 <= column < ground.material_YX.shape[1]:
        return int(ground.material_YX[row, column])
    return ground.outside
