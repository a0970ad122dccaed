"""Records of options: frozen dataclasses that a configuration writes as plain dictionaries."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from .config import nearest_name

Record = TypeVar('Record')


def build_record(record_type: type[Record], options: Record | Mapping[str, Any] | None, owner: str) -> Record:
    """Build a record of options from the dictionary that a configuration gives.

    Args:
        record_type: a frozen dataclass whose fields all have defaults.
        options: the options that differ from the defaults; None changes nothing, a record stays as it is.
        owner: argument whose value `options` is, for the message ('LaneHead.decoder').

    Returns:
        The record; it checks its own values.

    Raises:
        ValueError: an option is unknown, with the nearest known one, or its value is out of range.
    """
    if isinstance(options, record_type):
        return options

    known = [field.name for field in fields(record_type)]
    for name in options or {}:
        if name not in known:
            raise ValueError(
                f'{owner}: unknown option {name!r}{nearest_name(name, known)} (known: {", ".join(known)})'
            )
    return record_type(**(options or {}))
