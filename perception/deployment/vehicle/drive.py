"""What one vehicle sends, put together as the frames of one drive: calibration, motion, earlier sweeps.

A measurement holds whatever the caller's `read` understands, a message of a recording or of ROS say, and
stays undecoded until a frame needs it.
"""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...core.contracts import RADAR_TIME_LAG, RADAR_VELOCITY, TIME_LAG, XY, XYZ, Sample
from ...core.geometry import invert, transform_points
from ...core.protocols import RADARS
from ...recordings.live.readings import SensorReading
from .records import FrameRequest, RuntimeOptions, SensorMeasurement, Stages
from .replay import LIDAR
from .runtime import runtime_stages


class FrameModel(Protocol):
    """What a drive asks of a model: `perception.api.Perception` has it."""

    sensors: Sequence[str]
    cameras: Sequence[str]
    lidar_sweeps: int
    own_returns_m: float

    def sample(self, **frame: Any) -> Sample:
        """A prepared sample of a frame's arrays."""

    def batch(self, sample: Sample) -> Any:
        """The batch of one sample."""


class VehicleDrive:
    """Measurements of one drive -> the batches that a model reads.

    Poses, and LiDAR sweeps for models that read earlier ones, are taken in as they come; the rest goes
    through the runtime, whose stages `stages` gives.

    Args:
        model: makes samples and batches.
        channels: of the vehicle's sensors; those of kinds that the model does not have are left out.
        read: decodes a measurement; raises ValueError where it is damaged or not calibrated (yet).
        pose_at: time (ns) -> `global_T_ego` `(4, 4)`, None where nothing is known; see `LivePoses`.
        name: of the drive.

    Raises:
        ValueError: an unknown channel, or none that the model reads.
    """

    def __init__(
        self,
        model: FrameModel,
        channels: Collection[str],
        read: Callable[[SensorMeasurement], SensorReading],
        pose_at: Callable[[int], np.ndarray | None],
        name: str = 'drive',
    ) -> None:
        known = {
            kind: names
            for kind, names in (('camera', model.cameras), ('lidar', (LIDAR,)), ('radar', RADARS))
            if kind in model.sensors}
        every = (*model.cameras, LIDAR, *RADARS)
        unknown = [channel for channel in channels if channel not in every]
        if unknown:
            raise ValueError(
                f'sensors: found the name {unknown[0]!r}, expected names that the model knows: '
                f'{", ".join(every)}')

        self.model, self.read, self.pose_at, self.name = model, read, pose_at, name
        self.channels = tuple(
            channel for names in known.values() for channel in names if channel in channels)
        if not self.channels:
            raise ValueError(
                f'sensors: found {", ".join(channels) or "none"}, expected some that the model reads '
                f'({", ".join(model.sensors)})')

        # earlier sweeps as they came, and those that were decoded already, by their time
        self._sweeps: deque[SensorMeasurement] = deque(maxlen=model.lidar_sweeps + 1)
        self._decoded: dict[int, SensorReading | None] = {}
        self._lock = threading.Lock()

    def options(self, speed: float = 1.0, deadline_s: float = 2.0) -> RuntimeOptions:
        """Of the runtime: the LiDAR starts a frame, or time where there is none.

        Args:
            speed: 2 is twice as fast as the vehicle drove.
            deadline_s: a frame older than this is given up.
        """
        trigger = LIDAR if LIDAR in self.channels else None
        return RuntimeOptions(trigger, 0.5 / speed, 0.6 / speed, deadline_s)

    def stages(self, deployed: Any, track: Callable[[Any], Any] | None = None) -> Stages:
        """What the runtime does with a frame.

        Args:
            deployed: the `DeployedModel` of the same model.
            track: gives objects numbers, see `Stages`.
        """
        return runtime_stages(deployed.model, deployed.engine, self.unpack, self.assemble, track)

    def note(self, measurement: SensorMeasurement) -> None:
        """Keep a LiDAR sweep for the frames after it; call it with every measurement, in order."""
        if measurement.channel == LIDAR and self.model.lidar_sweeps:
            with self._lock:
                self._sweeps.append(measurement)

    def unpack(self, measurement: SensorMeasurement) -> tuple[int, SensorReading]:
        """A measurement's time and what was read of it.

        Raises:
            ValueError: it is damaged, or not calibrated.
        """
        return measurement.stamp_ns, self.read(measurement)

    def assemble(self, request: FrameRequest, values: Mapping[str, tuple[int, SensorReading]]) -> Any:
        """The batch of a frame at its LiDAR's time, or at that of its newest measurement."""
        at_ns = values[LIDAR][0] if LIDAR in values else max(stamp_ns for stamp_ns, _ in values.values())
        pose = self.pose_at(at_ns)
        frame: dict[str, Any] = {
            'token': f'{self.name} {at_ns}', 'timestamp_ns': at_ns, 'drive': self.name,
            'global_T_ego': np.eye(4) if pose is None else pose}

        readings = {name: reading for name, (_, reading) in values.items()}
        placed = {
            name: self._placed(reading.ego_T_sensor, stamp_ns, at_ns)
            for name, (stamp_ns, reading) in values.items()}
        cameras = {name: readings[name] for name in self.model.cameras if name in readings}
        frame |= _camera_arguments(cameras, placed)
        if LIDAR in values:
            frame |= self._lidar(at_ns, readings[LIDAR], placed[LIDAR])

        radars = [name for name in readings if name in RADARS]
        if radars:
            frame['radars'] = {
                name: _radar_rows(readings[name].values, placed[name], at_ns - values[name][0])
                for name in radars}
        return self.model.batch(self.model.sample(**frame))

    def _placed(self, ego_T_sensor: np.ndarray, stamp_ns: int, at_ns: int) -> np.ndarray:
        """`(4, 4)`: a sensor as it stood at `stamp_ns`, seen from the car at `at_ns`."""
        if stamp_ns == at_ns:
            return ego_T_sensor
        then, now = self.pose_at(stamp_ns), self.pose_at(at_ns)
        return ego_T_sensor if then is None or now is None else invert(now) @ then @ ego_T_sensor

    def _lidar(self, at_ns: int, reading: SensorReading, ego_T_lidar: np.ndarray) -> dict[str, Any]:
        """The arguments for the LiDAR; with earlier sweeps all of it is in ego already."""
        count = self.model.lidar_sweeps
        if not count:
            return {'points': reading.values, 'ego_T_lidar': ego_T_lidar}
        with self._lock:
            earlier = [sweep for sweep in self._sweeps if sweep.stamp_ns < at_ns][-count:]

        self._decoded = {at_ns: reading} | {sweep.stamp_ns: self._sweep(sweep) for sweep in earlier}
        parts = [
            self._in_ego(stamp_ns, at_ns, found) for stamp_ns, found in self._decoded.items()
            if found is not None]
        return {'points': np.concatenate(parts)}

    def _sweep(self, sweep: SensorMeasurement) -> SensorReading | None:
        """An earlier sweep, decoded once; None where it is damaged."""
        if sweep.stamp_ns in self._decoded:
            return self._decoded[sweep.stamp_ns]
        try:
            return self.read(sweep)
        except ValueError:
            return None

    def _in_ego(self, stamp_ns: int, at_ns: int, reading: SensorReading) -> np.ndarray:
        """Points of a sweep `(P, 6)` in ego at `at_ns`, without the car itself."""
        points, near_m = reading.values, self.model.own_returns_m
        kept = points[(np.abs(points[:, XY]) >= near_m).any(1)] if near_m > 0 else points
        rows = np.full((len(kept), 6), -1.0, np.float32)
        rows[:, :kept.shape[1]] = kept

        ego_T_lidar = self._placed(reading.ego_T_sensor, stamp_ns, at_ns)
        rows[:, XYZ] = transform_points(ego_T_lidar.astype(np.float32), rows[:, XYZ])
        rows[:, TIME_LAG] = (at_ns - stamp_ns) / 1e9
        return rows


def _camera_arguments(
    readings: Mapping[str, SensorReading], placed: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The arguments of `Perception.sample` for the cameras."""
    if not readings:
        return {}
    lenses = {name: reading.lens for name, reading in readings.items() if reading.lens is not None}
    return {
        'images': {name: reading.values for name, reading in readings.items()},
        'K': {name: reading.K_33 for name, reading in readings.items()},
        'ego_T_cam': {name: placed[name] for name in readings},
        **({'distortion': lenses} if lenses else {})}


def _radar_rows(rows: np.ndarray, ego_T_radar: np.ndarray, lag_ns: int) -> np.ndarray:
    """Rows `(P, 7)` in ego: x, y, z, vx, vy, RCS, lag in seconds."""
    ego_T_radar = ego_T_radar.astype(np.float32)
    moved = np.zeros((len(rows), 7), np.float32)
    moved[:, :6] = rows[:, :6]
    moved[:, XYZ] = transform_points(ego_T_radar, moved[:, XYZ])
    moved[:, RADAR_VELOCITY] = moved[:, RADAR_VELOCITY] @ ego_T_radar[:2, :2].T
    moved[:, RADAR_TIME_LAG] = max(0, lag_ns) / 1e9
    return moved
