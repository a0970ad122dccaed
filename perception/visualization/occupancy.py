"""Occupancy: voxels seen from behind and above the car, with a z-buffer and three shaded faces a voxel."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.contracts import Occupancy, OccupancyLabels
from ..core.protocols import OCCUPANCY_FREE, OCCUPANCY_IGNORED, OCCUPANCY_LOW_M, OCCUPANCY_VOXEL_M
from ..registry import TASK_LAYERS
from . import palette
from .base import DrawingOptions, TaskLayer
from .legend import LegendEntry, entries_of
from .pages.shapes import VoxelShapes

# top, back, right
_FACES = ((np.array([0, 0, 1.0]), 1.0), (np.array([-1.0, 0, 0]), 0.78), (np.array([0, -1.0, 0]), 0.62))


@TASK_LAYERS.register_module('occupancy')
@dataclass(frozen=True)
class OccupancyLayer(TaskLayer):
    """Voxels of one frame.

    Attributes:
        semantics_XYZ: uint8 into `OCCUPANCY_CLASSES`.
        mask_XYZ: voxels with 0 are not drawn.
    """

    title = 'occupancy'
    on_bev = False

    semantics_XYZ: np.ndarray
    mask_XYZ: np.ndarray | None = None

    @classmethod
    def from_prediction(cls, prediction: Occupancy, options: DrawingOptions) -> OccupancyLayer:
        """All predicted voxels."""
        return cls(prediction.semantics_XYZ)

    @classmethod
    def from_truth(cls, labels: OccupancyLabels, options: DrawingOptions) -> OccupancyLayer:
        """All labelled voxels, or those that a camera observes."""
        return cls(labels.semantics_XYZ, labels.mask_camera_XYZ if options.camera_mask else None)

    def legend(self) -> tuple[LegendEntry, ...]:
        """The seventeen classes that are not free."""
        return entries_of(palette.OCCUPANCY)

    def draw_panel(self) -> np.ndarray:
        """The voxels from behind and above."""
        return draw_occupancy(self.semantics_XYZ, mask_XYZ=self.mask_XYZ)

    def shapes(self) -> VoxelShapes:
        """The voxels that are drawn."""
        drawn = drawn_voxels(self.semantics_XYZ, self.mask_XYZ)
        labels = np.where(drawn, self.semantics_XYZ, np.uint8(255))
        return VoxelShapes(labels, OCCUPANCY_LOW_M, OCCUPANCY_VOXEL_M, palette.OCCUPANCY)


def drawn_voxels(semantics_XYZ: np.ndarray, mask_XYZ: np.ndarray | None) -> np.ndarray:
    """Voxels that are labelled, not free, and not hidden by the mask: bool `(X, Y, Z)`."""
    drawn = (semantics_XYZ != OCCUPANCY_FREE) & (semantics_XYZ != OCCUPANCY_IGNORED)
    return drawn if mask_XYZ is None else drawn & (mask_XYZ > 0)


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
        size_hw: of the picture; 84 m fit into its width.
        mask_XYZ: voxels with 0 are not drawn.
        pitch_rad: 0 looks along the ground, pi/2 straight down.
        yaw_rad: turns the view counter-clockwise around the car.
    """
    drawn = drawn_voxels(semantics_XYZ, mask_XYZ)
    image = np.full((*size_hw, 3), palette.BACKGROUND, dtype=np.uint8)
    if not drawn.any():
        return image

    colours_M3 = palette.occupancy_colours()[semantics_XYZ[drawn]].astype(np.float64)
    faces = [_face_points(drawn, colours_M3, normal, shade) for normal, shade in _FACES]
    points = np.concatenate([points for points, _ in faces])
    colours = np.concatenate([colours for _, colours in faces])
    _paint(image, points, colours, pitch_rad, yaw_rad)
    return image


def _face_points(
    drawn_XYZ: np.ndarray, colours_M3: np.ndarray, normal: np.ndarray, shade: float
) -> tuple[np.ndarray, np.ndarray]:
    """16 points on one face of every drawn voxel whose neighbour on that side is empty, and their colours."""
    index_M3 = np.argwhere(drawn_XYZ)
    neighbour = index_M3 + normal.astype(int)
    inside = ((neighbour >= 0) & (neighbour < drawn_XYZ.shape)).all(1)

    # where the grid ends, it cuts through the ground, and what lies below is of no interest
    below_ground = OCCUPANCY_LOW_M[2] + index_M3[:, 2] * OCCUPANCY_VOXEL_M < 0
    hidden = ~inside & below_ground
    hidden[inside] = drawn_XYZ[tuple(neighbour[inside].T)]

    # a grid of 4 x 4 points on the unit voxel's face, denser than the pixels of the picture
    steps = (np.arange(4) + 0.5) / 4 - 0.5
    across, along = (grid.ravel() for grid in np.meshgrid(steps, steps))
    first, second = np.flatnonzero(normal == 0)
    offset = np.tile(normal / 2, (16, 1))
    offset[:, first] += across
    offset[:, second] += along

    centres_M13 = index_M3[~hidden][:, None] + 0.5
    points = np.array(OCCUPANCY_LOW_M) + (centres_M13 + offset) * OCCUPANCY_VOXEL_M
    return points.reshape(-1, 3), np.repeat(colours_M3[~hidden] * shade, 16, 0)


def _paint(
    image: np.ndarray, points: np.ndarray, colours: np.ndarray, pitch_rad: float, yaw_rad: float
) -> None:
    """Paint points `(P, 3)` in ego metres from the farthest to the nearest."""
    cos_yaw, sin_yaw = np.cos(yaw_rad), np.sin(yaw_rad)
    forward_m = points[:, 0] * cos_yaw + points[:, 1] * sin_yaw
    left_m = points[:, 1] * cos_yaw - points[:, 0] * sin_yaw
    up_m = points[:, 2]

    # along the picture's height, and towards the viewer
    tall_m = forward_m * np.sin(pitch_rad) + up_m * np.cos(pitch_rad)
    near_m = up_m * np.sin(pitch_rad) - forward_m * np.cos(pitch_rad)

    height, width = image.shape[:2]
    px_per_m = width / 84
    column = np.floor(width / 2 - left_m * px_per_m).astype(int)
    row = np.floor(height / 2 - tall_m * px_per_m).astype(int)
    visible = np.flatnonzero((row >= 0) & (row < height) & (column >= 0) & (column < width))
    visible = visible[np.argsort(near_m[visible], kind='stable')]
    image[row[visible], column[visible]] = colours[visible].astype(np.uint8)
