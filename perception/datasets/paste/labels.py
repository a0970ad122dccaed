"""The labels of a frame after objects were set into it: boxes added, voxels filled or masked.

Maps and lanes do not change with what stands on the road; `map_segmentation`'s class 'vehicle' is drawn from
the boxes, but for that of a teacher's map. What a teacher weighed keeps its weight, objects count whole. The
labels of one's own tasks (`Annotations.extra`) cannot be known here.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.contracts import (
    CENTRE,
    SIZE,
    XY,
    XYZ,
    YAW,
    BoxLabels,
    DetectionClasses,
    MapCells,
    MapLayers,
    OccupancyLabels,
)
from ...core.geometry import box_corners, points_in_boxes, transform_points
from ...core.protocols import MAP_AND_VEHICLE_CLASSES, OCCUPANCY_GRID, OCCUPANCY_IGNORED
from ..reading.labels import box_class

_HIDDEN_MARGIN_M = 0.4
"""A voxel's length: sensors sit in different places, a shadow is as wide as the widest of theirs."""


@dataclass(frozen=True)
class PastedObject:
    """An object where it was set.

    Attributes:
        box_9: in the frame's ego.
        label, attribute, visibility, num_lidar_points, num_radar_points: as in `BoxLabels`.
        category: of its annotation.
        instance: names it, and no object of the frame.
        points_P3: the LiDAR's on it.
    """

    box_9: np.ndarray
    label: int
    attribute: int
    visibility: int
    num_lidar_points: int
    num_radar_points: int
    category: str
    instance: str
    points_P3: np.ndarray


def with_objects(boxes: BoxLabels, pasted: Sequence[PastedObject]) -> BoxLabels:
    """The boxes of a frame, and behind them those of the objects."""
    def joined(name: str, column: np.ndarray) -> np.ndarray:
        added = np.array([getattr(one, name) for one in pasted], column.dtype)
        return np.concatenate([column, added])

    named = bool(boxes.instance_tokens) or len(boxes.labels_M) == 0
    tokens = (*boxes.instance_tokens, *(one.instance for one in pasted)) if named else ()
    added_M9 = np.stack([one.box_9 for one in pasted]).astype(boxes.boxes_M9.dtype)

    # a teacher's; objects were annotated
    weights_M = boxes.weights_M
    if weights_M is not None:
        weights_M = np.concatenate([weights_M, np.ones(len(pasted), weights_M.dtype)])
    return replace(
        boxes,
        boxes_M9=np.concatenate([boxes.boxes_M9, added_M9]),
        labels_M=joined('label', boxes.labels_M),
        attributes_M=joined('attribute', boxes.attributes_M),
        num_lidar_points_M=joined('num_lidar_points', boxes.num_lidar_points_M),
        num_radar_points_M=joined('num_radar_points', boxes.num_radar_points_M),
        visibility_M=joined('visibility', boxes.visibility_M),
        instance_tokens=tokens,
        weights_M=weights_M)


def with_vehicle_cells(
    layers: MapLayers | MapCells | None, pasted: Sequence[PastedObject], classes: DetectionClasses
) -> MapLayers | MapCells | None:
    """The map of a frame; of a teacher's the cells of 'vehicle' are set where vehicles were pasted."""
    if not isinstance(layers, MapCells) or len(layers.masks_KYX) < len(MAP_AND_VEHICLE_CLASSES):
        return layers
    vehicles = [one.box_9 for one in pasted if classes.is_vehicle[one.label]]
    tall_M9 = np.array(vehicles, np.float64).reshape(-1, 9)
    tall_M9[:, 5] = 1e4

    # centres of the cells, in ego
    area = layers.area
    rows, columns = layers.masks_KYX.shape[1:]
    x = np.interp(np.arange(columns) + 0.5, [0, columns], area.x_range_m)
    y = np.interp(np.arange(rows) + 0.5, [0, rows], area.y_range_m)
    centres_P3 = np.stack([*np.meshgrid(x, y), np.zeros((rows, columns))], -1).reshape(-1, 3)
    centres_P3 = transform_points(np.linalg.inv(area.area_T_ego), centres_P3)

    masks_KYX, weights_KYX = layers.masks_KYX.copy(), layers.weights_KYX.copy()
    covered_YX = points_in_boxes(centres_P3, tall_M9).any(1).reshape(rows, columns)
    masks_KYX[-1, covered_YX], weights_KYX[-1, covered_YX] = 1, 1
    return MapCells(masks_KYX, weights_KYX, area)


# -------------------------------------------------------------------- voxels

def with_voxels(
    occupancy: OccupancyLabels, pasted: Sequence[PastedObject], origin_3: np.ndarray
) -> OccupancyLabels:
    """The voxels of a frame with objects among them.

    A voxel in an object's box that one of its points lies in is of its class and seen; the others in the box
    are not labelled (255): nobody knows how the object fills its box. What lies behind the box, seen from
    `origin_3`, keeps its class, which is still true, and is seen by no sensor any more. The density of voxels
    in boxes is 0.
    """
    semantics, lidar, camera = (
        array.copy()
        for array in (occupancy.semantics_XYZ, occupancy.mask_lidar_XYZ, occupancy.mask_camera_XYZ))
    density, weights = (
        None if array is None else array.copy() for array in (occupancy.density_XYZ, occupancy.weights_XYZ))

    # shadows first: an object may stand in that of another
    sight = VoxelSight(origin_3, semantics.shape)
    for one in pasted:
        hidden = sight.hidden(one.box_9)
        lidar[hidden], camera[hidden] = 0, 0
    for one in pasted:
        inside = voxels_in_box(one.box_9, semantics.shape)
        semantics[inside], lidar[inside], camera[inside] = OCCUPANCY_IGNORED, 0, 0
        if density is not None:
            density[inside] = 0

        hit = np.zeros(semantics.shape, bool)
        hit[voxels_of(one.points_P3, semantics.shape)] = True
        hit &= inside
        semantics[hit], lidar[hit], camera[hit] = box_class(one.category), 1, 1
        if weights is not None:
            weights[hit] = 1
    return OccupancyLabels(semantics, lidar, camera, density, weights)


