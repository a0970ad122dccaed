"""Arrays as text of a page: few numbers as JSON, many packed; nothing of it can end a script element."""
from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

KINDS = ('int16', 'uint8', 'uint16')
"""What `static/arrays.js` unpacks; bytes are little-endian."""
_POINT_M = 0.01


def pack(array: np.ndarray) -> dict[str, str]:
    """An array's bytes, deflated, in base64.

    Raises:
        ValueError: a kind of number that the page does not know.
    """
    if array.dtype.name not in KINDS:
        raise ValueError(f'array of {array.dtype.name}: expected one of {", ".join(KINDS)}')
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder('<')).tobytes()
    return {'kind': array.dtype.name, 'data': base64.b64encode(zlib.compress(data, 9)).decode()}


def pack_points(points_P3: np.ndarray) -> dict[str, str]:
    """Points in metres as 16-bit centimetres: x of all, then y, then z, each as the step from the last.

    What lies farther than 327 m is left out. Neighbours of a LiDAR's turn lie close together, so steps pack
    better than places.
    """
    centimetres = np.round(np.asarray(points_P3, dtype=np.float64) / _POINT_M)
    largest = np.iinfo(np.int16).max
    inside = (np.abs(np.nan_to_num(centimetres, nan=np.inf)) <= largest).all(1)
    places = centimetres[inside].astype(np.int32)

    # a step may be larger than 16 bit; it wraps around, as the sum does in the page
    steps = np.diff(places, axis=0, prepend=0).astype(np.int16)
    return pack(steps.T)


def rounded(array: np.ndarray, digits: int = 2) -> list[Any]:
    """Numbers for JSON; what is not finite becomes None."""
    values = np.round(np.asarray(array, dtype=np.float64), digits)
    return np.where(np.isfinite(values), values, None).tolist()


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever words are in it."""
    text = json.dumps(value, separators=(',', ':'), allow_nan=False)
    return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')
