"""What a sidecar says was measured: scores and latency of each engine and precision, on which machine, and when.

    measured = {'engines': {'openvino bf16': {scores, samples, network_ms_p50, ..., machine, date}}, 'int8': {...}}
"""
from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

KEPT = ('scores', 'samples', 'network_ms_p50', 'network_ms_p90', 'frame_ms_p50', 'pipelined_ms_mean', 'memory_mb', 'file_mb',
        'threads', 'machine', 'date')
ENGINE_NAMES, PRECISION_NAMES = ('torch', 'onnxruntime', 'openvino', 'tensorrt'), ('fp32', 'fp16', 'bf16', 'int8')


def check_measured(measured: Any) -> None:
    """Raise unless a sidecar's `measured` is what `Sidecar.with_rows` and quantising write.

    Raises:
        ValueError: names the entry, what was found and what was expected.
    """
    if not isinstance(measured, Mapping):
        raise ValueError(f'measured: expected an object, found {type(measured).__name__}')
    engines = measured.get('engines', {})
    if not isinstance(engines, Mapping):
        raise ValueError(f'measured.engines: expected an object by engine and precision, found {type(engines).__name__}')
    for key, row in engines.items():
        _check_row(f'measured.engines[{key!r}]', key, row)


def _check_row(where: str, key: str, row: Any) -> None:
    engine, _, precision = key.partition(' ')
    if engine not in ENGINE_NAMES or precision not in PRECISION_NAMES:
        raise ValueError(f'{where}: expected one of {ENGINE_NAMES}, a space, one of {PRECISION_NAMES}')
    if not isinstance(row, Mapping):
        raise ValueError(f'{where}: expected an object, found {type(row).__name__}')
    for name, value in row.items():
        if name.endswith(('_mb', '_p50', '_p90', '_mean')) and not (_number(value) and value > 0):
            raise ValueError(f'{where}.{name}: expected a number above 0, found {value!r}')
    for task, score in row.get('scores', {}).items():
        if score is not None and not (_number(score) and 0 <= score <= 1):
            raise ValueError(f'{where}.scores.{task}: expected a score from 0 to 1 or null, found {score!r}')
    if not (isinstance(row.get('machine'), str) and row['machine']):
        raise ValueError(f'{where}.machine: expected the name of the machine, found {row.get("machine")!r}')
    try:
        datetime.date.fromisoformat(row.get('date', ''))
    except (TypeError, ValueError):
        raise ValueError(f'{where}.date: expected a date such as 2026-01-31, found {row.get("date")!r}') from None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0
