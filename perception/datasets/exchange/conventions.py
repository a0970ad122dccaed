"""What mmdet3d calls its classes, and where it places boxes: in the key frame's LiDAR frame.

Annotated boxes of nuScenes stand upright in the world and move level. mmdet3d's yaw is pyquaternion's
`yaw_pitch_roll[0]` of the box in the LiDAR frame, which for an upright box is its yaw in the world less that
of the frame. Its velocity is turned in 3-D and cut to x and y, which is undone by inverting the 2 x 2 part of
`lidar_T_global`. Nothing of them is lost. Boxes that lean, as the synthetic world's vehicles do on a slope,
get the yaw of our infos here; mmdet3d's own converter turns them by less than `lean * (lean + tilt of the
LiDAR)` radians more, which its one number cannot tell from a heading.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.contracts import SIZE, VELOCITY, YAW
from ...core.geometry import invert, transform_boxes, wrap_yaw
from ..reading.records import BoxRecords

MMDET3D_CLASSES = (
    'car', 'truck', 'trailer', 'bus', 'construction_vehicle', 'bicycle', 'motorcycle', 'pedestrian',
    'traffic_cone', 'barrier')
MMDET3D_ATTRIBUTES = (
    'cycle.with_rider', 'cycle.without_rider', 'pedestrian.moving', 'pedestrian.standing',
    'pedestrian.sitting_lying_down', 'vehicle.moving', 'vehicle.parked', 'vehicle.stopped')
NOT_DETECTED = 'not_detected'
"""Category of an imported box whose class mmdet3d does not know."""

EXTRA_KEY = 'perception'
"""Key of an info that holds what mmdet3d has no place for; mmdet3d ignores it."""


def are_old_boxes(records: Sequence[BoxRecords]) -> bool:
    """Whether boxes are (x, y, z, w, l, h, r) as before mmdet3d 1.0.

    They are when most cars, trucks and buses look wider than long.
    """
    longer = [
        size[0] - size[1]
        for boxes in records
        for size, name in zip(boxes.boxes_M9[:, SIZE], boxes.categories, strict=True)
        if name in ('car', 'truck', 'bus')]
    return bool(longer) and bool(np.median(longer) < 0)


def from_old_boxes(boxes_M9: np.ndarray) -> np.ndarray:
    """(x, y, z, w, l, h, r, vx, vy) with yaw = -r - pi / 2 -> (x, y, z, l, w, h, yaw, vx, vy)."""
    boxes = boxes_M9[:, [0, 1, 2, 4, 3, 5, 6, 7, 8]].copy()
    boxes[:, YAW] = -boxes_M9[:, YAW] - np.pi / 2
    return boxes


def lidar_boxes_to_ego(boxes_M9: np.ndarray, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray) -> np.ndarray:
    """Move boxes `(M, 9)` as mmdet3d keeps them into ego, exactly as our own infos have them."""
    global_T_lidar = global_T_ego @ ego_T_lidar
    boxes_global = transform_boxes(global_T_lidar, boxes_M9)
    boxes_global[:, YAW] = boxes_M9[:, YAW] + _frame_yaw(global_T_lidar)
    boxes_global[:, VELOCITY] = boxes_M9[:, VELOCITY] @ _level_from_cut(global_T_lidar).T
    return transform_boxes(invert(global_T_ego), boxes_global)


def ego_boxes_to_lidar(boxes_M9: np.ndarray, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray) -> np.ndarray:
    """Inverse of `lidar_boxes_to_ego`."""
    global_T_lidar = global_T_ego @ ego_T_lidar
    level = _level_from_cut(global_T_ego)
    boxes_global = transform_boxes(global_T_ego, boxes_M9)
    heading = np.stack([np.cos(boxes_M9[:, YAW]), np.sin(boxes_M9[:, YAW])], 1) @ level.T
    boxes_global[:, YAW] = np.arctan2(heading[:, 1], heading[:, 0])
    boxes_global[:, VELOCITY] = boxes_M9[:, VELOCITY] @ level.T

    boxes_lidar = transform_boxes(invert(global_T_lidar), boxes_global)
    boxes_lidar[:, YAW] = wrap_yaw(boxes_global[:, YAW] - _frame_yaw(global_T_lidar))
    return boxes_lidar


def _frame_yaw(global_T_sensor: np.ndarray) -> float:
    """The part of a frame's orientation that mmdet3d's yaw leaves out."""
    sensor_T_global = invert(global_T_sensor)
    return float(np.arctan2(sensor_T_global[0, 1], sensor_T_global[0, 0]))


def _level_from_cut(global_T_frame: np.ndarray) -> np.ndarray:
    """`(2, 2)`: x and y of a level vector in a tilted frame -> the vector in the world."""
    return np.linalg.inv(invert(global_T_frame)[:2, :2])
