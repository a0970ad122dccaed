"""The formats that `fuzz` damages: a sound file of each, what reads it, how it may refuse, the damage."""
from __future__ import annotations

import copy
import gzip
import io
import json
import math
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ODD_NUMBERS = (
    0, -1, 1, 300, 2 ** 31, -(2 ** 63), 10 ** 400, 1e308, -1e38, 1e-308, 0.5, math.nan, math.inf, -math.inf)
ODD_VALUES = (*ODD_NUMBERS, None, True, '', '..', '/etc/passwd', 'a' * 5000, '\0', [], {}, [[]], [1, 'a'])
ODD_TYPES = ('u1', 'i8', 'f2', 'f4', 'f8', 'c16', '?', 'U3', 'S2', 'M8[s]')
CALLS = (b"cos\nsystem\n(S'true'\ntR.", b'\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.', b'2\x86' * 40)
"""Pieces of pickles that start a program, and one that doubles what lies on the stack forty times."""

Damage = Callable[[bytes, random.Random], bytes]


class Format(NamedTuple):
    """How to make a sound file in a folder, what reads it, what the reader may raise, and the damage."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    damage: Damage


# -------------------------------------------------------------------- damage

def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits, bytes, pieces that are lost, repeated, moved or foreign, and an end that comes early."""
    content = bytearray(data)

    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        if not content:
            break
        at, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 64))
        kind = rng.randrange(7)

        if kind == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at:at + length] = rng.randbytes(length)
        elif kind == 2:
            content[at:at + length] = rng.choice((b'\xff', b'\0', b'\x7f')) * length

        # pieces that are lost, repeated, foreign
        elif kind == 3:
            del content[at:at + length]
        elif kind == 4:
            content[at:at] = content[at:at + length]
        elif kind == 5:
            content[at:at] = rng.randbytes(length)
        elif rng.random() < 0.3:
            del content[at:]
    return bytes(content)


def damage_json(data: bytes, rng: random.Random) -> bytes:
    """An odd value in the place of one in any depth, a field that is lost or added; or damaged bytes."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    try:
        parts = [data]
        json.loads(data)
    except json.JSONDecodeError:  # a value a line
        parts = data.splitlines()

    at = rng.randrange(len(parts))
    content = json.loads(parts[at])
    for _ in range(rng.choice((1, 1, 3))):
        content = _odd_inside(content, rng)
    parts[at] = json.dumps(content).encode()
    return b'\n'.join(parts)


def _odd_inside(content: Any, rng: random.Random) -> Any:
    """The content, changed at one place that is found by going down at random."""
    keys = list(content) if isinstance(content, dict) else []
    if isinstance(content, list):
        keys = list(range(len(content)))
    if not keys or rng.random() < 0.08:
        number = isinstance(content, (int, float)) and rng.random() < 0.7
        return copy.deepcopy(rng.choice(ODD_NUMBERS if number else ODD_VALUES))

    key = rng.choice(keys)
    if rng.random() < 0.08:
        content.pop(key)
    elif isinstance(content, dict) and rng.random() < 0.05:
        content[rng.choice(('..', '/x', '', 'a\0b', 'new'))] = content.pop(key)
    else:
        content[key] = _odd_inside(content[key], rng)
    return content


def damage_gzip(data: bytes, rng: random.Random) -> bytes:
    """Damaged content, packed again, so that the checksum is right; or damaged bytes."""
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    return gzip.compress(damage_json(gzip.decompress(data), rng), 1)


def damage_arrays(data: bytes, rng: random.Random) -> bytes:
    """An array of another type, shape or with odd numbers, one that is lost, a header that lies.

    All packed again, by any method; or damaged bytes.
    """
    if rng.random() < 0.3:
        return damage_bytes(data, rng)
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    name = rng.choice(list(arrays))
    entries = {key: _npy(array) for key, array in arrays.items()}
    kind = rng.randrange(5)
    if kind == 0:
        entries.pop(name)
    elif kind == 1:
        entries[name] = damage_bytes(entries[name], rng)
    elif kind == 2:
        shape = rng.choice(((), (0,), (3,), (2, 2), (1, 1, 1, 1)))
        entries[name] = _npy(np.zeros(shape, rng.choice(ODD_TYPES)))
    else:
        entries[name] = _npy(_odd_numbers(arrays[name], rng))

    stream = io.BytesIO()
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(stream, 'w', method) as archive:
        for key, entry in entries.items():
            archive.writestr(f'{key}.npy', entry)
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def _odd_numbers(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Some numbers replaced, in this or another type."""
    with np.errstate(all='ignore'):
        kept = array.dtype.kind in 'SU' or rng.random() < 0.5
        changed = array.copy() if kept else array.astype(rng.choice(('f8', 'f4', 'i8', 'u1', 'c16')))
        if changed.size and changed.dtype.kind in 'iufc':
            odd = float(rng.choice(ODD_NUMBERS[:6] + ODD_NUMBERS[7:]))
            odd = odd if changed.dtype.kind in 'fc' else int(np.clip(np.nan_to_num(odd), -2 ** 62, 2 ** 62))
            changed.reshape(-1)[rng.randrange(changed.size)] = np.array(odd).astype(changed.dtype)
    return changed