def _ranges() -> np.ndarray:
    """Lowest and highest of x, y, z of the voxels' volume: `(3, 2)` m."""
    grid = OCCUPANCY_GRID
    return np.array([grid.x_range_m, grid.y_range_m, grid.z_range_m])


def _centres(shape_XYZ: tuple[int, ...]) -> list[np.ndarray]:
    """Centres of voxels along x, y and z."""
    return [
        low + (np.arange(count) + 0.5) * (high - low) / count
        for (low, high), count in zip(_ranges(), shape_XYZ, strict=True)]


def voxels_of(points_P3: np.ndarray, shape_XYZ: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the voxels that points lie in, those outside of the volume left out."""
    low, high = _ranges().T
    index = np.floor((points_P3[:, XYZ] - low) / (high - low) * shape_XYZ).astype(np.int64)
    index = index[((index >= 0) & (index < shape_XYZ)).all(1)]
    return index[:, 0], index[:, 1], index[:, 2]


def voxels_in_box(box_9: np.ndarray, shape_XYZ: tuple[int, ...]) -> np.ndarray:
    """Which voxels have their centre in a box: bool `(X, Y, Z)`."""
    reach = float(np.linalg.norm(box_9[SIZE])) / 2
    axes = _centres(shape_XYZ)
    near = [np.flatnonzero(np.abs(axis - at) <= reach) for axis, at in zip(axes, box_9[CENTRE], strict=True)]
    inside = np.zeros(shape_XYZ, bool)
    if min(map(len, near)) == 0:
        return inside

    places = np.stack(np.meshgrid(*(a[i] for a, i in zip(axes, near, strict=True)), indexing='ij'), -1)
    in_box = points_in_boxes(places.reshape(-1, 3), box_9[None].astype(np.float64))[:, 0]
    inside[np.ix_(*near)] = in_box.reshape(places.shape[:3])
    return inside


class VoxelSight:
    """The columns of voxels as they are seen from a place.

    Args:
        origin_3: the place in ego.
        shape_XYZ: how many voxels.
    """

    def __init__(self, origin_3: np.ndarray, shape_XYZ: tuple[int, ...]) -> None:
        x, y, z = _centres(shape_XYZ)
        self.origin_3 = origin_3
        self._columns_XY2 = np.stack(np.meshgrid(x, y, indexing='ij'), -1) - origin_3[XY]
        self._heights_Z = z - origin_3[2]
        self._distance_XY = np.hypot(self._columns_XY2[..., 0], self._columns_XY2[..., 1])
        self._bearing_XY = np.arctan2(self._columns_XY2[..., 1], self._columns_XY2[..., 0])

    def hidden(self, box_9: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of the voxels behind a box that is wider by a voxel's length.

        A voxel is behind it where the line to the voxel's centre goes through the box and ends beyond it.
        """
        # columns in the box's wedge, further away than its nearest corner
        corners = box_corners(box_9[None].astype(np.float64))[0, :4, XY] - self.origin_3[XY]
        towards = math.atan2(box_9[1] - self.origin_3[1], box_9[0] - self.origin_3[0])
        half = np.abs(_turned(np.arctan2(corners[:, 1], corners[:, 0]) - towards)).max()
        nearest = np.linalg.norm(corners, axis=1).min()
        half += math.atan2(2 * _HIDDEN_MARGIN_M, max(nearest, 1e-3))
        beyond = self._distance_XY > nearest - _HIDDEN_MARGIN_M
        at_x, at_y = np.nonzero(beyond & (np.abs(_turned(self._bearing_XY - towards)) <= half))

        lines = np.empty((len(at_x), len(self._heights_Z), 3))
        lines[..., XY] = self._columns_XY2[at_x, at_y][:, None]
        lines[..., 2] = self._heights_Z
        behind = _passes_through(lines.reshape(-1, 3), self.origin_3, box_9).reshape(lines.shape[:2])
        column, height = np.nonzero(behind)
        return at_x[column], at_y[column], height


def _passes_through(lines_P3: np.ndarray, origin_3: np.ndarray, box_9: np.ndarray) -> np.ndarray:
    """Which lines from a place, given by where they end, leave a widened box again: bool `(P,)`."""
    c, s = math.cos(box_9[YAW]), math.sin(box_9[YAW])
    box_R_ego = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
    start = box_R_ego @ (origin_3 - box_9[CENTRE])
    lines = lines_P3 @ box_R_ego.T
    half = box_9[SIZE] / 2 + _HIDDEN_MARGIN_M

    # slabs: where along the line, 0 to 1, it is between each pair of faces
    lines = np.where(np.abs(lines) < 1e-9, 1e-9, lines)
    ends = np.stack([(-half - start) / lines, (half - start) / lines])
    enters, leaves = ends.min(0).max(1), ends.max(0).min(1)
    return (enters < leaves) & (enters > 0) & (leaves < 1)


def _turned(angles: np.ndarray) -> np.ndarray:
    """Angles between -pi and pi."""
    return (angles + math.pi) % (2 * math.pi) - math.pi
