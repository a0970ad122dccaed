"""sensor_msgs Image and CompressedImage to pictures, and pictures to Image.

Letters: H W rows and columns.
"""
from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .values import BadMessage, raw_bytes

MOST_PIXELS = 64 * 1024 ** 2
"""As many as `datasets.reading` decodes."""


@dataclass(frozen=True)
class _Encoding:
    """How pixels lie in memory: bytes a pixel, channels, bits, and OpenCV's code to RGB (None: it is RGB)."""

    channels: int
    bits: int = 8
    code: int | None = None


ENCODINGS = {
    'rgb8': _Encoding(3), '8UC3': _Encoding(3, code=cv2.COLOR_BGR2RGB),
    'bgr8': _Encoding(3, code=cv2.COLOR_BGR2RGB), 'rgba8': _Encoding(4, code=cv2.COLOR_RGBA2RGB),
    'bgra8': _Encoding(4, code=cv2.COLOR_BGRA2RGB), '8UC4': _Encoding(4, code=cv2.COLOR_BGRA2RGB),
    'mono8': _Encoding(1, code=cv2.COLOR_GRAY2RGB), '8UC1': _Encoding(1, code=cv2.COLOR_GRAY2RGB),
    'mono16': _Encoding(1, 16, cv2.COLOR_GRAY2RGB), 'rgb16': _Encoding(3, 16),
    'bgr16': _Encoding(3, 16, cv2.COLOR_BGR2RGB),
    # OpenCV names a mosaic by its second row and column
    'bayer_rggb8': _Encoding(1, code=cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': _Encoding(1, code=cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': _Encoding(1, code=cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': _Encoding(1, code=cv2.COLOR_BayerGB2RGB),
    'bayer_rggb16': _Encoding(1, 16, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr16': _Encoding(1, 16, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg16': _Encoding(1, 16, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg16': _Encoding(1, 16, cv2.COLOR_BayerGB2RGB),
    # two bytes a pixel: U Y V Y, and Y U Y V
    'yuv422': _Encoding(2, code=cv2.COLOR_YUV2RGB_UYVY), 'uyvy': _Encoding(2, code=cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': _Encoding(2, code=cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': _Encoding(2, code=cv2.COLOR_YUV2RGB_YUY2)}
"""Name in sensor_msgs/image_encodings.hpp -> layout."""


_ENDS = {'jpeg': b'\xff\xd9', 'png': b'IEND'}


def check_image_size(height: int, width: int) -> None:
    """Refuse a picture without pixels, or with more than `MOST_PIXELS`, before memory is taken for it."""
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise BadMessage(
            f'Image: found {width} x {height} pixels, expected 1 to {MOST_PIXELS >> 20} million of them')


def rgb_image(message: Any) -> np.ndarray:
    """The picture of a sensor_msgs/Image: uint8 RGB `(H, W, 3)`; 16 bits lose their lower half.

    Raises:
        BadMessage: an unknown encoding, or sizes that do not fit its bytes.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise BadMessage(
            f'Image.encoding: found {message.encoding!r:.40}, expected one of {", ".join(ENCODINGS)}')

    pixels = _rows(message, encoding)
    if encoding.code is None:
        return np.ascontiguousarray(pixels)
    if message.encoding.startswith(('yuv', 'uyvy', 'yuyv')) and pixels.shape[1] % 2:
        raise BadMessage(f'Image.width: found {pixels.shape[1]}, expected an even one of {message.encoding}')
    return cv2.cvtColor(np.ascontiguousarray(pixels), encoding.code)


def _rows(message: Any, encoding: _Encoding) -> np.ndarray:
    """uint8 `(H, W)` or `(H, W, channels)` of the message's bytes, without what fills up its rows."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    check_image_size(height, width)
    data = raw_bytes('Image.data', message.data)
    row = width * encoding.channels * encoding.bits // 8
    needed = step * (height - 1) + row
    if step < row or len(data) < needed:
        raise BadMessage(
            f'Image: found rows of {step} bytes and {len(data)} bytes of data, expected {row} a row and '
            f'{needed} for {width} x {height} pixels of {message.encoding}')

    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
    if encoding.bits == 16:
        # the more significant byte of each
        rows = rows[:, (0 if message.is_bigendian else 1)::2]
    return rows.reshape(height, width, encoding.channels) if encoding.channels > 1 else rows


def packed_image(message: Any) -> tuple[bytes, str, tuple[int, int]]:
    """The file inside a sensor_msgs/CompressedImage: its bytes, 'jpeg' or 'png', and (rows, columns).

    Nothing but its header is decoded; one that was cut lacks its end mark.

    Raises:
        BadMessage: another format, a damaged header, no end, or too many pixels.
    """
    from PIL import Image

    data = raw_bytes('CompressedImage.data', message.data).tobytes()
    kinds = {b'\xff\xd8\xff': 'jpeg', b'\x89PNG\r\n\x1a\n': 'png'}
    kind = next((name for start, name in kinds.items() if data.startswith(start)), None)
    if kind is None:
        raise BadMessage(
            f'CompressedImage: found format {message.format!r:.60} and bytes that begin with '
            f'{data[:8].hex()}, expected a JPEG or PNG')
    try:
        with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadMessage(f'CompressedImage: its {kind} cannot be read: {error}') from error
    check_image_size(height, width)
    if _ENDS[kind] not in data:
        raise BadMessage(f'CompressedImage: its {kind} of {len(data)} bytes has no end, it was cut')
    return data, kind, (height, width)


def rgb_of_packed(message: Any) -> np.ndarray:
    """The picture of a CompressedImage: uint8 RGB `(H, W, 3)`.

    Raises:
        BadMessage: as `packed_image`; or its content is damaged.
    """
    data, kind, size_hw = packed_image(message)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.shape[:2] != size_hw:
        raise BadMessage(f'CompressedImage: its {kind} of {len(data)} bytes cannot be decoded')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
