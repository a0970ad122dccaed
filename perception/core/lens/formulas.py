"""Where rays meet the image plane and back, for numpy arrays and torch tensors alike; lenses as `rows`.

Computed in the precision of what comes in; the inverse in float64.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch

Array = TypeVar('Array', np.ndarray, torch.Tensor)

_NEAREST_M = 1e-6
_HALVINGS = 54


def library_of(array: Array) -> ModuleType:
    """Torch for a tensor, numpy for an array."""
    return torch if isinstance(array, torch.Tensor) else np


def with_ones(points: Array) -> Array:
    """Points `(*, 2)` of the plane z = 1 as rays `(*, 3)`."""
    xp = library_of(points)
    return xp.stack([points[..., 0], points[..., 1], xp.ones_like(points[..., 0])], -1)


def bend(row: Sequence[float], rays: Array) -> tuple[Array, Array]:
    """Rays `(*, 3)` of the camera frame -> the image plane `(*, 2)` and depth `(*)`.

    Depth is z, through Kannala-Brandt the length of the ray. What the lens does not see has NaN on the plane
    and a depth of zero or less.
    """
    xp = library_of(rays)
    x, y, z = rays[..., 0], rays[..., 1], rays[..., 2]
    if row[0] == 2:
        (a, b), depth = _fisheye(xp, row, x, y, z), xp.sqrt(x * x + y * y + z * z)
        seen = (depth > _NEAREST_M) & (xp.arctan2(xp.hypot(x, y), z) < row[9])
        behind = depth * 0
    else:
        divisor = xp.where(z > _NEAREST_M, z, xp.ones_like(z))
        x, y, depth = x / divisor, y / divisor, z
        a, b = brown_conrady(row[1:9], x, y) if row[0] == 1 else (x, y)
        seen = (z > _NEAREST_M) & (x * x + y * y < row[9] * row[9])
        behind = z.clip(max=0) if xp is torch else np.minimum(z, 0)

    nan = xp.full_like(a, np.nan)
    plane = xp.stack([xp.where(seen, a, nan), xp.where(seen, b, nan)], -1)
    return plane, xp.where(seen, depth, behind)


def straighten(row: Sequence[float], plane: Array) -> Array:
    """Inverse of `bend`: points `(*, 2)` of the plane -> rays `(*, 3)` of depth 1, NaN where none is."""
    if row[0] == 0:
        return with_ones(plane)
    xp = library_of(plane)
    fine = plane.double() if xp is torch else plane.astype(np.float64)
    a, b = fine[..., 0], fine[..., 1]
    rays = _look_fisheye(xp, row, a, b) if row[0] == 2 else _look_brown_conrady(xp, row, a, b)
    return rays.to(plane.dtype) if xp is torch else rays.astype(np.result_type(plane.dtype, np.float32))


# -------------------------------------------------------------------- Kannala-Brandt

def kannala_brandt(coefficients: Sequence[float], theta: Array) -> Array:
    """Angle from the axis -> radius on the image plane: theta (1 + k1 theta^2 + ... + k4 theta^8)."""
    k1, k2, k3, k4 = coefficients[:4]
    s = theta * theta
    return theta * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4))))


def _fisheye(xp: ModuleType, row: Sequence[float], x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    across = xp.hypot(x, y)
    radius = kannala_brandt(row[1:5], xp.arctan2(across, z))

    # on the axis itself the quotient of radius and distance from it is 1 / z
    off = across > 0
    scale = xp.where(off, radius, xp.ones_like(radius)) / xp.where(
        off, across, xp.where(z > 0, z, xp.ones_like(z)))
    return x * scale, y * scale


def _look_fisheye(xp: ModuleType, row: Sequence[float], a: Array, b: Array) -> Array:
    radius = xp.hypot(a, b)
    theta = _solve(lambda angle: kannala_brandt(row[1:5], angle), radius, row[9])
    theta = xp.where(radius < kannala_brandt(row[1:5], row[9]), theta, xp.full_like(theta, np.nan))

    across = xp.sin(theta) / xp.where(radius > 0, radius, xp.ones_like(radius))
    return xp.stack([a * across, b * across, xp.cos(theta)], -1)


# -------------------------------------------------------------------- Brown-Conrady

def brown_conrady(coefficients: Sequence[float], x: Array, y: Array) -> tuple[Array, Array]:
    """Points of the plane z = 1 -> where radial and tangential distortion put them."""
    _, _, p1, p2 = coefficients[:4]
    s = x * x + y * y
    radial, _ = radial_factor(coefficients, s)
    xy = 2 * x * y
    return x * radial + p1 * xy + p2 * (s + 2 * x * x), y * radial + p1 * (s + 2 * y * y) + p2 * xy


def radial_factor(coefficients: Sequence[float], s: Array) -> tuple[Array, Array]:
    """Factor of the radius at its square s, and the factor's derivative by s."""
    k1, k2, _, _, k3, k4, k5, k6 = coefficients
    above, below = 1 + s * (k1 + s * (k2 + s * k3)), 1 + s * (k4 + s * (k5 + s * k6))
    factor = above / below
    slope = (k1 + s * (2 * k2 + s * (3 * k3)) - factor * (k4 + s * (2 * k5 + s * (3 * k6)))) / below
    return factor, slope


