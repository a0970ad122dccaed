"""The sensor files of one frame record to `CameraRig`, `LidarPoints` and `RadarPoints`.

All is in the key frame's ego. A file the infos list as missing is passed over and named in `left_out`; one
that turns out unreadable goes to `on_bad`, which raises or lets it be left out.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.contracts import (
    LIDAR_COLUMNS,
    RADAR_COLUMNS,
    RADAR_INDEX,
    RADAR_RCS,
    RADAR_TIME_LAG,
    RADAR_VELOCITY,
    TIME_LAG,
    XY,
    XYZ,
    CameraRig,
    LidarPoints,
    RadarPoints,
)
from ...core.files import path_below
from ...core.protocols import RADARS
from .io import (
    LIDAR_FILE_COLUMNS,
    RADAR_FIELDS,
    BadFile,
    DroppedPoints,
    load_image,
    load_lidar_bin,
    load_radar_pcd,
    reduced_K,
)
from .records import CameraRecord, SensorRecord

OnBad = Callable[[BadFile], None]

_FILE_VELOCITY = [RADAR_FIELDS.index(name) for name in ('vx_comp', 'vy_comp')]
_FILE_RCS = RADAR_FIELDS.index('rcs')


def load_cameras(
    root: Path,
    records: Mapping[str, CameraRecord],
    names: Sequence[str],
    reduce_of: Callable[[CameraRecord], int],
    on_bad: OnBad,
    left_out: list[str],
) -> CameraRig | None:
    """Load the images of the named cameras; None where the frame's tables know none of them.

    A camera that the tables do not list in this frame, or whose image is missing, unreadable or of another
    size than listed, keeps its place with black pixels and `present_N` False. `reduce_of` says how much
    smaller to decode a camera's image.
    """
    listed = {name: records[name] for name in names if name in records}
    left_out += [f'{name}: not in the tables' for name in names if name not in listed]
    if not listed:
        return None

    reduces = {name: reduce_of(camera) for name, camera in listed.items()}
    sizes_hw = {name: _reduced_size_hw(camera, reduces[name]) for name, camera in listed.items()}
    largest = tuple(max(lengths) for lengths in zip(*sizes_hw.values(), strict=True))
    rig = CameraRig.blank(names, [sizes_hw.get(name, largest) for name in names])

    for i, name in enumerate(names):
        if name in listed:
            _fill_camera(rig, i, root, listed[name], reduces[name], on_bad, left_out)

    lenses = tuple(listed[name].distortion if name in listed else None for name in names)
    return replace(rig, distortions=lenses) if any(lenses) else rig


def _fill_camera(
    rig: CameraRig,
    index: int,
    root: Path,
    camera: CameraRecord,
    reduce: int,
    on_bad: OnBad,
    left_out: list[str],
) -> None:
    """Give one place of a new rig its calibration, and its image where that can be read."""
    rig.K_N33[index] = reduced_K(camera.K_33, reduce)
    rig.ego_T_cam_N44[index] = camera.ego_T_sensor
    rig.time_lag_s_N[index] = camera.time_lag_s
    if camera.missing:
        left_out.append(f'{rig.names[index]}: no file {camera.file}')
        return

    height, width = rig.size_of(index)
    try:
        image = load_image(path_below(root, camera.file), reduce, (camera.height_px, camera.width_px))
        rig.images_NHW3[index, :height, :width] = image
        rig.present_N[index] = True
    except BadFile as error:
        on_bad(error)


def _reduced_size_hw(camera: CameraRecord, reduce: int) -> tuple[int, int]:
    """Size of the image as it is decoded; the decoder rounds up."""
    return -(-camera.height_px // reduce), -(-camera.width_px // reduce)


def load_lidar(
    root: Path,
    sweeps: Sequence[SensorRecord],
    own_returns_m: float,
    on_bad: OnBad,
    left_out: list[str],
    dropped: list[DroppedPoints] | None = None,
) -> LidarPoints | None:
    """Load the key frame's points and those of earlier sweeps, all in the key frame's ego.

    None where no file can be read. `dropped` receives the files some of whose points were no measurements.
    """
    if not sweeps:
        left_out.append('LiDAR: not in the tables')

    parts = []
    for sweep in sweeps:
        if sweep.missing:
            left_out.append(f'LiDAR: no file {sweep.file}')
            continue
        try:
            points = load_lidar_bin(path_below(root, sweep.file), dropped)
        except BadFile as error:
            on_bad(error)
            continue
        points = without_own_returns(points, own_returns_m)
        parts.append(place_lidar(points, sweep.ego_T_sensor, sweep.time_lag_s))
    return LidarPoints(np.concatenate(parts)) if parts else None


def without_own_returns(points_P5: np.ndarray, own_returns_m: float) -> np.ndarray:
    """The rows, in the sensor's frame, that are not the car itself: not nearer than this in x and y.

    0 keeps all.
    """
    if own_returns_m <= 0:
        return points_P5
    return points_P5[(np.abs(points_P5[:, XY]) >= own_returns_m).any(1)]


def place_lidar(
    points_P5: np.ndarray, ego_T_lidar: np.ndarray, time_lag_s: float | np.ndarray = 0.0
) -> np.ndarray:
    """Move rows `LIDAR_FILE_COLUMNS` from the sensor's frame to ego and add their time lag.

    Args:
        points_P5: x, y, z, intensity, ring.
        ego_T_lidar: `(4, 4)`.
        time_lag_s: one for all, or `(P,)`.

    Returns:
        float32 `(P, 6)`, columns `LIDAR_COLUMNS`.
    """
    ego_T_lidar = ego_T_lidar.astype(np.float32)

    # one product turns the points and copies intensity and ring
    move = np.zeros((len(LIDAR_FILE_COLUMNS), len(LIDAR_COLUMNS)), dtype=np.float32)
    move[XYZ, XYZ] = ego_T_lidar[:3, :3].T
    for name in LIDAR_FILE_COLUMNS[3:]:
        move[LIDAR_FILE_COLUMNS.index(name), LIDAR_COLUMNS.index(name)] = 1

    shift = np.zeros(len(LIDAR_COLUMNS), dtype=np.float32)
    shift[XYZ] = ego_T_lidar[:3, 3]
    placed = points_P5 @ move + shift
    placed[:, TIME_LAG] = time_lag_s
    return placed


def load_radars(
    root: Path,
    sweeps_of: Mapping[str, Sequence[SensorRecord]],
    on_bad: OnBad,
    left_out: list[str],
    dropped: list[DroppedPoints] | None = None,
) -> RadarPoints | None:
    """Load all radars' points and those of earlier sweeps, in the key frame's ego.

    A radar is present when at least one of its files could be read, even if that holds no points. None where
    no file can be read. `dropped`: as in `load_lidar`.
    """
    parts = []
    present = np.zeros(len(RADARS), dtype=bool)
    for index, name in enumerate(RADARS):
        for sweep in sweeps_of.get(name, ()):
            if sweep.missing:
                left_out.append(f'{name}: no file {sweep.file}')
                continue
            try:
                points = load_radar_pcd(path_below(root, sweep.file), notes=dropped)
                parts.append(_place_radar(points, sweep, index))
                present[index] = True
            except BadFile as error:
                on_bad(error)

        if not sweeps_of.get(name):
            left_out.append(f'{name}: not in the tables')
    return RadarPoints(np.concatenate(parts), present) if parts else None


def _place_radar(points_P18: np.ndarray, sweep: SensorRecord, radar_index: int) -> np.ndarray:
    """Move a sweep's rows `RADAR_FIELDS` to the key frame's ego, columns `RADAR_COLUMNS`: float32 `(P, 8)`.

    The velocity is the one the radar compensated for the car's own motion; it is turned into ego axes, its
    height left out.
    """
    ego_T_radar = sweep.ego_T_sensor.astype(np.float32)
    placed = np.empty((len(points_P18), len(RADAR_COLUMNS)), dtype=np.float32)
    placed[:, XYZ] = points_P18[:, XYZ] @ ego_T_radar[:3, :3].T + ego_T_radar[:3, 3]
    placed[:, RADAR_VELOCITY] = points_P18[:, _FILE_VELOCITY] @ ego_T_radar[:2, :2].T
    placed[:, RADAR_RCS] = points_P18[:, _FILE_RCS]
    placed[:, RADAR_TIME_LAG] = sweep.time_lag_s
    placed[:, RADAR_INDEX] = radar_index
    return placed
