"""The sensor files of one frame record to `CameraRig`, `LidarPoints` and `RadarPoints` in the key frame's
ego.

A file the infos list as missing is passed over and named in `left_out`; one that turns out unreadable goes to
`on_bad`, which raises or lets it be left out.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...core.contracts import CameraRig, LidarPoints, RadarPoints
from ...core.protocols import RADARS
from .infos import Record, unpack_transform
from .io import RADAR_FIELDS, BadFile, load_image, load_lidar_bin, load_radar_pcd, reduced_K

OnBad = Callable[[BadFile], None]
_VELOCITY = [RADAR_FIELDS.index(name) for name in ('vx_comp', 'vy_comp')]
_RCS = RADAR_FIELDS.index('rcs')


def load_cameras(root: Path, records: Mapping[str, Record], names: Sequence[str], reduce: int, on_bad: OnBad,
                 left_out: list[str]) -> CameraRig | None:
    """The images of the named cameras that the frame knows of; None where it knows none.

    A camera whose image is missing, unreadable or of another size keeps its place with black pixels and
    `present_N` False. One that the frame's tables do not list at all is left away from the rig and named in
    `left_out`.

    Raises:
        ValueError: the tables list images of different sizes, which cannot lie in one array.
    """
    left_out += [f'{name}: not in the tables' for name in names if name not in records]
    names = [name for name in names if name in records]
    if not names:
        return None
    sizes = {
        (-(-r['height_px'] // reduce), -(-r['width_px'] // reduce)) for r in map(records.__getitem__, names)
    }
    if len(sizes) > 1:
        raise ValueError(
            f'cameras {", ".join(names)}: expected images of one size, the tables list (height, width) of {sizes}; '
            'choose cameras of one size'
        )
    height, width = sizes.pop()
    images = np.zeros((len(names), height, width, 3), dtype=np.uint8)
    present = np.zeros(len(names), dtype=bool)
    for i, name in enumerate(names):
        if records[name]['missing']:
            left_out.append(f'{name}: no file {records[name]["file"]}')
            continue
        try:
            images[i] = _image_of_size(root / records[name]['file'], reduce, height, width)
            present[i] = True
        except BadFile as error:
            on_bad(error)
    K = np.stack([reduced_K(np.array(records[name]['K'], dtype=np.float64), reduce) for name in names])
    ego_T_cam = np.stack([unpack_transform(records[name]['ego_T_sensor']) for name in names])
    return CameraRig(
        tuple(names), images, K, ego_T_cam, present, np.array([records[name]['time_lag_s'] for name in names])
    )


def _image_of_size(path: Path, reduce: int, height: int, width: int) -> np.ndarray:
    image = load_image(path, reduce)
    if image.shape != (height, width, 3):
        reduced = f' at 1/{reduce} of its size' if reduce > 1 else ''
        raise BadFile(path, f'found an image of {image.shape[1]} x {image.shape[0]} pixels{reduced}, '
                            f'expected {width} x {height} as in the tables')
    return image


def load_lidar(root: Path, sweeps: Sequence[Record], own_returns_m: float, on_bad: OnBad,
               left_out: list[str]) -> LidarPoints | None:
    """The key frame's points and those of earlier sweeps, all in the key frame's ego; None where no file can
    be read."""
    parts = []
    for sweep in sweeps:
        if sweep['missing']:
            left_out.append(f'LiDAR: no file {sweep["file"]}')
            continue
        try:
            points = load_lidar_bin(root / sweep['file'])
        except BadFile as error:
            on_bad(error)
            continue
        parts.append(
            place_lidar(
                without_own_returns(points, own_returns_m), unpack_transform(sweep['ego_T_sensor']),
                sweep['time_lag_s'])
        )
    if not sweeps:
        left_out.append('LiDAR: not in the tables')
    return LidarPoints(np.concatenate(parts)) if parts else None


def without_own_returns(points_P5: np.ndarray, own_returns_m: float) -> np.ndarray:
    """The rows, in the sensor's frame, that are not the car itself: nearer than this in x and y; 0 keeps
    all."""
    if own_returns_m <= 0:
        return points_P5
    return points_P5[(np.abs(points_P5[:, 0]) >= own_returns_m) | (np.abs(points_P5[:, 1]) >= own_returns_m)]


def place_lidar(
    points_P5: np.ndarray, ego_T_lidar: np.ndarray, time_lag_s: float | np.ndarray = 0.0
) -> np.ndarray:
    """Rows (x, y, z, intensity, ring) moved from the sensor's frame to ego, time lag (one or `(P,)`) added:
    float32 `(P, 6)`."""
    ego_T_lidar = ego_T_lidar.astype(np.float32)
    move = np.zeros((5, 6), dtype=np.float32)  # one product moves the place and copies intensity and ring
    move[:3, :3], move[3, 3], move[4, 4] = ego_T_lidar[:3, :3].T, 1, 1
    placed = points_P5 @ move + np.array([*ego_T_lidar[:3, 3], 0, 0, 0], dtype=np.float32)
    placed[:, 5] = time_lag_s
    return placed


def load_radars(root: Path, sweeps_of: Mapping[str, Sequence[Record]], on_bad: OnBad,
                left_out: list[str]) -> RadarPoints | None:
    """All radars' points and those of earlier sweeps, in the key frame's ego; None where no file can be read.

    A radar is present when at least one of its files could be read, even if that holds no points.
    """
    parts, present = [], np.zeros(len(RADARS), dtype=bool)
    for index, name in enumerate(RADARS):
        for sweep in sweeps_of.get(name, ()):
            if sweep['missing']:
                left_out.append(f'{name}: no file {sweep["file"]}')
                continue
            try:
                parts.append(_placed_radar(load_radar_pcd(root / sweep['file']), sweep, index))
                present[index] = True
            except BadFile as error:
                on_bad(error)
        if not sweeps_of.get(name):
            left_out.append(f'{name}: not in the tables')
    return RadarPoints(np.concatenate(parts), present) if parts else None


def _placed_radar(points_P18: np.ndarray, sweep: Record, radar_index: int) -> np.ndarray:
    """A radar sweep's rows in the key frame's ego, columns `RADAR_COLUMNS`: float32 `(P, 8)`.

    The velocity is the one the radar compensated for the car's own motion; it is turned into ego axes, its
    height left out.
    """
    ego_T_radar = unpack_transform(sweep['ego_T_sensor']).astype(np.float32)
    placed = np.empty((len(points_P18), 8), dtype=np.float32)
    placed[:, :3] = points_P18[:, :3] @ ego_T_radar[:3, :3].T + ego_T_radar[:3, 3]
    placed[:, 3:5] = points_P18[:, _VELOCITY] @ ego_T_radar[:2, :2].T
    placed[:, 5] = points_P18[:, _RCS]
    placed[:, 6] = sweep['time_lag_s']
    placed[:, 7] = radar_index
    return placed