def jacobian(coefficients: Sequence[float], x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Derivatives of `brown_conrady`: d a / d x, d a / d y (which is d b / d x) and d b / d y."""
    _, _, p1, p2 = coefficients[:4]
    factor, slope = radial_factor(coefficients, x * x + y * y)
    mixed = 2 * (x * y * slope + p1 * x + p2 * y)
    return (factor + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x, mixed,
            factor + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x)


def _look_brown_conrady(xp: ModuleType, row: Sequence[float], a: Array, b: Array) -> Array:
    """The radius by halving along the radial part, then both by Newton's steps kept inside the field."""
    coefficients, limit = row[1:9], row[9]
    radius = xp.hypot(a, b)

    # the share s = r / (1 + r) brings all radii into [0, 1)
    farthest = min(limit, 1e6)
    share = _solve(lambda s: _distorted_radius(coefficients, s / (1 - s)), radius, farthest / (1 + farthest))
    outward = share / (1 - share) / xp.where(radius > 0, radius, xp.ones_like(radius))
    x, y = a * outward, b * outward

    for _ in range(8 if coefficients[2] or coefficients[3] else 1):
        off_a, off_b = (found - wanted for found, wanted in zip(
            brown_conrady(coefficients, x, y), (a, b), strict=True))
        xx, mixed, yy = jacobian(coefficients, x, y)
        determinant = xx * yy - mixed * mixed
        determinant = xp.where(abs(determinant) > 1e-9, determinant, xp.full_like(determinant, np.inf))
        x = x - (yy * off_a - mixed * off_b) / determinant
        y = y - (xx * off_b - mixed * off_a) / determinant

        inside = limit * (1 - 1e-9) / xp.maximum(xp.hypot(x, y), xp.full_like(x, 1e-12))
        inside = xp.minimum(inside, xp.ones_like(x))
        x, y = x * inside, y * inside

    found_a, found_b = brown_conrady(coefficients, x, y)
    good = xp.hypot(found_a - a, found_b - b) < 1e-9 * (1 + radius)
    rays = xp.stack([x, y, xp.ones_like(x)], -1)
    return xp.where(good[..., None], rays, xp.full_like(rays, np.nan))


def _distorted_radius(coefficients: Sequence[float], radius: Array) -> Array:
    return radius * radial_factor(coefficients, radius * radius)[0]


def _solve(growing: Callable[[Array], Array], wanted: Array, high: float) -> Array:
    """Where a function that grows over [0, high] has the wanted values, by halving."""
    xp = library_of(wanted)
    low, top = xp.zeros_like(wanted), xp.full_like(wanted, high)
    for _ in range(_HALVINGS):
        middle = (low + top) / 2
        below = growing(middle) < wanted
        low, top = xp.where(below, middle, low), xp.where(below, top, middle)
    return (low + top) / 2
