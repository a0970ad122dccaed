"""Plain arrays of one frame -> the records of `core.contracts`, checked argument by argument.

Beside `api.py`, whose `Perception.sample` documents the arrays.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .core.contracts import CameraRig, LidarPoints, RadarPoints
from .core.lens import Distortion
from .core.protocols import RADARS
from .datasets.reading.sensors import place_lidar, without_own_returns

Arrays = Mapping[str, np.ndarray]
UNKNOWN_RING = -1.0


def camera_rig(
    images: Arrays,
    K: Arrays,
    ego_T_cam: Arrays,
    cameras: Sequence[str],
    distortion: Mapping[str, Any] | None = None,
) -> CameraRig:
    """Named images with their calibration as a rig of all `cameras`, those that are not given absent.

    `distortion` holds a `Distortion` or its record for each camera that is no pinhole.

    Raises:
        ValueError: see `Perception.sample`.
    """
    distortion = distortion or {}
    named = {'images': images, 'K': K, 'ego_T_cam': ego_T_cam, 'distortion': distortion}
    for argument, value in named.items():
        check_channels(argument, value, cameras)
    if not images:
        raise ValueError(
            f'images: expected some of {", ".join(cameras)}, found none; leave the argument out without '
            f'cameras'
        )

    checked = {name: check_image(name, image) for name, image in images.items()}
    for argument, value in (('K', K), ('ego_T_cam', ego_T_cam)):
        missing = [name for name in cameras if name in images and name not in value]
        if missing:
            raise ValueError(f'{argument}: no calibration for {", ".join(missing)}, whose images are given')

    # absent cameras have black images and identities, which their mask keeps from being read
    sizes_hw = {name: image.shape[:2] for name, image in checked.items()}
    largest = tuple(max(lengths) for lengths in zip(*sizes_hw.values(), strict=True))
    rig = CameraRig.blank(cameras, [sizes_hw.get(name, largest) for name in cameras])

    for i, name in enumerate(cameras):
        if name in checked:
            height, width = sizes_hw[name]
            rig.images_NHW3[i, :height, :width] = checked[name]
            rig.present_N[i] = True
        if name in K:
            rig.K_N33[i] = check_intrinsics(name, K[name])
        if name in ego_T_cam:
            rig.ego_T_cam_N44[i] = check_transform(f'ego_T_cam[{name!r}]', ego_T_cam[name])

    lenses = tuple(check_lens(name, distortion.get(name)) for name in cameras)
    return replace(rig, distortions=lenses) if any(lenses) else rig


def lidar_points(
    points: np.ndarray, ego_T_lidar: np.ndarray | None = None, own_returns_m: float = 0.0
) -> LidarPoints:
    """Points `(P, 4 to 6)` in ego, or in the LiDAR's frame together with `ego_T_lidar`, as `LidarPoints`.

    Raises:
        ValueError: see `Perception.sample`.
    """
    rows = check_rows('points', points, 4, 6)

    # columns that were not given: ring, time lag
    defaults = np.array([UNKNOWN_RING, 0.0], dtype=np.float32)[rows.shape[1] - 4 :]
    rows = np.concatenate([rows, np.broadcast_to(defaults, (len(rows), len(defaults)))], 1)

    if ego_T_lidar is not None:
        transform = check_transform('ego_T_lidar', ego_T_lidar)
        rows = without_own_returns(rows, own_returns_m)
        rows = place_lidar(np.ascontiguousarray(rows[:, :5]), transform, rows[:, 5])
    return LidarPoints(rows)


def radar_points(radars: Arrays) -> RadarPoints:
    """{radar: rows `(P, 6 or 7)` in ego} as `RadarPoints`.

    A radar that sees nothing is given `(0, 6)`, one that is not given is absent.

    Raises:
        ValueError: see `Perception.sample`.
    """
    check_channels('radars', radars, RADARS)
    if not radars:
        raise ValueError(
            f'radars: expected some of {", ".join(RADARS)}, found none; leave the argument out without radars'
        )

    clouds = []
    for name, value in radars.items():
        rows = check_rows(f'radars[{name!r}]', value, 6, 7)
        cloud = np.zeros((len(rows), 8), dtype=np.float32)
        cloud[:, : rows.shape[1]] = rows
        cloud[:, 7] = RADARS.index(name)
        clouds.append(cloud)
    return RadarPoints(np.concatenate(clouds), np.array([name in radars for name in RADARS]))


# ------------------------------------------------------------------ checks: each returns the value it checked

def check_channels(argument: str, value: Any, known: Sequence[str]) -> None:
    """Refuse what is not a dictionary by known channel names.

    Raises:
        ValueError: names the argument and the unknown channels.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f'{argument}: expected a dictionary by channel name, found {type(value).__name__}')
    unknown = [name for name in value if name not in known]
    if unknown:
        raise ValueError(
            f'{argument}: unknown {", ".join(map(repr, unknown))}, expected some of {", ".join(known)}'
        )


