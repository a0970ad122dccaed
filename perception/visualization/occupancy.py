"""Occupancy voxels drawn from behind and above the car, with a z-buffer and three shaded faces a voxel."""
from __future__ import annotations

import numpy as np

from ..core.protocols import OCCUPANCY_FREE, OCCUPANCY_IGNORED, OCCUPANCY_LOW_M, OCCUPANCY_VOXEL_M
from . import palette

# top, back, right
_FACES = ((np.array([0, 0, 1.0]), 1.0), (np.array([-1.0, 0, 0]), 0.78), (np.array([0, -1.0, 0]), 0.62))


def draw_occupancy(
    semantics_XYZ: np.ndarray,
    size_hw: tuple[int, int] = (600, 600),
    mask_XYZ: np.ndarray | None = None,
    pitch_rad: float = 0.75,
    yaw_rad: float = 0.0,
) -> np.ndarray:
    """Parallel projection of the occupied voxels: forward is up, left is left; uint8 RGB `(H, W, 3)`.

    Args:
        semantics_XYZ: uint8 in Occ3D order.
        mask_XYZ: voxels with 0 are not drawn.
        pitch_rad: 0 looks along the ground, pi/2 straight down.
    """
    drawn = (semantics_XYZ != OCCUPANCY_FREE) & (semantics_XYZ != OCCUPANCY_IGNORED)
    if mask_XYZ is not None:
        drawn &= mask_XYZ > 0
    image = np.full((*size_hw, 3), palette.BACKGROUND, dtype=np.uint8)
    index = np.argwhere(drawn)
    if not len(index):
        return image
    colour = palette.occupancy_colours()[semantics_XYZ[drawn]].astype(np.float64)
    splats = [_splat_face(index, colour, normal, shade, drawn) for normal, shade in _FACES]
    points = np.concatenate([s[0] for s in splats])
    colours = np.concatenate([s[1] for s in splats])
    _paint(image, points, colours, pitch_rad, yaw_rad)
    return image


def _splat_face(index: np.ndarray, colour: np.ndarray, normal: np.ndarray, shade: float, drawn: np.ndarray,
                ) -> tuple[np.ndarray, np.ndarray]:
    """Points that cover one face of every voxel whose neighbour on that side is empty."""
    neighbour = index + normal.astype(int)
    inside = ((neighbour >= 0) & (neighbour < drawn.shape)).all(1)
    hidden = np.zeros(len(index), dtype=bool)
    hidden[inside] = drawn[tuple(neighbour[inside].T)]
    index, colour = index[~hidden], colour[~hidden] * shade
    steps = (np.arange(4) + 0.5) / 4 - 0.5
    a, b = (m.ravel() for m in np.meshgrid(steps, steps))
    axes = [k for k in range(3) if normal[k] == 0]
    offset = np.zeros((16, 3))
    offset[:, axes[0]], offset[:, axes[1]] = a, b
    offset += normal / 2
    points = np.array(OCCUPANCY_LOW_M) + (index[:, None] + 0.5 + offset[None]) * OCCUPANCY_VOXEL_M
    return points.reshape(-1, 3), np.repeat(colour, 16, 0)


def _paint(
    image: np.ndarray, points: np.ndarray, colours: np.ndarray, pitch_rad: float, yaw_rad: float
) -> None:
    height, width = image.shape[:2]
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    forward, left, up = points[:, 0] * c + points[:, 1] * s, points[:, 1] * c - points[:, 0] * s, points[:, 2]
    tall = forward * np.sin(pitch_rad) + up * np.cos(pitch_rad)
    near = -forward * np.cos(pitch_rad) + up * np.sin(pitch_rad)
    scale = width / 84
    column = np.floor(width / 2 - left * scale).astype(int)
    row = np.floor(height / 2 - tall * scale).astype(int)
    seen = np.flatnonzero((row >= 0) & (row < height) & (column >= 0) & (column < width))
    seen = seen[np.argsort(near[seen], kind='stable')]
    image[row[seen], column[seen]] = colours[seen].astype(np.uint8)
