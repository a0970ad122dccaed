"""Fields of our frame records from an mmdet3d info, for both of its versions."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import file_name
from ..reading.records import BoxRecords
from .conventions import EXTRA_KEY

Info = Mapping[str, Any]
NUSCENES_IMAGE_HW = (900, 1600)


def dataroot_path(name: str, folder: str) -> str:
    """A file's path below the dataroot: from `samples/` or `sweeps/` on, or the bare name in `folder`.

    Raises:
        ValueError: the path leaves the dataroot.
    """
    parts = Path(str(name)).parts
    if '..' in parts or not parts:
        raise ValueError(f'expected a file below the dataroot, found {name!r}')
    start = max((i for i, part in enumerate(parts) if part in ('samples', 'sweeps')), default=None)
    return '/'.join(parts[start:]) if start is not None else f'{folder}/{parts[-1]}'


def sensor_fields(
    file: str, root: Path | None, token: str, timestamp_us: int, reference_us: int, ego_T_sensor: np.ndarray
) -> dict[str, Any]:
    """The fields every `SensorRecord` has; a file is looked for where there is a dataroot."""
    return {
        'file': file,
        'missing': root is not None and not (Path(root) / file).is_file(),
        'token': token,
        'timestamp_us': int(timestamp_us),
        'time_lag_s': (reference_us - timestamp_us) * 1e-6,
        'ego_T_sensor': ego_T_sensor,
    }


def name_fields(info: Info) -> dict[str, str]:
    """Names of a frame, of its scene and of its neighbours.

    Raises:
        ValueError: a scene's name that no file may have.
    """
    extra = info.get(EXTRA_KEY, {})
    scene = str(extra.get('scene') or info.get('scene_name') or info.get('scene_token') or '')
    if scene:
        file_name(scene, 'scene')
    return {
        'token': str(info['token']),
        'scene': scene,
        'location': str(extra.get('location') or info.get('location') or ''),
        'previous': str(extra.get('previous') or info.get('prev') or ''),
        'next': str(extra.get('next') or info.get('next') or ''),
    }


def box_records(
    boxes_M9: np.ndarray,
    names: Sequence[str],
    lidar_points: Iterable[float],
    radar_points: Iterable[float],
    info: Info,
) -> BoxRecords:
    """Boxes, still in the LiDAR frame, with their columns.

    What mmdet3d does not keep comes from our own extra part, or is empty.

    Raises:
        ValueError: a column is not as long as there are boxes.
    """
    extra = info.get(EXTRA_KEY, {})
    count = len(boxes_M9)
    columns: dict[str, Sequence] = {
        'categories': tuple(extra.get('categories', names)),
        'tokens': tuple(extra.get('tokens', [''] * count)),
        'instances': tuple(extra.get('instances', [''] * count)),
        'attributes': tuple(extra.get('attributes', [''] * count)),
    }

    numbers = {
        'visibility_M': extra.get('visibility', ()),
        'num_lidar_points_M': lidar_points,
        'num_radar_points_M': radar_points,
    }
    for name, values in numbers.items():
        columns[name] = np.array([int(value) for value in values] or [0] * count, dtype=np.int64)
    return BoxRecords(boxes_M9=boxes_M9, **columns)