def damage_pickle(data: bytes, rng: random.Random) -> bytes:
    """Instructions that start a program or never end, somewhere; or damaged bytes."""
    if rng.random() < 0.5:
        return damage_bytes(data, rng)
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(CALLS) + data[at:]


def damage_checkpoint(data: bytes, rng: random.Random) -> bytes:
    """The pickle inside, or the bytes of the archive."""
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, 'w') as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith('data.pkl'):
                content = damage_pickle(content, rng)
            elif rng.random() < 0.2:
                content = damage_bytes(content, rng)
            new.writestr(entry.filename, content)
    return stream.getvalue()


# -------------------------------------------------------------------- sound files

def _image(folder: Path, name: str) -> Path:
    import cv2
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    return _written(folder / name, cv2.imencode(Path(name).suffix, pixels)[1].tobytes())


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _lidar(folder: Path) -> Path:
    return _written(folder / 'sweep.pcd.bin', np.random.default_rng(0).random((50, 5), np.float32).tobytes())


def _radar(folder: Path) -> Path:
    from perception.core.nuscenes.radar_file import RADAR_DTYPE, radar_pcd_bytes
    targets = np.zeros(5, RADAR_DTYPE)
    targets['ambig_state'] = 3
    return _written(folder / 'sweep.pcd', radar_pcd_bytes(targets))


def _occupancy(folder: Path) -> Path:
    from perception.core.protocols import OCCUPANCY_SHAPE_XYZ
    stream = io.BytesIO()
    names = ('semantics', 'mask_lidar', 'mask_camera')
    np.savez_compressed(stream, **{name: np.ones(OCCUPANCY_SHAPE_XYZ, np.uint8) for name in names})
    return _written(folder / 'labels.npz', stream.getvalue())


def _scene_map(folder: Path) -> Path:
    from perception.datasets.maps.ragged import Ragged
    from perception.datasets.maps.scene_map import SceneMap, write_scene_map
    lines = Ragged.of([np.eye(2), np.ones((4, 2))], [0, 1])
    write_scene_map(folder / 'scene.map.npz', SceneMap(lines, lines, lines))
    return folder / 'scene.map.npz'


def _infos(folder: Path) -> Path:
    """A folder of infos of one scene with two frames: all sensors, two boxes."""
    from perception.datasets.reading.infos import scene_path, write_index, write_scene
    from perception.datasets.reading.records import BoxRecords, CameraRecord, FrameRecord, SensorRecord

    common = {'missing': False, 'token': 't', 'timestamp_us': 10 ** 15, 'time_lag_s': 0.0}
    sweep = SensorRecord(file='samples/a.bin', ego_T_sensor=np.eye(4), own_ego_T_sensor=np.eye(4),
                         global_T_own_ego=np.eye(4), **common)
    camera = CameraRecord(
        file='samples/a.jpg', ego_T_sensor=np.eye(4), own_ego_T_sensor=np.eye(4), global_T_own_ego=np.eye(4),
        K_33=np.diag([500.0, 500, 1]), width_px=64, height_px=48, **common)

    boxes = BoxRecords(
        boxes_M9=np.ones((2, 9)), categories=('vehicle.car',) * 2, tokens=('a', 'b'), instances=('c', 'd'),
        attributes=('', ''), visibility_M=np.ones(2, int), num_lidar_points_M=np.ones(2, int),
        num_radar_points_M=np.ones(2, int))

    frames = [
        FrameRecord(
            token=token, timestamp_us=10 ** 15 + i, global_T_ego=np.eye(4), scene='scene-1',
            location='here', cameras={'CAM_FRONT': camera}, lidar=(sweep, sweep),
            radars={'RADAR_FRONT': (sweep,)}, boxes=boxes)
        for i, token in enumerate(('one', 'two'))]

    scene = {'location': 'here', 'tokens': ['one', 'two'], 'has_map': False, 'annotated': True}
    write_scene(folder, {'scene': 'scene-1', **scene}, frames)
    write_index(folder, {
        'version': 'v', 'lidar_sweeps': 1, 'radar_sweeps': 0, 'splits': {'train': ['one', 'two']},
        'scenes': {'scene-1': scene}, 'class_counts': {'one': {'car': 2}}, 'left_out': {'no map': 2}})
    return scene_path(folder, 'scene-1')


