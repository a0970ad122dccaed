"""nuScenes tables, read with the official devkit, to frame records: the only file that knows their columns.

The devkit is imported inside functions. Every root in nuScenes format works: v1.0-mini, v1.0-trainval,
v1.0-test, the synthetic world. What a root does not have is recorded, not demanded: a sensor file that is
absent is marked, boxes are None where the whole version has none, paths of occupancy and lidarseg are None
where the files are not there.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.contracts import LIDAR_LIMITS, TIME_LAG
from ...core.files import file_name, relative_path
from ...core.geometry import invert, quaternion_to_matrix, transform_boxes, transform_from_record, yaw_of
from ...core.lens import Distortion
from ...core.protocols import CAMERAS, RADARS, VISIBILITY_LEVELS
from ...core.reading import read_json
from .classes import class_counts
from .infos import frames_with
from .records import BoxRecords, CameraRecord, FrameRecord, Json, SensorRecord

if TYPE_CHECKING:
    from nuscenes import NuScenes

Row = dict[str, Any]
"""One row of a table."""

LIDAR = 'LIDAR_TOP'
CHANNELS = (LIDAR, *CAMERAS, *RADARS)
"""The channels that are read; the first one that a sample has gives it its time and pose."""

NO_ENTRY = 'no entry: '
"""How the count of frames without an entry of a channel begins in what is left out."""

VERSION_SPLITS = {'mini': ('mini_train', 'mini_val'), 'trainval': ('train', 'val'), 'test': ('test',)}


def open_tables(root: Path, version: str) -> NuScenes:
    """Load a version's tables.

    Raises:
        FileNotFoundError: the version's folder is not below the root; the message lists the versions that
        are. ValueError: the devkit refuses the tables, or a base map it needs is absent.
    """
    root = Path(root)
    if not (root / version).is_dir():
        versions = ', '.join(sorted(p.parent.name for p in root.glob('*/sample_data.json'))) or 'none'
        raise FileNotFoundError(
            f'{root / version}: no such version of nuScenes tables; versions below {root}: {versions}'
        )

    from nuscenes import NuScenes

    class Tables(NuScenes):
        """The devkit's tables, read on every machine as UTF-8, a damaged one named."""

        def __load_table__(self, table_name: str) -> Any:
            return read_json(Path(self.table_root) / f'{table_name}.json')

    try:
        return Tables(version=version, dataroot=str(root), verbose=False)
    # what the devkit raises for unfit tables
    except (AssertionError, KeyError, TypeError) as error:
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

    official = create_splits_scenes()
    version_splits = VERSION_SPLITS.get(nusc.version.removeprefix('v1.0-'), ())
    scenes_of = {split: official[split] for split in version_splits}
    scenes_of.update(_custom_splits(Path(nusc.dataroot) / nusc.version / 'splits.json'))

    names = [scene['name'] for scene in nusc.scene]
    splits = {split: [n for n in names if n in set(scenes)] for split, scenes in scenes_of.items()}
    splits = {split: scenes for split, scenes in splits.items() if scenes}
    loose = [n for n in names if not any(n in scenes for scenes in splits.values())]
    return {**splits, 'all': names} if loose else splits


