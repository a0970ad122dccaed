"""The mapping file: which topic is which sensor, where it sits, how key frames are chosen.

docs/recordings.md describes every field.
"""
from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...core.config import nearest_name
from ...core.files import file_name
from ...core.geometry import make_transform, quaternion_to_matrix
from ...core.lens import Distortion
from ...core.protocols import RADARS
from ...core.reading import BadFile
from ...core.rig.file import load_rig
from ...core.rig.plain import load_plain
from ...core.rig.sensors import SensorRig
from ..messages.poses import plain_frame
from ..messages.radar import FIELDS as RADAR_FIELDS

MAPPING_MIB = 1
LIDAR = 'LIDAR_TOP'
PICTURES = ('jpeg', 'png')
LIDAR_FIELDS = ('x', 'y', 'z', 'intensity', 'ring', 'time')


@dataclass(frozen=True)
class PoseSource:
    """Where the car's poses come from.

    Attributes:
        topic: of nav_msgs/Odometry; '' takes tf.
        fixed: tf's frame that does not move with the car, for example odom or map.
        base: the car's own frame, tf's and odometry's child.
        base_height_m: of its origin above the ground below the rear axle.
        longest_gap_s: no pose is made between two that lie farther apart.
    """

    topic: str = ''
    fixed: str = ''
    base: str = 'base_link'
    base_height_m: float = 0.0
    longest_gap_s: float = 0.5

    def ground_frame(self, named: str = '') -> str:
        """The frame that predictions lie in: `named`, or the car's own where that is on the ground.

        Raises:
            ValueError: the car's own frame lies above the ground and no other is named.
        """
        if not named and self.base_height_m:
            raise ValueError(
                f'poses.base_height_m: {self.base} lies {self.base_height_m:g} m above the ground, and '
                f'predictions lie on it: name the frame on the ground by frame_id (--frame-id)')
        return named or self.base


@dataclass(frozen=True)
class SensorSource:
    """One sensor.

    Attributes:
        topic: of its measurements.
        frame: tf's name of its own frame; '' takes that of its messages.
        base_T_sensor: `(4, 4)`, where the mapping says it; None takes tf.
        info: a camera's topic of CameraInfo.
        K_33, lens: a camera's calibration, where the mapping or a rig file says it.
        size_hw: of the images that K_33 is of; zeros where nothing says it.
        rectified: a camera's images are undistorted: CameraInfo's P holds.
        fields: a LiDAR's or radar's names of fields that are not the usual ones.
        intensity_scale: a LiDAR's intensity times this is nuScenes' 0 to 255.
        over_ground: a radar's velocities have the car's own motion taken away.
    """

    topic: str
    frame: str = ''
    base_T_sensor: np.ndarray | None = None
    info: str = ''
    K_33: np.ndarray | None = None
    lens: Distortion | None = None
    size_hw: tuple[int, int] = (0, 0)
    rectified: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    intensity_scale: float = 1.0
    over_ground: bool = False


@dataclass(frozen=True)
class KeyFrameOptions:
    """How key frames are chosen.

    Attributes:
        reference: the sensor whose times key frames have; '' takes the LiDAR, or else the first camera.
        period_s: from one to the next.
        tolerance_s: the other sensors' nearest measurement counts up to so far away.
        scene_s: length of a scene.
        longest_gap_s: where the reference is silent for longer, a new scene begins.
        camera_sweeps: keep images between key frames too.
    """

    reference: str = ''
    period_s: float = 0.5
    tolerance_s: float = 0.06
    scene_s: float = 20.0
    longest_gap_s: float = 1.5
    camera_sweeps: bool = False


