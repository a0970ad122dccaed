"""What the car knows of one key frame."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..lens import Distortion
from ..protocols import RADARS
from .checks import check_shape


@dataclass(frozen=True)
class Frame:
    """Which moment of which drive.

    Attributes:
        token: names the sample.
        timestamp_ns: the key frame's LiDAR time.
        global_T_ego: `(4, 4)` float64, the car's pose at that time.
        scene: name of the drive.
        location: name of the map, '' when unknown.
        ego_T_lidar: `(4, 4)` float64, where the LiDAR sits in the car, from the frame's own calibration; None
            where it has no LiDAR. Protocols that start or centre at the LiDAR read it.
        stream: the run of frames that a memory may be carried through; '' is the whole drive. A part of a
            drive that is trained on by itself has a name of its own.
    """

    token: str
    timestamp_ns: int
    global_T_ego: np.ndarray
    scene: str = ''
    location: str = ''
    ego_T_lidar: np.ndarray | None = None
    stream: str = ''

    def __post_init__(self) -> None:
        check_shape('Frame', 'global_T_ego', self.global_T_ego, 4, 4)
        if self.ego_T_lidar is not None:
            check_shape('Frame', 'ego_T_lidar', self.ego_T_lidar, 4, 4)

    @property
    def run(self) -> str:
        """The stream that this frame belongs to; '' where nothing is known of others."""
        return self.stream or self.scene

    def alone(self) -> Frame:
        """The same frame with nothing that connects it with others."""
        return replace(self, scene='', stream='')


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
        sizes_N2: (H, W) of each image, which lies in the upper left of its place in `images_NHW3`, where
            cameras differ; None: every image fills its place.
        distortions: N lenses, a pinhole where one is None: pixel = K @ distort(x/z, y/z). No change of the
            image changes them. None: all are pinholes.
    """

    names: tuple[str, ...]
    images_NHW3: np.ndarray
    K_N33: np.ndarray
    ego_T_cam_N44: np.ndarray
    present_N: np.ndarray
    time_lag_s_N: np.ndarray
    sizes_N2: np.ndarray | None = None
    distortions: tuple[Distortion | None, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.names)
        check_shape('CameraRig', 'images_NHW3', self.images_NHW3, n, 'H', 'W', 3)
        check_shape('CameraRig', 'K_N33', self.K_N33, n, 3, 3)
        check_shape('CameraRig', 'ego_T_cam_N44', self.ego_T_cam_N44, n, 4, 4)
        check_shape('CameraRig', 'present_N', self.present_N, n)
        check_shape('CameraRig', 'time_lag_s_N', self.time_lag_s_N, n)
        if self.sizes_N2 is not None:
            check_shape('CameraRig', 'sizes_N2', self.sizes_N2, n, 2)
        if self.distortions is not None:
            _check_lenses(self.distortions, n)

    @classmethod
    def blank(cls, names: Sequence[str], sizes_hw: Sequence[tuple[int, int]]) -> CameraRig:
        """Cameras of which none is present: black images, identities, each image with the size given."""
        n = len(names)
        height, width = (max(lengths) for lengths in zip(*sizes_hw, strict=True))
        return cls(
            names=tuple(names),
            images_NHW3=np.zeros((n, height, width, 3), np.uint8),
            K_N33=np.tile(np.eye(3), (n, 1, 1)),
            ego_T_cam_N44=np.tile(np.eye(4), (n, 1, 1)),
            present_N=np.zeros(n, bool),
            time_lag_s_N=np.zeros(n),
            sizes_N2=np.array(sizes_hw) if len(set(sizes_hw)) > 1 else None)

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width in pixels of every image; of the place for each one where cameras differ."""
        return self.images_NHW3.shape[1], self.images_NHW3.shape[2]

    def size_of(self, index: int) -> tuple[int, int]:
        """Height and width of one camera's own image."""
        return self.image_size_hw if self.sizes_N2 is None else tuple(self.sizes_N2[index].tolist())

    def distortion_of(self, index: int) -> Distortion | None:
        """One camera's lens; None: a pinhole."""
        return None if self.distortions is None else self.distortions[index]

    @property
    def images(self) -> np.ndarray:
        """The array `images_NHW3`."""
        return self.images_NHW3

    @property
    def K(self) -> np.ndarray:
        """The array `K_N33`."""
        return self.K_N33

    @property
    def ego_T_cam(self) -> np.ndarray:
        """The array `ego_T_cam_N44`."""
        return self.ego_T_cam_N44


def _check_lenses(distortions: object, count: int) -> None:
    lenses = distortions if isinstance(distortions, tuple) else ()
    if len(lenses) != count or not all(lens is None or isinstance(lens, Distortion) for lens in lenses):
        raise ValueError(
            f'CameraRig.distortions: expected a tuple of {count} Distortion or None, found '
            f'{str(distortions):.120}')


@dataclass(frozen=True)
class LidarPoints:
    """Merged LiDAR sweeps, earlier ones compensated for the car's motion.

    Attributes:
        points_P6: float32 with columns `LIDAR_COLUMNS`: metres in ego, intensity 0..255, ring index (-1
            unknown), time lag in seconds (0 for the key frame, positive for older sweeps).
    """

    points_P6: np.ndarray

    def __post_init__(self) -> None:
        check_shape('LidarPoints', 'points_P6', self.points_P6, 'P', 6)

    @property
    def points(self) -> np.ndarray:
        """The array `points_P6`."""
        return self.points_P6


@dataclass(frozen=True)
class RadarPoints:
    """Merged radar sweeps of all radars.

    Attributes:
        points_P8: float32 with columns `RADAR_COLUMNS`: metres in ego, velocity with the car's own motion
            compensated (m/s along ego axes), RCS (dBsm), time lag (s), index into `RADARS`.
        present_R: bool per radar.
    """

    points_P8: np.ndarray
    present_R: np.ndarray

    def __post_init__(self) -> None:
        check_shape('RadarPoints', 'points_P8', self.points_P8, 'P', 8)
        check_shape('RadarPoints', 'present_R', self.present_R, len(RADARS))

    @property
    def points(self) -> np.ndarray:
        """The array `points_P8`."""
        return self.points_P8


@dataclass(frozen=True)
class Sample:
    """One key frame as the car knows it.

    A sensor that was not asked for or is not there is None. `left_out` says in words what should have been
    there and was not (files, tables). `before` holds earlier frames of a clip, the oldest first.
    `batch_keeps` names the sensors that a whole batch keeps if this is its first sample (switched modality by
    iteration); None: all.
    """

    frame: Frame
    camera: CameraRig | None = None
    lidar: LidarPoints | None = None
    radar: RadarPoints | None = None
    left_out: tuple[str, ...] = ()
    before: tuple[Sample, ...] = ()
    batch_keeps: frozenset[str] | None = None

    def present(self) -> dict[str, bool]:
        """Which sensors this sample has measurements of."""
        return {'camera': self.camera is not None and bool(np.any(self.camera.present_N)),
                'lidar': self.lidar is not None,
                'radar': self.radar is not None and bool(np.any(self.radar.present_R))}
