"""Exchange info files with mmdet3d: read its v1 (`infos`) and v2 (`data_list`) pickles, write v2.

mmdet3d keeps boxes in the key frame's LiDAR frame and names transforms `a2b`, which is our `b_T_a`. A v1 info
(mmdet3d up to 1.0, BEVFusion, BEVDet) has quaternions and arrays; a v2 info (mmdet3d 1.1 and later,
`info_version` 1.1) has matrices as lists. Boxes made before mmdet3d 1.0 are (w, l, h) with a yaw that turns
the other way; they are told apart by the shape of cars. Pickles are read without running anything
(`safe_pickle`); what mmdet3d does not keep (radars, maps, visibility) is absent after.
"""
from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import write_bytes
from ...core.geometry import invert, make_transform, quaternion_to_matrix, transform_boxes, wrap_yaw
from ...core.protocols import CAMERAS, DETECTION_CLASSES, detection_label
from ..reading.infos import (
    INDEX_NAME,
    InfosError,
    Record,
    SceneFrames,
    pack_numbers,
    pack_transform,
    read_index,
    scene_path,
    unpack_numbers,
    unpack_transform,
    write_index,
    write_scene,
)
from ..reading.nuscenes import LIDAR, class_counts
from .safe_pickle import load_plain_pickle

MMDET3D_CLASSES = (
    'car', 'truck', 'trailer', 'bus', 'construction_vehicle', 'bicycle', 'motorcycle', 'pedestrian',
    'traffic_cone', 'barrier')
MMDET3D_ATTRIBUTES = ('cycle.with_rider', 'cycle.without_rider', 'pedestrian.moving', 'pedestrian.standing',
                      'pedestrian.sitting_lying_down', 'vehicle.moving', 'vehicle.parked', 'vehicle.stopped')
NUSCENES_IMAGE_HW = (900, 1600)
SCENE_GAP_S = 2.0
NOT_DETECTED = 'not_detected'
_EXTRA = 'perception'
_SCENE_NAME = re.compile(r'\w[\w.-]*')


# ---------------------------------------------------------------------------------------------------------------
# reading

def read_mmdet3d(path: Path, root: Path | None = None) -> tuple[list[Record], Record]:
    """Frame records (see `nuscenes.SceneReader.frame_record`) of a v1 or v2 info pickle in time order, and
    its metadata.

    Args:
        path: the pickle.
        root: dataroot to look for the named files in; without it none is marked missing.

    Raises:
        BadFile: no readable pickle of plain data. InfosError: another structure than v1's or v2's; names what
        is missing.
    """
    content = load_plain_pickle(path)
    if isinstance(content, dict) and isinstance(content.get('data_list'), list):
        infos, meta, read = (
            content['data_list'], content.get('metainfo', {}), _V2(content.get('metainfo', {})))
    elif isinstance(content, dict) and isinstance(content.get('infos'), list):
        infos, meta, read = content['infos'], content.get('metadata', {}), _V1()
    else:
        found = ', '.join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InfosError(
            f"{path}: expected a dictionary with 'infos' (mmdet3d v1) or 'data_list' (v2), found {found}"
        )
    frames = []
    for i, info in enumerate(infos):
        try:
            frames.append(read.frame(info, root))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InfosError(f'{path}: info {i}: {type(error).__name__}: {error}') from error
    boxes = [frame['boxes'] for frame in frames if frame['boxes']]
    if are_old_boxes(boxes):
        for record in boxes:
            record['lidar_boxes'] = from_old_boxes(record['lidar_boxes'])
    for frame in frames:
        _boxes_to_ego(frame)
    return sorted(frames, key=lambda frame: frame['timestamp_us']), dict(meta)


def are_old_boxes(records: Sequence[Record]) -> bool:
    """Whether boxes are (x, y, z, w, l, h, r) as before mmdet3d 1.0: most cars, trucks and buses look wider
    than long."""
    sizes = [
        size
        for r in records
        for size, name in zip(r['lidar_boxes'][:, 3:5], r['categories'], strict=True)
        if name in ('car', 'truck', 'bus')
    ]
    return bool(sizes) and bool(np.median([length - width for length, width in sizes]) < 0)


