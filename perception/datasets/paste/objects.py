"""What a database of objects keeps of one object, and of a scene's objects in two files.

`<scene>.bin` holds rows of points and JPEG bytes one after another; `<scene>.npz` holds everything else, and
where in the other file each object's rows lie. The second is written last: a scene that has one is whole. It
knows the other's SHA-256, so that a file of the same length is not taken for it.

Shape letters: M objects, V views of them, P LiDAR points, R radar points.
"""
from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import CENTRE, INTENSITY, LIDAR_COLUMNS, RADAR_COLUMNS, RING, TIME_LAG, XYZ
from ...core.files import file_digest, file_name, write_bytes
from ...core.lens import Distortion
from ...core.reading import BadFile, check_array, parse_json, read_arrays

POINT = np.dtype([('xyz', '<i2', 3), ('intensity', 'u1'), ('ring', '<i2'), ('lag', '<i2')])
"""A stored LiDAR point: millimetres from the box's centre along ego axes, ticks of a tenth millisecond."""
MM, TICKS = 1000.0, 10_000.0
_FARTHEST_M, _LONGEST_S = 32.7, 3.2
_RADAR_BYTES = 4 * len(RADAR_COLUMNS)
SCENE_MIB = 256
_LARGEST_PX = 8192


@dataclass(frozen=True)
class StoredView:
    """One camera's picture of an object.

    Attributes:
        camera: its channel.
        K_33: pixels of the patch.
        ego_T_cam: (4, 4), at the LiDAR's time, as in `CameraRig`.
        size_hw: of the patch.
        visible: fraction of the object's outline that no annotated object stands before.
        depth_m: distance of the camera from the box's centre.
        distortion: the lens; None: a pinhole.
        jpeg: the patch.
    """

    camera: str
    K_33: np.ndarray
    ego_T_cam: np.ndarray
    size_hw: tuple[int, int]
    visible: float
    depth_m: float
    distortion: Distortion | None
    jpeg: bytes


@dataclass(frozen=True)
class StoredObject:
    """One object, as it is put into a database.

    Attributes:
        box_9: in ego of its own frame, as in `BoxLabels`.
        category: of the annotation.
        token, instance, sample: tokens of the annotation, of the object and of its frame.
        attribute, visibility, num_lidar_points, num_radar_points: as in `BoxLabels`.
        ground_m: height of the ground around it; NaN unknown.
        points_P6: columns `LIDAR_COLUMNS`, x, y, z from the box's centre along ego axes.
        radar_R8: columns `RADAR_COLUMNS`, likewise.
        views: of the cameras that see it well enough.
    """

    box_9: np.ndarray
    category: str
    token: str
    instance: str
    sample: str
    attribute: int
    visibility: int
    num_lidar_points: int
    num_radar_points: int
    ground_m: float
    points_P6: np.ndarray
    radar_R8: np.ndarray
    views: tuple[StoredView, ...] = ()


@dataclass(frozen=True)
class ObjectTable:
    """All that a scene's `.npz` says of its M objects and their V views, as columns.

    Attributes:
        boxes_M9, attributes_M, visibility_M, num_lidar_points_M, num_radar_points_M, ground_M: as in
            `StoredObject`.
        categories_M, tokens_M, instances_M, samples_M: text.
        lidar_M2, radar_M2: where their rows begin in the `.bin`, and how many there are.
        view_object_V: which object each view is of, ascending.
        view_camera_V, view_lens_V: channel; the lens as JSON ('null': a pinhole).
        view_K_V33, view_ego_T_cam_V44, view_hw_V2, view_visible_V, view_depth_V: as in `StoredView`.
        view_jpeg_V2: where its bytes begin, and how many.
        bin_bytes, bin_sha256: length of the `.bin`, and its digest in hexadecimal; '' in older databases.
        made_from: of the scene, JSON: what it was made from and how.
    """

    boxes_M9: np.ndarray
    attributes_M: np.ndarray
    visibility_M: np.ndarray
    num_lidar_points_M: np.ndarray
    num_radar_points_M: np.ndarray
    ground_M: np.ndarray
    categories_M: np.ndarray
    tokens_M: np.ndarray
    instances_M: np.ndarray
    samples_M: np.ndarray
    lidar_M2: np.ndarray
    radar_M2: np.ndarray
    view_object_V: np.ndarray
    view_camera_V: np.ndarray
    view_lens_V: np.ndarray
    view_K_V33: np.ndarray
    view_ego_T_cam_V44: np.ndarray
    view_hw_V2: np.ndarray
    view_visible_V: np.ndarray
    view_depth_V: np.ndarray
    view_jpeg_V2: np.ndarray
    bin_bytes: np.ndarray
    bin_sha256: np.ndarray
    made_from: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes_M9)