@dataclass(frozen=True)
class DriveMapping:
    """A mapping file.

    Attributes:
        name: of the drive; its scenes are `<name>-0001` and so on.
        location: name of the place, for the tables.
        poses: where the car is.
        cameras, lidars, radars: {channel: source}; one LiDAR at most.
        key_frames: how they are chosen.
        pictures: 'jpeg' or 'png': how raw images are written; compressed ones are kept as they are.
        jpeg_quality: 1 to 100.
    """

    name: str
    poses: PoseSource
    cameras: Mapping[str, SensorSource]
    lidars: Mapping[str, SensorSource]
    radars: Mapping[str, SensorSource]
    key_frames: KeyFrameOptions = KeyFrameOptions()
    location: str = 'unknown'
    pictures: str = 'jpeg'
    jpeg_quality: int = 95

    @property
    def sensors(self) -> dict[str, SensorSource]:
        """All sensors by channel."""
        return {**self.cameras, **self.lidars, **self.radars}

    @property
    def reference(self) -> str:
        """The sensor whose times key frames have."""
        return self.key_frames.reference or next(iter(self.lidars or self.cameras))

    def kind_of(self, channel: str) -> str:
        """'camera', 'lidar' or 'radar'."""
        return 'camera' if channel in self.cameras else 'lidar' if channel in self.lidars else 'radar'

    @property
    def topics(self) -> list[str]:
        """Every topic that is read, tf's too."""
        sources = self.sensors.values()
        names = [*(s.topic for s in sources), *(s.info for s in sources if s.info), self.poses.topic]
        return list(dict.fromkeys(name for name in names if name))


# -------------------------------------------------------------------- reading

def read_mapping(path: str | Path) -> DriveMapping:
    """Read a mapping file, JSON or YAML by its content.

    Raises:
        BadFile: names the file, the field, what was found and what was expected.
    """
    content = load_plain(path, MAPPING_MIB, 'a mapping file (JSON or YAML)')
    return _Reader(Path(path)).mapping(content)


