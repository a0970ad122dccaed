"""nuScenes tables, read with the official devkit, to info records: the only file that knows the tables'
column names.

The devkit is imported inside functions. Every root in nuScenes format works: v1.0-mini, v1.0-trainval,
v1.0-test, the synthetic world. What a root does not have is recorded, not demanded: a sensor file that is
absent is marked, boxes are None where the whole version has none, paths of occupancy and lidarseg are None
where the files are not there.
"""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.geometry import invert, quaternion_to_matrix, transform_boxes, transform_from_record, yaw_of
from ...core.protocols import CAMERAS, DETECTION_CLASSES, RADARS, detection_label
from .infos import Record, pack_numbers, pack_transform

if TYPE_CHECKING:
    from nuscenes import NuScenes

LIDAR = 'LIDAR_TOP'
VERSION_SPLITS = {'mini': ('mini_train', 'mini_val'), 'trainval': ('train', 'val'), 'test': ('test',)}


def open_tables(root: Path, version: str) -> NuScenes:
    """Load a version's tables.

    Raises:
        FileNotFoundError: the version's folder is not below the root; the message lists the versions that
        are. ValueError: the devkit refuses the tables, or a base map it wants is absent.
    """
    root = Path(root)
    if not (root / version).is_dir():
        found = ', '.join(sorted(p.parent.name for p in root.glob('*/sample_data.json'))) or 'none'
        raise FileNotFoundError(
            f'{root / version}: no such version of nuScenes tables; versions below {root}: {found}'
        )
    from nuscenes import NuScenes
    try:
        return NuScenes(version=version, dataroot=str(root), verbose=False)
    # what the devkit raises for unfit tables
    except (AssertionError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f'{root / version}: the devkit cannot load these tables: {type(error).__name__}: {error}'
        ) from error


def scenes_of_splits(nusc: NuScenes) -> dict[str, list[str]]:
    """Split -> names of its scenes that are in these tables, in the tables' order.

    The official splits that belong to the version, and every split of a `splits.json` beside the tables (the
    devkit's format of custom splits). Splits without a scene here are left out. Scenes in no split make one
    named `all`.

    Raises:
        ValueError: `splits.json` is not an object of lists of scene names.
    """
    from nuscenes.utils.splits import create_splits_scenes
    names = [scene['name'] for scene in nusc.scene]
    official = create_splits_scenes()
    wanted = {split: official[split] for split in VERSION_SPLITS.get(nusc.version.removeprefix('v1.0-'), ())}
    wanted.update(_custom_splits(Path(nusc.dataroot) / nusc.version / 'splits.json'))
    splits = {split: [n for n in names if n in set(scenes)] for split, scenes in wanted.items()}
    splits = {split: scenes for split, scenes in splits.items() if scenes}
    loose = [n for n in names if not any(n in scenes for scenes in splits.values())]
    return {**splits, 'all': names} if loose else splits