def _read_scene(path: Path) -> None:
    from perception.datasets.reading.infos import SceneFrames
    SceneFrames(path).frames()


def _index(folder: Path) -> Path:
    _infos(folder)
    return folder / 'index.json'


def _read_index(path: Path) -> None:
    """As a dataset reads it."""
    from perception.datasets.reading.dataset import NuScenesDataset
    reading = {'lidar_sweeps': 0, 'radar_sweeps': 0}
    NuScenesDataset(path.parent, split='all', infos=path.parent, reading=reading)


def _mmdet3d(folder: Path) -> Path:
    from perception.datasets.exchange.write_v2 import export_infos
    _infos(folder)
    export_infos(folder, 'train', folder / 'infos.pkl')
    return folder / 'infos.pkl'


def _store(folder: Path) -> Any:
    """A store with one sample's predictions of all tasks."""
    from perception.core.contracts import Boxes3D, Frame, Lanes, MapSegmentation, Occupancy, TaskOutput
    from perception.evaluation.storage.results import ResultStore
    store = ResultStore(folder)
    store.write(TaskOutput(
        Frame('one', 5, np.eye(4), 'scene-1', 'here'),
        Boxes3D(np.ones((2, 9), np.float32), np.ones(2, np.float32) / 2, np.zeros(2, int), np.zeros(2, int)),
        MapSegmentation(np.ones((6, 4, 4), np.float32), (-1.0, 1.0), (-1.0, 1.0)),
        Occupancy(np.ones((4, 4, 2), np.uint8), np.ones((4, 4, 2), np.float16)),
        Lanes(np.ones((1, 4, 2), np.float32), np.ones(1, np.float32), np.zeros(1, int))))
    return store


def _stored(folder: Path) -> Path:
    return _store(folder).path('one')


def _read_stored(path: Path) -> None:
    from perception.evaluation.storage.results import ResultStore
    store = ResultStore(path.parents[1])
    store.in_time_order(['one'])
    store.read('one')


def _results(folder: Path) -> Path:
    return _store(folder).merge({'use_lidar': True})['detection']


def _packed_results(folder: Path) -> Path:
    return _written(folder / 'results.json.gz', gzip.compress(_results(folder).read_bytes()))


def _metrics(folder: Path) -> Path:
    content = {
        'metrics': {'detection/NDS': 0.5, 'detection/mAP': 0.4, 'detection/AP_car': 0.5},
        'breakdown': {
            'score_bins': {'all': [[3, 2], [1, 1], [0.5, 1.5]]}, 'detection_ece': {'all': 0.1},
            'occupancy_confusion_camera': [[1, 2], [3, 4]], 'occupancy_classes': ['a', 'b']}}
    return _written(folder / 'metrics.json', json.dumps(content).encode())


def _checkpoint(folder: Path) -> Path:
    import torch
    torch.save({'state_dict': torch.nn.Linear(3, 2).state_dict(), 'meta': {'epoch': 1}}, folder / 'a.pth')
    return folder / 'a.pth'


def _read_checkpoint(path: Path) -> None:
    import torch

    from perception.core.checkpoint import load_weights
    load_weights(torch.nn.Linear(3, 2), path)


def _sidecar(folder: Path) -> Path:
    from perception.core.config import read_config
    from perception.deployment.export.graph import TensorSpec
    from perception.deployment.export.sidecar import Sidecar

    config = read_config(Path(__file__).resolve().parents[2] / 'configs' / 'debug.py')
    spec = TensorSpec('lidar.points', (1, 100, 5), 'float32')
    digest = 'a' * 64
    return Sidecar(
        config.model.to_dict(), {'pipeline': []}, (spec,), (TensorSpec('map', (1, 6, 4, 4), 'float32'),),
        digest, digest, digest, 18).write(folder)


def _read_sidecar(path: Path) -> None:
    """As every engine does before it opens the network."""
    from perception.deployment.export.sidecar import Sidecar
    Sidecar.read(path.parent, verify=False)


def damage_sidecar(data: bytes, rng: random.Random) -> bytes:
    """As `damage_json`; mostly with the hash of what it holds then, as somebody who means harm would."""
    from perception.deployment.export.sidecar import config_hash
    damaged = damage_json(data, rng)
    try:
        content = json.loads(damaged)
        rest = {name: value for name, value in content.items() if name != 'sidecar_hash'}
        return json.dumps({**rest, 'sidecar_hash': config_hash(rest)}).encode()
    except (ValueError, AttributeError, RecursionError):
        return damaged