_FORMS: dict[str, tuple[str, tuple[int | None, ...], tuple[float, float] | None]] = {
    'boxes_M9': ('f', (None, 9), None), 'attributes_M': ('i', (None,), (-1, 7)),
    'visibility_M': ('i', (None,), (0, 4)), 'num_lidar_points_M': ('i', (None,), (0, 1e9)),
    'num_radar_points_M': ('i', (None,), (0, 1e9)), 'ground_M': ('f', (None,), None),
    'categories_M': ('U', (None,), None), 'tokens_M': ('U', (None,), None),
    'instances_M': ('U', (None,), None), 'samples_M': ('U', (None,), None),
    'lidar_M2': ('i', (None, 2), (0, 1e12)), 'radar_M2': ('i', (None, 2), (0, 1e12)),
    'view_object_V': ('i', (None,), (0, 1e9)), 'view_camera_V': ('U', (None,), None),
    'view_lens_V': ('U', (None,), None), 'view_K_V33': ('f', (None, 3, 3), (-1e6, 1e6)),
    'view_ego_T_cam_V44': ('f', (None, 4, 4), (-1e3, 1e3)), 'view_hw_V2': ('i', (None, 2), (1, _LARGEST_PX)),
    'view_visible_V': ('f', (None,), (0, 1)), 'view_depth_V': ('f', (None,), (0, 1e3)),
    'view_jpeg_V2': ('i', (None, 2), (0, 1e12)), 'bin_bytes': ('i', (), (0, 1e12)),
    'bin_sha256': ('U', (), None), 'made_from': ('U', (), None)}
"""{array: kinds, shape, limits}, as `check_array` takes them."""


# -------------------------------------------------------------------- rows of points

def pack_object_points(points_P6: np.ndarray) -> np.ndarray:
    """Points of an object, x, y, z from its box's centre, as rows `POINT`; those too far for them go."""
    near = (np.abs(points_P6[:, XYZ]) < _FARTHEST_M).all(1) & (np.abs(points_P6[:, TIME_LAG]) < _LONGEST_S)
    points_P6 = points_P6[near]
    rows = np.zeros(len(points_P6), POINT)
    rows['xyz'] = np.rint(points_P6[:, XYZ] * MM)
    rows['intensity'] = np.rint(points_P6[:, INTENSITY])
    rows['ring'] = points_P6[:, RING]
    rows['lag'] = np.rint(points_P6[:, TIME_LAG] * TICKS)
    return rows


def unpack_object_points(data: bytes) -> np.ndarray:
    """Inverse of `pack_object_points`, to the millimetre: float32 `(P, 6)`."""
    rows = np.frombuffer(data, POINT)
    points_P6 = np.empty((len(rows), len(LIDAR_COLUMNS)), np.float32)
    points_P6[:, XYZ] = rows['xyz'] / MM
    points_P6[:, INTENSITY] = rows['intensity']
    points_P6[:, RING] = rows['ring']
    points_P6[:, TIME_LAG] = rows['lag'] / TICKS
    return points_P6


def unpack_radar(data: bytes) -> np.ndarray:
    """Radar rows of an object: float32 `(R, 8)`."""
    return np.frombuffer(data, '<f4').reshape(-1, len(RADAR_COLUMNS)).astype(np.float32)


