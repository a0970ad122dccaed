"""Nearest face along each ray of a spinning scanner.

Rays form a lattice of azimuths (uniform, full turn) by elevations (uniform, rising). Each face walks only the
rays of its azimuth and elevation window and meets them exactly: inside the three edge planes, at range d /
(n.r). The window is exact: on the unit sphere a face's elevation is extreme on its edges (at an end, or where
tan(elevation) is stationary along the edge) unless the vertical axis pierces it.

Sensor frame with z up; azimuth is counter-clockwise from +x. Shape letters: A azimuths, E elevations, F
faces.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ['nearest_faces', 'nearest_faces_reference', 'ray_table']

TWO_PI = 2.0 * math.pi


def ray_table(azimuths: int, phase_rad: float, elevations_rad: np.ndarray) -> np.ndarray:
    """(A, E, 3) float64 unit directions; azimuth k is `phase_rad + 2 pi k / A`."""
    azimuth = phase_rad + TWO_PI * np.arange(azimuths) / azimuths
    cos_e, sin_e = np.cos(elevations_rad), np.sin(elevations_rad)
    rays = np.empty((azimuths, len(elevations_rad), 3))
    rays[..., 0] = np.cos(azimuth)[:, None] * cos_e
    rays[..., 1] = np.sin(azimuth)[:, None] * cos_e
    rays[..., 2] = sin_e
    return rays


@njit(cache=True, nogil=True)
def _edge_elevation(a, b, low_high):
    """Widen the range of tan(elevation) by the edge from a to b: its start and its stationary point."""
    rho = math.sqrt(a[0] * a[0] + a[1] * a[1])
    tangent = a[2] / max(rho, 1e-9)
    low_high[0] = min(low_high[0], tangent)
    low_high[1] = max(low_high[1], tangent)

    # along the edge a + s (b - a), tan(elevation) is stationary at one s
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    aa, ab, bb = a[0] * a[0] + a[1] * a[1], a[0] * dx + a[1] * dy, dx * dx + dy * dy
    divisor = a[2] * bb - dz * ab
    if divisor != 0.0:
        s = (dz * aa - a[2] * ab) / divisor
        if 0.0 < s < 1.0:
            x, y, z = a[0] + s * dx, a[1] + s * dy, a[2] + s * dz
            tangent = z / max(math.sqrt(x * x + y * y), 1e-9)
            low_high[0] = min(low_high[0], tangent)
            low_high[1] = max(low_high[1], tangent)


@njit(cache=True, nogil=True)
def _azimuth_window(tri):
    """(start, width) of the azimuths of a face; width 2 pi when the vertical axis pierces it."""
    base = math.atan2(tri[0, 1], tri[0, 0])
    low, high, turn = 0.0, 0.0, 0.0
    previous = base
    for corner in range(1, 4):
        angle = math.atan2(tri[corner % 3, 1], tri[corner % 3, 0])
        step = angle - previous
        if step > math.pi:
            step -= TWO_PI
        elif step < -math.pi:
            step += TWO_PI
        turn += step
        low, high = min(low, turn), max(high, turn)
        previous = angle

    # once around means that the vertical axis pierces the face
    if abs(turn) > 1.0:
        return base, TWO_PI
    return base + low, high - low


@njit(cache=True, nogil=True)
def _face_form(tri, form):
    """Rows 0-2: edge planes, row 3: n / d, so that 1/range = row3.r; False when seen from behind."""
    a, b, c = tri[0], tri[1], tri[2]
    n0 = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    n1 = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
    n2 = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    d = n0 * a[0] + n1 * a[1] + n2 * a[2]
    if d >= -1e-12:
        return False

    form[3, 0], form[3, 1], form[3, 2] = n0 / d, n1 / d, n2 / d
    for edge in range(3):
        p, q = tri[(edge + 1) % 3], tri[edge]
        form[edge, 0] = p[1] * q[2] - p[2] * q[1]
        form[edge, 1] = p[2] * q[0] - p[0] * q[2]
        form[edge, 2] = p[0] * q[1] - p[1] * q[0]
    return True


@njit(cache=True, nogil=True)
def _within_reach(tri, reach):
    """False when the box around the face lies wholly beyond `reach` in x or y."""
    for axis in range(2):
        low = min(tri[0, axis], tri[1, axis], tri[2, axis])
        high = max(tri[0, axis], tri[1, axis], tri[2, axis])
        if low > reach or high < -reach:
            return False
    return True


@njit(cache=True, nogil=True)
def nearest_faces(
    triangles, sensor_T_local, rays, phase, first_elevation, elevation_step, reach, inverse_AE, face_AE
):
    """Put the nearest face along every ray into the buffers.

    Args:
        triangles: (F, 3, 3) float32, local frame, counter-clockwise seen from outside (others are culled).
        sensor_T_local: (4, 4) float64.
        rays: (A, E, 3) from `ray_table`.
        phase: radians, azimuth of the first column of `rays`.
        first_elevation: radians, of the lowest ray.
        elevation_step: radians between the uniform elevations.
        reach: metres; faces wholly beyond are skipped.
        inverse_AE: (A, E) float64, 1/range so far (0 = nothing); updated.
        face_AE: (A, E) int32, nearest face so far (-1 = none); updated.
    """
    azimuths, elevations = face_AE.shape
    per_rad = azimuths / TWO_PI
    tri, form, tangents = np.empty((3, 3)), np.empty((4, 3)), np.empty(2)
    for face in range(len(triangles)):
        for corner in range(3):
            x, y, z = triangles[face, corner, 0], triangles[face, corner, 1], triangles[face, corner, 2]
            for axis in range(3):
                tri[corner, axis] = (sensor_T_local[axis, 0] * x + sensor_T_local[axis, 1] * y
                                     + sensor_T_local[axis, 2] * z + sensor_T_local[axis, 3])

        if not _within_reach(tri, reach) or not _face_form(tri, form):
            continue

        # rows between the lowest and the highest tan(elevation) of the face
        tangents[0], tangents[1] = 1e30, -1e30
        for edge in range(3):
            _edge_elevation(tri[edge], tri[(edge + 1) % 3], tangents)
        start, width = _azimuth_window(tri)
        if width >= TWO_PI:
            tangents[0], tangents[1] = (-1e30, tangents[1]) if tri[0, 2] < 0.0 else (tangents[0], 1e30)
        low = max(0, int(math.ceil((math.atan(tangents[0]) - first_elevation) / elevation_step - 1e-6)))
        high = min(
            elevations - 1,
            int(math.floor((math.atan(tangents[1]) - first_elevation) / elevation_step + 1e-6)))
        if low > high:
            continue

        # columns may run past a full turn, so their numbers are taken modulo A
        first = int(math.ceil((start - phase) * per_rad - 1e-6))
        last = min(first + azimuths - 1, int(math.floor((start + width - phase) * per_rad + 1e-6)))
        for column in range(first, last + 1):
            _walk_column(form, rays[column % azimuths], low, high, face,
                         inverse_AE[column % azimuths], face_AE[column % azimuths])


@njit(cache=True, nogil=True)
def _walk_column(form, rays, low, high, face, inverse_E, face_E):
    """Meet a face with the rays of one azimuth between two elevations."""
    for beam in range(low, high + 1):
        x, y, z = rays[beam, 0], rays[beam, 1], rays[beam, 2]
        inverse = form[3, 0] * x + form[3, 1] * y + form[3, 2] * z
        if inverse > inverse_E[beam] and (form[0, 0] * x + form[0, 1] * y + form[0, 2] * z >= 0.0
                                          and form[1, 0] * x + form[1, 1] * y + form[1, 2] * z >= 0.0
                                          and form[2, 0] * x + form[2, 1] * y + form[2, 2] * z >= 0.0):
            inverse_E[beam] = inverse
            face_E[beam] = face


def nearest_faces_reference(triangles_F33: np.ndarray, sensor_T_local: np.ndarray,
                            rays_AE3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reference implementation of `nearest_faces`: every ray against every face (Moeller and Trumbore 1997).

    Returns:
        1/range (A, E), 0 where no face is met, and face (A, E) int32, -1 there.
    """
    rays = rays_AE3.reshape(-1, 3)
    triangles = triangles_F33.astype(np.float64) @ sensor_T_local[:3, :3].T + sensor_T_local[:3, 3]
    inverse, owner = np.zeros(len(rays)), np.full(len(rays), -1, np.int32)
    for face, tri in enumerate(triangles):
        edge1, edge2 = tri[1] - tri[0], tri[2] - tri[0]
        p = np.cross(rays, edge2)
        determinant = p @ edge1

        # rays along the face's plane divide by zero; their determinant rules them out
        with np.errstate(divide='ignore', invalid='ignore'):
            q = np.cross(-tri[0], edge1)
            b1, b2, t = p @ -tri[0] / determinant, rays @ q / determinant, edge2 @ q / determinant
            inside = (b1 >= 0) & (b2 >= 0) & (b1 + b2 <= 1)
            hit = (determinant > 1e-12) & inside & (t > 1e-9) & (1 / t > inverse)
        inverse[hit], owner[hit] = 1.0 / t[hit], face
    return inverse.reshape(rays_AE3.shape[:2]), owner.reshape(rays_AE3.shape[:2])
