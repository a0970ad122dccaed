"""What all conversions share: the error that names topic and field, and numbers that are checked."""
from __future__ import annotations

import math
from typing import Any

import numpy as np


class BadMessage(ValueError):
    """A message whose content cannot be what its type means; names the field, found and expected."""


def attribute(message: Any, *names: str) -> Any:
    """The first of some fields that a message has: ROS 1 and 2 spell some differently (K, k).

    Raises:
        BadMessage: it has none of them.
    """
    for name in names:
        if hasattr(message, name):
            return getattr(message, name)
    kind = getattr(message, '__msgtype__', type(message).__name__)
    raise BadMessage(f'{kind}: found no field {" or ".join(names)}')


def nested(message: Any, path: str) -> Any:
    """The field at a path with dots, `pose.pose.position.x`."""
    for name in path.split('.'):
        message = attribute(message, name)
    return message


def finite_numbers(field: str, *values: Any) -> list[float]:
    """The values as finite floats.

    Raises:
        BadMessage: one is not.
    """
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise BadMessage(f'{field}: found {numbers}, expected finite numbers')
    return numbers


def stamp_of(header: Any) -> int:
    """A header's time in nanoseconds; ROS 1 and 2 spell it differently."""
    stamp = header.stamp
    return int(attribute(stamp, 'sec', 'secs')) * 1_000_000_000 + int(attribute(stamp, 'nanosec', 'nsecs'))


def raw_bytes(field: str, data: Any) -> np.ndarray:
    """A field of bytes as uint8 `(N,)`, not copied."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return np.frombuffer(data, np.uint8)
    array = np.asarray(data)
    if array.ndim != 1 or array.dtype.itemsize != 1:
        raise BadMessage(f'{field}: found {array.dtype} of shape {array.shape}, expected bytes')
    return array.view(np.uint8)