# -------------------------------------------------------------------- files of a scene

def table_path(folder: Path, scene: str) -> Path:
    """Where a scene's table lies. Raises ValueError for a name that could lead elsewhere."""
    return Path(folder) / f'{file_name(scene, "scene")}.npz'


def bin_path(folder: Path, scene: str) -> Path:
    """Where a scene's points and patches lie. Raises as `table_path`."""
    return Path(folder) / f'{file_name(scene, "scene")}.bin'


def write_objects(folder: Path, scene: str, objects: Sequence[StoredObject], made_from: str) -> None:
    """Write a scene's two files, the table last."""
    blob = io.BytesIO()

    def put(data: bytes, count: int) -> tuple[int, int]:
        at = blob.tell()
        blob.write(data)
        return at, count

    lidar, radar, jpegs = [], [], []
    for one in objects:
        rows = pack_object_points(one.points_P6)
        lidar.append(put(rows.tobytes(), len(rows)))
        radar.append(put(one.radar_R8.astype('<f4').tobytes(), len(one.radar_R8)))
        jpegs += [put(view.jpeg, len(view.jpeg)) for view in one.views]

    content = blob.getvalue()
    arrays = _columns(objects) | _view_columns(objects) | {
        'lidar_M2': np.array(lidar, np.int64).reshape(-1, 2),
        'radar_M2': np.array(radar, np.int64).reshape(-1, 2),
        'view_jpeg_V2': np.array(jpegs, np.int64).reshape(-1, 2),
        'bin_bytes': np.array(len(content), np.int64),
        'bin_sha256': np.array(hashlib.sha256(content).hexdigest()),
        'made_from': np.array(made_from)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)

    table = table_path(folder, scene)
    table.unlink(missing_ok=True)
    write_bytes(bin_path(folder, scene), content)
    write_bytes(table, buffer.getvalue())


def _columns(objects: Sequence[StoredObject]) -> dict[str, np.ndarray]:
    def text(name: str) -> np.ndarray:
        return np.array([getattr(one, name) for one in objects], dtype=np.str_)

    def numbers(name: str, dtype: type) -> np.ndarray:
        return np.array([getattr(one, name) for one in objects], dtype)

    return {
        'boxes_M9': numbers('box_9', np.float32).reshape(-1, 9),
        'attributes_M': numbers('attribute', np.int8),
        'visibility_M': numbers('visibility', np.int8),
        'num_lidar_points_M': numbers('num_lidar_points', np.int32),
        'num_radar_points_M': numbers('num_radar_points', np.int32),
        'ground_M': numbers('ground_m', np.float32),
        'categories_M': text('category'), 'tokens_M': text('token'), 'instances_M': text('instance'),
        'samples_M': text('sample')}


def _view_columns(objects: Sequence[StoredObject]) -> dict[str, np.ndarray]:
    views = [(number, view) for number, one in enumerate(objects) for view in one.views]

    def numbers(name: str, dtype: type, *shape: int) -> np.ndarray:
        return np.array([getattr(view, name) for _, view in views], dtype).reshape(-1, *shape)

    lenses = [lens_text(view.distortion) for _, view in views]
    return {
        'view_object_V': np.array([number for number, _ in views], np.int32),
        'view_camera_V': np.array([view.camera for _, view in views], dtype=np.str_),
        'view_lens_V': np.array(lenses, dtype=np.str_),
        'view_K_V33': numbers('K_33', np.float64, 3, 3),
        'view_ego_T_cam_V44': numbers('ego_T_cam', np.float64, 4, 4),
        'view_hw_V2': numbers('size_hw', np.int32, 2),
        'view_visible_V': numbers('visible', np.float32),
        'view_depth_V': numbers('depth_m', np.float32)}


def lens_text(distortion: Distortion | None) -> str:
    """A lens as JSON."""
    import json

    return json.dumps(None if distortion is None else distortion.to_record())