def _custom_splits(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    found = json.loads(path.read_text())
    if not isinstance(found, dict) or not all(isinstance(scenes, list) for scenes in found.values()):
        raise ValueError(f'{path}: expected an object of lists of scene names')
    return found


@dataclass
class SceneReader:
    """Turns the samples of one version into frame records, remembering which files exist and what was left
    out.

    Args:
        nusc: loaded tables.
        lidar_sweeps, radar_sweeps: how many earlier sweeps are listed per key frame.
    """

    nusc: NuScenes
    lidar_sweeps: int = 10
    radar_sweeps: int = 6
    left_out: Counter[str] = field(default_factory=Counter)
    _exists: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = Path(self.nusc.dataroot)
        self.has_boxes = len(self.nusc.sample_annotation) > 0
        self._has_lidarseg = bool(getattr(self.nusc, 'lidarseg', None))

    def forget(self) -> None:
        """Forget which files exist and what was left out, before another scene."""
        self.left_out.clear()
        self._exists.clear()

    def samples(self, scene: Record) -> list[Record]:
        """The scene's samples in time order."""
        found, token = [], scene['first_sample_token']
        while token:
            found.append(self.nusc.get('sample', token))
            token = found[-1]['next']
        return found

    def exists(self, name: str, missing_as: str = '') -> bool:
        """Whether a file of the root is there; asked of the disk once, and counted as left out once where it
        is not."""
        if name not in self._exists:
            self._exists[name] = (self.root / name).is_file()
            if missing_as and not self._exists[name]:
                self.left_out[missing_as] += 1
        return self._exists[name]

    def ego_pose(self, data: Record) -> np.ndarray:
        """`global_T_ego` `(4, 4)` at the time of a sample_data record."""
        return transform_from_record(self.nusc.get('ego_pose', data['ego_pose_token']))

    def reference(self, sample: Record) -> Record:
        """The sample_data record whose time and pose define the frame: the LiDAR's, or else the first
        sensor's there is."""
        channel = (
            LIDAR
            if LIDAR in sample['data']
            else next((c for c in (*CAMERAS, *RADARS) if c in sample['data']), None)
        )
        if channel is None:
            raise ValueError(f'sample {sample["token"]}: it has no sensor data at all')
        return self.nusc.get('sample_data', sample['data'][channel])

    def frame_record(self, sample: Record, scene: Record, location: str) -> Record:
        """Everything about one key frame; see the keys below and `docs/data.md`."""
        reference = self.reference(sample)
        global_T_ego = self.ego_pose(reference)
        data = sample['data']
        return {
            'token': sample['token'],
            'scene': scene['name'],
            'location': location,
            'previous': sample['prev'],
            'next': sample['next'],
            'timestamp_us': reference['timestamp'],
            'global_T_ego': pack_transform(global_T_ego),
            'cameras': {c: self._camera(data[c], reference, global_T_ego) for c in CAMERAS if c in data},
            'lidar': self._sweeps(data.get(LIDAR), self.lidar_sweeps, reference, global_T_ego, LIDAR),
            'radars': {
                c: self._sweeps(data[c], self.radar_sweeps, reference, global_T_ego, c)
                for c in RADARS
                if c in data
            },
            'lidarseg': self._lidarseg(data.get(LIDAR)),
            'occupancy': self._occupancy(scene['name'], sample['token']),
            'boxes': self._boxes(sample, global_T_ego) if self.has_boxes else None,
        }

    def _sensor(self, data: Record, reference: Record, global_T_ego: np.ndarray, channel: str) -> Record:
        """Where and when one reading was taken: own calibration and pose as in the tables, and compensated to
        the key frame."""
        calibration = self.nusc.get('calibrated_sensor', data['calibrated_sensor_token'])
        own_ego_T_sensor, global_T_own_ego = transform_from_record(calibration), self.ego_pose(data)
        ego_T_sensor = invert(global_T_ego) @ global_T_own_ego @ own_ego_T_sensor
        kind = 'key frame' if data['is_key_frame'] else 'sweep'
        missing = not self.exists(data['filename'], f'file missing: {channel}, {kind}')
        return {
            'file': data['filename'], 'missing': missing, 'token': data['token'],
            'timestamp_us': data['timestamp'],
            'time_lag_s': (reference['timestamp'] - data['timestamp']) * 1e-6,
            'ego_T_sensor': pack_transform(ego_T_sensor)}

    def _calibrated(self, data: Record, record: Record) -> Record:
        """Add the uncompensated calibration and pose, which formats of other projects ask for."""
        calibration = self.nusc.get('calibrated_sensor', data['calibrated_sensor_token'])
        return {**record, 'own_ego_T_sensor': pack_transform(transform_from_record(calibration)),
                'global_T_own_ego': pack_transform(self.ego_pose(data))}

    def _camera(self, token: str, reference: Record, global_T_ego: np.ndarray) -> Record:
        data = self.nusc.get('sample_data', token)
        calibration = self.nusc.get('calibrated_sensor', data['calibrated_sensor_token'])
        record = self._sensor(data, reference, global_T_ego, 'camera')
        return {**self._calibrated(data, record), 'K': calibration['camera_intrinsic'],
                'width_px': data['width'], 'height_px': data['height']}

    def _sweeps(self, token: str | None, count: int, reference: Record, global_T_ego: np.ndarray,
                channel: str) -> list[Record]:
        """The key frame's reading first, then up to `count` earlier ones, newest first."""
        kind = 'LiDAR' if channel == LIDAR else 'radar'
        readings: list[Record] = []
        while token and len(readings) <= count:
            data = self.nusc.get('sample_data', token)
            record = self._sensor(data, reference, global_T_ego, kind)
            readings.append(record if readings else self._calibrated(data, record))
            token = data['prev']
        return readings

    def _lidarseg(self, lidar_token: str | None) -> str | None:
        if (
            not self._has_lidarseg
            or lidar_token is None
            or lidar_token not in self.nusc._token2ind['lidarseg']
        ):
            return None
        name = self.nusc.get('lidarseg', lidar_token)['filename']
        return name if self.exists(name) else None

    def _occupancy(self, scene: str, token: str) -> str | None:
        """Occ3D's `gts/<scene>/<token>/labels.npz`, or the same below `occupancy/<token>`."""
        for name in (f'gts/{scene}/{token}/labels.npz', f'occupancy/{token}/labels.npz'):
            if self.exists(name):
                return name
        self.left_out['no occupancy labels'] += 1
        return None

    def _boxes(self, sample: Record, global_T_ego: np.ndarray) -> Record:
        """All annotated boxes of a sample as columns; boxes `(M, 9)` in ego as in `BoxLabels`, velocity null
        where unknown."""
        annotations = [self.nusc.get('sample_annotation', token) for token in sample['anns']]
        boxes_global = np.array([self._box_global(a) for a in annotations], dtype=np.float64).reshape(-1, 9)
        return {'boxes': pack_numbers(transform_boxes(invert(global_T_ego), boxes_global)),
                'categories': [a['category_name'] for a in annotations],
                'tokens': [a['token'] for a in annotations],
                'instances': [a['instance_token'] for a in annotations],
                'attributes': [self._attribute(a) for a in annotations],
                'visibility': [int(a['visibility_token'] or 0) for a in annotations],
                'lidar_points': [a['num_lidar_pts'] for a in annotations],
                'radar_points': [a['num_radar_pts'] for a in annotations]}

    def _box_global(self, annotation: Record) -> list[float]:
        width, length, height = annotation['size']
        heading = np.eye(4)
        heading[:3, :3] = quaternion_to_matrix(annotation['rotation'])
        velocity = self.nusc.box_velocity(annotation['token'])
        return [
            *annotation['translation'], length, width, height, float(yaw_of(heading)), velocity[0],
            velocity[1]]

    def _attribute(self, annotation: Record) -> str:
        """The one attribute of a box, '' for none. nuScenes gives a box one attribute at most."""
        tokens = annotation['attribute_tokens']
        return self.nusc.get('attribute', tokens[0])['name'] if tokens else ''


def class_counts(frame: Record) -> dict[str, int]:
    """How many boxes of each detection class a frame record has, classes without any left out."""
    labels = [detection_label(c) for c in (frame['boxes'] or {'categories': []})['categories']]
    counts = Counter(DETECTION_CLASSES[label] for label in labels if label >= 0)
    return {name: counts[name] for name in DETECTION_CLASSES if counts[name]}


def read_scene(reader: SceneReader, scene: Record) -> tuple[Record, list[Record]]:
    """Header (without arguments and map) and frame records of one scene."""
    location = reader.nusc.get('log', scene['log_token'])['location']
    reader.forget()
    frames = [reader.frame_record(sample, scene, location) for sample in reader.samples(scene)]
    header: dict[str, Any] = {
        'scene': scene['name'], 'location': location, 'description': scene['description'],
        'tokens': [frame['token'] for frame in frames],
        'class_counts': {frame['token']: class_counts(frame) for frame in frames},
        'annotated': reader.has_boxes, 'left_out': dict(reader.left_out)}
    return header, frames
