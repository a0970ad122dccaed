"""mmdet3d's v1 infos (up to 1.0, BEVFusion, BEVDet), with quaternions: `lidar2ego_rotation`, `cams` ..."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.geometry import make_transform, quaternion_to_matrix
from ...core.protocols import CAMERAS
from ..reading.nuscenes import LIDAR
from ..reading.records import BoxRecords, CameraRecord, FrameRecord, SensorRecord
from .fields import NUSCENES_IMAGE_HW, Info, box_records, dataroot_path, name_fields, sensor_fields


def read_v1_info(info: Info, root: Path | None) -> FrameRecord:
    """Read one info; its boxes stay in the LiDAR frame."""
    now_us = int(info['timestamp'])
    global_T_ego = _pose(info, 'ego2global')
    ego_T_lidar = _pose(info, 'lidar2ego')

    key = SensorRecord(
        **sensor_fields(
            dataroot_path(info['lidar_path'], f'samples/{LIDAR}'), root, str(info.get('lidar_token', '')),
            now_us, now_us, ego_T_lidar),
        own_ego_T_sensor=ego_T_lidar,
        global_T_own_ego=global_T_ego)
    sweeps = [
        SensorRecord(**_compensated(sweep, root, now_us, ego_T_lidar, f'sweeps/{LIDAR}'))
        for sweep in info.get('sweeps', ())]
    cameras = {
        name: _camera(info['cams'][name], root, now_us, ego_T_lidar, name)
        for name in CAMERAS if name in info.get('cams', {})}
    return FrameRecord(
        **name_fields(info),
        timestamp_us=now_us,
        global_T_ego=global_T_ego,
        cameras=cameras,
        lidar=(key, *sweeps),
        boxes=_boxes(info))


def _pose(info: Info, name: str) -> np.ndarray:
    rotation = quaternion_to_matrix(info[f'{name}_rotation'])
    return make_transform(rotation, np.asarray(info[f'{name}_translation'], float))


def _compensated(
    info: Info, root: Path | None, now_us: int, ego_T_lidar: np.ndarray, folder: str
) -> dict[str, Any]:
    """Fields of a sweep or an image, whose pose the info tells in the key frame's LiDAR frame."""
    lidar_T_sensor = make_transform(
        np.asarray(info['sensor2lidar_rotation'], float), np.asarray(info['sensor2lidar_translation'], float))
    return sensor_fields(
        dataroot_path(info['data_path'], folder), root, str(info.get('sample_data_token', '')),
        int(info['timestamp']), now_us, ego_T_lidar @ lidar_T_sensor)


def _camera(info: Info, root: Path | None, now_us: int, ego_T_lidar: np.ndarray, name: str) -> CameraRecord:
    K = info['cam_intrinsic'] if 'cam_intrinsic' in info else info['camera_intrinsics']
    height, width = NUSCENES_IMAGE_HW
    return CameraRecord(
        **_compensated(info, root, now_us, ego_T_lidar, f'samples/{name}'),
        own_ego_T_sensor=_pose(info, 'sensor2ego'),
        global_T_own_ego=_pose(info, 'ego2global'),
        K_33=np.asarray(K, float)[:3, :3],
        width_px=width,
        height_px=height)


def _boxes(info: Info) -> BoxRecords | None:
    if 'gt_boxes' not in info:
        return None
    boxes = np.asarray(info['gt_boxes'], float).reshape(-1, 7)
    unknown = np.full((len(boxes), 2), np.nan)
    velocity = np.asarray(info.get('gt_velocity', unknown), float).reshape(-1, 2)
    return box_records(
        np.concatenate([boxes, velocity], 1), [str(name) for name in info['gt_names']],
        info.get('num_lidar_pts', []), info.get('num_radar_pts', []), info)
