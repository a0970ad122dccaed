"""Points to pixels and back through a lens; the pinhole ones are `core.geometry.project`, `unproject`."""
from __future__ import annotations

import numpy as np

from ..geometry import invert, project, unproject
from .distortion import Distortion
from .formulas import Array, bend, library_of, straighten, with_ones


def lens_project(K: Array, points_cam: Array, distortion: Distortion | None) -> tuple[Array, Array]:
    """Project through one camera: pixel = K @ plane, the lens says which point of the plane.

    Args:
        K: `(3, 3)` pixels; holds any image-plane affine map (resize, crop, flip, rotation).
        points_cam: `(*, P, 3)` metres, camera frame.
        distortion: the lens; None is a pinhole.

    Returns:
        pixels `(*, P, 2)` and depth_m `(*, P)`: z, through Kannala-Brandt the distance from the camera. Where
        the camera does not see the point, outside the lens's valid field too, depth is zero or less and the
        pixels mean nothing (NaN through a lens): mask with the depth.
    """
    if distortion is None or distortion.is_pinhole:
        return project(K, points_cam)
    plane, depth_m = bend(distortion.row, points_cam)
    return _affine(K, plane), depth_m


def lens_unproject(K: Array, pixels: Array, depth_m: Array, distortion: Distortion | None) -> Array:
    """Inverse of `lens_project`: pixels `(*, P, 2)` at depth_m `(*, P)` -> points_cam `(*, P, 3)`.

    NaN where no ray comes to the pixel (outside a fisheye's circle).
    """
    if distortion is None or distortion.is_pinhole:
        return unproject(K, pixels, depth_m)
    return straighten(distortion.row, _affine(invert(K), pixels)) * depth_m[..., None]


def image_rays(K: np.ndarray, size_hw: tuple[int, int], distortion: Distortion | None) -> np.ndarray:
    """Rays of depth 1 of every pixel of an image, float64 `(H, W, 3)` in the camera frame; NaN where none."""
    v, u = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float64)
    return lens_unproject(K, np.stack([u, v], -1), np.ones(size_hw), distortion)


def _affine(K: Array, points: Array) -> Array:
    """Points `(*, 2)` through the upper two rows of K."""
    rows = K[:2].T if library_of(K) is np else K[:2].transpose(0, 1)
    return with_ones(points) @ rows
