"""One key frame as the info files hold it: files, times, transforms and boxes, unpacked once when read.

On disk a frame is one line of JSON, whose keys are the names of the fields here (`docs/data.md`). Transforms
are written as the twelve numbers of their upper three rows, NaN as null.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.contracts import check_shape
from ...core.lens import Distortion

Json = dict[str, Any]


class InfosError(ValueError):
    """An info file is absent, damaged or of another schema; the message names the file and what to do."""


@dataclass(frozen=True, kw_only=True)
class SensorRecord:
    """One measurement of one sensor: its file, when it was taken, and from where.

    Attributes:
        file: path relative to the dataroot.
        missing: True where the file was absent when the infos were written.
        token: of its sample_data row.
        timestamp_us: its own time.
        time_lag_s: the key frame's LiDAR time minus its own.
        ego_T_sensor: `(4, 4)`, sensor -> ego at the key frame's LiDAR time, the car's motion between the two
            times included.
        own_ego_T_sensor: `(4, 4)`, the calibration as in the tables; None for earlier sweeps.
        global_T_own_ego: `(4, 4)`, the car's pose at its own time; None for earlier sweeps.
    """

    file: str
    missing: bool
    token: str
    timestamp_us: int
    time_lag_s: float
    ego_T_sensor: np.ndarray
    own_ego_T_sensor: np.ndarray | None = None
    global_T_own_ego: np.ndarray | None = None

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_shape(owner, 'ego_T_sensor', self.ego_T_sensor, 4, 4)
        for name in ('own_ego_T_sensor', 'global_T_own_ego'):
            if getattr(self, name) is not None:
                check_shape(owner, name, getattr(self, name), 4, 4)

    @classmethod
    def from_json(cls, content: Json, owner: str) -> SensorRecord:
        """Unpack what `to_json` made; `owner` says in errors which sensor it is."""
        names = ('file', 'missing', 'token', 'timestamp_us', 'time_lag_s', 'ego_T_sensor')
        values = _required(content, owner, names)
        for name in ('own_ego_T_sensor', 'global_T_own_ego'):
            if name in content:
                values[name] = content[name]

        for name in ('ego_T_sensor', 'own_ego_T_sensor', 'global_T_own_ego'):
            if name in values:
                values[name] = unpack_transform(values[name], f'{owner}.{name}')
        return cls(**values, **cls._more_from_json(content, owner))

    @classmethod
    def _more_from_json(cls, content: Json, owner: str) -> Json:
        """The fields of a subclass."""
        return {}

    def to_json(self) -> Json:
        """Pack as plain values."""
        content: Json = {
            'file': self.file, 'missing': self.missing, 'token': self.token,
            'timestamp_us': self.timestamp_us, 'time_lag_s': self.time_lag_s,
            'ego_T_sensor': pack_transform(self.ego_T_sensor)}
        for name in ('own_ego_T_sensor', 'global_T_own_ego'):
            if getattr(self, name) is not None:
                content[name] = pack_transform(getattr(self, name))
        return content


@dataclass(frozen=True, kw_only=True)
class CameraRecord(SensorRecord):
    """One image: also its intrinsics K_33 (pixels of the image as it lies on disk), its size and its lens."""

    K_33: np.ndarray
    width_px: int
    height_px: int
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shape('CameraRecord', 'K_33', self.K_33, 3, 3)

    @classmethod
    def _more_from_json(cls, content: Json, owner: str) -> Json:
        values = _required(content, owner, ('K', 'width_px', 'height_px'))
        try:
            lens = Distortion.from_record(content.get('distortion'), f'{owner}.distortion')
        except ValueError as error:
            raise InfosError(str(error)) from error
        return {'K_33': np.array(values.pop('K'), dtype=np.float64), 'distortion': lens, **values}

    def to_json(self) -> Json:
        """Pack as plain values."""
        content = {
            **super().to_json(), 'K': self.K_33.tolist(), 'width_px': self.width_px,
            'height_px': self.height_px}
        if self.distortion is not None:
            content['distortion'] = self.distortion.to_record()
        return content


@dataclass(frozen=True, kw_only=True)
class BoxRecords:
    """All annotated boxes of one frame, of every category, as columns.

    Attributes:
        boxes_M9: float64 in ego as in `BoxLabels`, velocity NaN where unknown.
        categories: M names as in the tables.
        tokens, instances: M tokens of the annotations and of the objects they belong to.
        attributes: M names, '' for none.
        visibility_M: level 1..4, 0 unknown.
        num_lidar_points_M, num_radar_points_M: points inside, as the tables count them.
    """

    boxes_M9: np.ndarray
    categories: tuple[str, ...]
    tokens: tuple[str, ...]
    instances: tuple[str, ...]
    attributes: tuple[str, ...]
    visibility_M: np.ndarray
    num_lidar_points_M: np.ndarray
    num_radar_points_M: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.boxes_M9)
        check_shape('BoxRecords', 'boxes_M9', self.boxes_M9, count, 9)
        for name in list(self.__dataclass_fields__)[1:]:
            column = getattr(self, name)
            if len(column) != count:
                raise ValueError(f'BoxRecords.{name}: {count} boxes have {len(column)}')

    def __len__(self) -> int:
        return len(self.boxes_M9)

    @classmethod
    def empty(cls) -> BoxRecords:
        """A frame without boxes."""
        none = np.zeros(0, dtype=np.int64)
        return cls(
            boxes_M9=np.zeros((0, 9)), categories=(), tokens=(), instances=(), attributes=(),
            visibility_M=none, num_lidar_points_M=none, num_radar_points_M=none)

    @classmethod
    def from_json(cls, content: Json) -> BoxRecords:
        """Unpack what `to_json` made."""
        names = (
            'boxes', 'categories', 'tokens', 'instances', 'attributes', 'visibility', 'lidar_points',
            'radar_points')
        values = _required(content, 'boxes', names)
        return cls(
            boxes_M9=unpack_numbers(values['boxes'], 9),
            categories=tuple(values['categories']),
            tokens=tuple(values['tokens']),
            instances=tuple(values['instances']),
            attributes=tuple(values['attributes']),
            visibility_M=np.array(values['visibility'], dtype=np.int64),
            num_lidar_points_M=np.array(values['lidar_points'], dtype=np.int64),
            num_radar_points_M=np.array(values['radar_points'], dtype=np.int64))

    def to_json(self) -> Json:
        """Pack as plain values."""
        return {
            'boxes': pack_numbers(self.boxes_M9), 'categories': list(self.categories),
            'tokens': list(self.tokens), 'instances': list(self.instances),
            'attributes': list(self.attributes), 'visibility': self.visibility_M.tolist(),
            'lidar_points': self.num_lidar_points_M.tolist(),
            'radar_points': self.num_radar_points_M.tolist()}


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """Everything the infos know of one key frame.

    Attributes:
        token: of the sample.
        timestamp_us, global_T_ego: the key frame's LiDAR time and the car's pose `(4, 4)` then.
        scene, location: names of the drive and of its map.
        previous, next: tokens of the neighbouring key frames, '' where there is none.
        cameras: {channel: image} of those in the tables.
        lidar: the key frame's sweep, then earlier ones, newest first.
        radars: {channel: the same}.
        lidarseg, occupancy: label files relative to the dataroot, None where there is none.
        boxes: None where the version has no annotations.
    """

    token: str
    timestamp_us: int
    global_T_ego: np.ndarray
    scene: str = ''
    location: str = ''
    previous: str = ''
    next: str = ''
    cameras: Mapping[str, CameraRecord] = field(default_factory=dict)
    lidar: tuple[SensorRecord, ...] = ()
    radars: Mapping[str, tuple[SensorRecord, ...]] = field(default_factory=dict)
    lidarseg: str | None = None
    occupancy: str | None = None
    boxes: BoxRecords | None = None

    def __post_init__(self) -> None:
        check_shape('FrameRecord', 'global_T_ego', self.global_T_ego, 4, 4)

    @property
    def ego_T_lidar(self) -> np.ndarray | None:
        """Where the key frame's LiDAR sits in the car, as calibrated: `(4, 4)`; None without LiDAR."""
        if not self.lidar:
            return None
        own = self.lidar[0].own_ego_T_sensor
        return self.lidar[0].ego_T_sensor if own is None else own

    def has(self) -> dict[str, bool]:
        """Which kinds of sensors have a file, and which labels of the frame's own there are."""
        radars = [sweep for sweeps in self.radars.values() for sweep in sweeps]
        files_of = {'camera': self.cameras.values(), 'lidar': self.lidar, 'radar': radars}
        return {
            **{name: not all(file.missing for file in files) for name, files in files_of.items()},
            'boxes': self.boxes is not None,
            'occupancy': self.occupancy is not None}

    @classmethod
    def from_json(cls, content: Json) -> FrameRecord:
        """Unpack what `to_json` made.

        Raises:
            InfosError: a field is absent or of another form; names it.
        """
        names = (
            'token', 'scene', 'location', 'previous', 'next', 'timestamp_us', 'global_T_ego', 'cameras',
            'lidar', 'radars', 'lidarseg', 'occupancy', 'boxes')
        values = _required(content, 'frame', names)

        values['global_T_ego'] = unpack_transform(values['global_T_ego'], 'global_T_ego')
        values['cameras'] = {
            name: CameraRecord.from_json(camera, f'cameras.{name}')
            for name, camera in values['cameras'].items()}
        values['lidar'] = _sweeps_from_json(values['lidar'], 'lidar')
        values['radars'] = {
            name: _sweeps_from_json(sweeps, f'radars.{name}') for name, sweeps in values['radars'].items()}
        if values['boxes'] is not None:
            values['boxes'] = BoxRecords.from_json(values['boxes'])
        return cls(**values)

    def to_json(self) -> Json:
        """Pack as plain values, in the order of the keys on disk."""
        radars = {name: [sweep.to_json() for sweep in sweeps] for name, sweeps in self.radars.items()}

        return {
            'token': self.token,
            'scene': self.scene,
            'location': self.location,
            'previous': self.previous,
            'next': self.next,
            'timestamp_us': self.timestamp_us,
            'global_T_ego': pack_transform(self.global_T_ego),
            'cameras': {name: camera.to_json() for name, camera in self.cameras.items()},
            'lidar': [sweep.to_json() for sweep in self.lidar],
            'radars': radars,
            'lidarseg': self.lidarseg,
            'occupancy': self.occupancy,
            'boxes': None if self.boxes is None else self.boxes.to_json(),
        }


