"""mmdet3d's v2 infos (1.1 and later), with matrices: `lidar_points`, `images`, `instances` ..."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...core.geometry import invert
from ...core.protocols import CAMERAS
from ..reading.nuscenes import LIDAR
from ..reading.records import BoxRecords, CameraRecord, FrameRecord, SensorRecord
from .conventions import MMDET3D_CLASSES, NOT_DETECTED
from .fields import NUSCENES_IMAGE_HW, Info, box_records, dataroot_path, name_fields, sensor_fields


def class_names(metainfo: Info) -> dict[int, str]:
    """{label: class} of a file: its own list, or mmdet3d's."""
    known = metainfo.get('categories') or {name: i for i, name in enumerate(MMDET3D_CLASSES)}
    return {int(label): name for name, label in known.items() if int(label) >= 0}


def read_v2_info(info: Info, root: Path | None, names: Mapping[int, str]) -> FrameRecord:
    """Read one info; its boxes stay in the LiDAR frame. `names`: see `class_names`."""
    now_us = _microseconds(info['timestamp'])
    global_T_ego = np.asarray(info['ego2global'], float)
    lidar = info['lidar_points']
    ego_T_lidar = np.asarray(lidar['lidar2ego'], float)

    key = SensorRecord(
        **sensor_fields(
            dataroot_path(lidar['lidar_path'], f'samples/{LIDAR}'), root,
            str(lidar.get('sample_data_token', '')), now_us, now_us, ego_T_lidar),
        own_ego_T_sensor=ego_T_lidar,
        global_T_own_ego=global_T_ego)
    sweeps = [_sweep(sweep, root, now_us, ego_T_lidar) for sweep in info.get('lidar_sweeps', ())]
    cameras = {
        name: _camera(info['images'][name], root, now_us, ego_T_lidar, global_T_ego, name)
        for name in CAMERAS if name in info.get('images', {})}
    return FrameRecord(
        **name_fields(info),
        timestamp_us=now_us,
        global_T_ego=global_T_ego,
        cameras=cameras,
        lidar=(key, *sweeps),
        boxes=_boxes(info, names))


def _sweep(info: Info, root: Path | None, now_us: int, ego_T_lidar: np.ndarray) -> SensorRecord:
    points = info['lidar_points']
    ego_T_sensor = ego_T_lidar @ invert(np.asarray(points['lidar2sensor'], float))
    return SensorRecord(
        **sensor_fields(
            dataroot_path(points['lidar_path'], f'sweeps/{LIDAR}'), root,
            str(info.get('sample_data_token', '')), _microseconds(info['timestamp']), now_us, ego_T_sensor))


def _camera(
    info: Info,
    root: Path | None,
    now_us: int,
    ego_T_lidar: np.ndarray,
    global_T_ego: np.ndarray,
    name: str,
) -> CameraRecord:
    ego_T_cam = ego_T_lidar @ invert(np.asarray(info['lidar2cam'], float))
    own_ego_T_cam = np.asarray(info['cam2ego'], float)
    timestamp_us = _microseconds(info['timestamp']) if 'timestamp' in info else now_us
    height, width = NUSCENES_IMAGE_HW
    return CameraRecord(
        **sensor_fields(
            dataroot_path(info['img_path'], f'samples/{name}'), root, str(info.get('sample_data_token', '')),
            timestamp_us, now_us, ego_T_cam),
        own_ego_T_sensor=own_ego_T_cam,
        global_T_own_ego=global_T_ego @ ego_T_cam @ invert(own_ego_T_cam),
        K_33=np.asarray(info['cam2img'], float)[:3, :3],
        width_px=int(info.get('width', width)),
        height_px=int(info.get('height', height)))


def _boxes(info: Info, names: Mapping[int, str]) -> BoxRecords | None:
    if 'instances' not in info:
        return None
    instances = info['instances']
    rows = [[*i['bbox_3d'][:7], *i.get('velocity', (np.nan, np.nan))] for i in instances]
    return box_records(
        np.array(rows, float).reshape(-1, 9),
        [names.get(int(i['bbox_label_3d']), NOT_DETECTED) for i in instances],
        [i.get('num_lidar_pts', 0) for i in instances],
        [i.get('num_radar_pts', 0) for i in instances],
        info)


def _microseconds(seconds: float) -> int:
    return round(float(seconds) * 1e6)