def from_old_boxes(boxes_M9: np.ndarray) -> np.ndarray:
    """(x, y, z, w, l, h, r, vx, vy) with yaw = -r - pi / 2 -> (x, y, z, l, w, h, yaw, vx, vy)."""
    new = boxes_M9[:, [0, 1, 2, 4, 3, 5, 6, 7, 8]].copy()
    new[:, 6] = -boxes_M9[:, 6] - np.pi / 2
    return new


def lidar_boxes_to_ego(boxes_M9: np.ndarray, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray) -> np.ndarray:
    """Boxes `(M, 9)` as mmdet3d keeps them, in the frame of a LiDAR that is tilted by a few degrees -> ego,
    as `create` has them.

    Annotated boxes stand upright in the world and move level. mmdet3d's yaw is pyquaternion's
    `yaw_pitch_roll[0]` of the box in the LiDAR frame, which for an upright box is its yaw in the world less
    that of the frame (`_frame_yaw`). Its velocity is turned in 3-D and cut to x and y, which is undone by
    inverting the 2 x 2 part of `lidar_T_global`. Nothing is lost.
    """
    global_T_lidar = global_T_ego @ ego_T_lidar
    boxes_global = transform_boxes(global_T_lidar, boxes_M9)
    boxes_global[:, 6] = boxes_M9[:, 6] + _frame_yaw(global_T_lidar)
    boxes_global[:, 7:9] = boxes_M9[:, 7:9] @ _level_from_cut(global_T_lidar).T
    return transform_boxes(invert(global_T_ego), boxes_global)


def ego_boxes_to_lidar(boxes_M9: np.ndarray, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray) -> np.ndarray:
    """Inverse of `lidar_boxes_to_ego`."""
    global_T_lidar, level = global_T_ego @ ego_T_lidar, _level_from_cut(global_T_ego)
    boxes_global = transform_boxes(global_T_ego, boxes_M9)
    heading = np.stack([np.cos(boxes_M9[:, 6]), np.sin(boxes_M9[:, 6])], 1) @ level.T
    boxes_global[:, 6] = np.arctan2(heading[:, 1], heading[:, 0])
    boxes_global[:, 7:9] = boxes_M9[:, 7:9] @ level.T
    boxes_lidar = transform_boxes(invert(global_T_lidar), boxes_global)
    boxes_lidar[:, 6] = wrap_yaw(boxes_global[:, 6] - _frame_yaw(global_T_lidar))
    return boxes_lidar


def _frame_yaw(global_T_sensor: np.ndarray) -> float:
    """The part of a frame's orientation that mmdet3d's yaw leaves out."""
    sensor_T_global = invert(global_T_sensor)
    return float(np.arctan2(sensor_T_global[0, 1], sensor_T_global[0, 0]))


def _level_from_cut(global_T_frame: np.ndarray) -> np.ndarray:
    """`(2, 2)`: x and y of a level vector in a tilted frame -> the vector in the world."""
    return np.linalg.inv(invert(global_T_frame)[:2, :2])


def _boxes_to_ego(frame: Record) -> None:
    """Replace the boxes in the LiDAR frame by boxes in ego."""
    if frame['boxes'] is not None:
        global_T_ego, ego_T_lidar = (
            unpack_transform(t) for t in (frame['global_T_ego'], frame['lidar'][0]['ego_T_sensor'])
        )
        boxes = lidar_boxes_to_ego(frame['boxes'].pop('lidar_boxes'), global_T_ego, ego_T_lidar)
        frame['boxes'] = {'boxes': pack_numbers(boxes), **frame['boxes']}


def dataroot_path(name: str, folder: str) -> str:
    """A file's path below the dataroot: from `samples/` or `sweeps/` on, or the bare name in `folder`."""
    parts = Path(str(name)).parts
    if '..' in parts or not parts:
        raise ValueError(f'expected a file below the dataroot, found {name!r}')
    start = max((i for i, part in enumerate(parts) if part in ('samples', 'sweeps')), default=None)
    return '/'.join(parts[start:]) if start is not None else f'{folder}/{parts[-1]}'


def _reading(
    file: str,
    root: Path | None,
    token: str,
    timestamp_us: int,
    reference_us: int,
    ego_T_sensor: np.ndarray,
    **more: Any,
) -> Record:
    return {'file': file, 'missing': root is not None and not (Path(root) / file).is_file(), 'token': token,
            'timestamp_us': int(timestamp_us), 'time_lag_s': (reference_us - timestamp_us) * 1e-6,
            'ego_T_sensor': pack_transform(ego_T_sensor), **more}


