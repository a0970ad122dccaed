"""Sight lines and beams through a voxel grid: which voxels one passes before it meets something.

Places are in voxel units: position minus the grid's low corner, over the voxel's side. Used by the labels of
the synthetic world and by those made from LiDAR (`dense_occupancy.py`). Shape letters: P points, X Y Z
voxels.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ['look_at_faces', 'look_through_border', 'walk_line', 'walk_lines', 'walk_reference']


@njit(cache=True, nogil=True)
def walk_line(start, end, blocked, mask):
    """Walk the voxels from ``start`` (3,) to ``end`` (3,) (voxel units; Amanatides and Woo 1987), marking
    those passed.

    Stops after marking the first voxel that ``blocked`` (X, Y, Z) marks; ``mask`` (X, Y, Z) uint8 is updated.
    `walk_reference` is the readable twin.

    Returns:
        True when the voxel of ``end`` was reached.
    """
    t_in, t_out = 0.0, 1.0
    for axis in range(3):
        d = end[axis] - start[axis]
        if abs(d) < 1e-12:
            if start[axis] < 0.0 or start[axis] >= blocked.shape[axis]:
                return False
            continue
        t0, t1 = -start[axis] / d, (blocked.shape[axis] - start[axis]) / d
        t_in, t_out = max(t_in, min(t0, t1)), min(t_out, max(t0, t1))
    if t_in > t_out:
        return False
    x = 0
    y = 0
    z = 0
    sx = 1
    sy = 1
    sz = 1
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    x = min(max(int(math.floor(start[0] + dx * t_in)), 0), blocked.shape[0] - 1)
    y = min(max(int(math.floor(start[1] + dy * t_in)), 0), blocked.shape[1] - 1)
    z = min(max(int(math.floor(start[2] + dz * t_in)), 0), blocked.shape[2] - 1)
    sx, sy, sz = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
    gx, gy, gz = 1.0 / max(abs(dx), 1e-12), 1.0 / max(abs(dy), 1e-12), 1.0 / max(abs(dz), 1e-12)
    tx = ((x + (sx > 0)) - start[0]) * gx * sx
    ty = ((y + (sy > 0)) - start[1]) * gy * sy
    tz = ((z + (sz > 0)) - start[2]) * gz * sz
    while True:
        mask[x, y, z] = 1
        t = min(tx, ty, tz)
        if t >= t_out - 1e-9:
            return True
        if blocked[x, y, z]:
            return False
        if tx <= ty and tx <= tz:
            x += sx
            tx += gx
            if x < 0 or x >= blocked.shape[0]:
                return False
        elif ty <= tz:
            y += sy
            ty += gy
            if y < 0 or y >= blocked.shape[1]:
                return False
        else:
            z += sz
            tz += gz
            if z < 0 or z >= blocked.shape[2]:
                return False


@njit(cache=True, nogil=True)
def walk_lines(start, ends, blocked, mask):
    """`walk_line` from one ``start`` (3,) to each of ``ends`` (P, 3)."""
    for i in range(len(ends)):
        walk_line(start, ends[i], blocked, mask)


@njit(cache=True, nogil=True)
def _sees(view, start, end):
    """True when the direction from ``start`` to ``end`` (voxel units, ego axes) lies in the field of view.

    ``view`` (5, 3) are unit-free inward normals of a camera's pyramid; or, when its last row is zero, a
    LiDAR's lowest and highest tan(elevation) in the first row.
    """
    x, y, z = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    if view[4, 0] == 0.0 and view[4, 1] == 0.0 and view[4, 2] == 0.0:
        rho = math.sqrt(x * x + y * y)
        return view[0, 0] * rho <= z <= view[0, 1] * rho
    for plane in range(5):
        if view[plane, 0] * x + view[plane, 1] * y + view[plane, 2] * z < 0.0:
            return False
    return True


@njit(cache=True, nogil=True)
def look_at_faces(start, view, blocked, mask):
    """From ``start`` (3,) in voxel units look at the open faces of all blocked voxels that are not yet
    marked.

    Marks in ``mask`` (X, Y, Z) uint8 the voxels passed and met.
    """
    end = np.empty(3)
    neighbour = np.empty(3, np.int64)
    for x in range(blocked.shape[0]):
        for y in range(blocked.shape[1]):
            for z in range(blocked.shape[2]):
                if not blocked[x, y, z] or mask[x, y, z]:
                    continue
                for axis in range(3):
                    neighbour[0], neighbour[1], neighbour[2] = x, y, z
                    side = 1 if start[axis] > neighbour[axis] + 0.5 else -1
                    end[0], end[1], end[2] = x + 0.5, y + 0.5, z + 0.5
                    end[axis] += 0.499 * side
                    neighbour[axis] += side
                    if (0 <= neighbour[axis] < blocked.shape[axis]
                            and blocked[neighbour[0], neighbour[1], neighbour[2]]):
                        continue
                    if _sees(view, start, end):
                        walk_line(start, end, blocked, mask)


@njit(cache=True, nogil=True)
def look_through_border(start, view, blocked, mask):
    """From ``start`` look towards the border voxels of the grid, marking the voxels passed.

    First all of the four sides, then those of the top that no sight line has passed yet.
    """
    end = np.empty(3)
    nx, ny, nz = blocked.shape
    for x in range(nx):
        for y in range(0, ny, 1 if x == 0 or x == nx - 1 else ny - 1):
            for z in range(nz):
                end[0], end[1], end[2] = x + 0.5, y + 0.5, z + 0.5
                if _sees(view, start, end):
                    walk_line(start, end, blocked, mask)
    for x in range(nx):
        for y in range(ny):
            end[0], end[1], end[2] = x + 0.5, y + 0.5, nz - 0.5
            if not mask[x, y, nz - 1] and _sees(view, start, end):
                walk_line(start, end, blocked, mask)


def walk_reference(start_3: np.ndarray, end_3: np.ndarray, blocked_XYZ: np.ndarray) -> np.ndarray:
    """The voxels a sight line passes, by dense sampling: (X, Y, Z) bool, up to and with the first blocked
    one."""
    mask = np.zeros(blocked_XYZ.shape, bool)
    count = int(np.linalg.norm(end_3 - start_3) * 500) + 2
    for share in np.linspace(0.0, 1.0, count):
        cell = np.floor(start_3 + share * (end_3 - start_3)).astype(int)
        if np.all(cell >= 0) and np.all(cell < blocked_XYZ.shape):
            mask[tuple(cell)] = True
            if blocked_XYZ[tuple(cell)]:
                break
    return mask
