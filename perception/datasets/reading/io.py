"""Sensor files to arrays.

A file that cannot be trusted raises `BadFile`, which says what was found and what was expected.

The formats are those of nuScenes (Caesar et al., CVPR 2020, arXiv 1903.11027): JPEG images, LiDAR as raw
float32 rows, radar as binary PCD v0.7. Everything returned is in the sensor's own frame; moving it into ego
is the dataset's work.
"""
from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...core.contracts import LIDAR_LIMITS, RADAR_LIMITS, RADAR_RCS, RADAR_VELOCITY, XYZ
from ...core.reading import BadFile, PathLike, check_size, read_file

__all__ = [
    'BadFile', 'DroppedPoints', 'LIDAR_FILE_COLUMNS', 'RADAR_FIELDS', 'REDUCTIONS', 'decode_image',
    'load_image', 'load_lidar_bin', 'load_radar_pcd', 'reduced_K']

LIDAR_FILE_COLUMNS = ('x_m', 'y_m', 'z_m', 'intensity', 'ring')
RADAR_FIELDS = (
    'x', 'y', 'z', 'dyn_prop', 'id', 'rcs', 'vx', 'vy', 'vx_comp', 'vy_comp', 'is_quality_valid',
    'ambig_state', 'x_rms', 'y_rms', 'invalid_state', 'pdh0', 'vx_rms', 'vy_rms')
RADAR_INVALID_STATES = (0,)
RADAR_DYNAMIC_PROPERTIES = (0, 1, 2, 3, 4, 5, 6)
RADAR_AMBIGUITY_STATES = (3,)
REDUCTIONS = (1, 2, 4, 8)

_PCD_KINDS = {'F': 'f', 'I': 'i', 'U': 'u'}
_PCD_SIZES = {'F': ('2', '4', '8'), 'I': ('1', '2', '4', '8'), 'U': ('1', '2', '4', '8')}
_HEADER_LIMIT_BYTES = 4096

SENSOR_FILE_MIB = 64
"""Largest file of one measurement: a LiDAR sweep of nuScenes has 0.7 MiB, an image 0.2."""
IMAGE_MEGAPIXELS = 64
"""Largest image where no table says its size."""


class DroppedPoints(NamedTuple):
    """How many of a file's points were no measurements: not finite, or out of a column's range."""

    path: str
    dropped: int
    total: int

    def __str__(self) -> str:
        return (
            f'{self.path}: dropped {self.dropped} of {self.total} points that are not finite or out of range'
        )


