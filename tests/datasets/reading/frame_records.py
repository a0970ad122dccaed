"""A frame record with every field filled, for the tests of the info files."""
from __future__ import annotations

import numpy as np

from perception.core.geometry import make_transform, rotation_z
from perception.datasets.reading.records import BoxRecords, CameraRecord, FrameRecord, SensorRecord


def pose(x_m: float) -> np.ndarray:
    """A pose whose numbers need all digits of a float."""
    return make_transform(rotation_z(0.1 + x_m)[:3, :3], np.array([x_m, 1 / 3, 1e-17]))


def whole_frame(token: str = 'a') -> FrameRecord:
    """Two sweeps, a camera, a radar, labels, and two boxes of which one has no velocity."""
    times = dict(missing=False, token='data', timestamp_us=1_600_000_000_000_001, time_lag_s=0.1 + 0.2)
    key = SensorRecord(
        file='key.bin', ego_T_sensor=pose(1), own_ego_T_sensor=pose(2), global_T_own_ego=pose(3), **times)
    sweep = SensorRecord(file='old.bin', ego_T_sensor=pose(4), **times)
    camera = CameraRecord(
        file='back.jpg', ego_T_sensor=pose(5), own_ego_T_sensor=pose(6), global_T_own_ego=pose(7),
        K_33=np.array([[0.1, 0, 3], [0, 0.7, 4], [0, 0, 1]]), width_px=1600, height_px=900, **times)
    boxes = BoxRecords(
        boxes_M9=np.array([[1, 2, 3, 4, 5, 6, 0.7, 0.1, -0.0], [1, 2, 3, 4, 5, 6, -3, np.nan, np.nan]]),
        categories=('vehicle.car', 'animal'), tokens=('t', 'u'), instances=('i', 'j'),
        attributes=('vehicle.parked', ''), visibility_M=np.array([4, 0]),
        num_lidar_points_M=np.array([12, 0]), num_radar_points_M=np.array([1, 0]))
    return FrameRecord(
        token=token, timestamp_us=1_600_000_000_000_000, global_T_ego=pose(8), scene='scene-1',
        location='boston', previous='', next='b', cameras={'CAM_BACK': camera}, lidar=(key, sweep),
        radars={'RADAR_FRONT': (key,)}, lidarseg='seg.bin', occupancy=None, boxes=boxes)
