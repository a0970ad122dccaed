"""Records as plain named arrays and back, by the annotations of their fields: nothing is ever unpickled."""
from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np


def record_to_arrays(record: Any, name: str = '') -> dict[str, np.ndarray]:
    """A record as arrays by dotted name.

    Args:
        record: a dataclass of arrays, numbers, words, bytes, tuples, dictionaries and further dataclasses, or
            what has `to_text` and `from_text`.
            None has no entry; a tuple of dataclasses and a dictionary have an entry per item.
        name: before the first dot.
    """
    if record is None:
        return {}

    if hasattr(record, 'to_text'):
        return {name: np.asarray(record.to_text())}
    if is_dataclass(record):
        return _joined({f.name: getattr(record, f.name) for f in fields(record)}, name)
    if isinstance(record, Mapping):
        return _joined(record, name)
    if isinstance(record, tuple) and any(is_dataclass(item) for item in record):
        return _joined({str(i): item for i, item in enumerate(record)}, name)

    return {name: np.frombuffer(record, np.uint8) if isinstance(record, bytes) else np.asarray(record)}


def _joined(parts: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for key, part in parts.items():
        arrays |= record_to_arrays(part, _dotted(name, key))
    return arrays


def record_from_arrays(kind: Any, arrays: Mapping[str, np.ndarray], name: str = '') -> Any:
    """Inverse of `record_to_arrays` for a type, by its annotations.

    Raises:
        KeyError: an array is missing.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)

    if origin in (typing.Union, types.UnionType):
        return record_from_arrays(arguments[0], arrays, name) if holds(arrays, name) else None
    if hasattr(kind, 'from_text'):
        return kind.from_text(str(arrays[name]))
    if is_dataclass(kind):
        hints = _hints(kind)
        return kind(
            **{part: record_from_arrays(hint, arrays, _dotted(name, part)) for part, hint in hints.items()}
        )
    if origin is dict:
        return {key: record_from_arrays(arguments[1], arrays, f'{name}.{key}') for key in _keys(arrays, name)}
    if origin is tuple and is_dataclass(arguments[0]):
        return tuple(record_from_arrays(arguments[0], arrays, f'{name}.{key}') for key in _keys(arrays, name))
    if origin is tuple:
        return tuple(arrays[name].tolist())

    if kind is np.ndarray:
        return arrays[name]
    return arrays[name].tobytes() if kind is bytes else kind(arrays[name].item())


def holds(arrays: Mapping[str, np.ndarray], name: str) -> bool:
    """Is there an array of this name or of a part of it?"""
    return name in arrays or any(key.startswith(f'{name}.') for key in arrays)


def part_of(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays of one part under their own names."""
    start = f'{name}.'
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}


def _dotted(name: str, part: str) -> str:
    return f'{name}.{part}' if name else part


def _keys(arrays: Mapping[str, np.ndarray], name: str) -> list[str]:
    return list(dict.fromkeys(key.split('.')[0] for key in part_of(arrays, name)))


@lru_cache(maxsize=32)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
