"""Cast shadows: a height map along the sun's rays around the ego.

A point (x, y, z) and the point x - z.sx/sz, y - z.sy/sz of the plane z = 0 lie on one sun ray. The map keeps,
per cell of that plane, the greatest height at which a face is met along that ray; what lies lower on the same
ray is in shadow.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from .triangles import Snapshot

__all__ = ['ShadowMap', 'cast_shadows', 'is_shadowed']

HALF_SIDE_M, CELL_M, BIAS_M = 56.0, 0.2, 0.25


class ShadowMap(NamedTuple):
    """Heights (Y, X) float32 over the ground, local frame; row = +y, column = +x."""

    height_YX: np.ndarray
    x0_m: float
    y0_m: float
    lean_x: float
    lean_y: float


@njit(cache=True, nogil=True)
def _draw(triangles, normals, sun, x0, y0, height_YX):
    """Draw all faces that look at the sun, each corner moved along its ray down to the ground."""
    rows, columns = height_YX.shape
    lean_x, lean_y = sun[0] / sun[2], sun[1] / sun[2]
    px, py = np.empty(3), np.empty(3)
    for face in range(len(triangles)):
        if normals[face, 0] * sun[0] + normals[face, 1] * sun[1] + normals[face, 2] * sun[2] <= 0.02:
            continue

        for corner in range(3):
            x, y, z = triangles[face, corner, 0], triangles[face, corner, 1], triangles[face, corner, 2]
            px[corner] = (x - lean_x * z - x0) / CELL_M - 0.5
            py[corner] = (y - lean_y * z - y0) / CELL_M - 0.5

        area = (px[1] - px[0]) * (py[2] - py[0]) - (py[1] - py[0]) * (px[2] - px[0])
        first = max(0, int(math.ceil(min(py[0], py[1], py[2]))))
        last = min(rows - 1, int(math.floor(max(py[0], py[1], py[2]))))
        outside = max(px[0], px[1], px[2]) < 0.0 or min(px[0], px[1], px[2]) > columns - 1
        if area <= 1e-6 or first > last or outside:
            continue

        z0, z1, z2 = triangles[face, 0, 2], triangles[face, 1, 2], triangles[face, 2, 2]
        _fill(px, py, z0, z1, z2, area, first, last, height_YX)


@njit(cache=True, nogil=True)
def _fill(px, py, z0, z1, z2, area, first, last, height_YX):
    """Raise the cells of one face, between two rows, to its heights z0, z1, z2 at the corners."""
    dz_dx = ((z1 - z0) * (py[2] - py[0]) - (z2 - z0) * (py[1] - py[0])) / area
    dz_dy = ((z2 - z0) * (px[1] - px[0]) - (z1 - z0) * (px[2] - px[0])) / area
    for row in range(first, last + 1):
        # the columns on the inner side of all three edges
        left, right = 0.0, height_YX.shape[1] - 1.0
        for edge in range(3):
            ax, ay = px[edge], py[edge]
            dx, dy = px[(edge + 1) % 3] - ax, py[(edge + 1) % 3] - ay
            rest = dx * (row - ay) + dy * ax
            if dy < 0.0:
                left = max(left, rest / dy)
            elif dy > 0.0:
                right = min(right, rest / dy)
            elif rest < 0.0:
                right = -1.0
        if left > right:
            continue

        for column in range(int(math.ceil(left)), int(math.floor(right)) + 1):
            z = np.float32(z0 + dz_dx * (column - px[0]) + dz_dy * (row - py[0]))
            if z > height_YX[row, column]:
                height_YX[row, column] = z


@njit(cache=True, nogil=True, inline='always')
def is_shadowed(shadow, x, y, z):
    """True when a face lies between the local point and the sun (False beyond the map)."""
    column = int(np.floor((x - shadow.lean_x * z - shadow.x0_m) / CELL_M))
    row = int(np.floor((y - shadow.lean_y * z - shadow.y0_m) / CELL_M))
    if row < 0 or column < 0 or row >= shadow.height_YX.shape[0] or column >= shadow.height_YX.shape[1]:
        return False
    return shadow.height_YX[row, column] > z + BIAS_M


def cast_shadows(snapshot: Snapshot) -> ShadowMap:
    """The shadow map of a snapshot, centred on the ego."""
    cells = int(round(2 * HALF_SIDE_M / CELL_M))
    sun = snapshot.scene.weather.sun_direction
    x, y, z = snapshot.local_T_ego[:3, 3]
    middle = np.array([x - sun[0] / sun[2] * z, y - sun[1] / sun[2] * z])
    x0, y0 = np.round((middle - HALF_SIDE_M) / CELL_M) * CELL_M
    height = np.full((cells, cells), -np.inf, np.float32)
    _draw(snapshot.triangles_F33, snapshot.normals_F3, sun, x0, y0, height)
    return ShadowMap(height, float(x0), float(y0), float(sun[0] / sun[2]), float(sun[1] / sun[2]))
