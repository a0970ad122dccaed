"""The words that travel between rooms: frozen records with their shapes, frames and units, checked at birth.

Frames: everything here is in **ego** at the key frame's LiDAR time (x forward, y left, z up, origin on the
ground below the rear axle) unless a name says otherwise. What the car knows (`Sample`, `Batch`) and what an
annotator knows (`Annotations`) are different types. A sensor that is absent is None or has a False in its
mask; its values are then never read.

Shape letters: B batch, N cameras, R radars, P points, M boxes, L lane elements, H W image rows and columns,
X Y Z voxels along x, y, z.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .protocols import MAP_CLASSES, RADARS, TASKS

LIDAR_COLUMNS = ('x_m', 'y_m', 'z_m', 'intensity', 'ring', 'time_lag_s')
RADAR_COLUMNS = ('x_m', 'y_m', 'z_m', 'vx_mps', 'vy_mps', 'rcs_dbsm', 'time_lag_s', 'radar_index')

CENTRE = slice(0, 3)
SIZE = slice(3, 6)
YAW = 6
VELOCITY = slice(7, 9)
"""Columns of boxes `(*, M, 9)`: centre x, y, z (m); length, width, height (m); yaw (rad, counter-clockwise
from +x); vx, vy (m/s)."""


def check_shape(owner: str, name: str, value: np.ndarray | torch.Tensor, *expected: int | str) -> None:
    """Raise ValueError unless `value` has the expected shape; letters stand for any size.

    Raises:
        ValueError: names the record, the field, the shape found and the shape expected.
    """
    shape = tuple(getattr(value, 'shape', ()))
    fits = len(shape) == len(expected) and all(
        isinstance(e, str) or e == s for e, s in zip(expected, shape, strict=True)
    )
    if not hasattr(value, 'shape') or not fits:
        wanted = ', '.join(str(e) for e in expected)
        raise ValueError(f'{owner}.{name}: expected shape ({wanted}), found {shape or type(value).__name__}')


# ---------------------------------------------------------------------------------------------- what the car
# knows

@dataclass(frozen=True)
class Frame:
    """Which moment of which drive: `token` names the sample, `global_T_ego` (4, 4) float64 is the pose at
    LiDAR time.

    `location` is the map's name ('' when unknown). `timestamp_ns` is the key frame's LiDAR time.
    """

    token: str
    timestamp_ns: int
    global_T_ego: np.ndarray
    scene: str = ''
    location: str = ''

    def __post_init__(self) -> None:
        check_shape('Frame', 'global_T_ego', self.global_T_ego, 4, 4)


@dataclass(frozen=True)
class CameraRig:
    """N cameras that see one moment; images and cameras travel together.

    Attributes:
        names: N channel names.
        images_NHW3: uint8 RGB.
        K_N33: float64 pixels; holds every image-plane change (resize, crop, flip, rotation), so `K @
            points_cam` lands on the image as it is here.
        ego_T_cam_N44: float64, camera frame (x right, y down, z forward) -> ego at the key frame's LiDAR
            time, the car's own motion between the camera's and the LiDAR's time included.
        present_N: bool; False where the image is missing or unreadable (its pixels are then meaningless).
        time_lag_s_N: LiDAR time minus camera time.
    """

    names: tuple[str, ...]
    images_NHW3: np.ndarray
    K_N33: np.ndarray
    ego_T_cam_N44: np.ndarray
    present_N: np.ndarray
    time_lag_s_N: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.names)
        check_shape('CameraRig', 'images_NHW3', self.images_NHW3, n, 'H', 'W', 3)
        check_shape('CameraRig', 'K_N33', self.K_N33, n, 3, 3)
        check_shape('CameraRig', 'ego_T_cam_N44', self.ego_T_cam_N44, n, 4, 4)
        check_shape('CameraRig', 'present_N', self.present_N, n)
        check_shape('CameraRig', 'time_lag_s_N', self.time_lag_s_N, n)

    @property
    def image_size_hw(self) -> tuple[int, int]:
        return self.images_NHW3.shape[1], self.images_NHW3.shape[2]


@dataclass(frozen=True)
class LidarPoints:
    """Merged LiDAR sweeps, `points_P6` float32 with columns `LIDAR_COLUMNS`: metres in ego, intensity 0..255,
    ring index (-1 unknown), time lag in seconds (0 for the key frame, positive for older sweeps). Earlier
    sweeps are ego-motion compensated.
    """

    points_P6: np.ndarray

    def __post_init__(self) -> None:
        check_shape('LidarPoints', 'points_P6', self.points_P6, 'P', 6)


@dataclass(frozen=True)
class RadarPoints:
    """Merged radar sweeps, `points_P8` float32 with columns `RADAR_COLUMNS`: metres in ego, velocity with the
    car's own motion compensated (m/s along ego axes), RCS (dBsm), time lag (s), index into `RADARS`.
    `present_R`: bool per radar.
    """

    points_P8: np.ndarray
    present_R: np.ndarray

    def __post_init__(self) -> None:
        check_shape('RadarPoints', 'points_P8', self.points_P8, 'P', 8)
        check_shape('RadarPoints', 'present_R', self.present_R, len(RADARS))


@dataclass(frozen=True)
class Sample:
    """One key frame as the car knows it. A sensor that was not asked for or is not there is None.

    `left_out` names what should have been there and was not (files, tables), in words for a person.
    """

    frame: Frame
    camera: CameraRig | None = None
    lidar: LidarPoints | None = None
    radar: RadarPoints | None = None
    left_out: tuple[str, ...] = ()

    def present(self) -> dict[str, bool]:
        """Which sensors have something to say in this sample."""
        return {'camera': self.camera is not None and bool(np.any(self.camera.present_N)),
                'lidar': self.lidar is not None,
                'radar': self.radar is not None and bool(np.any(self.radar.present_R))}


# ---------------------------------------------------------------------------------------- what the annotator
# knows

@dataclass(frozen=True)
class BoxLabels:
    """Annotated boxes in ego: boxes_M9 float32 (x, y, z of the centre, length, width, height m, yaw rad, vx,
    vy m/s; velocity NaN where unknown), labels_M int64 into `DETECTION_CLASSES`, attributes_M int64 into
    `ATTRIBUTES` (-1 none), points inside by LiDAR and radar, visibility_M level 1..4 (0 unknown),
    instance_tokens of M strings.
    """

    boxes_M9: np.ndarray
    labels_M: np.ndarray
    attributes_M: np.ndarray
    num_lidar_points_M: np.ndarray
    num_radar_points_M: np.ndarray
    visibility_M: np.ndarray
    instance_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        m = len(self.labels_M)
        check_shape('BoxLabels', 'boxes_M9', self.boxes_M9, m, 9)
        for name in ('labels_M', 'attributes_M', 'num_lidar_points_M', 'num_radar_points_M', 'visibility_M'):
            check_shape('BoxLabels', name, getattr(self, name), m)
        if self.instance_tokens and len(self.instance_tokens) != m:
            raise ValueError(
                f'BoxLabels.instance_tokens: expected {m} tokens, found {len(self.instance_tokens)}'
            )

    def select(self, keep: np.ndarray) -> BoxLabels:
        """The boxes where `keep` (bool or indices, `(M,)`) says so."""
        indices = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep, dtype=int)
        return BoxLabels(
            self.boxes_M9[indices], self.labels_M[indices], self.attributes_M[indices],
            self.num_lidar_points_M[indices], self.num_radar_points_M[indices], self.visibility_M[indices],
            tuple(self.instance_tokens[i] for i in indices) if self.instance_tokens else ())


Polygon = tuple[np.ndarray, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class MapLayers:
    """The vector map around the car in ego metres: per class of `MAP_CLASSES` polygons (exterior `(P, 2)`,
    holes) and lines `(P, 2)`. Covers at least `radius_m` around the car.
    """

    polygons: dict[str, tuple[Polygon, ...]]
    lines: dict[str, tuple[np.ndarray, ...]]
    radius_m: float


@dataclass(frozen=True)
class LanePolylines:
    """Lane elements in ego metres: `points` of L arrays `(P, 2)` float32 in drawing order, labels_L int64
    into `LANE_CLASSES`.

    `closed_L` says where first and last point are the same place (crossings, some boundaries). Elements reach
    `radius_m` and are cut to the range a head or a metric works in.
    """

    points: tuple[np.ndarray, ...]
    labels_L: np.ndarray
    radius_m: float

    def __post_init__(self) -> None:
        check_shape('LanePolylines', 'labels_L', self.labels_L, len(self.points))
        for i, line in enumerate(self.points):
            check_shape('LanePolylines', f'points[{i}]', line, 'P', 2)

    @property
    def closed_L(self) -> np.ndarray:
        return np.array([len(p) > 3 and np.allclose(p[0], p[-1], atol=1e-3) for p in self.points], dtype=bool)


@dataclass(frozen=True)
class OccupancyLabels:
    """Occ3D voxels (Tian et al., NeurIPS 2023): uint8 `(X, Y, Z)` over x, y in [-40, 40], z in [-1, 5.4] m at
    0.4 m in ego.

    semantics_XYZ into `OCCUPANCY_CLASSES` (17 free, 255 not labelled); mask_lidar_XYZ and mask_camera_XYZ: 1
    where observed; density_XYZ: how densely the LiDAR saw the voxel, 0..1, where the labels say it
    (`tools/make_occupancy.py`; Occ3D does not).
    """

    semantics_XYZ: np.ndarray
    mask_lidar_XYZ: np.ndarray
    mask_camera_XYZ: np.ndarray
    density_XYZ: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_shape('OccupancyLabels', 'semantics_XYZ', self.semantics_XYZ, 'X', 'Y', 'Z')
        for name in ('mask_lidar_XYZ', 'mask_camera_XYZ'):
            check_shape('OccupancyLabels', name, getattr(self, name), *self.semantics_XYZ.shape)
        if self.density_XYZ is not None:
            check_shape('OccupancyLabels', 'density_XYZ', self.density_XYZ, *self.semantics_XYZ.shape)


LABELS_OF_TASK = {
    'detection': 'boxes', 'map_segmentation': 'map_layers', 'occupancy': 'occupancy', 'lanes': 'lanes'}
"""Task -> the field of `Annotations` that holds its labels."""


@dataclass(frozen=True)
class Annotations:
    """Everything annotated for one key frame; a kind of label that does not exist for it is None, not empty.

    `extra` holds the labels of tasks beside the four, by the task's name; `get` reads all of them alike.
    """

    token: str
    boxes: BoxLabels | None = None
    map_layers: MapLayers | None = None
    occupancy: OccupancyLabels | None = None
    lanes: LanePolylines | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_extra('Annotations', self.extra)

    def get(self, task: str) -> Any:
        """The labels of a task; None where this frame has none."""
        return getattr(self, LABELS_OF_TASK[task]) if task in LABELS_OF_TASK else self.extra.get(task)


def _check_extra(owner: str, extra: Mapping[str, Any]) -> None:
    built_in = [task for task in extra if task in TASKS]
    if built_in:
        raise ValueError(f'{owner}.extra: expected tasks other than {", ".join(TASKS)}, found {built_in[0]!r}')


# --------------------------------------------------------------------------------------------------- what a
# model eats

@dataclass(frozen=True)
class Batch:
    """B samples as tensors. Sensors that the configuration leaves out are None.

    Attributes:
        frames: B frames (tokens, poses).
        images_BN3HW: uint8 RGB, or float once normalised by the model's pre-processor.
        K_BN33, ego_T_cam_BN44: float32 as in `CameraRig`.
        camera_present_BN: bool.
        lidar_points: B tensors `(P, 6)` float32.
        lidar_present_B: bool.
        radar_points: B tensors `(P, 8)` float32.
        radar_present_BR: bool.
    """

    frames: tuple[Frame, ...]
    images_BN3HW: torch.Tensor | None = None
    K_BN33: torch.Tensor | None = None
    ego_T_cam_BN44: torch.Tensor | None = None
    camera_present_BN: torch.Tensor | None = None
    lidar_points: tuple[torch.Tensor, ...] | None = None
    lidar_present_B: torch.Tensor | None = None
    radar_points: tuple[torch.Tensor, ...] | None = None
    radar_present_BR: torch.Tensor | None = None

    def __post_init__(self) -> None:
        b = len(self.frames)
        if self.images_BN3HW is not None:
            n = self.images_BN3HW.shape[1]
            check_shape('Batch', 'images_BN3HW', self.images_BN3HW, b, n, 3, 'H', 'W')
            check_shape('Batch', 'K_BN33', self.K_BN33, b, n, 3, 3)
            check_shape('Batch', 'ego_T_cam_BN44', self.ego_T_cam_BN44, b, n, 4, 4)
            check_shape('Batch', 'camera_present_BN', self.camera_present_BN, b, n)
        if self.lidar_points is not None:
            check_shape('Batch', 'lidar_present_B', self.lidar_present_B, b)
        if self.radar_points is not None:
            check_shape('Batch', 'radar_present_BR', self.radar_present_BR, b, 'R')

    def __len__(self) -> int:
        return len(self.frames)

    def present(self) -> dict[str, torch.Tensor]:
        """Per configured sensor, bool `(B,)`: does the sample have anything from it."""
        found = {}
        if self.camera_present_BN is not None:
            found['camera'] = self.camera_present_BN.any(1)
        if self.lidar_present_B is not None:
            found['lidar'] = self.lidar_present_B
        if self.radar_present_BR is not None:
            found['radar'] = self.radar_present_BR.any(1)
        return found

    def select(self, indices: Sequence[int]) -> Batch:
        """Some samples of the batch, in this order."""
        def pick(value: object) -> object:
            if isinstance(value, torch.Tensor):
                return value[list(indices)]
            return tuple(value[i] for i in indices) if isinstance(value, tuple) else value
        return replace(self, **{name: pick(getattr(self, name)) for name in self.__dataclass_fields__})

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; frames stay where they are."""
        def move(value: object) -> object:
            if isinstance(value, torch.Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, tuple) and value and isinstance(value[0], torch.Tensor):
                return tuple(v.to(device, non_blocking=True) for v in value)
            return value
        return replace(self, **{name: move(getattr(self, name)) for name in self.__dataclass_fields__})