def _calibration(own_ego_T_sensor: np.ndarray, global_T_own_ego: np.ndarray) -> Record:
    return {
        'own_ego_T_sensor': pack_transform(own_ego_T_sensor),
        'global_T_own_ego': pack_transform(global_T_own_ego)}


def _frame(info: Record, timestamp_us: int, global_T_ego: np.ndarray, cameras: Record, lidar: list[Record],
           boxes: Record | None) -> Record:
    extra = info.get(_EXTRA, {})
    scene = str(extra.get('scene') or info.get('scene_name') or info.get('scene_token') or '')
    if scene and not _SCENE_NAME.fullmatch(scene):  # it will name a file
        raise ValueError(f'scene: expected letters, digits, ., _ and -, found {scene!r}')
    return {
        'token': str(info['token']), 'scene': scene,
        'location': str(extra.get('location') or info.get('location') or ''),
        'previous': str(extra.get('previous') or info.get('prev') or ''),
        'next': str(extra.get('next') or info.get('next') or ''), 'timestamp_us': timestamp_us,
        'global_T_ego': pack_transform(global_T_ego), 'cameras': cameras, 'lidar': lidar, 'radars': {},
        'lidarseg': None, 'occupancy': None, 'boxes': boxes}


class _V1:
    """Infos with quaternions: `lidar2ego_rotation`, `cams`, `sweeps`, `gt_boxes` ..."""

    def frame(self, info: Record, root: Path | None) -> Record:
        now_us = int(info['timestamp'])
        global_T_ego, ego_T_lidar = self._pose(info, 'ego2global'), self._pose(info, 'lidar2ego')
        key = _reading(
            dataroot_path(info['lidar_path'], f'samples/{LIDAR}'), root, str(info.get('lidar_token', '')),
            now_us, now_us, ego_T_lidar, **_calibration(ego_T_lidar, global_T_ego))
        sweeps = [
            self._sensor(s, root, now_us, ego_T_lidar, f'sweeps/{LIDAR}') for s in info.get('sweeps', ())
        ]
        cameras = {name: self._camera(info['cams'][name], root, now_us, ego_T_lidar, name)
                   for name in CAMERAS if name in info.get('cams', {})}
        return _frame(info, now_us, global_T_ego, cameras, [key, *sweeps], self._boxes(info))

    def _pose(self, info: Record, name: str) -> np.ndarray:
        return make_transform(
            quaternion_to_matrix(info[f'{name}_rotation']), np.asarray(info[f'{name}_translation'], float)
        )

    def _sensor(
        self, info: Record, root: Path | None, now_us: int, ego_T_lidar: np.ndarray, folder: str, **more: Any
    ) -> Record:
        lidar_T_sensor = make_transform(np.asarray(info['sensor2lidar_rotation'], float),
                                        np.asarray(info['sensor2lidar_translation'], float))
        return _reading(
            dataroot_path(info['data_path'], folder), root, str(info.get('sample_data_token', '')),
            int(info['timestamp']), now_us, ego_T_lidar @ lidar_T_sensor, **more)

    def _camera(
        self, info: Record, root: Path | None, now_us: int, ego_T_lidar: np.ndarray, name: str
    ) -> Record:
        K = info['cam_intrinsic'] if 'cam_intrinsic' in info else info['camera_intrinsics']
        own = _calibration(self._pose(info, 'sensor2ego'), self._pose(info, 'ego2global'))
        return self._sensor(
            info, root, now_us, ego_T_lidar, f'samples/{name}', **own,
            K=np.asarray(K, float)[:3, :3].tolist(), width_px=NUSCENES_IMAGE_HW[1],
            height_px=NUSCENES_IMAGE_HW[0])

    def _boxes(self, info: Record) -> Record | None:
        if 'gt_boxes' not in info:
            return None
        boxes = np.asarray(info['gt_boxes'], float).reshape(-1, 7)
        velocity = np.asarray(info.get('gt_velocity', np.full((len(boxes), 2), np.nan)), float).reshape(-1, 2)
        return _box_columns(np.concatenate([boxes, velocity], 1), [str(n) for n in info['gt_names']],
                            info.get('num_lidar_pts', []), info.get('num_radar_pts', []), info)