def stored_lens(text: str, where: str) -> Distortion | None:
    """Inverse of `lens_text`. Raises ValueError: the text is none; `where` names it."""
    return Distortion.from_record(parse_json(where, text), where)


def read_table(folder: Path, scene: str) -> ObjectTable:
    """The table of a scene, every array of it checked, and that the `.bin` is the one that it says.

    Raises:
        BadFile: absent, damaged, or the two files do not belong together.
    """
    path = table_path(folder, scene)
    arrays = {'bin_sha256': np.array('')}  # older databases have none
    arrays |= read_arrays(path, [f.name for f in fields(ObjectTable)], SCENE_MIB)
    for name, (kinds, shape, limits) in _FORMS.items():
        if name not in arrays:
            raise BadFile(path, f'cannot be read as a table of objects: found no array {name!r}')
        check_array(path, name, arrays[name], kinds, shape, limits)

    table = ObjectTable(**arrays)
    for name in _FORMS:
        letter, rows = name.rstrip('0123456789')[-1], getattr(table, name)
        count = {'M': len(table.boxes_M9), 'V': len(table.view_object_V)}.get(letter)
        if count is not None and len(rows) != count:
            raise BadFile(path, f'{name}: found {len(rows)} rows, expected {count}')

    _check_places(path, table)
    _check_bin(bin_path(folder, scene), table, path.name)
    return table


def _check_bin(path: Path, table: ObjectTable, table_name: str) -> None:
    """Refuse a `.bin` of another length or digest than its table says."""
    found = path.stat().st_size if path.is_file() else None
    if found != int(table.bin_bytes):
        raise BadFile(
            path,
            f'found {"no such file" if found is None else f"{found} bytes"}, expected {table.bin_bytes} '
            f'bytes as {table_name} says')
    if not str(table.bin_sha256):
        return

    digest = file_digest(path)
    if digest != str(table.bin_sha256):
        raise BadFile(
            path, f'found a file of SHA-256 {digest}, expected {table.bin_sha256} as {table_name} says: it '
            'has changed since it was made, or belongs to another database')


def _check_places(path: Path, table: ObjectTable) -> None:
    """Refuse rows that lie outside of the `.bin`, boxes that are none, and views of no object."""
    size = int(table.bin_bytes)
    for name, row_bytes in (('lidar_M2', POINT.itemsize), ('radar_M2', _RADAR_BYTES), ('view_jpeg_V2', 1)):
        places = getattr(table, name).astype(np.float64)
        if len(places) and (places[:, 0] + places[:, 1] * row_bytes).max() > size:
            raise BadFile(path, f'{name}: found rows beyond the {size} bytes of the file beside it')

    if not np.isfinite(table.boxes_M9[:, :7]).all() or (np.abs(table.boxes_M9[:, CENTRE]) > 1e3).any():
        raise BadFile(path, 'boxes_M9: found values that are not finite or beyond 1000 m, expected boxes')
    owners = table.view_object_V
    if len(owners) and ((np.diff(owners) < 0).any() or owners.max() >= len(table)):
        raise BadFile(path, f'view_object_V: expected numbers of {len(table)} objects in order')


def read_rows(folder: Path, scene: str, place: Sequence[Any], row_bytes: int) -> bytes:
    """Some rows out of a scene's `.bin`.

    Args:
        folder: of the database.
        scene: whose file.
        place: first byte, number of rows.
        row_bytes: length of a row.

    Raises:
        BadFile: the file ends before them.
    """
    at, length = int(place[0]), int(place[1]) * row_bytes
    path = bin_path(folder, scene)
    try:
        with path.open('rb') as file:
            file.seek(at)
            data = file.read(length)
    except OSError as error:
        raise BadFile(path, f'cannot be read ({error.strerror or error})') from error
    if len(data) != length:
        raise BadFile(path, f'found {at + len(data)} bytes, expected at least {at + length}')
    return data


RADAR_ROW_BYTES = _RADAR_BYTES