# ------------------------------------------------------------------------------------------------- what a
# model answers

@dataclass(frozen=True)
class Boxes3D:
    """Detected boxes in ego, best first: boxes_M9 float32 as in `BoxLabels`, scores_M 0..1, labels_M,
    attributes_M (-1 none)."""

    boxes_M9: np.ndarray
    scores_M: np.ndarray
    labels_M: np.ndarray
    attributes_M: np.ndarray

    def __post_init__(self) -> None:
        m = len(self.scores_M)
        check_shape('Boxes3D', 'boxes_M9', self.boxes_M9, m, 9)
        check_shape('Boxes3D', 'labels_M', self.labels_M, m)
        check_shape('Boxes3D', 'attributes_M', self.attributes_M, m)


@dataclass(frozen=True)
class MapSegmentation:
    """Probability of each map class per cell: float32 `(6, Y, X)` in the order of `MAP_CLASSES`, and the grid
    it lies on."""

    probabilities_6YX: np.ndarray
    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]

    def __post_init__(self) -> None:
        check_shape(
            'MapSegmentation', 'probabilities_6YX', self.probabilities_6YX, len(MAP_CLASSES), 'Y', 'X'
        )


@dataclass(frozen=True)
class Occupancy:
    """Predicted voxels in Occ3D order: semantics_XYZ uint8 into `OCCUPANCY_CLASSES`; confidence_XYZ float16
    of that class."""

    semantics_XYZ: np.ndarray
    confidence_XYZ: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_shape('Occupancy', 'semantics_XYZ', self.semantics_XYZ, 'X', 'Y', 'Z')


