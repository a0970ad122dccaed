"""Triangles to pixels: nearest depth and face per pixel, exact in perspective.

A pixel (u, v) looks along r = K^-1 (u, v, 1), whose depth component is 1. The plane n.p = d of a face is met
at depth d / (n.r), so 1/depth is linear in (u, v); the face covers the pixel where the three edge functions
r.(a x b) have one sign. Both hold for faces that reach behind the camera too (homogeneous rasterisation,
Olano and Greer 1997), so clipping at the near plane is needed only for the bounding rows; depths below
`NEAR_M` are dropped per pixel.

The centre of the top-left pixel is (0, 0). Camera frame: x right, y down, z forward. Faces seen from behind
are culled. Shape letters: F faces, H W image rows and columns.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ['NEAR_M', 'rasterise_faces', 'rasterise_faces_reference', 'stamp_faces']

NEAR_M = 0.1


@njit(cache=True, nogil=True)
def _row_range(tri, fy, cy, height):
    """First and last image row that the part of `tri` beyond the near plane can touch."""
    low, high = 1e30, -1e30
    for corner in range(3):
        y0, z0 = tri[corner, 1], tri[corner, 2]
        y1, z1 = tri[(corner + 1) % 3, 1], tri[(corner + 1) % 3, 2]
        if z0 >= NEAR_M:
            v = fy * y0 / z0 + cy
            low, high = min(low, v), max(high, v)
        if (z0 >= NEAR_M) != (z1 >= NEAR_M):
            v = fy * (y0 + (y1 - y0) * (NEAR_M - z0) / (z1 - z0)) / NEAR_M + cy
            low, high = min(low, v), max(high, v)
    if low > high or high < 0.0 or low > height - 1:
        return 0, -1
    return int(math.ceil(max(low, 0.0))), int(math.floor(min(high, height - 1.0)))


@njit(cache=True, nogil=True)
def _edges_and_plane(tri, fx, fy, cx, cy, out):
    """Rows 0-2 of `out`: edge functions, row 3: 1/depth, each a.u + b.v + c. False when culled."""
    ax, ay, az = tri[0, 0], tri[0, 1], tri[0, 2]
    bx, by, bz = tri[1, 0], tri[1, 1], tri[1, 2]
    gx, gy, gz = tri[2, 0], tri[2, 1], tri[2, 2]
    if az < NEAR_M and bz < NEAR_M and gz < NEAR_M:
        return False

    nx = (by - ay) * (gz - az) - (bz - az) * (gy - ay)
    ny = (bz - az) * (gx - ax) - (bx - ax) * (gz - az)
    nz = (bx - ax) * (gy - ay) - (by - ay) * (gx - ax)
    d = nx * ax + ny * ay + nz * az
    if d >= -1e-12:
        return False

    _pixel_form(nx / d, ny / d, nz / d, fx, fy, cx, cy, out[3])
    _pixel_form(by * az - bz * ay, bz * ax - bx * az, bx * ay - by * ax, fx, fy, cx, cy, out[0])
    _pixel_form(gy * bz - gz * by, gz * bx - gx * bz, gx * by - gy * bx, fx, fy, cx, cy, out[1])
    _pixel_form(ay * gz - az * gy, az * gx - ax * gz, ax * gy - ay * gx, fx, fy, cx, cy, out[2])
    return True


@njit(cache=True, nogil=True)
def _pixel_form(x, y, z, fx, fy, cx, cy, out):
    """(x, y, z).r as a function a.u + b.v + c of the pixel."""
    out[0] = x / fx
    out[1] = y / fy
    out[2] = z - cx * x / fx - cy * y / fy


@njit(cache=True, nogil=True)
def _span(form, v, width):
    """Columns of row `v` where all three edge functions are >= 0."""
    first, last = 0.0, width - 1.0
    for edge in range(3):
        slope = form[edge, 0]
        rest = form[edge, 1] * v + form[edge, 2]
        if slope > 0.0:
            first = max(first, -rest / slope)
        elif slope < 0.0:
            last = min(last, -rest / slope)
        elif rest < 0.0:
            return 0, -1
    if first > last:
        return 0, -1
    return int(math.ceil(first)), int(math.floor(last))


@njit(cache=True, nogil=True)
def rasterise_faces(triangles, cam_T_local, fx, fy, cx, cy, inverse_depth_HW, face_HW):
    """Draw all faces into the z-buffer.

    Args:
        triangles: (F, 3, 3) float32 corners, counter-clockwise seen from outside.
        cam_T_local: (4, 4) float64.
        fx: focal length in pixels, no skew.
        fy: focal length in pixels.
        cx: column of the optical axis.
        cy: row of the optical axis.
        inverse_depth_HW: (H, W) float32, 1/depth so far (0 = nothing); updated.
        face_HW: (H, W) int32, face in front so far (-1 = none); updated.
    """
    height, width = face_HW.shape
    corners = np.empty((3, 3))
    form = np.empty((4, 3))
    nearest = 1.0 / NEAR_M

    for face in range(len(triangles)):
        _corners(triangles[face], cam_T_local, corners)
        if not _in_view(corners, fx, cx, width) or not _edges_and_plane(corners, fx, fy, cx, cy, form):
            continue

        first_row, last_row = _row_range(corners, fy, cy, height)
        for v in range(first_row, last_row + 1):
            first, last = _span(form, v, width)
            rest = form[3, 1] * v + form[3, 2]
            for u in range(first, last + 1):
                inverse = np.float32(form[3, 0] * u + rest)
                if inverse > inverse_depth_HW[v, u] and inverse < nearest:
                    inverse_depth_HW[v, u] = inverse
                    face_HW[v, u] = face


@njit(cache=True, nogil=True)
def _corners(tri, cam_T_local, out):
    """Put the corners of a face, in the camera frame, into `out` (3, 3)."""
    for corner in range(3):
        x, y, z = tri[corner, 0], tri[corner, 1], tri[corner, 2]
        for axis in range(3):
            out[corner, axis] = (cam_T_local[axis, 0] * x + cam_T_local[axis, 1] * y
                                 + cam_T_local[axis, 2] * z + cam_T_local[axis, 3])


@njit(cache=True, nogil=True)
def _in_view(corners, fx, cx, width):
    """False when all corners lie behind the camera or beyond one side of the image."""
    behind, left, right = 0, 0, 0
    for corner in range(3):
        x, z = corners[corner, 0], corners[corner, 2]
        behind += z < NEAR_M
        left += fx * x + cx * z < 0.0
        right += fx * x + (cx - (width - 1)) * z > 0.0
    return behind < 3 and left < 3 and right < 3


@njit(cache=True, nogil=True)
def stamp_faces(triangles, owner, cam_T_local, fx, fy, cx, cy, weight_HW, stamp_HW, count):
    """Count the pixels each owner would cover if nothing stood before it.

    Faces must be sorted by owner, owners >= 0; `weight_HW` (H, W) int64 says how often each pixel counts;
    `stamp_HW` (H, W) int32 starts at -1, `count` (owners,) is added to.
    """
    height, width = stamp_HW.shape
    corners = np.empty((3, 3))
    form = np.empty((4, 3))
    for face in range(len(triangles)):
        _corners(triangles[face], cam_T_local, corners)
        if not _in_view(corners, fx, cx, width) or not _edges_and_plane(corners, fx, fy, cx, cy, form):
            continue

        first_row, last_row = _row_range(corners, fy, cy, height)
        who = owner[face]

        for v in range(first_row, last_row + 1):
            first, last = _span(form, v, width)
            rest = form[3, 1] * v + form[3, 2]
            for u in range(first, last + 1):
                if stamp_HW[v, u] != who and form[3, 0] * u + rest > 0.0:
                    stamp_HW[v, u] = who
                    count[who] += weight_HW[v, u]


def rasterise_faces_reference(triangles_F33: np.ndarray, cam_T_local: np.ndarray, K_33: np.ndarray,
                              size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reference implementation of `rasterise_faces`: every pixel's ray against every face.

    Moeller and Trumbore 1997, Fast, minimum storage ray-triangle intersection.

    Returns:
        depth (H, W) float64, inf where no face is met, and face (H, W) int32, -1 there.
    """
    height, width = size_hw
    v, u = np.mgrid[0:height, 0:width]
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(K_33).T
    depth, owner = np.full(len(rays), np.inf), np.full(len(rays), -1, np.int32)
    for face, tri in enumerate(triangles_F33.astype(np.float64) @ cam_T_local[:3, :3].T + cam_T_local[:3, 3]):
        edge1, edge2 = tri[1] - tri[0], tri[2] - tri[0]
        p = np.cross(rays, edge2)
        determinant = p @ edge1

        # rays along the face's plane divide by zero; their determinant rules them out
        with np.errstate(divide='ignore', invalid='ignore'):
            q = np.cross(-tri[0], edge1)
            b1, b2, t = p @ -tri[0] / determinant, rays @ q / determinant, edge2 @ q / determinant
            hit = (determinant > 1e-12) & (b1 >= 0) & (b2 >= 0) & (b1 + b2 <= 1) & (t > NEAR_M) & (t < depth)
        depth[hit], owner[hit] = t[hit], face
    return depth.reshape(height, width), owner.reshape(height, width)
