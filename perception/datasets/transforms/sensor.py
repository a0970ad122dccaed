"""What reaches the model: points and boxes in range, fewer points, sensors switched off.

Boxes that no sensor measured are left out.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...core.contracts import (
    CENTRE,
    RADAR_INDEX,
    XY,
    XYZ,
    Annotations,
    CameraRig,
    LidarPoints,
    RadarPoints,
    Sample,
)
from ...core.protocols import RADARS, SENSORS
from ...registry import TRANSFORMS
from .image import Pair


@TRANSFORMS.register_module()
class RangeFilter:
    """Keep points inside a box around the car, and annotated boxes whose centre lies inside one.

    Args:
        points_m, boxes_m: (x, y, z low, x, y, z high) in ego, low borders in, high borders out; None keeps
            all. Radar points are kept by x and y alone: a radar does not measure height.

    Raises:
        ValueError: not six numbers, or an empty range.
    """

    def __init__(
        self, points_m: Sequence[float] | None = None, boxes_m: Sequence[float] | None = None
    ) -> None:
        self.points_m = _checked_range('points_m', points_m)
        self.boxes_m = _checked_range('boxes_m', boxes_m)

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Keep what lies in range."""
        if self.points_m is not None:
            sample = replace(sample, lidar=self._lidar(sample.lidar), radar=self._radar(sample.radar))
        if self.boxes_m is not None and annotations is not None and annotations.boxes is not None:
            keep = in_range(annotations.boxes.boxes_M9[:, CENTRE], self.boxes_m)
            annotations = replace(annotations, boxes=annotations.boxes.select(keep))
        return sample, annotations

    def _lidar(self, lidar: LidarPoints | None) -> LidarPoints | None:
        if lidar is None:
            return None
        return LidarPoints(lidar.points_P6[in_range(lidar.points_P6[:, XYZ], self.points_m)])

    def _radar(self, radar: RadarPoints | None) -> RadarPoints | None:
        if radar is None:
            return None
        inside = in_range(radar.points_P8[:, XY], self.points_m)
        return replace(radar, points_P8=radar.points_P8[inside])


def _checked_range(name: str, range_m: Sequence[float] | None) -> tuple[float, ...] | None:
    if range_m is None:
        return None
    if len(range_m) != 6 or any(range_m[i] >= range_m[i + 3] for i in range(3)):
        raise ValueError(
            f'{name}: expected (x, y, z low, x, y, z high) in metres with low < high, found {range_m}'
        )
    return tuple(float(v) for v in range_m)


def in_range(points: np.ndarray, range_m: Sequence[float]) -> np.ndarray:
    """Which points `(P, 2 or 3)` lie in the range of six numbers: bool `(P,)`."""
    axes = points.shape[1]
    return ((points >= range_m[:axes]) & (points < range_m[3:3 + axes])).all(1)


@TRANSFORMS.register_module()
class PointShuffle:
    """Put LiDAR points in random order and keep at most `limit` of them (None: all).

    Each point is as likely to stay as any other.
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f'limit: expected a positive number of points or None, found {limit}')
        self.limit = limit

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Permute the points."""
        if sample.lidar is None:
            return sample, annotations
        order = rng.permutation(len(sample.lidar.points_P6))[:self.limit]
        return replace(sample, lidar=LidarPoints(sample.lidar.points_P6[order])), annotations


