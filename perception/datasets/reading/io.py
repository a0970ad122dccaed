"""Sensor files to arrays.

A file that cannot be trusted raises `BadFile`, which says what was found and what was expected.

The formats are those of nuScenes (Caesar et al., CVPR 2020, arXiv 1903.11027): JPEG images, LiDAR as raw
float32 rows, radar as binary PCD v0.7. Everything returned is in the sensor's own frame; moving it into ego
is the dataset's work.
"""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np

PathLike = str | os.PathLike

LIDAR_FILE_COLUMNS = ('x_m', 'y_m', 'z_m', 'intensity', 'ring')
RADAR_FIELDS = (
    'x', 'y', 'z', 'dyn_prop', 'id', 'rcs', 'vx', 'vy', 'vx_comp', 'vy_comp', 'is_quality_valid',
    'ambig_state', 'x_rms', 'y_rms', 'invalid_state', 'pdh0', 'vx_rms', 'vy_rms')
RADAR_INVALID_STATES = (0,)
RADAR_DYNAMIC_PROPERTIES = (0, 1, 2, 3, 4, 5, 6)
RADAR_AMBIGUITY_STATES = (3,)
REDUCTIONS = (1, 2, 4, 8)

_PCD_KINDS = {'F': 'f', 'I': 'i', 'U': 'u'}
_PCD_SIZES = {'F': (2, 4, 8), 'I': (1, 2, 4, 8), 'U': (1, 2, 4, 8)}
_HEADER_LIMIT_BYTES = 4096


class BadFile(ValueError):
    """A file that is absent, unreadable, cut short or of another kind than its place says.

    Attributes:
        path: the file.
        reason: what was found and what was expected, in words.
    """

    def __init__(self, path: PathLike, reason: str) -> None:
        super().__init__(os.fspath(path), reason)
        self.path, self.reason = os.fspath(path), reason

    def __str__(self) -> str:
        return f'{self.path}: {self.reason}'