def load_image(path: PathLike, reduce: int = 1, size_hw: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a JPEG or PNG into uint8 RGB `(H, W, 3)`.

    Args:
        path: the image.
        reduce: 1, 2, 4 or 8; the decoder itself shrinks both sides by it (rounded up), which is cheaper than
            decoding all and resizing. Shrink K with `reduced_K`.
        size_hw: rows and columns the whole image must have; compared with its header before it is decoded.

    Raises:
        BadFile: absent, zero bytes, not a JPEG or PNG by its content, of another size, or cut short (decoders
            would silently fill the rest with grey). ValueError: `reduce` is not one of the four.
    """
    return decode_image(path, read_file(path, SENSOR_FILE_MIB, 'an image'), reduce, size_hw)


def decode_image(
    path: PathLike, data: bytes, reduce: int = 1, size_hw: tuple[int, int] | None = None
) -> np.ndarray:
    """As `load_image`, of bytes that were read from `path`."""
    import cv2

    if reduce not in REDUCTIONS:
        raise ValueError(f'reduce: expected one of {REDUCTIONS}, found {reduce}')
    _check_image_size(path, data, size_hw)
    _check_image_is_whole(path, data)

    flags = {
        1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8}
    try:
        image_bgr = cv2.imdecode(
            np.frombuffer(data, np.uint8), flags[reduce] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise BadFile(path, f'the image decoder refused it ({error.err})') from error
    if image_bgr is None:
        raise BadFile(path, f'found {len(data)} bytes that the decoder of JPEG and PNG cannot read')
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)


def _check_image_size(path: PathLike, data: bytes, size_hw: tuple[int, int] | None) -> None:
    """Compare the size in the header with what is expected, or with the largest allowed."""
    found = _image_size_hw(data)
    if found is None:
        raise BadFile(
            path, f'found {len(data)} bytes starting with {data[:4].hex()}, expected a JPEG or PNG image'
        )

    height, width = found
    if size_hw is not None and found != tuple(size_hw):
        raise BadFile(
            path,
            f'found an image of {width} x {height} pixels, expected {size_hw[1]} x {size_hw[0]} as in the '
            'tables')
    check_size(path, height * width * 3, IMAGE_MEGAPIXELS * 3, f'an image of {width} x {height} pixels,')


def _image_size_hw(data: bytes) -> tuple[int, int] | None:
    """Rows and columns that the header of a JPEG or PNG says; None where it is neither."""
    if data.startswith(b'\x89PNG\r\n\x1a\n') and data[12:16] == b'IHDR' and len(data) >= 24:
        width, height = struct.unpack('>II', data[16:24])
        return (height, width) if height and width else None

    # every frame of a JPEG says the size again: all must agree
    sizes = set(_jpeg_frames(data)) if data.startswith(b'\xff\xd8') else set()
    size = sizes.pop() if len(sizes) == 1 else (0, 0)
    return size if min(size) > 0 else None


def _jpeg_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Rows and columns of the frame headers before the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xDA:  # the first scan
            return
        length = int.from_bytes(data[at + 2:at + 4], 'big')
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 <= len(data):
            yield struct.unpack('>HH', data[at + 5:at + 9])
        at += 2 + length


def _check_image_is_whole(path: PathLike, data: bytes) -> None:
    """Refuse a JPEG without an end marker after its last scan, and a PNG one of whose chunks is not sound.

    Inside a JPEG scan every 0xFF is followed by 0x00 or a restart marker, so an end marker after the start of
    the last scan is the real one; one that belongs to an embedded preview comes before it.
    """
    if data.startswith(b'\x89PNG'):
        kinds = [kind for kind, sound in _png_chunks(data) if sound]
        whole = kinds[-1:] == [b'IEND'] and b'IDAT' in kinds
        if b'acTL' in kinds:
            raise BadFile(path, 'found an animated PNG, expected one image')
    else:
        whole = data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda')
    if not whole:
        raise BadFile(
            path, f'found an image that is damaged or ends early, after {len(data)} bytes; expected its end '
            'marker')


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Type of each chunk of a PNG, and whether its checksum is right; ends with the first that is not.

    OpenCV's decoder does not end on some damaged ones.
    """
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at:at + 4], 'big')
        sound = zlib.crc32(data[at + 4:end]).to_bytes(4, 'big') == data[end:end + 4]
        yield data[at + 4:at + 8], sound
        if not sound or data[at + 4:at + 8] == b'IEND':
            return
        at = end + 4


def reduced_K(K_33: np.ndarray, reduce: int) -> np.ndarray:
    """Intrinsics `(*, 3, 3)` of an image decoded with `load_image(..., reduce)`."""
    # pixel centres are whole numbers: new pixel 0 is the mean of the old ones 0 .. reduce - 1
    shrink = np.array([[1 / reduce, 0, 0.5 / reduce - 0.5], [0, 1 / reduce, 0.5 / reduce - 0.5], [0, 0, 1]])
    return shrink @ K_33


def load_lidar_bin(path: PathLike, notes: list[DroppedPoints] | None = None) -> np.ndarray:
    """Read a LiDAR sweep `.pcd.bin`.

    Args:
        path: raw float32 rows.
        notes: receives an entry when points were dropped that are not finite or out of `LIDAR_LIMITS`.

    Returns:
        float32 `(P, 5)` with columns `LIDAR_FILE_COLUMNS`: sensor frame, metres.

    Raises:
        BadFile: absent, zero bytes, or not a whole number of 20-byte rows.
    """
    data = read_file(path, SENSOR_FILE_MIB, 'sensor data')
    row_bytes = 4 * len(LIDAR_FILE_COLUMNS)
    if len(data) % row_bytes:
        raise BadFile(path, f'found {len(data)} bytes, expected a multiple of {row_bytes} '
                            f'(float32 {", ".join(LIDAR_FILE_COLUMNS)}); the file looks cut short')
    points = np.frombuffer(data, '<f4').reshape(-1, len(LIDAR_FILE_COLUMNS))
    return _keep_measurements(path, points, _LIDAR_FILE_LIMITS, notes)