class _Reader:
    """Turns plain values into a mapping; every error names the file and the field."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rig: SensorRig | None = None
        self.base_height_m = 0.0

    def refuse(self, where: str, found: Any, expected: str) -> BadFile:
        return BadFile(self.path, f'{where}: found {str(found):.120}, expected {expected}')

    def mapping(self, content: Any) -> DriveMapping:
        known = ('name', 'location', 'poses', 'rig', 'cameras', 'lidar', 'radars', 'key_frames', 'pictures',
                 'jpeg_quality')
        fields = self.fields('mapping', content, known)
        if 'rig' in fields:
            self.rig = load_rig(self.path.parent / self.text('rig', fields['rig']))
        name = self.channel('name', fields.get('name', 'drive'))
        poses = self.poses(fields.get('poses'))
        self.base_height_m = poses.base_height_m

        lidar = fields.get('lidar')
        groups = {
            'cameras': self.group('cameras', fields.get('cameras') or {}),
            'lidars': {} if lidar is None else {LIDAR: self.sensor('lidar', LIDAR, lidar)},
            'radars': self.group('radars', fields.get('radars') or {})}
        self.check_groups(groups)
        return DriveMapping(
            name=name, poses=poses, **groups, key_frames=self.key_frames(fields.get('key_frames'), groups),
            **self.writing(fields))

    def poses(self, content: Any) -> PoseSource:
        """Where the car is: a topic, or a frame of tf that does not move with it."""
        poses = self.record(PoseSource, 'poses', content)
        poses = dataclasses.replace(poses, fixed=plain_frame(poses.fixed), base=plain_frame(poses.base))
        if not poses.base:
            raise self.refuse('poses.base', repr(poses.base), "the name of the car's frame")
        if not poses.topic and not poses.fixed:
            raise self.refuse('poses', content, 'topic (of odometry), or fixed (a frame of tf: odom, map)')
        return poses

    def writing(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields about what is written."""
        values = {'location': self.channel('location', fields.get('location', 'unknown'))}
        values['pictures'] = fields.get('pictures', PICTURES[0])
        if values['pictures'] not in PICTURES:
            raise self.refuse('pictures', values['pictures'], ' or '.join(PICTURES))
        values['jpeg_quality'] = fields.get('jpeg_quality', 95)
        if type(values['jpeg_quality']) is not int or not 1 <= values['jpeg_quality'] <= 100:
            raise self.refuse('jpeg_quality', values['jpeg_quality'], 'a whole number from 1 to 100')
        return values

    def check_groups(self, groups: dict[str, dict[str, SensorSource]]) -> None:
        """Some camera or LiDAR, radars of known names, no name and no topic twice."""
        if not groups['cameras'] and not groups['lidars']:
            raise self.refuse('cameras, lidar', 'neither', 'a camera or a LiDAR at least')
        for name in groups['radars']:
            if name not in RADARS:
                raise self.refuse('radars', name, f'names of {", ".join(RADARS)}')

        topics: dict[str, str] = {}
        for kind, group in groups.items():
            for name, source in group.items():
                if name in topics.values():
                    raise self.refuse(kind, name, 'a name of its own for every sensor')
                if source.topic in topics:
                    raise self.refuse(
                        f'{name}.topic', source.topic, f'another one than that of {topics[source.topic]}')
                topics[source.topic] = name

    def fields(self, where: str, content: Any, known: tuple[str, ...]) -> dict[str, Any]:
        """A mapping of known fields."""
        if not isinstance(content, Mapping):
            raise self.refuse(where, content, f'fields of {", ".join(known)}')
        for name in content:
            if name not in known:
                raise BadFile(
                    self.path, f'{where}: unknown field {name!r}{nearest_name(str(name), known)} (known: '
                               f'{", ".join(known)})')
        return dict(content)

    def text(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self.refuse(where, repr(value), 'a name')
        return value

    def channel(self, where: str, value: Any) -> str:
        """A name that a folder may have."""
        try:
            return file_name(value, where)
        except ValueError as error:
            raise BadFile(self.path, str(error)) from error

    def record(self, kind: type, where: str, content: Any) -> Any:
        """A record of plain fields: texts, numbers above zero, truth values."""
        entries = {entry.name: entry.default for entry in dataclasses.fields(kind)}
        values = self.fields(where, content or {}, tuple(entries))
        for name, value in values.items():
            kind_of = type(entries[name])
            if kind_of is float and name != 'base_height_m':
                values[name] = self.number(f'{where}.{name}', value, 1e-6, 1e6)
            elif kind_of is float:
                values[name] = self.number(f'{where}.{name}', value, -10.0, 10.0)
            elif not isinstance(value, kind_of):
                expected = 'true or false' if kind_of is bool else 'a name'
                raise self.refuse(f'{where}.{name}', repr(value), expected)
        return kind(**values)

    def number(self, where: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self.refuse(where, repr(value), f'a number from {low:g} to {high:g}')
        return float(value)

    def numbers(self, where: str, value: Any, count: int) -> np.ndarray:
        if not isinstance(value, list) or len(value) != count:
            raise self.refuse(where, repr(value), f'a list of {count} numbers')
        return np.array([self.number(where, number, -1e7, 1e7) for number in value])

    def key_frames(self, content: Any, groups: dict[str, dict[str, SensorSource]]) -> KeyFrameOptions:
        options = self.record(KeyFrameOptions, 'key_frames', content)
        names = [name for group in groups.values() for name in group]
        if options.reference and options.reference not in names:
            raise self.refuse('key_frames.reference', options.reference, f'one of {", ".join(names)}')
        if options.tolerance_s >= options.period_s / 2:
            raise self.refuse(
                'key_frames.tolerance_s', options.tolerance_s, f'less than half of {options.period_s}')
        return options

    # ------------------------------------------------------------------------ sensors

    def group(self, kind: str, content: Any) -> dict[str, SensorSource]:
        if not isinstance(content, Mapping):
            raise self.refuse(kind, content, 'sensors by their names')
        return {
            self.channel(kind, name): self.sensor(kind, name, entry) for name, entry in content.items()}

    def sensor(self, kind: str, name: str, content: Any) -> SensorSource:
        """One sensor; a rig file fills in what the mapping does not say."""
        where = 'lidar' if kind == 'lidar' else f'{kind}.{name}'
        more = {'cameras': ('info', 'K', 'distortion', 'rectified'), 'lidar': ('fields', 'intensity_scale'),
                'radars': ('fields', 'over_ground')}[kind]
        fields = self.fields(where, content, ('topic', 'frame', 'pose', *more))
        if 'topic' not in fields:
            raise self.refuse(f'{where}.topic', 'none', 'the name of a topic')

        values: dict[str, Any] = {
            key: self.text(f'{where}.{key}', fields[key])
            for key in ('topic', 'frame', 'info') if key in fields}
        if 'frame' in values:
            values['frame'] = plain_frame(values['frame'])
        for key in ('rectified', 'over_ground'):
            if key in fields:
                if not isinstance(fields[key], bool):
                    raise self.refuse(f'{where}.{key}', repr(fields[key]), 'true or false')
                values[key] = fields[key]
        if 'intensity_scale' in fields:
            scale = fields['intensity_scale']
            values['intensity_scale'] = self.number(f'{where}.intensity_scale', scale, 1e-9, 1e9)
        if 'fields' in fields:
            known = LIDAR_FIELDS if kind == 'lidar' else ('list', *RADAR_FIELDS)
            values['fields'] = self.fields_of(f'{where}.fields', fields['fields'], known)

        values |= self.place(where, kind, name, fields)
        if kind == 'cameras':
            values |= self.calibration(where, name, fields, values)
        return SensorSource(**values)

    def fields_of(self, where: str, content: Any, known: tuple[str, ...]) -> dict[str, str]:
        names = self.fields(where, content, known)
        return {ours: self.text(f'{where}.{ours}', theirs) for ours, theirs in names.items()}

    def place(self, where: str, kind: str, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """`base_T_sensor` of `pose`, or of the rig file (whose ego lies on the ground)."""
        if 'pose' in fields:
            pose = self.fields(f'{where}.pose', fields['pose'], ('xyz_m', 'quaternion_xyzw'))
            xyz = self.numbers(f'{where}.pose.xyz_m', pose.get('xyz_m'), 3)
            turn = self.numbers(f'{where}.pose.quaternion_xyzw', pose.get('quaternion_xyzw'), 4)
            if not 0.99 < np.linalg.norm(turn) < 1.01:
                raise self.refuse(f'{where}.pose.quaternion_xyzw', turn.tolist(), 'a quaternion of length 1')
            return {'base_T_sensor': make_transform(quaternion_to_matrix(turn[[3, 0, 1, 2]]), xyz)}
        if self.rig is None:
            return {}

        group = {'cameras': self.rig.cameras, 'lidar': self.rig.lidars, 'radars': self.rig.radars}[kind]
        sensor = group.get(name) or (next(iter(group.values()), None) if kind == 'lidar' else None)
        if sensor is None:
            return {}
        # a rig file's poses count from the ground
        base_T_ego = make_transform(np.eye(3), np.array([0.0, 0.0, -self.base_height_m]))
        key = {'cameras': 'ego_T_cam', 'lidar': 'ego_T_lidar', 'radars': 'ego_T_radar'}[kind]
        return {'base_T_sensor': base_T_ego @ getattr(sensor, key)}

    def calibration(
        self, where: str, name: str, fields: dict[str, Any], values: dict[str, Any]
    ) -> dict[str, Any]:
        """K and lens of `K`, or of the rig file; a camera needs them or the topic `info`."""
        if values.get('rectified') and 'info' not in values:
            raise self.refuse(f'{where}.rectified', True, 'info beside it: its projection matrix holds then')
        if 'distortion' in fields and 'K' not in fields:
            raise self.refuse(f'{where}.distortion', 'no K', 'K beside it: info and a rig say the lens')
        if 'K' in fields:
            if 'info' in values:
                raise self.refuse(where, 'K and info', 'one of them')
            fx, fy, cx, cy = self.numbers(f'{where}.K', fields['K'], 4)
            if fx <= 0 or fy <= 0:
                raise self.refuse(f'{where}.K', fields['K'], 'fx, fy, cx, cy with fx and fy above 0')
            try:
                lens = Distortion.from_record(fields.get('distortion'), f'{where}.distortion')
            except ValueError as error:
                raise BadFile(self.path, str(error)) from error
            return {'K_33': np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), 'lens': lens}

        camera = self.rig.cameras.get(name) if self.rig else None
        if camera is not None and 'info' not in values:
            return {'K_33': camera.K_33, 'lens': camera.distortion, 'size_hw': camera.size_hw}
        if 'info' not in values:
            raise self.refuse(f'{where}', 'no calibration', 'info (a topic), K, or the camera in a rig file')
        return {}


def mapping_record(mapping: DriveMapping) -> dict[str, Any]:
    """The mapping as plain values, to tell whether a folder was begun with the same one."""
    return json.loads(json.dumps(dataclasses.asdict(mapping), default=_plain))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else dict(value)