class _V2:
    """Infos with matrices: `lidar_points`, `images`, `lidar_sweeps`, `instances`."""

    def __init__(self, metainfo: Record) -> None:
        known = metainfo.get('categories') or {name: i for i, name in enumerate(MMDET3D_CLASSES)}
        self.names = {int(label): name for name, label in known.items() if int(label) >= 0}

    def frame(self, info: Record, root: Path | None) -> Record:
        now_us = _microseconds(info['timestamp'])
        global_T_ego, lidar = np.asarray(info['ego2global'], float), info['lidar_points']
        ego_T_lidar = np.asarray(lidar['lidar2ego'], float)
        key = _reading(
            dataroot_path(lidar['lidar_path'], f'samples/{LIDAR}'), root,
            str(lidar.get('sample_data_token', '')), now_us, now_us, ego_T_lidar,
            **_calibration(ego_T_lidar, global_T_ego))
        sweeps = [self._sweep(s, root, now_us, ego_T_lidar) for s in info.get('lidar_sweeps', ())]
        cameras = {name: self._camera(info['images'][name], root, now_us, ego_T_lidar, global_T_ego, name)
                   for name in CAMERAS if name in info.get('images', {})}
        return _frame(info, now_us, global_T_ego, cameras, [key, *sweeps], self._boxes(info))

    def _sweep(self, info: Record, root: Path | None, now_us: int, ego_T_lidar: np.ndarray) -> Record:
        points = info['lidar_points']
        ego_T_sensor = ego_T_lidar @ invert(np.asarray(points['lidar2sensor'], float))
        return _reading(
            dataroot_path(points['lidar_path'], f'sweeps/{LIDAR}'), root,
            str(info.get('sample_data_token', '')), _microseconds(info['timestamp']), now_us, ego_T_sensor)

    def _camera(
        self,
        info: Record,
        root: Path | None,
        now_us: int,
        ego_T_lidar: np.ndarray,
        global_T_ego: np.ndarray,
        name: str,
    ) -> Record:
        ego_T_cam = ego_T_lidar @ invert(np.asarray(info['lidar2cam'], float))
        own_ego_T_cam = np.asarray(info['cam2ego'], float)
        return _reading(
            dataroot_path(info['img_path'], f'samples/{name}'), root, str(info.get('sample_data_token', '')),
            _microseconds(info['timestamp']) if 'timestamp' in info else now_us, now_us, ego_T_cam,
            **_calibration(own_ego_T_cam, global_T_ego @ ego_T_cam @ invert(own_ego_T_cam)),
            K=np.asarray(info['cam2img'], float)[:3, :3].tolist(),
            width_px=int(info.get('width', NUSCENES_IMAGE_HW[1])),
            height_px=int(info.get('height', NUSCENES_IMAGE_HW[0])))

    def _boxes(self, info: Record) -> Record | None:
        if 'instances' not in info:
            return None
        found = info['instances']
        rows = [[*i['bbox_3d'][:7], *i.get('velocity', (np.nan, np.nan))] for i in found]
        names = [self.names.get(int(i['bbox_label_3d']), NOT_DETECTED) for i in found]
        return _box_columns(
            np.array(rows, float).reshape(-1, 9), names, [i.get('num_lidar_pts', 0) for i in found],
            [i.get('num_radar_pts', 0) for i in found], info)


def _microseconds(seconds: float) -> int:
    return round(float(seconds) * 1e6)


def _box_columns(
    boxes_M9: np.ndarray, names: list[str], lidar_points: Iterable, radar_points: Iterable, info: Record
) -> Record:
    """The columns of our box record, with what mmdet3d does not keep taken from our own extra part, or
    empty."""
    extra, count = info.get(_EXTRA, {}), len(boxes_M9)
    record = {
        'categories': extra.get('categories', names), 'tokens': extra.get('tokens', [''] * count),
        'instances': extra.get('instances', [''] * count),
        'attributes': extra.get('attributes', [''] * count),
        'visibility': extra.get('visibility', [0] * count),
        'lidar_points': [int(v) for v in lidar_points] or [0] * count,
        'radar_points': [int(v) for v in radar_points] or [0] * count}
    for name, column in record.items():
        if len(column) != count:
            raise ValueError(f'{name}: {count} boxes have {len(column)}')
    return {'lidar_boxes': boxes_M9, **record}


# -------------------------------------------------------------------------------------------------------------
# importing