@TRANSFORMS.register_module()
class FilterBoxesWithoutPoints:
    """Leave out annotated boxes that fewer than `minimum` LiDAR and radar points fell into.

    They cannot be learned from points.
    """

    def __init__(self, minimum: int = 1) -> None:
        self.minimum = minimum

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Keep the boxes with enough points."""
        if annotations is None or annotations.boxes is None:
            return sample, annotations
        boxes = annotations.boxes
        keep = boxes.num_lidar_points_M + boxes.num_radar_points_M >= self.minimum
        return sample, replace(annotations, boxes=boxes.select(keep))


@TRANSFORMS.register_module()
class SensorDropout:
    """Train with sensors missing.

    First the kinds that survive are drawn (switched modality), then single cameras and radars are lost.

    Args:
        keep: probability of each set of surviving sensors, named like 'camera', 'lidar', 'camera+lidar'; they
            sum to 1.
        drop_camera, drop_radar: probability with which each single camera or radar that survived is lost.
        draw_by: 'sample'; 'batch': all samples of a batch keep what was drawn for its first one; 'drive': all
            frames of a drive that is followed, or of a clip, lose the same, so that a memory learns to do
            without a sensor that it never had.

    A set of which the sample has nothing leaves the sample as it is: there is always something left. A lost
    camera's picture is black and its mask False; a lost radar's points are gone and its mask is False; a lost
    LiDAR is None.

    Raises:
        ValueError: an unknown sensor or way to draw, or probabilities that do not sum to 1.
    """

    def __init__(
        self,
        keep: Mapping[str, float] | None = None,
        drop_camera: float = 0.0,
        drop_radar: float = 0.0,
        draw_by: str = 'sample',
    ) -> None:
        keep = {'+'.join(SENSORS): 1.0} if keep is None else keep
        self.sets = [frozenset(name.split('+')) for name in keep]
        self.probabilities = np.array(list(keep.values()), dtype=np.float64)

        unknown = sorted(set().union(*self.sets) - set(SENSORS))
        if unknown:
            raise ValueError(f"keep: unknown sensor {unknown[0]!r}, expected some of {SENSORS} joined by '+'")
        if (self.probabilities < 0).any() or abs(self.probabilities.sum() - 1) > 1e-6:
            raise ValueError(f'keep: expected probabilities that sum to 1, found {dict(keep)}')

        if not (0 <= drop_camera <= 1 and 0 <= drop_radar <= 1):
            raise ValueError(
                f'expected probabilities for drop_camera and drop_radar, found {drop_camera} and {drop_radar}'
            )
        if draw_by not in ('sample', 'batch', 'drive'):
            raise ValueError(f"draw_by: expected 'sample', 'batch' or 'drive', found {draw_by!r}")

        self.drop_camera = drop_camera
        self.drop_radar = drop_radar
        self.draw_by = draw_by
        self.whole_drive = draw_by == 'drive'

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Draw what is lost, and lose it where something else is left."""
        chosen = self.sets[rng.choice(len(self.sets), p=self.probabilities / self.probabilities.sum())]
        cameras = 0 if sample.camera is None else len(sample.camera.names)
        lost_cameras = rng.uniform(size=cameras) < self.drop_camera
        lost_radars = rng.uniform(size=len(RADARS)) < self.drop_radar

        if self.draw_by == 'batch':
            sample = replace(sample, batch_keeps=chosen)
        else:
            sample = keep_where_any(sample, chosen)
        return self._drop_single(sample, lost_cameras, lost_radars), annotations

    def _drop_single(self, sample: Sample, lost_cameras: np.ndarray, lost_radars: np.ndarray) -> Sample:
        """Lose single cameras and radars, but never all that the sample has."""
        after = sample
        if sample.camera is not None:
            after = replace(after, camera=without_cameras(sample.camera, lost_cameras))
        if sample.radar is not None:
            after = replace(after, radar=without_radars(sample.radar, lost_radars))
        return after if any(after.present().values()) else sample


def keep_where_any(sample: Sample, names: frozenset[str]) -> Sample:
    """The sample with the named sensors alone, or as it is where it has none of them."""
    if any(there and name in names for name, there in sample.present().items()):
        return keep_sensors(sample, names)
    return sample


def keep_sensors(sample: Sample, names: Sequence[str] | frozenset[str]) -> Sample:
    """The sample as if only the named sensors had worked.

    A lost camera rig keeps its shapes and calibration.
    """
    camera, radar = sample.camera, sample.radar
    if camera is not None and 'camera' not in names:
        camera = without_cameras(camera, np.ones(len(camera.names), bool))
    if radar is not None and 'radar' not in names:
        radar = without_radars(radar, np.ones(len(RADARS), bool))
    return replace(sample, camera=camera, radar=radar, lidar=sample.lidar if 'lidar' in names else None)


def without_cameras(rig: CameraRig, lost_N: np.ndarray) -> CameraRig:
    """The rig with the cameras of `lost_N` black and not present."""
    if not lost_N.any():
        return rig
    images = np.where(lost_N[:, None, None, None], np.uint8(0), rig.images_NHW3)
    return replace(rig, images_NHW3=images, present_N=rig.present_N & ~lost_N)


def without_radars(radar: RadarPoints, lost_R: np.ndarray) -> RadarPoints:
    """The radars of `lost_R` gone with their points."""
    if not lost_R.any():
        return radar
    gone = lost_R[radar.points_P8[:, RADAR_INDEX].astype(np.int64)]
    return RadarPoints(radar.points_P8[~gone], radar.present_R & ~lost_R)
