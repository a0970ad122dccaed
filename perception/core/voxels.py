"""Sight lines and beams through a voxel grid: which voxels one passes before it meets something.

Positions are in voxel units: metres minus the grid's low corner, over the voxel's side. Used by the labels of
the synthetic world, by those made from LiDAR (`dense_occupancy.py`) and by the rays of RayIoU. Shape letters:
P points, X Y Z voxels.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

from .lens import Distortion
from .lens.loops import pixel_of_ray

__all__ = [
    'camera_sight', 'is_inside', 'look_at_faces', 'look_through_border', 'next_voxel', 'walk_line',
    'walk_line_reference', 'walk_lines']


@njit(cache=True, nogil=True)
def next_voxel(voxel, crossings, steps, gaps):
    """One step of a voxel walk (Amanatides and Woo 1987): into the neighbour whose border comes first.

    numba inlines it into the walks that call it; delete their `__pycache__` after a change here, since its
    cache looks only at the file of the caller.

    Args:
        voxel: three indices.
        crossings: where along the line each axis' next border is crossed, in any unit; where two come at
            once, the earlier axis steps first.
        steps: +1 or -1 per axis.
        gaps: distance along the line between two borders of each axis, in the unit of `crossings`.

    Returns:
        The next voxel, its crossings, and where the border between the two was crossed.
    """
    a, b, c = voxel
    at_a, at_b, at_c = crossings
    if at_a <= at_b and at_a <= at_c:
        return (a + steps[0], b, c), (at_a + gaps[0], at_b, at_c), at_a
    if at_b <= at_c:
        return (a, b + steps[1], c), (at_a, at_b + gaps[1], at_c), at_b
    return (a, b, c + steps[2]), (at_a, at_b, at_c + gaps[2]), at_c


@njit(cache=True, nogil=True)
def is_inside(x, y, z, shape):
    """Whether a voxel lies in a grid of this shape."""
    # without a sign a negative index is a huge one: three comparisons instead of six
    return (
        np.uint64(x) < np.uint64(shape[0])
        and np.uint64(y) < np.uint64(shape[1])
        and np.uint64(z) < np.uint64(shape[2]))


@njit(cache=True, nogil=True)
def _clip_line(start, end, shape):
    """The part of the line from `start` to `end` inside a grid, as two fractions of the way.

    The first is larger than the second where the line misses the grid.
    """
    t_in, t_out = 0.0, 1.0
    for axis in range(3):
        d = end[axis] - start[axis]
        if abs(d) < 1e-12:
            if start[axis] < 0.0 or start[axis] >= shape[axis]:
                return 1.0, 0.0
            continue
        t0, t1 = -start[axis] / d, (shape[axis] - start[axis]) / d
        t_in, t_out = max(t_in, min(t0, t1)), min(t_out, max(t0, t1))
    return t_in, t_out


@njit(cache=True, nogil=True)
def walk_line(start, end, blocked, mask):
    """Walk the voxels from `start` (3,) to `end` (3,), both in voxel units, marking those passed.

    Stops after marking the first voxel that `blocked` (X, Y, Z) marks; `mask` (X, Y, Z) uint8 is updated.
    `walk_line_reference` is the reference implementation.

    Returns:
        True when the voxel of `end` was reached.
    """
    nx, ny, nz = blocked.shape
    t_in, t_out = _clip_line(start, end, blocked.shape)
    if t_in > t_out:
        return False

    # the first voxel; a start on the grid's border may round to a voxel outside
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    x = min(max(int(math.floor(start[0] + dx * t_in)), 0), nx - 1)
    y = min(max(int(math.floor(start[1] + dy * t_in)), 0), ny - 1)
    z = min(max(int(math.floor(start[2] + dz * t_in)), 0), nz - 1)

    # crossings and gaps are fractions of the way from start to end
    sx, sy, sz = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
    gx, gy, gz = 1.0 / max(abs(dx), 1e-12), 1.0 / max(abs(dy), 1e-12), 1.0 / max(abs(dz), 1e-12)
    crossings = (
        ((x + (sx > 0)) - start[0]) * gx * sx,
        ((y + (sy > 0)) - start[1]) * gy * sy,
        ((z + (sz > 0)) - start[2]) * gz * sz)
    steps, gaps = (sx, sy, sz), (gx, gy, gz)

    while is_inside(x, y, z, blocked.shape):
        mask[x, y, z] = 1
        voxel, crossings, crossed = next_voxel((x, y, z), crossings, steps, gaps)
        if crossed >= t_out - 1e-9:
            return True
        if blocked[x, y, z]:
            return False
        x, y, z = voxel
    return False


@njit(cache=True, nogil=True)
def walk_lines(start, ends, blocked, mask):
    """`walk_line` from one `start` (3,) to each of `ends` (P, 3)."""
    for i in range(len(ends)):
        walk_line(start, ends[i], blocked, mask)


@njit(cache=True, nogil=True)
def _sees(view, start, end):
    """True when the direction from `start` to `end` (voxel units, ego axes) lies in the field of view.

    `view` is `camera_sight`'s of a camera; or (5, 3) whose last row is zero, a LiDAR's lowest and highest
    tan(elevation) in the first row.
    """
    x, y, z = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    if len(view) > 5:
        numbers = view[3:].reshape(18)
        u, v, depth = pixel_of_ray(
            numbers, view[0, 0] * x + view[0, 1] * y + view[0, 2] * z,
            view[1, 0] * x + view[1, 1] * y + view[1, 2] * z,
            view[2, 0] * x + view[2, 1] * y + view[2, 2] * z)
        return depth > 0.0 and -0.5 <= u < numbers[16] - 0.5 and -0.5 <= v < numbers[17] - 0.5

    if view[4, 0] == 0.0 and view[4, 1] == 0.0 and view[4, 2] == 0.0:
        rho = math.sqrt(x * x + y * y)
        return view[0, 0] * rho <= z <= view[0, 1] * rho

    for plane in range(5):
        if view[plane, 0] * x + view[plane, 1] * y + view[plane, 2] * z < 0.0:
            return False
    return True


@njit(cache=True, nogil=True)
def look_at_faces(start, view, blocked, mask):
    """From `start` (3,) in voxel units look at the open faces of all blocked voxels not yet marked.

    Marks in `mask` (X, Y, Z) uint8 the voxels passed and met.
    """
    end = np.empty(3)
    neighbour = np.empty(3, np.int64)
    for x in range(blocked.shape[0]):
        for y in range(blocked.shape[1]):
            for z in range(blocked.shape[2]):
                if not blocked[x, y, z] or mask[x, y, z]:
                    continue

                # of each axis the face that turns to `start`, where it touches an open voxel
                for axis in range(3):
                    neighbour[0], neighbour[1], neighbour[2] = x, y, z
                    side = 1 if start[axis] > neighbour[axis] + 0.5 else -1
                    neighbour[axis] += side
                    if (0 <= neighbour[axis] < blocked.shape[axis]
                            and blocked[neighbour[0], neighbour[1], neighbour[2]]):
                        continue

                    # just inside the face, so that the walk ends in this voxel
                    end[0], end[1], end[2] = x + 0.5, y + 0.5, z + 0.5
                    end[axis] += 0.499 * side
                    if _sees(view, start, end):
                        walk_line(start, end, blocked, mask)


@njit(cache=True, nogil=True)
def look_through_border(start, view, blocked, mask):
    """From `start` look towards the border voxels of the grid, marking the voxels passed.

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


