"""What a sidecar says was measured: scores and latency of engines, on which machine and when.

    measured = {'engines': {'openvino bf16': {scores, samples, network_ms_p50, ..., machine, date}},
                'int8': {'openvino': {method, judged_in, file, hashes, layers, kept, loss, allowed, scores,
                ...}}}

An engine's record under `int8` describes its quantised network and how far its scores dropped.
"""
from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

KEPT = (
    'scores', 'samples', 'network_ms_p50', 'network_ms_p90', 'frame_ms_p50', 'pipelined_ms_mean', 'memory_mb',
    'file_mb', 'threads', 'machine', 'date')
ENGINE_NAMES = ('torch', 'onnxruntime', 'openvino', 'tensorrt')
PRECISION_NAMES = ('fp32', 'fp16', 'bf16', 'int8')
INT8_NAMES = ('any', 'onnxruntime', 'openvino', 'tensorrt')
INT8_METHODS = ('qdq', 'nncf')


def int8_of(measured: Mapping[str, Any], engine: str) -> tuple[str, Mapping[str, Any] | None]:
    """The quantised network that an engine opens: its own, else that of 'any', else none.

    Returns:
        The name under which it is recorded, and its record.
    """
    records = measured.get('int8', {})
    name = engine if engine in records else 'any'
    return name, records.get(name)


def check_measured(measured: Any) -> None:
    """Raise unless a sidecar's `measured` is what `Sidecar.with_rows` and quantising write.

    Raises:
        ValueError: names the entry, what was found and what was expected.
    """
    if not isinstance(measured, Mapping):
        raise ValueError(f'measured: expected an object, found {type(measured).__name__}')
    engines = measured.get('engines', {})
    if not isinstance(engines, Mapping):
        raise ValueError(
            f'measured.engines: expected an object by engine and precision, found {type(engines).__name__}'
        )
    for key, row in engines.items():
        _check_row(f'measured.engines[{key!r}]', key, row)
    int8 = measured.get('int8', {})
    if not isinstance(int8, Mapping):
        raise ValueError(f'measured.int8: expected an object by engine, found {type(int8).__name__}')
    for name, record in int8.items():
        _check_int8(f'measured.int8.{name}', name, record)


def _check_int8(where: str, name: str, record: Any) -> None:
    if name not in INT8_NAMES:
        raise ValueError(f'{where}: expected an engine of {INT8_NAMES}, found {name!r}')
    if not isinstance(record, Mapping):
        raise ValueError(f'{where}: expected an object, found {type(record).__name__}')

    for field, known in (('method', INT8_METHODS), ('judged_in', ENGINE_NAMES)):
        if record.get(field) not in known:
            raise ValueError(f'{where}.{field}: expected one of {known}, found {record.get(field)!r}')
    if record.get('weight_bits', 8) not in (7, 8):
        raise ValueError(f'{where}.weight_bits: expected 7 or 8, found {record["weight_bits"]!r}')

    file, hashes = record.get('file'), record.get('hashes')
    if not (isinstance(file, str) and re.fullmatch(r'network[\w.]*\.int8\.(onnx|xml)', file)):
        raise ValueError(f'{where}.file: expected network.ENGINE.int8.onnx or .xml, found {file!r}')
    if not (isinstance(hashes, Mapping) and all(isinstance(value, str) for value in hashes.values())):
        raise ValueError(f'{where}.hashes: expected the sha256 of each file by its name, found {hashes!r}')


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
        raise ValueError(
            f'{where}.date: expected a date such as 2026-01-31, found {row.get("date")!r}'
        ) from None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0
