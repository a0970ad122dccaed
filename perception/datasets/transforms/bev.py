"""Flip, rotate, scale and shift the world around the car.

Everything in ego moves by one `new_T_old`: all sensors and labels.

The cameras' images stay as they are; `ego_T_cam` moves instead, so a 3-D point keeps its pixel. A mirrored or
scaled `ego_T_cam` is no rigid transform any more: invert it as a matrix (`geometry.invert`), never by
transposing.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...core.contracts import (
    RADAR_VELOCITY,
    XY,
    XYZ,
    Annotations,
    BoxLabels,
    LabelledArea,
    LanePolylines,
    LidarPoints,
    MapCells,
    MapLayers,
    OccupancyLabels,
    RadarPoints,
    Sample,
)
from ...core.geometry import invert, make_transform, rotation_z, transform_boxes, transform_points
from ...core.protocols import OCCUPANCY_GRID, OCCUPANCY_IGNORED
from ...registry import TRANSFORMS
from .image import Pair


def bev_transform(flip_x: bool = False, flip_y: bool = False, yaw_rad: float = 0.0, scale: float = 1.0,
                  shift_m: Sequence[float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """`new_T_old` `(4, 4)`: first mirror, then rotate counter-clockwise, then scale, then shift.

    `flip_x` swaps front and back (x becomes -x), `flip_y` swaps left and right (y becomes -y).
    """
    mirror = make_transform(np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0, 1.0]), np.zeros(3))
    return (
        make_transform(np.eye(3) * scale, np.asarray(shift_m, dtype=np.float64))
        @ rotation_z(yaw_rad)
        @ mirror
    )


@TRANSFORMS.register_module()
class RandomFlipRotateScale:
    """Move everything in ego by one random `new_T_old`.

    As BEVFusion does (Liu et al., ICRA 2023, arXiv 2205.13542).

    Args:
        flip_x, flip_y: probability of swapping front and back, left and right.
        rotate_deg: largest turn to either side.
        scale: range of the factor.
        shift_std_m: standard deviation of the shift along x, y, z (a number means all three).

    Occupancy voxels are exact for flips and quarter turns; otherwise each takes the nearest old voxel and
    those that come from outside are not labelled (255, unseen).

    Raises:
        ValueError: a range or probability that makes no sense.
    """

    whole_drive = True

    def __init__(self, flip_x: float = 0.5, flip_y: float = 0.5, rotate_deg: float = 45.0,
                 scale: tuple[float, float] = (0.9, 1.1), shift_std_m: float | Sequence[float] = 0.5) -> None:
        if not (0 <= flip_x <= 1 and 0 <= flip_y <= 1):
            raise ValueError(f'flip_x, flip_y: expected probabilities, found {flip_x} and {flip_y}')
        if not 0 < scale[0] <= scale[1] or rotate_deg < 0:
            raise ValueError(
                f'expected 0 < low <= high for scale and rotate_deg >= 0, found {scale} and {rotate_deg}'
            )
        self.flip_x = flip_x
        self.flip_y = flip_y
        self.rotate_rad = math.radians(rotate_deg)
        self.scale = tuple(scale)
        self.shift_std_m = np.broadcast_to(np.asarray(shift_std_m, dtype=np.float64), (3,))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A random `new_T_old` `(4, 4)`."""
        flip_x, flip_y = rng.uniform(size=2) < (self.flip_x, self.flip_y)
        yaw_rad = rng.uniform(-1, 1) * self.rotate_rad
        scale = rng.uniform(*self.scale)
        shift_m = rng.normal(size=3) * self.shift_std_m
        return bev_transform(flip_x, flip_y, yaw_rad, scale, shift_m)

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Draw one transform and move sample and annotations by it."""
        return apply_bev(self.draw(rng), sample, annotations)


def apply_bev(new_T_old: np.ndarray, sample: Sample, annotations: Annotations | None) -> Pair:
    """Sample and annotations seen from the moved ego frame.

    `global_T_ego` and `ego_T_lidar` follow, so global positions stay.
    """
    moved = None if annotations is None else move_annotations(new_T_old, annotations)
    return move_sample(new_T_old, sample), moved


def move_sample(new_T_old: np.ndarray, sample: Sample) -> Sample:
    """All sensors of a sample moved by `new_T_old`."""
    camera, lidar, radar = sample.camera, sample.lidar, sample.radar
    frame = replace(sample.frame, global_T_ego=sample.frame.global_T_ego @ invert(new_T_old))
    if frame.ego_T_lidar is not None:
        frame = replace(frame, ego_T_lidar=new_T_old @ frame.ego_T_lidar)

    return replace(
        sample,
        frame=frame,
        camera=None if camera is None else replace(camera, ego_T_cam_N44=new_T_old @ camera.ego_T_cam_N44),
        lidar=None if lidar is None else LidarPoints(_move_xyz(new_T_old, lidar.points_P6)),
        radar=None if radar is None else move_radar(new_T_old, radar))


def _move_xyz(new_T_old: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points `(P, 3+)` float32 with their first three columns moved."""
    moved = points.copy()
    moved[:, XYZ] = transform_points(new_T_old, points[:, XYZ].astype(np.float64))
    return moved