def camera_sight(
    K_33: np.ndarray, size_hw: tuple[int, int], ego_T_cam: np.ndarray, distortion: Distortion | None = None
) -> np.ndarray:
    """What a camera sees, for `look_at_faces` and `look_through_border`.

    Returns:
        Through a pinhole `(5, 3)`: inward normals in ego axes of the image's four sides and of what lies
        before the camera. Through another lens `(9, 3)`: ego axes to the camera's, then the sixteen numbers
        of `lens.loops`, columns and rows.
    """
    height, width = size_hw
    if distortion is not None and not distortion.is_pinhole:
        numbers = np.array([*distortion.row, *K_33[:2].ravel(), width, height])
        return np.ascontiguousarray(np.concatenate([ego_T_cam[:3, :3].T, numbers.reshape(6, 3)]))

    (fx, _, cx), (_, fy, cy) = K_33[:2]
    sides = np.array([
        [fx, 0, cx + 0.5],
        [-fx, 0, width - 0.5 - cx],
        [0, fy, cy + 0.5],
        [0, -fy, height - 0.5 - cy],
        [0, 0, 1],
    ])
    return sides @ ego_T_cam[:3, :3].T


def walk_line_reference(start_3: np.ndarray, end_3: np.ndarray, blocked_XYZ: np.ndarray) -> np.ndarray:
    """Reference implementation of `walk_line`, by dense sampling.

    Returns:
        The voxels a sight line passes, up to and with the first blocked one: (X, Y, Z) bool.
    """
    mask = np.zeros(blocked_XYZ.shape, bool)
    count = int(np.linalg.norm(end_3 - start_3) * 500) + 2
    for fraction in np.linspace(0.0, 1.0, count):
        voxel = np.floor(start_3 + fraction * (end_3 - start_3)).astype(int)
        if np.all(voxel >= 0) and np.all(voxel < blocked_XYZ.shape):
            mask[tuple(voxel)] = True
            if blocked_XYZ[tuple(voxel)]:
                break
    return mask