def _keep_measurements(
    path: PathLike, points: np.ndarray, limits_C2: np.ndarray, notes: list[DroppedPoints] | None
) -> np.ndarray:
    """Rows whose every column is within its range, as an own array; what was dropped is counted in `notes`.

    NaN is within no range.
    """
    inside = (points >= limits_C2[:, 0]) & (points <= limits_C2[:, 1])
    if inside.all():  # most files; looking along rows costs as much again
        return points.astype(np.float32, copy=True)

    within = inside.all(1)
    if notes is not None:
        notes.append(DroppedPoints(os.fspath(path), int(len(points) - within.sum()), len(points)))
    return points[within]


def _radar_file_limits() -> np.ndarray:
    """Lowest and highest value of `RADAR_FIELDS`: of those that become features, and finite for the rest."""
    limits = np.tile(np.array([np.finfo(np.float32).min, np.finfo(np.float32).max]), (len(RADAR_FIELDS), 1))
    limits[XYZ] = RADAR_LIMITS[XYZ]
    for pair in (('vx', 'vy'), ('vx_comp', 'vy_comp')):
        limits[[RADAR_FIELDS.index(name) for name in pair]] = RADAR_LIMITS[RADAR_VELOCITY]
    limits[RADAR_FIELDS.index('rcs')] = RADAR_LIMITS[RADAR_RCS]
    return limits.astype(np.float32)


_LIDAR_FILE_LIMITS = np.array(LIDAR_LIMITS[:len(LIDAR_FILE_COLUMNS)], np.float32)
_RADAR_FILE_LIMITS = _radar_file_limits()


def load_radar_pcd(
    path: PathLike, filters: bool = True, notes: list[DroppedPoints] | None = None
) -> np.ndarray:
    """Read a nuScenes radar sweep (binary PCD v0.7).

    Args:
        path: the PCD file.
        filters: keep what the devkit keeps by default: valid clusters (invalid_state 0), dyn_prop 0..6 and
            unambiguous Doppler (ambig_state 3).
        notes: receives an entry when points were dropped that are not finite or out of `RADAR_LIMITS`.

    Returns:
        float32 `(P, 18)` with columns `RADAR_FIELDS`, sensor frame. A sweep without detections is stored as
        one NaN point and comes back as `(0, 18)`.

    Raises:
        BadFile: absent, zero bytes, no PCD header, another field list, not binary, or fewer bytes than its
        header promises.
    """
    data = read_file(path, SENSOR_FILE_MIB, 'sensor data')
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
    with np.errstate(over='ignore'):  # a float64 beyond float32 becomes infinite, and is dropped
        points = np.stack([rows[name].astype(np.float32) for name in RADAR_FIELDS], 1)
    return _keep_measurements(path, points, _RADAR_FILE_LIMITS, notes)


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
        if kind not in _PCD_KINDS or size not in _PCD_SIZES[kind]:
            raise BadFile(
                path,
                f'field {name}: found type {kind} of {size} bytes, expected F, I or U of 1, 2, 4 or 8 bytes')
        formats.append((name, f'<{_PCD_KINDS[kind]}{size}'))
    return np.dtype(formats)


def _pcd_width(path: PathLike, header: dict[str, list[str]]) -> int:
    """Number of points; nuScenes stores them as one row."""
    words = {key: ' '.join(header.get(key, [])) for key in ('WIDTH', 'HEIGHT')}
    if not words['WIDTH'].isdecimal() or len(words['WIDTH']) > 9 or words['HEIGHT'] != '1':
        raise BadFile(
            path,
            f'found WIDTH {words["WIDTH"][:40] or "missing"} and HEIGHT {words["HEIGHT"] or "missing"}, '
            'expected a number and 1',
        )
    return int(words['WIDTH'])