def move_radar(new_T_old: np.ndarray, radar: RadarPoints) -> RadarPoints:
    """Radar points moved; their velocity turns, mirrors and scales with them."""
    moved = _move_xyz(new_T_old, radar.points_P8)
    velocity = radar.points_P8[:, RADAR_VELOCITY].astype(np.float64)
    moved[:, RADAR_VELOCITY] = velocity @ new_T_old[:2, :2].T
    return replace(radar, points_P8=moved)


def move_annotations(new_T_old: np.ndarray, annotations: Annotations) -> Annotations:
    """All labels of a frame moved by `new_T_old`."""
    boxes = annotations.boxes
    layers = annotations.map_layers
    occupancy = annotations.occupancy
    lanes = annotations.lanes
    return replace(
        annotations,
        boxes=None if boxes is None else move_boxes(new_T_old, boxes),
        map_layers=None if layers is None else move_map(new_T_old, layers),
        occupancy=None if occupancy is None else move_occupancy(new_T_old, occupancy),
        lanes=None if lanes is None else move_lanes(new_T_old, lanes))


def move_boxes(new_T_old: np.ndarray, boxes: BoxLabels) -> BoxLabels:
    """Boxes moved: centre, size, yaw and velocity."""
    moved = transform_boxes(new_T_old, boxes.boxes_M9)
    return replace(boxes, boxes_M9=moved, area=_move_area(new_T_old, boxes.area))


def _move_area(new_T_old: np.ndarray, area: LabelledArea | None) -> LabelledArea | None:
    return None if area is None else area.moved(new_T_old)


def _move_xy(new_T_old: np.ndarray, points_P2: np.ndarray) -> np.ndarray:
    """Ground points `(P, 2)` moved, in their own dtype."""
    moved = points_P2[:, XY].astype(np.float64) @ new_T_old[:2, :2].T + new_T_old[:2, 3]
    return moved.astype(np.result_type(points_P2.dtype, np.float32))


def _moved_radius_m(new_T_old: np.ndarray, radius_m: float) -> float:
    """What is still covered around the new origin."""
    scale = math.sqrt(abs(np.linalg.det(new_T_old[:2, :2])))
    return max(0.0, radius_m * scale - float(np.linalg.norm(new_T_old[:2, 3])))


def move_map(new_T_old: np.ndarray, layers: MapLayers | MapCells) -> MapLayers | MapCells:
    """Polygons (with their holes) and lines moved; cells stay, and where they lie moves."""
    if isinstance(layers, MapCells):
        return replace(layers, area=layers.area.moved(new_T_old))

    polygons = {
        name: tuple(
            (_move_xy(new_T_old, exterior), tuple(_move_xy(new_T_old, hole) for hole in holes))
            for exterior, holes in shapes
        )
        for name, shapes in layers.polygons.items()
    }
    lines = {
        name: tuple(_move_xy(new_T_old, line) for line in shapes) for name, shapes in layers.lines.items()
    }
    return MapLayers(polygons, lines, _moved_radius_m(new_T_old, layers.radius_m))