def import_infos(path: Path, folder: Path, split: str, root: Path | None = None) -> Record:
    """Read an mmdet3d pickle and write our infos of it as one split; other splits in the folder stay.

    Frames without a scene's name are grouped where less than two seconds pass between them.

    Returns:
        The index as written.

    Raises:
        BadFile, InfosError: as `read_mmdet3d`; or the folder's index is of another version of the tables.
    """
    frames, meta = read_mmdet3d(Path(path), root)
    version = str(meta.get('version', 'unknown'))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index = read_index(folder) if (folder / INDEX_NAME).is_file() else _empty_index(version)
    if index['version'] != version:
        raise InfosError(f'{folder / INDEX_NAME}: it is of version {index["version"]}, {path} of {version}')
    left_out = Counter(index['left_out'])
    index['splits'][split] = []
    for name, found in group_scenes(frames, split):
        header = _header(name, found, str(Path(path).name))
        write_scene(folder, header, found)
        index['splits'][split] += header['tokens']
        index['scenes'][name] = {key: header[key] for key in ('location', 'tokens', 'has_map', 'annotated')}
        index['class_counts'].update(header['class_counts'])
        left_out.update(header['left_out'])
    index['left_out'] = dict(sorted(left_out.items()))
    index['lidar_sweeps'] = max([index['lidar_sweeps'], *(len(frame['lidar']) - 1 for frame in frames)])
    write_index(folder, index)
    return index


def _empty_index(version: str) -> Record:
    return {
        'version': version, 'lidar_sweeps': 0, 'radar_sweeps': 0, 'splits': {}, 'scenes': {},
        'class_counts': {}, 'left_out': {}, 'unfinished': []}


def group_scenes(frames: Sequence[Record], split: str) -> list[tuple[str, list[Record]]]:
    """(name, frames) of each scene, frames in time order and linked to each other where they were not."""
    scenes: dict[str, list[Record]] = {}
    name, before_us = '', -np.inf
    for frame in frames:
        if not frame['scene'] and frame['timestamp_us'] - before_us > SCENE_GAP_S * 1e6:
            name = f'{split}-{len(scenes):04d}'
        before_us = frame['timestamp_us']
        frame['scene'] = frame['scene'] or name
        scenes.setdefault(frame['scene'], []).append(frame)
    for found in scenes.values():
        for before, after in zip(found[:-1], found[1:], strict=True):
            before['next'], after['previous'] = (
                before['next'] or after['token'], after['previous'] or before['token'])
    return list(scenes.items())


def _header(name: str, frames: list[Record], source: str) -> Record:
    readings = [r for f in frames for r in (*f['cameras'].values(), *f['lidar'])]
    annotated = any(frame['boxes'] is not None for frame in frames)
    left_out = {'file missing': sum(r['missing'] for r in readings), 'no radars (imported)': len(frames),
                'no map (imported)': len(frames), 'no annotations': 0 if annotated else len(frames)}
    return {'scene': name, 'location': frames[0]['location'], 'description': f'imported from {source}',
            'tokens': [frame['token'] for frame in frames],
            'class_counts': {frame['token']: class_counts(frame) for frame in frames}, 'annotated': annotated,
            'left_out': {what: count for what, count in left_out.items() if count}, 'has_map': False,
            'made_from': {'imported': source}}


# -------------------------------------------------------------------------------------------------------------
# exporting

def export_infos(folder: Path, split: str, path: Path) -> int:
    """Write a split of our infos as an mmdet3d v2 pickle (plain lists, text and numbers alone); returns its
    number of frames.

    Frames without a LiDAR key frame are left out: mmdet3d's boxes live in the LiDAR frame. What mmdet3d has
    no place for goes under the key `perception` of each info, which it ignores and `import_infos` reads back.

    Raises:
        InfosError: no infos, or no such split.
    """
    index = read_index(folder)
    if split not in index['splits']:
        raise InfosError(
            f'{Path(folder) / INDEX_NAME}: no split {split!r}, expected one of {", ".join(index["splits"])}'
        )
    wanted = set(index['splits'][split])
    infos: list[Record] = []
    for name, scene in index['scenes'].items():
        if wanted.isdisjoint(scene['tokens']):
            continue
        frames = SceneFrames(scene_path(folder, name))
        found = [frames.frame(token) for token in scene['tokens'] if token in wanted]
        infos += [
            v2_info(frame, len(infos) + i)
            for i, frame in enumerate(frame for frame in found if frame['lidar'])
        ]
    meta = {
        'categories': {name: i for i, name in enumerate(MMDET3D_CLASSES)}, 'dataset': 'nuscenes',
        'version': index['version'], 'info_version': '1.1'}
    write_bytes(Path(path), pickle.dumps({'metainfo': meta, 'data_list': infos}, protocol=4))
    return len(infos)


