"""Our infos as an mmdet3d v2 pickle: plain lists, text and numbers alone."""
from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from ...core.contracts import NUSCENES_CLASSES, VELOCITY
from ...core.files import write_bytes
from ...core.geometry import invert
from ..reading.infos import INDEX_NAME, InfosError, SceneFrames, read_index, scene_path
from ..reading.records import BoxRecords, CameraRecord, FrameRecord, Json, SensorRecord
from .conventions import EXTRA_KEY, MMDET3D_ATTRIBUTES, MMDET3D_CLASSES, ego_boxes_to_lidar


def export_infos(folder: Path, split: str, path: Path) -> int:
    """Write a split of our infos as an mmdet3d v2 pickle.

    Frames without a LiDAR key frame are left out: mmdet3d's boxes live in the LiDAR frame. What mmdet3d has
    no place for goes under the key `perception` of each info, which it ignores and `import_infos` reads back.

    Returns:
        The number of frames written.

    Raises:
        InfosError: no infos, or no such split. ValueError: a camera has a distortion, which the format cannot
            hold.
    """
    index = read_index(folder)
    if split not in index['splits']:
        raise InfosError(
            f'{Path(folder) / INDEX_NAME}: no split {split!r}, expected one of {", ".join(index["splits"])}'
        )

    tokens = set(index['splits'][split])
    infos: list[Json] = []
    for name, scene in index['scenes'].items():
        if tokens.isdisjoint(scene['tokens']):
            continue
        frames = SceneFrames(scene_path(folder, name))
        for token in scene['tokens']:
            frame = frames.frame(token) if token in tokens else None
            if frame is not None and frame.lidar:
                infos.append(v2_info(frame, len(infos)))

    metainfo = {
        'categories': {name: i for i, name in enumerate(MMDET3D_CLASSES)},
        'dataset': 'nuscenes',
        'version': index['version'],
        'info_version': '1.1',
    }
    write_bytes(Path(path), pickle.dumps({'metainfo': metainfo, 'data_list': infos}, protocol=4))
    return len(infos)


def v2_info(frame: FrameRecord, sample_idx: int) -> Json:
    """One frame as a v2 info."""
    key = frame.lidar[0]
    ego_T_lidar = key.ego_T_sensor

    info: Json = {
        'sample_idx': sample_idx,
        'token': frame.token,
        'timestamp': frame.timestamp_us / 1e6,
        'ego2global': frame.global_T_ego.tolist(),
        'lidar_points': {
            'num_pts_feats': 5,
            'lidar_path': Path(key.file).name,
            'lidar2ego': ego_T_lidar.tolist(),
            'sample_data_token': key.token,
        },
        'lidar_sweeps': [_sweep(sweep, ego_T_lidar, frame.global_T_ego) for sweep in frame.lidar[1:]],
        'images': {name: _image(name, camera, ego_T_lidar) for name, camera in frame.cameras.items()},
        EXTRA_KEY: {
            'scene': frame.scene,
            'location': frame.location,
            'previous': frame.previous,
            'next': frame.next,
        },
    }

    if frame.boxes is not None:
        info['instances'] = _instances(frame.boxes, frame.global_T_ego, ego_T_lidar)
        info[EXTRA_KEY] |= {
            'categories': list(frame.boxes.categories),
            'tokens': list(frame.boxes.tokens),
            'instances': list(frame.boxes.instances),
            'attributes': list(frame.boxes.attributes),
            'visibility': frame.boxes.visibility_M.tolist(),
        }
    return info


def _sweep(sweep: SensorRecord, ego_T_lidar: np.ndarray, global_T_ego: np.ndarray) -> Json:
    """The LiDAR is bolted on: the sweep's own ego pose follows from where the sensor was."""
    return {
        'timestamp': sweep.timestamp_us / 1e6,
        'sample_data_token': sweep.token,
        'ego2global': (global_T_ego @ sweep.ego_T_sensor @ invert(ego_T_lidar)).tolist(),
        'lidar_points': {
            'lidar_path': sweep.file,
            'lidar2ego': ego_T_lidar.tolist(),
            'lidar2sensor': (invert(sweep.ego_T_sensor) @ ego_T_lidar).tolist(),
        },
    }


def _image(name: str, camera: CameraRecord, ego_T_lidar: np.ndarray) -> Json:
    if camera.distortion is not None and not camera.distortion.is_pinhole:
        raise ValueError(
            f'{camera.file}: {name} has a {camera.distortion.model} distortion, expected a pinhole: infos of '
            'mmdet3d have no place for another lens, and models there would read its images wrongly')
    return {
        'img_path': Path(camera.file).name,
        'height': camera.height_px,
        'width': camera.width_px,
        'cam2img': camera.K_33.tolist(),
        'cam2ego': camera.own_ego_T_sensor.tolist(),
        'lidar2cam': (invert(camera.ego_T_sensor) @ ego_T_lidar).tolist(),
        'sample_data_token': camera.token,
        'timestamp': camera.timestamp_us / 1e6,
    }


def _instances(records: BoxRecords, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray) -> list[Json]:
    boxes = ego_boxes_to_lidar(records.boxes_M9, global_T_ego, ego_T_lidar)
    instances = []
    for i, box in enumerate(boxes):
        label = _class_label(records.categories[i])
        lidar_points = int(records.num_lidar_points_M[i])
        radar_points = int(records.num_radar_points_M[i])

        instances.append({
            'bbox_label': label,
            'bbox_label_3d': label,
            'bbox_3d': box[:7].tolist(),
            'velocity': box[VELOCITY].tolist(),
            'bbox_3d_isvalid': lidar_points + radar_points > 0,
            'num_lidar_pts': lidar_points,
            'num_radar_pts': radar_points,
            'attr_label': _attribute_label(records.attributes[i]),
        })
    return instances


def _class_label(category: str) -> int:
    """mmdet3d's label of a category, -1 for what is not detected."""
    label = NUSCENES_CLASSES.label(category)
    return MMDET3D_CLASSES.index(NUSCENES_CLASSES.names[label]) if label >= 0 else -1


def _attribute_label(attribute: str) -> int:
    """mmdet3d's label of an attribute; the last one means none."""
    known = attribute in MMDET3D_ATTRIBUTES
    return MMDET3D_ATTRIBUTES.index(attribute) if known else len(MMDET3D_ATTRIBUTES)