def move_lanes(new_T_old: np.ndarray, lanes: LanePolylines) -> LanePolylines:
    """Lane elements moved; their drawing order stays, the windows of a published protocol are left behind."""
    return replace(
        lanes,
        points=tuple(_move_xy(new_T_old, line) for line in lanes.points),
        radius_m=_moved_radius_m(new_T_old, lanes.radius_m),
        in_range=None,
        area=_move_area(new_T_old, lanes.area))


def move_occupancy(new_T_old: np.ndarray, occupancy: OccupancyLabels) -> OccupancyLabels:
    """Voxels moved: each new voxel takes the old voxel at its centre, 255 and unseen where that lies outside.

    Only transforms of the ground plane with a height scale and shift (what `bev_transform` makes) are
    understood.
    """
    old = _old_voxels(new_T_old, occupancy.semantics_XYZ.shape)
    same_heights = np.array_equal(old.heights_Z, np.arange(len(old.heights_Z)))

    def moved(values_XYZ: np.ndarray, outside: int) -> np.ndarray:
        whole_columns = values_XYZ.reshape(-1, values_XYZ.shape[2]).take(old.columns_XY, axis=0)
        new = whole_columns if same_heights else whole_columns[..., old.heights_Z]
        new[~old.inside_XY] = outside
        new[..., ~old.inside_Z] = outside
        return new

    return OccupancyLabels(
        semantics_XYZ=moved(occupancy.semantics_XYZ, OCCUPANCY_IGNORED),
        mask_lidar_XYZ=moved(occupancy.mask_lidar_XYZ, 0),
        mask_camera_XYZ=moved(occupancy.mask_camera_XYZ, 0),
        density_XYZ=None if occupancy.density_XYZ is None else moved(occupancy.density_XYZ, 0),
        weights_XYZ=None if occupancy.weights_XYZ is None else moved(occupancy.weights_XYZ, 0))


class _OldVoxels(NamedTuple):
    """Where the new voxels were, clipped to the volume, and which were inside.

    `columns_XY` is an index into the X * Y old columns; a transform of the ground plane moves whole columns.
    """

    columns_XY: np.ndarray
    heights_Z: np.ndarray
    inside_XY: np.ndarray
    inside_Z: np.ndarray


def _old_voxels(new_T_old: np.ndarray, shape_XYZ: tuple[int, int, int]) -> _OldVoxels:
    ranges_m = (OCCUPANCY_GRID.x_range_m, OCCUPANCY_GRID.y_range_m, OCCUPANCY_GRID.z_range_m)
    centres = [
        low + (np.arange(n) + 0.5) * (high - low) / n
        for (low, high), n in zip(ranges_m, shape_XYZ, strict=True)]

    # old places of the new centres: x and y (X, Y), z (Z,)
    old_T_new = invert(new_T_old)
    x_new, y_new = np.meshgrid(centres[0], centres[1], indexing='ij')
    x_old = old_T_new[0, 0] * x_new + old_T_new[0, 1] * y_new + old_T_new[0, 3]
    y_old = old_T_new[1, 0] * x_new + old_T_new[1, 1] * y_new + old_T_new[1, 3]
    z_old = old_T_new[2, 2] * centres[2] + old_T_new[2, 3]

    indices = [
        np.floor((old - low) / (high - low) * n).astype(np.int64)
        for old, (low, high), n in zip((x_old, y_old, z_old), ranges_m, shape_XYZ, strict=True)]
    inside = [(index >= 0) & (index < n) for index, n in zip(indices, shape_XYZ, strict=True)]
    x_XY, y_XY, z_Z = (np.clip(index, 0, n - 1) for index, n in zip(indices, shape_XYZ, strict=True))
    return _OldVoxels(x_XY * shape_XYZ[1] + y_XY, z_Z, inside[0] & inside[1], inside[2])