def v2_info(frame: Record, sample_idx: int) -> Record:
    """One frame record as a v2 info."""
    global_T_ego, key = unpack_transform(frame['global_T_ego']), frame['lidar'][0]
    ego_T_lidar = unpack_transform(key['ego_T_sensor'])
    info = {
        'sample_idx': sample_idx,
        'token': frame['token'],
        'timestamp': frame['timestamp_us'] / 1e6,
        'ego2global': global_T_ego.tolist(),
        'lidar_points': {
            'num_pts_feats': 5, 'lidar_path': Path(key['file']).name, 'lidar2ego': ego_T_lidar.tolist(),
            'sample_data_token': key['token']},
        'lidar_sweeps': [_v2_sweep(s, ego_T_lidar, global_T_ego) for s in frame['lidar'][1:]],
        'images': {name: _v2_image(camera, ego_T_lidar) for name, camera in frame['cameras'].items()},
        _EXTRA: {name: frame[name] for name in ('scene', 'location', 'previous', 'next')},
    }
    if frame['boxes'] is not None:
        info['instances'] = _v2_instances(frame['boxes'], global_T_ego, ego_T_lidar)
        info[_EXTRA] |= {
            n: frame['boxes'][n] for n in ('categories', 'tokens', 'instances', 'attributes', 'visibility')
        }
    return info


def _v2_sweep(sweep: Record, ego_T_lidar: np.ndarray, global_T_ego: np.ndarray) -> Record:
    """The LiDAR is bolted on: the sweep's own ego pose follows from where the sensor was."""
    ego_T_sensor = unpack_transform(sweep['ego_T_sensor'])
    return {'timestamp': sweep['timestamp_us'] / 1e6, 'sample_data_token': sweep['token'],
            'ego2global': (global_T_ego @ ego_T_sensor @ invert(ego_T_lidar)).tolist(),
            'lidar_points': {'lidar_path': sweep['file'], 'lidar2ego': ego_T_lidar.tolist(),
                             'lidar2sensor': (invert(ego_T_sensor) @ ego_T_lidar).tolist()}}


def _v2_image(camera: Record, ego_T_lidar: np.ndarray) -> Record:
    ego_T_cam = unpack_transform(camera['ego_T_sensor'])
    return {
        'img_path': Path(camera['file']).name, 'height': camera['height_px'], 'width': camera['width_px'],
        'cam2img': np.asarray(camera['K'], float).tolist(),
        'cam2ego': unpack_transform(camera['own_ego_T_sensor']).tolist(),
        'lidar2cam': (invert(ego_T_cam) @ ego_T_lidar).tolist(), 'sample_data_token': camera['token'],
        'timestamp': camera['timestamp_us'] / 1e6}


def _v2_instances(record: Record, global_T_ego: np.ndarray, ego_T_lidar: np.ndarray) -> list[Record]:
    boxes = ego_boxes_to_lidar(unpack_numbers(record['boxes'], 9), global_T_ego, ego_T_lidar)
    instances = []
    for i, box in enumerate(boxes):
        ours, attribute = detection_label(record['categories'][i]), record['attributes'][i]
        label = MMDET3D_CLASSES.index(DETECTION_CLASSES[ours]) if ours >= 0 else -1
        points = int(record['lidar_points'][i]), int(record['radar_points'][i])
        instances.append(
            {
                'bbox_label': label,
                'bbox_label_3d': label,
                'bbox_3d': box[:7].tolist(),
                'velocity': box[7:].tolist(),
                'bbox_3d_isvalid': sum(points) > 0,
                'num_lidar_pts': points[0],
                'num_radar_pts': points[1],
                'attr_label': MMDET3D_ATTRIBUTES.index(attribute)
                if attribute in MMDET3D_ATTRIBUTES
                else len(MMDET3D_ATTRIBUTES),
            }
        )
    return instances
