"""One camera of one or more cars: from a rig file, or from the tables of a nuScenes data set."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.geometry import transform_from_record
from ...core.lens import Distortion
from ...core.reading import read_json
from ...core.rig.file import DEFAULT_RIG_PATH, load_rig
from ...core.rig.sensors import CameraSensor

NUSCENES_IMAGE_HW = (900, 1600)


def read_cameras(path: str | Path | None, name: str) -> list[CameraSensor]:
    """Every calibration of a camera.

    Args:
        path: rig file (`load_rig`), or `calibrated_sensor.json` of a nuScenes version folder, with
            `sensor.json` beside it; None: the world's own rig.
        name: channel of the camera, e.g. 'CAM_FRONT'.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not one of the two, or has no such camera; names the file and what it has.
    """
    path = Path(path or DEFAULT_RIG_PATH)
    content = read_json(path)
    if isinstance(content, list):
        known = _from_tables(path, content, read_json(path.with_name('sensor.json')))
    else:
        known = [(camera.name, camera) for camera in load_rig(path).cameras.values()]

    cameras = [camera for channel, camera in known if channel == name]
    if not cameras:
        names = ', '.join(sorted({channel for channel, _ in known})) or 'none'
        raise ValueError(f'{path}: expected a camera {name!r}, found {names}')
    return cameras


def _from_tables(path: Path, calibrations: list[dict], sensors: list[dict]) -> list[tuple[str, CameraSensor]]:
    try:
        channels = {sensor['token']: sensor['channel'] for sensor in sensors}
        return [
            (channel, CameraSensor(
                channel, NUSCENES_IMAGE_HW, np.array(record['camera_intrinsic'], dtype=np.float64),
                transform_from_record(record),
                Distortion.from_record(record.get('distortion'), f'{path}: {channel}: distortion')))
            for record in calibrations
            if (channel := channels[record['sensor_token']]) and record['camera_intrinsic']]
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path}: expected the records of nuScenes, field {error} is missing') from error
