"""What an annotator knows of one key frame."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..protocols import MAP_AND_VEHICLE_CLASSES, MAP_CLASSES
from .area import LabelledArea
from .checks import check_extra_tasks, check_shape, check_weights
from .classes import NUSCENES_CLASSES, DetectionClasses
from .sample import Frame

Polygon = tuple[np.ndarray, tuple[np.ndarray, ...]]
"""Exterior ring `(P, 2)` and the rings of its holes, in ego metres."""

LABELS_OF_TASK = {
    'detection': 'boxes', 'map_segmentation': 'map_layers', 'occupancy': 'occupancy', 'lanes': 'lanes'}
"""Task -> the field of `Annotations` that holds its labels."""


@dataclass(frozen=True)
class BoxLabels:
    """Annotated boxes in ego.

    Attributes:
        boxes_M9: float32 (x, y, z of the centre, length, width, height m, yaw rad, vx, vy m/s; velocity NaN
            where unknown); `CENTRE`, `SIZE`, `YAW`, `VELOCITY` name the columns.
        labels_M: int64 into `classes`.
        attributes_M: int64 into `ATTRIBUTES`, -1 none.
        num_lidar_points_M, num_radar_points_M: points inside.
        visibility_M: level 1..4, 0 unknown.
        instance_tokens: M strings, or none.
        classes: what the labels mean; nuScenes' ten by default.
        weights_M: 0..1, how much each box counts in a loss; of 0 nothing is learned at its place, neither
            that it is there nor that nothing is. None: annotated, all 1.
        area: where the boxes were looked for; None: everywhere.
    """

    boxes_M9: np.ndarray
    labels_M: np.ndarray
    attributes_M: np.ndarray
    num_lidar_points_M: np.ndarray
    num_radar_points_M: np.ndarray
    visibility_M: np.ndarray
    instance_tokens: tuple[str, ...] = ()
    classes: DetectionClasses = NUSCENES_CLASSES
    weights_M: np.ndarray | None = None
    area: LabelledArea | None = None

    def __post_init__(self) -> None:
        m = len(self.labels_M)
        check_shape('BoxLabels', 'boxes_M9', self.boxes_M9, m, 9)
        for name in ('labels_M', 'attributes_M', 'num_lidar_points_M', 'num_radar_points_M', 'visibility_M'):
            check_shape('BoxLabels', name, getattr(self, name), m)
        if self.instance_tokens and len(self.instance_tokens) != m:
            raise ValueError(
                f'BoxLabels.instance_tokens: expected {m} tokens, found {len(self.instance_tokens)}'
            )
        check_weights('BoxLabels', 'weights_M', self.weights_M, m)

    def select(self, keep: np.ndarray) -> BoxLabels:
        """The boxes that `keep` marks (bool `(M,)`) or lists (indices)."""
        indices = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep, dtype=int)
        tokens = tuple(self.instance_tokens[i] for i in indices) if self.instance_tokens else ()
        return BoxLabels(
            boxes_M9=self.boxes_M9[indices],
            labels_M=self.labels_M[indices],
            attributes_M=self.attributes_M[indices],
            num_lidar_points_M=self.num_lidar_points_M[indices],
            num_radar_points_M=self.num_radar_points_M[indices],
            visibility_M=self.visibility_M[indices],
            instance_tokens=tokens,
            classes=self.classes,
            weights_M=None if self.weights_M is None else self.weights_M[indices],
            area=self.area)

    @property
    def boxes(self) -> np.ndarray:
        """The array `boxes_M9`."""
        return self.boxes_M9

    @property
    def labels(self) -> np.ndarray:
        """The array `labels_M`."""
        return self.labels_M


@dataclass(frozen=True)
class MapLayers:
    """The vector map around the car in ego metres.

    Attributes:
        polygons: per class of `MAP_CLASSES`, (exterior `(P, 2)`, holes) each.
        lines: per class, `(P, 2)` each.
        radius_m: the map covers at least this much around the car.
    """

    polygons: dict[str, tuple[Polygon, ...]]
    lines: dict[str, tuple[np.ndarray, ...]]
    radius_m: float


@dataclass(frozen=True)
class MapCells:
    """A map by cells instead of by lines and areas: what a teacher saw.

    Attributes:
        masks_KYX: uint8 0 or 1, in the order of `MAP_CLASSES` or of `MAP_AND_VEHICLE_CLASSES`; rows along +y
            of the area, columns along +x.
        weights_KYX: float32 0..1, how much each cell counts in a loss; 0 is not labelled.
        area: the ground that the cells cover.
    """

    masks_KYX: np.ndarray
    weights_KYX: np.ndarray
    area: LabelledArea

    def __post_init__(self) -> None:
        names = MAP_AND_VEHICLE_CLASSES if len(self.masks_KYX) > len(MAP_CLASSES) else MAP_CLASSES
        check_shape('MapCells', 'masks_KYX', self.masks_KYX, len(names), 'Y', 'X')
        check_weights('MapCells', 'weights_KYX', self.weights_KYX, *self.masks_KYX.shape)


@dataclass(frozen=True)
class LanePolylines:
    """Lane elements in ego metres.

    Elements reach `radius_m` and are cut to the range a head or a metric works in.

    Attributes:
        points: L arrays `(P, 2)` float32 in drawing order; centre lines the way that traffic drives.
        labels_L: int64 into `LANE_CLASSES`.
        radius_m: how far from the car they reach.
        protocol: of `LANE_PROTOCOLS`, by which they were made and will be scored.
        in_range: of a published protocol: range of `LANE_RANGES_M` -> exactly the elements that its own code
            cuts for this frame, float64 in ego metres. None for ours, and where the elements were moved.
        weights_L: 0..1, how much each element counts in a loss, as in `BoxLabels`. None: annotated, all 1.
        area: where the elements were looked for; None: as far as `radius_m`.
    """

    points: tuple[np.ndarray, ...]
    labels_L: np.ndarray
    radius_m: float
    protocol: str = 'ours'
    in_range: Callable[[str], LanePolylines] | None = None
    weights_L: np.ndarray | None = None
    area: LabelledArea | None = None

    def __post_init__(self) -> None:
        check_shape('LanePolylines', 'labels_L', self.labels_L, len(self.points))
        for i, line in enumerate(self.points):
            check_shape('LanePolylines', f'points[{i}]', line, 'P', 2)
        check_weights('LanePolylines', 'weights_L', self.weights_L, len(self.points))

    @property
    def closed_L(self) -> np.ndarray:
        """Where first and last point are the same place (crossings, some boundaries): bool `(L,)`."""
        return np.array([len(p) > 3 and np.allclose(p[0], p[-1], atol=1e-3) for p in self.points], dtype=bool)


@dataclass(frozen=True)
class OccupancyLabels:
    """Occ3D voxels (Tian et al., NeurIPS 2023), `(X, Y, Z)` of 0.4 m in ego.

    x and y reach from -40 to 40 m, z from -1 to 5.4 m.

    Attributes:
        semantics_XYZ: uint8 into `OCCUPANCY_CLASSES` (17 free, 255 not labelled).
        mask_lidar_XYZ, mask_camera_XYZ: uint8, 1 where observed.
        density_XYZ: how densely the LiDAR saw the voxel, 0..1, where the labels say it
            (`tools/make_occupancy.py`; Occ3D does not).
        weights_XYZ: 0..1, how much each voxel counts in a loss; 0 is as 255. None: annotated, all 1.
    """

    semantics_XYZ: np.ndarray
    mask_lidar_XYZ: np.ndarray
    mask_camera_XYZ: np.ndarray
    density_XYZ: np.ndarray | None = None
    weights_XYZ: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_shape('OccupancyLabels', 'semantics_XYZ', self.semantics_XYZ, 'X', 'Y', 'Z')
        for name in ('mask_lidar_XYZ', 'mask_camera_XYZ'):
            check_shape('OccupancyLabels', name, getattr(self, name), *self.semantics_XYZ.shape)
        if self.density_XYZ is not None:
            check_shape('OccupancyLabels', 'density_XYZ', self.density_XYZ, *self.semantics_XYZ.shape)
        check_weights('OccupancyLabels', 'weights_XYZ', self.weights_XYZ, *self.semantics_XYZ.shape)


@dataclass(frozen=True)
class Annotations:
    """Everything annotated for one key frame; a kind of label that does not exist for it is None, not empty.

    `extra` holds the labels of tasks beside the four, by the task's name; `get` reads all of them alike.
    """

    token: str
    boxes: BoxLabels | None = None
    map_layers: MapLayers | MapCells | None = None
    occupancy: OccupancyLabels | None = None
    lanes: LanePolylines | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_extra_tasks('Annotations', self.extra)

    def get(self, task: str) -> Any:
        """The labels of a task; None where this frame has none."""
        return getattr(self, LABELS_OF_TASK[task]) if task in LABELS_OF_TASK else self.extra.get(task)


def whole_annotations(
    frames: Sequence[Frame], annotations: Sequence[Annotations | None] | None
) -> list[Annotations]:
    """Annotations of every frame; one without any gets empty ones, which the heads mask.

    Raises:
        ValueError: there are none at all.
    """
    if annotations is None:
        raise ValueError("mode 'loss' needs annotations (data_samples), found None")
    return [
        Annotations(frame.token) if labels is None else labels
        for frame, labels in zip(frames, annotations, strict=True)]
