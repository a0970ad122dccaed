"""Measurement the ground raster inside compiled loops: the material under a point of the local frame."""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from .triangles import SceneGeometry

__all__ = ['GroundLookup', 'ground_lookup', 'ground_material']


class GroundLookup(NamedTuple):
    """The ground raster as compiled code takes it: local corner, cells per metre, material outside."""

    material_YX: np.ndarray
    x0_m: float
    y0_m: float
    cells_per_m: float
    outside: int


def ground_lookup(geometry: SceneGeometry) -> GroundLookup:
    """The scene's ground raster, its corner moved into the local frame."""
    ground = geometry.scene.ground
    corner = ground.origin_xy_m - geometry.origin_m[:2]
    return GroundLookup(ground.material_YX, float(corner[0]), float(corner[1]), 1.0 / ground.m_per_cell,
                        int(ground.outside))


@njit(cache=True, nogil=True, error_model='numpy')
def ground_material(ground, x, y):
    """Material id of the cell that holds the local point (x, y)."""
    column = int(math.floor((x - ground.x0_m) * ground.cells_per_m))
    row = int(math.floor((y - ground.y0_m) * ground.cells_per_m))
    if 0 <= row < ground.material_YX.shape[0] and 0 <= column < ground.material_YX.shape[1]:
        return int(ground.material_YX[row, column])
    return ground.outside
