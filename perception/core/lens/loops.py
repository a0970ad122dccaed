"""One ray through a lens, for compiled loops; as `formulas.bend`.

A camera is a row of sixteen numbers: ten of its lens (`rows`), then the upper two rows of what brings the
image plane to pixels.
"""
from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def bend_ray(row, x, y, z):
    """Ray of the camera frame -> image plane (a, b) and depth; a depth of 0 where it is not seen."""
    if row[0] == 2:
        across, depth = np.hypot(x, y), np.sqrt(x * x + y * y + z * z)
        theta = np.arctan2(across, z)
        if depth <= 1e-6 or not theta < row[9]:
            return 0.0, 0.0, 0.0
        s = theta * theta
        radius = theta * (1 + s * (row[1] + s * (row[2] + s * (row[3] + s * row[4]))))
        scale = radius / across if across > 0 else 1 / z
        return x * scale, y * scale, depth

    if z <= 1e-6:
        return 0.0, 0.0, 0.0
    x, y = x / z, y / z
    if row[0] == 0:
        return x, y, z
    s = x * x + y * y
    if not s < row[9] * row[9]:
        return 0.0, 0.0, 0.0

    above = 1 + s * (row[1] + s * (row[2] + s * row[5]))
    radial = above / (1 + s * (row[6] + s * (row[7] + s * row[8])))
    p1, p2, xy = row[3], row[4], 2 * x * y
    return x * radial + p1 * xy + p2 * (s + 2 * x * x), y * radial + p1 * (s + 2 * y * y) + p2 * xy, z


@njit(cache=True, nogil=True)
def pixel_of_ray(camera, x, y, z):
    """Ray of the camera frame -> u, v, depth; of a pinhole the plane itself, which may be pixels already."""
    a, b, depth = bend_ray(camera, x, y, z)
    if camera[0] == 0:
        return a, b, depth
    return camera[10] * a + camera[11] * b + camera[12], camera[13] * a + camera[14] * b + camera[15], depth