def _sweeps_from_json(sweeps: Sequence[Json], owner: str) -> tuple[SensorRecord, ...]:
    return tuple(SensorRecord.from_json(sweep, f'{owner}[{i}]') for i, sweep in enumerate(sweeps))


def _required(content: Json, owner: str, names: Sequence[str]) -> Json:
    """The named fields; an InfosError where one is absent."""
    for name in names:
        if name not in content:
            raise InfosError(f'{owner}: found no field {name!r}, expected {", ".join(names)}')
    return {name: content[name] for name in names}


def pack_transform(a_T_b: np.ndarray) -> list[float]:
    """Pack a rigid `(4, 4)` transform as the twelve numbers of its upper rows, row by row."""
    return np.asarray(a_T_b, dtype=np.float64)[:3].ravel().tolist()


def unpack_transform(numbers: Sequence[float], name: str = 'a transform') -> np.ndarray:
    """Inverse of `pack_transform`: `(4, 4)` float64.

    Raises:
        InfosError: there are not twelve numbers.
    """
    if len(numbers) != 12:
        raise InfosError(f'{name} needs 12 numbers, found {len(numbers)}')
    transform = np.eye(4)
    transform[:3] = np.asarray(numbers, dtype=np.float64).reshape(3, 4)
    return transform


def pack_numbers(values: np.ndarray) -> list[Any]:
    """Nested lists of an array of any shape; NaN becomes None, since JSON has no NaN."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(values), None, values.astype(object)).tolist()


def unpack_numbers(values: Sequence[Any], columns: int) -> np.ndarray:
    """Inverse of `pack_numbers` for a table: float64 `(rows, columns)`, None becomes NaN."""
    return np.array(values, dtype=np.float64).reshape(-1, columns)