@dataclass(frozen=True)
class Lanes:
    """Predicted lane elements in ego metres, best first: points_LP2 float32, scores_L in 0..1, labels_L into
    `LANE_CLASSES`."""

    points_LP2: np.ndarray
    scores_L: np.ndarray
    labels_L: np.ndarray

    def __post_init__(self) -> None:
        check_shape('Lanes', 'points_LP2', self.points_LP2, len(self.scores_L), 'P', 2)
        check_shape('Lanes', 'labels_L', self.labels_L, len(self.scores_L))


@dataclass(frozen=True)
class TaskOutput:
    """A model's predictions for one sample; a task that the model does not have is None.

    Field names are `TASKS`; `extra` holds the predictions of other tasks, by the task's name. `of` and `get`
    treat all tasks alike.
    """

    frame: Frame
    detection: Boxes3D | None = None
    map_segmentation: MapSegmentation | None = None
    occupancy: Occupancy | None = None
    lanes: Lanes | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_extra('TaskOutput', self.extra)

    @staticmethod
    def of(frame: Frame, predictions: Mapping[str, Any]) -> TaskOutput:
        """The record of {task: prediction}."""
        built_in = {task: value for task, value in predictions.items() if task in TASKS}
        extra = {task: value for task, value in predictions.items() if task not in TASKS}
        return TaskOutput(frame, **built_in, extra=extra)

    def get(self, task: str) -> Any:
        """The prediction of a task; None where the model does not have it."""
        return getattr(self, task) if task in TASKS else self.extra.get(task)

    def predictions(self) -> dict[str, Any]:
        """{task: prediction} of the tasks that the model has."""
        found = {task: self.get(task) for task in (*TASKS, *self.extra)}
        return {task: prediction for task, prediction in found.items() if prediction is not None}


def collate_frames(samples: Sequence[Sample]) -> tuple[Frame, ...]:
    """The frames of samples, in order."""
    return tuple(sample.frame for sample in samples)
