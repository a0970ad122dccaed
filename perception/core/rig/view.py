"""What a camera's calibration says of its pictures: pixels per radian, and where the horizon is."""
from __future__ import annotations

import math

import numpy as np

from ..lens import Distortion
from ..lens.projection import lens_project

__all__ = ['focal_length_px', 'horizon_pixel', 'looks_at_sky']

STEEPEST_RAD = math.radians(75)
"""A camera that looks up or down by more has no horizon to speak of."""
_UPRIGHT = 0.7


def focal_length_px(K_33: np.ndarray) -> float:
    """Pixels per radian on a camera's axis: the geometric mean of both directions, however K turns."""
    return math.sqrt(abs(float(np.linalg.det(K_33[:2, :2]))))


def looks_at_sky(ego_T_cam: np.ndarray) -> bool:
    """Whether a camera's sight points up by some 45 degrees: its body was taken for its optical frame."""
    return bool(ego_T_cam[2, 2] > _UPRIGHT)


def horizon_pixel(
    K_33: np.ndarray, ego_T_cam: np.ndarray, distortion: Distortion | None = None
) -> np.ndarray | None:
    """Pixel `(2,)` of the horizon straight ahead of a camera.

    It is where a point at the camera's own height comes to that lies infinitely far away in the direction of
    its sight. None where there is none: the camera looks up or down by over 75 degrees, or its lens does not
    see it.
    """
    sight = ego_T_cam[:3, 2] / np.linalg.norm(ego_T_cam[:3, 2])
    if abs(sight[2]) > math.sin(STEEPEST_RAD):
        return None

    level = np.array([sight[0], sight[1], 0.0])
    ray_cam = np.linalg.inv(ego_T_cam[:3, :3]) @ (level / np.linalg.norm(level))
    pixels, depth = lens_project(K_33, ray_cam[None], distortion)
    return pixels[0] if depth[0] > 0 and np.isfinite(pixels).all() else None