def read_bytes(path: PathLike) -> bytes:
    """The whole file.

    Raises:
        BadFile: it is not there, cannot be read, or holds zero bytes.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise BadFile(path, 'found no such file') from None
    except OSError as error:
        raise BadFile(path, f'cannot be read ({error.strerror or error})') from error
    if not data:
        raise BadFile(path, 'found zero bytes, expected sensor data')
    return data


def load_image(path: PathLike, reduce: int = 1) -> np.ndarray:
    """Decode a JPEG or PNG into uint8 RGB `(H, W, 3)`.

    Args:
        path: the image.
        reduce: 1, 2, 4 or 8; the decoder itself shrinks both sides by it (rounded up), which is cheaper than
            decoding all and resizing. Shrink K with `reduced_K`.

    Raises:
        BadFile: absent, zero bytes, not an image, or cut short (decoders would silently fill the rest with
        grey). ValueError: `reduce` is not one of the four.
    """
    import cv2

    if reduce not in REDUCTIONS:
        raise ValueError(f'reduce: expected one of {REDUCTIONS}, found {reduce}')
    data = read_bytes(path)
    if _image_is_cut(data):
        raise BadFile(
            path, f'found an image that ends early, after {len(data)} bytes; expected its end marker'
        )

    flags = {
        1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8}
    try:
        image_bgr = cv2.imdecode(
            np.frombuffer(data, np.uint8), flags[reduce] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadFile(path, f'the image decoder refused it ({error.err})') from error
    if image_bgr is None:
        raise BadFile(
            path, f'found {len(data)} bytes starting with {data[:4].hex()}, expected a JPEG or PNG image'
        )
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)


def _image_is_cut(data: bytes) -> bool:
    """A JPEG without an end marker after its last scan, or a PNG without its last chunk.

    Inside a JPEG scan every 0xFF is followed by 0x00 or a restart marker, so an end marker after the start of
    the last scan is the real one; one that belongs to an embedded preview comes before it.
    """
    if data.startswith(b'\xff\xd8'):
        return data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda') or b'\xff\xd9' not in data
    return data.startswith(b'\x89PNG') and b'IEND' not in data[-64:]


def reduced_K(K_33: np.ndarray, reduce: int) -> np.ndarray:
    """Intrinsics `(*, 3, 3)` of an image decoded with `load_image(..., reduce)`."""
    # pixel centres are whole numbers: new pixel 0 is the mean of the old ones 0 .. reduce - 1
    shrink = np.array([[1 / reduce, 0, 0.5 / reduce - 0.5], [0, 1 / reduce, 0.5 / reduce - 0.5], [0, 0, 1]])
    return shrink @ K_33


def load_lidar_bin(path: PathLike, notes: list[str] | None = None) -> np.ndarray:
    """Read a LiDAR sweep `.pcd.bin`.

    Args:
        path: raw float32 rows.
        notes: receives one sentence when points that are not finite were dropped.

    Returns:
        float32 `(P, 5)` with columns `LIDAR_FILE_COLUMNS`: sensor frame, metres.

    Raises:
        BadFile: absent, zero bytes, or not a whole number of 20-byte rows.
    """
    data = read_bytes(path)
    row_bytes = 4 * len(LIDAR_FILE_COLUMNS)
    if len(data) % row_bytes:
        raise BadFile(path, f'found {len(data)} bytes, expected a multiple of {row_bytes} '
                            f'(float32 {", ".join(LIDAR_FILE_COLUMNS)}); the file looks cut short')
    points = np.frombuffer(data, '<f4').reshape(-1, len(LIDAR_FILE_COLUMNS))
    return _keep_finite(path, points, notes)


def _keep_finite(path: PathLike, points: np.ndarray, notes: list[str] | None) -> np.ndarray:
    """Rows without NaN or infinity, as an own array; what was dropped is counted in `notes`."""
    finite = np.isfinite(points).all(1)
    dropped = int(len(points) - finite.sum())
    if dropped and notes is not None:
        notes.append(f'{os.fspath(path)}: dropped {dropped} of {len(points)} points that are not finite')
    return points[finite] if dropped else points.astype(np.float32, copy=True)


def load_radar_pcd(path: PathLike, filters: bool = True, notes: list[str] | None = None) -> np.ndarray:
    """Read a nuScenes radar sweep (binary PCD v0.7).

    Args:
        path: the PCD file.
        filters: keep what the devkit keeps by default: valid clusters (invalid_state 0), dyn_prop 0..6 and
            unambiguous Doppler (ambig_state 3).
        notes: receives one sentence when points that are not finite were dropped.

    Returns:
        float32 `(P, 18)` with columns `RADAR_FIELDS`, sensor frame. A sweep without detections is stored as
        one NaN point and comes back as `(0, 18)`.

    Raises:
        BadFile: absent, zero bytes, no PCD header, another field list, not binary, or fewer bytes than its
        header promises.
    """
    data = read_bytes(path)
    header, start = _pcd_header(path, data)
    dtype = _pcd_dtype(path, header)
    width = _pcd_width(path, header)

    if len(data) - start < width * dtype.itemsize:
        raise BadFile(path, f'found {len(data) - start} bytes of points, expected {width * dtype.itemsize} '
                            f'({width} points of {dtype.itemsize} bytes); the file is cut short')

    rows = np.frombuffer(data, dtype, count=width, offset=start)
    if filters:
        rows = rows[np.isin(rows['invalid_state'], RADAR_INVALID_STATES)
                    & np.isin(rows['dyn_prop'], RADAR_DYNAMIC_PROPERTIES)
                    & np.isin(rows['ambig_state'], RADAR_AMBIGUITY_STATES)]
    points = np.stack([rows[name].astype(np.float32) for name in RADAR_FIELDS], 1)
    return _keep_finite(path, points, notes)


def _pcd_header(path: PathLike, data: bytes) -> tuple[dict[str, list[str]], int]:
    """Header words by keyword, and the offset of the first data byte."""
    header: dict[str, list[str]] = {}
    start = 0
    while start < min(len(data), _HEADER_LIMIT_BYTES):
        end = data.find(b'\n', start)
        if end < 0:
            break
        words = data[start:end].decode('latin-1').split()
        start = end + 1
        if not words or words[0].startswith('#'):
            continue
        header[words[0]] = words[1:]
        if words[0] == 'DATA':
            return header, start
    raise BadFile(path, 'found no PCD header that ends in a DATA line, expected a binary PCD v0.7 file')


def _pcd_dtype(path: PathLike, header: dict[str, list[str]]) -> np.dtype:
    """The row type, after the field list has been compared with `RADAR_FIELDS`."""
    fields = header.get('FIELDS', [])
    if tuple(fields) != RADAR_FIELDS:
        raise BadFile(path, f'FIELDS: found [{" ".join(fields)}], expected [{" ".join(RADAR_FIELDS)}]')
    if header['DATA'] != ['binary']:
        raise BadFile(path, f'DATA: found {" ".join(header["DATA"])!r}, expected binary')

    kinds, sizes, counts = (header.get(key, []) for key in ('TYPE', 'SIZE', 'COUNT'))
    for key, entries in (('TYPE', kinds), ('SIZE', sizes), ('COUNT', counts)):
        if len(entries) != len(fields):
            raise BadFile(path, f'{key}: found {len(entries)} entries, expected {len(fields)}')
    if set(counts) != {'1'}:
        raise BadFile(path, f'COUNT: found [{" ".join(counts)}], expected 1 for every field')

    formats = []
    for name, kind, size in zip(fields, kinds, sizes, strict=True):
        if kind not in _PCD_KINDS or not size.isdigit() or int(size) not in _PCD_SIZES[kind]:
            raise BadFile(
                path,
                f'field {name}: found type {kind} of {size} bytes, expected F, I or U of 1, 2, 4 or 8 bytes')
        formats.append((name, f'<{_PCD_KINDS[kind]}{size}'))
    return np.dtype(formats)


def _pcd_width(path: PathLike, header: dict[str, list[str]]) -> int:
    """Number of points; nuScenes stores them as one row."""
    words = {key: ' '.join(header.get(key, [])) for key in ('WIDTH', 'HEIGHT')}
    if not words['WIDTH'].isdigit() or words['HEIGHT'] != '1':
        raise BadFile(
            path,
            f'found WIDTH {words["WIDTH"] or "missing"} and HEIGHT {words["HEIGHT"] or "missing"}, '
            'expected a number and 1',
        )
    return int(words['WIDTH'])