def _rig(folder: Path) -> Path:
    from perception.core.rig.file import DEFAULT_RIG_PATH
    return _written(folder / 'rig.json', DEFAULT_RIG_PATH.read_bytes())


def _urdf(folder: Path) -> Path:
    joints = ''.join(
        f'<joint name="j{i}"><parent link="l{i}"/><child link="l{i + 1}"/><origin xyz="1 0 {i}" rpy="0 0 2"/>'
        '</joint>'
        for i in range(4))
    links = ''.join(f'<link name="l{i}"/>' for i in range(5))
    return _written(folder / 'car.urdf', f'<robot name="car">{links}{joints}</robot>'.encode())


def _transforms(folder: Path) -> Path:
    content = [
        {'frame_id': f'f{i}', 'child_frame_id': f'f{i + 1}', 'translation': [1, 2.5, i],
         'rotation': [0, 0, 0, 1]}
        for i in range(4)]
    return _written(folder / 'tf.json', json.dumps(content).encode())


def _camera_info(folder: Path) -> Path:
    return _written(folder / 'info.yaml', (
        b'image_width: 640\nimage_height: 480\n'
        b'camera_matrix:\n  rows: 3\n  cols: 3\n  data: [500.0, 0, 320, 0, 500, 240, 0, 0, 1]\n'
        b'distortion_model: plumb_bob\n'
        b'distortion_coefficients: {rows: 1, cols: 5, data: [-0.2, 0.1, 0.001, -0.002, 0]}\n'))


def _formats() -> dict[str, Format]:
    from perception.core.reading import BadFile
    from perception.core.rig.file import load_rig
    from perception.core.rig.frames import load_frames
    from perception.core.rig.ros import read_camera_info
    from perception.datasets.exchange.mmdet3d_infos import read_mmdet3d
    from perception.datasets.maps.scene_map import read_scene_map
    from perception.datasets.reading import io as sensor_files
    from perception.datasets.reading.labels import load_occupancy
    from perception.datasets.reading.records import InfosError
    from perception.evaluation.detection.file import read_detection_results
    from perception.evaluation.errors import ResultError
    from perception.evaluation.reports.scorecard import Run

    bad, infos, results = (BadFile,), (InfosError,), (ResultError,)
    return {
        'jpeg': Format(lambda folder: _image(folder, 'a.jpg'), sensor_files.load_image, bad, damage_bytes),
        'png': Format(lambda folder: _image(folder, 'a.png'), sensor_files.load_image, bad, damage_bytes),
        'lidar': Format(_lidar, sensor_files.load_lidar_bin, bad, damage_bytes),
        'radar': Format(_radar, sensor_files.load_radar_pcd, bad, damage_bytes),
        'occupancy': Format(_occupancy, load_occupancy, bad, damage_arrays),
        'scene map': Format(_scene_map, read_scene_map, bad, damage_arrays),
        'scene infos': Format(_infos, _read_scene, infos, damage_gzip),
        'infos index': Format(_index, _read_index, (InfosError, ValueError), damage_json),
        'mmdet3d pickle': Format(_mmdet3d, read_mmdet3d, (BadFile, InfosError), damage_pickle),
        'mmdet3d fields': Format(_mmdet3d, read_mmdet3d, (BadFile, InfosError), damage_fields),
        'results': Format(_results, read_detection_results, results, damage_json),
        'results.gz': Format(_packed_results, read_detection_results, results, damage_gzip),
        'stored sample': Format(_stored, _read_stored, results, damage_arrays),
        'metrics': Format(_metrics, Run.read, results, damage_json),
        'checkpoint': Format(_checkpoint, _read_checkpoint, (ValueError,), damage_checkpoint),
        'sidecar': Format(_sidecar, _read_sidecar, (ValueError,), damage_sidecar),
        'rig': Format(_rig, load_rig, (ValueError,), damage_json),
        'urdf': Format(_urdf, load_frames, bad, damage_bytes),
        'transforms': Format(_transforms, load_frames, bad, damage_json),
        'camera_info': Format(_camera_info, read_camera_info, (ValueError,), damage_bytes)}


def damage_fields(data: bytes, rng: random.Random) -> bytes:
    """An odd value inside a sound pickle (one that this process has just written itself)."""
    return pickle.dumps(_odd_inside(pickle.loads(data), rng))


FORMATS = _formats()