def check_image(name: str, image: Any) -> np.ndarray:
    """A camera's uint8 RGB image `(H, W, 3)`.

    Raises:
        ValueError: another type or shape.
    """
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f'images[{name!r}]: expected uint8 RGB (H, W, 3), found {array.dtype} {array.shape}')
    return array


def check_intrinsics(name: str, K_33: Any) -> np.ndarray:
    """A camera matrix, float64 `(3, 3)`.

    Raises:
        ValueError: another shape or last row, or no focal lengths.
    """
    K_33 = check_matrix(f'K[{name!r}]', K_33, 3)
    if not np.allclose(K_33[2], [0, 0, 1], atol=1e-6) or abs(np.linalg.det(K_33)) < 1e-6:
        raise ValueError(
            f'K[{name!r}]: expected a camera matrix with last row 0 0 1 and focal lengths, found '
            f'{K_33.tolist()}'
        )
    return K_33


def check_lens(name: str, lens: Any) -> Distortion | None:
    """A camera's lens, from a `Distortion` or its record; None: a pinhole.

    Raises:
        ValueError: neither of them, an unknown model or other numbers than it has.
    """
    return lens if isinstance(lens, Distortion) else Distortion.from_record(lens, f'distortion[{name!r}]')


def check_transform(name: str, a_T_b: Any) -> np.ndarray:
    """A rigid transform, float64 `(4, 4)`.

    Raises:
        ValueError: another shape, a mirrored, scaled or sheared rotation, or another last row.
    """
    a_T_b = check_matrix(name, a_T_b, 4)
    rotation = a_T_b[:3, :3]
    rigid = (
        np.allclose(a_T_b[3], [0, 0, 0, 1], atol=1e-6)
        and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
        and np.linalg.det(rotation) >= 0
    )
    if not rigid:
        raise ValueError(
            f'{name}: expected a rotation and a translation with last row 0 0 0 1, found {a_T_b.tolist()}'
        )
    return a_T_b


def check_matrix(name: str, value: Any, size: int) -> np.ndarray:
    """A finite square matrix, float64.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    array = np.asarray(value, dtype=np.float64)
    finite = bool(np.isfinite(array).all())
    if array.shape != (size, size) or not finite:
        note = '' if finite else ' with numbers that are not finite'
        raise ValueError(f'{name}: expected {size} x {size} finite numbers, found shape {array.shape}{note}')
    return array


def check_rows(name: str, value: Any, least: int, most: int) -> np.ndarray:
    """Rows of `least` to `most` columns as float32, those that are not finite dropped.

    Raises:
        ValueError: another shape, or no floats.
    """
    array = np.asarray(value)
    if array.ndim != 2 or not least <= array.shape[1] <= most or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f'{name}: expected floats (P, {least} to {most}), found {array.dtype} {array.shape}')
    return array[np.isfinite(array).all(1)].astype(np.float32)