def _custom_splits(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    splits = read_json(path)
    if not isinstance(splits, dict) or not all(isinstance(scenes, list) for scenes in splits.values()):
        raise ValueError(f'{path}: expected an object of lists of scene names')
    return splits


@dataclass
class SceneReader:
    """Turns the samples of one version into frame records.

    It remembers which files exist and what was left out.

    Args:
        nusc: loaded tables.
        lidar_sweeps, radar_sweeps: how many earlier sweeps are listed per key frame.
        channels: {our name of a channel: the tables' name}, of those that differ.

    Attributes:
        left_out: what is absent -> how often.
        found: channel of the tables -> in how many frames it has an entry.
    """

    nusc: NuScenes
    lidar_sweeps: int = 10
    radar_sweeps: int = 6
    channels: Mapping[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    _exists: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = Path(self.nusc.dataroot)
        self.has_boxes = len(self.nusc.sample_annotation) > 0
        lidarseg = getattr(self.nusc, 'lidarseg', None) or ()
        self._lidarseg_file = {row['token']: row['filename'] for row in lidarseg}
        theirs = set(self.channels.values())
        self._more_cameras = [
            row['channel'] for row in self.nusc.sensor
            if row['modality'] == 'camera' and row['channel'] not in (*CHANNELS, *theirs)]
        self._visibility = {
            row['token']: VISIBILITY_LEVELS.get(row['level'], 0) for row in self.nusc.visibility}

    def forget(self) -> None:
        """Forget which files exist, what was found and left out, before another scene."""
        self.left_out.clear()
        self.found.clear()
        self._exists.clear()

    def samples(self, scene: Row) -> list[Row]:
        """The scene's samples in time order."""
        samples = []
        token = scene['first_sample_token']
        while token:
            samples.append(self.nusc.get('sample', token))
            token = samples[-1]['next']
        return samples

    def exists(self, name: str, missing_as: str = '') -> bool:
        """Whether a file of the root is there.

        The disk is asked once per file, and a file that is absent is counted once as left out.
        """
        if name not in self._exists:
            relative_path(name, 'a file name in the tables')
            self._exists[name] = (self.root / name).is_file()
            if missing_as and not self._exists[name]:
                self.left_out[missing_as] += 1
        return self._exists[name]

    def ego_pose(self, data: Row) -> np.ndarray:
        """`global_T_ego` `(4, 4)` at the time of a sample_data row."""
        return transform_from_record(self.nusc.get('ego_pose', data['ego_pose_token']))

    def entries(self, sample: Row) -> dict[str, str]:
        """Our channel -> token of its sample_data row, of those the sample has; the others are counted."""
        self.found.update(sample['data'].keys())
        entries = {}
        for channel in CHANNELS:
            name = self.channels.get(channel, channel)
            if name in sample['data']:
                entries[channel] = sample['data'][name]
            else:
                self.left_out[f'{NO_ENTRY}{channel}'] += 1
        # cameras of cars that are not nuScenes' keep their own names
        return entries | {name: sample['data'][name] for name in self._more_cameras if name in sample['data']}

    def reference(self, sample: Row, entries: Mapping[str, str]) -> Row:
        """The sample_data row whose time and pose define the frame.

        The LiDAR's, or else the first sensor's there is.
        """
        if not entries:
            raise ValueError(
                f'sample {sample["token"]}: found no channel that is read, expected some of '
                f'{", ".join(CHANNELS)}; there are: {", ".join(sample["data"]) or "none"}'
            )
        return self.nusc.get('sample_data', next(iter(entries.values())))

    def frame_record(self, sample: Row, scene: Row, location: str) -> FrameRecord:
        """Everything about one key frame."""
        data = self.entries(sample)
        reference = self.reference(sample, data)
        global_T_ego = self.ego_pose(reference)
        names = [name for name in (*CAMERAS, *self._more_cameras) if name in data]
        cameras = {name: self._camera(data[name], reference, global_T_ego) for name in names}
        lidar = self._sweeps(data.get(LIDAR), self.lidar_sweeps, reference, global_T_ego, 'LiDAR')
        radars = {
            c: self._sweeps(data[c], self.radar_sweeps, reference, global_T_ego, 'radar')
            for c in RADARS if c in data}

        return FrameRecord(
            token=sample['token'],
            scene=scene['name'],
            location=location,
            previous=sample['prev'],
            next=sample['next'],
            timestamp_us=reference['timestamp'],
            global_T_ego=global_T_ego,
            cameras=cameras,
            lidar=lidar,
            radars=radars,
            lidarseg=self._lidarseg(data.get(LIDAR)),
            occupancy=self._occupancy(scene['name'], sample['token']),
            boxes=self._boxes(sample, global_T_ego) if self.has_boxes else None,
        )

    def _sensor(self, data: Row, reference: Row, global_T_ego: np.ndarray, kind: str) -> dict[str, Any]:
        """Fields of a `SensorRecord`: where and when one measurement was taken.

        Calibration and pose as in the tables, and their product compensated to the key frame.
        """
        calibration = self.nusc.get('calibrated_sensor', data['calibrated_sensor_token'])
        own_ego_T_sensor = transform_from_record(calibration)
        global_T_own_ego = self.ego_pose(data)

        time = 'key frame' if data['is_key_frame'] else 'sweep'
        missing = not self.exists(data['filename'], f'file missing: {kind}, {time}')
        return {
            'file': data['filename'],
            'missing': missing,
            'token': data['token'],
            'timestamp_us': data['timestamp'],
            'time_lag_s': (reference['timestamp'] - data['timestamp']) * 1e-6,
            'ego_T_sensor': invert(global_T_ego) @ global_T_own_ego @ own_ego_T_sensor,
            'own_ego_T_sensor': own_ego_T_sensor,
            'global_T_own_ego': global_T_own_ego,
        }

    def _camera(self, token: str, reference: Row, global_T_ego: np.ndarray) -> CameraRecord:
        data = self.nusc.get('sample_data', token)
        calibration = self.nusc.get('calibrated_sensor', data['calibrated_sensor_token'])
        return CameraRecord(
            **self._sensor(data, reference, global_T_ego, 'camera'),
            K_33=np.array(calibration['camera_intrinsic'], dtype=np.float64),
            width_px=data['width'],
            height_px=data['height'],
            distortion=Distortion.from_record(
                calibration.get('distortion'),
                f'calibrated_sensor.json: {calibration["token"]}: distortion'))

    def _sweeps(
        self, token: str | None, count: int, reference: Row, global_T_ego: np.ndarray, kind: str
    ) -> tuple[SensorRecord, ...]:
        """The key frame's sweep first, then up to `count` earlier ones, newest first.

        None that is older than a time lag may be.
        """
        sweeps: list[SensorRecord] = []
        while token and len(sweeps) <= count:
            data = self.nusc.get('sample_data', token)
            fields = self._sensor(data, reference, global_T_ego, kind)
            if fields['time_lag_s'] > LIDAR_LIMITS[TIME_LAG][1]:
                break
            if sweeps:  # files stay small: formats of other projects need these of key frames alone
                fields |= {'own_ego_T_sensor': None, 'global_T_own_ego': None}
            sweeps.append(SensorRecord(**fields))
            token = data['prev']
        return tuple(sweeps)

    def _lidarseg(self, lidar_token: str | None) -> str | None:
        name = self._lidarseg_file.get(lidar_token)
        return name if name is not None and self.exists(name) else None

    def _occupancy(self, scene: str, token: str) -> str | None:
        """Occ3D's `gts/<scene>/<token>/labels.npz`, or the same below `occupancy/<token>`."""
        file_name(scene, 'scene.json: name')
        file_name(token, 'sample.json: token')
        for name in (f'gts/{scene}/{token}/labels.npz', f'occupancy/{token}/labels.npz'):
            if self.exists(name):
                return name
        self.left_out['no occupancy labels'] += 1
        return None

    def _boxes(self, sample: Row, global_T_ego: np.ndarray) -> BoxRecords:
        annotations = [self.nusc.get('sample_annotation', token) for token in sample['anns']]
        boxes_global = np.array([self._box_global(a) for a in annotations], dtype=np.float64).reshape(-1, 9)
        return BoxRecords(
            boxes_M9=transform_boxes(invert(global_T_ego), boxes_global),
            categories=tuple(a['category_name'] for a in annotations),
            tokens=tuple(a['token'] for a in annotations),
            instances=tuple(a['instance_token'] for a in annotations),
            attributes=tuple(self._attribute(a) for a in annotations),
            visibility_M=np.array(
                [self._visibility.get(a['visibility_token'], 0) for a in annotations], dtype=np.int64),
            num_lidar_points_M=np.array([a['num_lidar_pts'] for a in annotations], dtype=np.int64),
            num_radar_points_M=np.array([a['num_radar_pts'] for a in annotations], dtype=np.int64))

    def _box_global(self, annotation: Row) -> list[float]:
        """One box `(9,)` in the global frame; the tables list width before length."""
        width, length, height = annotation['size']
        heading = np.eye(4)
        heading[:3, :3] = quaternion_to_matrix(annotation['rotation'])
        vx, vy, _ = self.nusc.box_velocity(annotation['token'])
        return [*annotation['translation'], length, width, height, float(yaw_of(heading)), vx, vy]

    def _attribute(self, annotation: Row) -> str:
        """The one attribute of a box, '' for none. nuScenes gives a box one attribute at most."""
        tokens = annotation['attribute_tokens']
        return self.nusc.get('attribute', tokens[0])['name'] if tokens else ''


def image_sizes(frames: Sequence[FrameRecord]) -> Json:
    """{camera: {'W x H' as the tables say: number of frames}}."""
    sizes: dict[str, Counter[str]] = {}
    for frame in frames:
        for name, camera in frame.cameras.items():
            sizes.setdefault(name, Counter())[f'{camera.width_px} x {camera.height_px}'] += 1
    return {name: dict(counts) for name, counts in sizes.items()}


def read_scene(reader: SceneReader, scene: Row) -> tuple[Json, list[FrameRecord]]:
    """Header (without arguments and map) and frame records of one scene."""
    location = reader.nusc.get('log', scene['log_token'])['location']
    reader.forget()
    frames = [reader.frame_record(sample, scene, location) for sample in reader.samples(scene)]

    header = {
        'scene': scene['name'],
        'location': location,
        'description': scene['description'],
        'tokens': [frame.token for frame in frames],
        'class_counts': {frame.token: class_counts(frame) for frame in frames},
        'annotated': reader.has_boxes,
        'frames_with': frames_with(frames),
        'channels': dict(sorted(reader.found.items())),
        'image_sizes': image_sizes(frames),
        'left_out': dict(reader.left_out),
    }
    return header, frames
