"""The fields of a sidecar, checked one by one when it is read: it may be damaged, or a stranger's."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .graph import TensorSpec
from .measured import check_measured

DTYPES = ('bool', 'float32', 'int32', 'int64', 'uint8')
OPSETS = range(17, 21)
HALF_NAME = 'network.fp16.onnx'
MOST_VALUES = 2**31
"""Of one tensor: the largest of the full-size configurations has 2**24."""


def check_fields(content: Any) -> None:
    """Go through everything that a sidecar must have, but for the names in its configuration.

    Raises:
        ValueError: names the field, what was found and what was expected.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f'expected an object, found {type(content).__name__}')
    for name in ('model_config', 'data_config', 'classes', 'measured'):
        _expect(content, name, Mapping, 'an object')
    for name in ('inputs', 'outputs', 'dropped_inputs'):
        _expect(content, name, list, 'a list')

    for name in ('config_hash', 'weights_hash', 'network_hash', 'sidecar_hash'):
        value = _expect(content, name, str, 'a sha256')
        if not re.fullmatch('[0-9a-f]{64}', value):
            raise ValueError(f'{name}: expected a sha256 of 64 hexadecimal digits, found {value[:80]!r}')
    if type(content.get('opset')) is not int or content['opset'] not in OPSETS:
        raise ValueError(f'opset: expected {OPSETS[0]} to {OPSETS[-1]}, found {content.get("opset")!r}')

    names = [
        *(_check_spec(f'inputs[{i}]', spec) for i, spec in enumerate(content['inputs'])),
        *content['dropped_inputs'],
        *(_check_spec(f'outputs[{i}]', spec) for i, spec in enumerate(content['outputs']))]
    for name in names:
        if not isinstance(name, str) or names.count(name) > 1:
            raise ValueError(f'inputs, outputs, dropped_inputs: expected names that differ, found {name!r}')
    if not content['outputs']:
        raise ValueError('outputs: expected at least one, found none')
    check_measured(content['measured'])
    _check_half(content.get('half'))


def _check_half(record: Any) -> None:
    if record is None:
        return
    if not isinstance(record, Mapping):
        raise ValueError(f'half: expected an object or null, found {type(record).__name__}')
    if record.get('file') != HALF_NAME:
        raise ValueError(f'half.file: expected {HALF_NAME}, found {record.get("file")!r}')
    if not (isinstance(record.get('hash'), str) and re.fullmatch('[0-9a-f]{64}', record['hash'])):
        raise ValueError(f'half.hash: expected a sha256, found {str(record.get("hash"))[:80]!r}')


def _expect(content: Mapping, name: str, kind: type, words: str) -> Any:
    if name not in content:
        raise ValueError(f'{name}: missing, expected {words}; an older sidecar is exported again')
    value = content[name]
    if not isinstance(value, kind):
        raise ValueError(f'{name}: expected {words}, found {type(value).__name__}')
    return value


def _check_spec(where: str, spec: Any) -> str:
    """The name of a tensor whose description can be true."""
    if not isinstance(spec, Mapping):
        raise ValueError(f'{where}: expected an object, found {type(spec).__name__}')
    name, shape, dtype, high = (spec.get(key) for key in ('name', 'shape', 'dtype', 'high'))

    if not isinstance(name, str) or not name:
        raise ValueError(f'{where}.name: expected a name, found {name!r}')
    if dtype not in DTYPES:
        raise ValueError(f'{where}.dtype: expected one of {DTYPES}, found {dtype!r}')
    if not isinstance(shape, list) or not all(_is_count(size) and size > 0 for size in shape):
        raise ValueError(f'{where}.shape: expected a list of sizes above 0, found {str(shape)[:80]}')

    values = 1
    for size in shape:
        values *= size
    if values > MOST_VALUES:
        raise ValueError(f'{where}.shape: expected at most {MOST_VALUES} values, found {values}: {shape}')
    if high is not None and not (_is_count(high) and dtype.startswith('int')):
        raise ValueError(f'{where}.high: expected the largest index of an integer input, found {high!r}')
    return name


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def check_specs(source: str, found: Mapping[str, tuple], expected: Mapping[str, TensorSpec]) -> None:
    """Compare the tensors of an opened network with those that the sidecar names.

    Args:
        source: of the network, for the message.
        found: {name: (shape, numpy's name of the type, or None where it may differ)}.
        expected: {name: spec}.

    Raises:
        ValueError: a name, shape or type differs; names it, what was found and what was expected.
    """
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or unknown:
        raise ValueError(
            f'{source}: other tensors than the sidecar names: missing {missing[:4]}, not in the sidecar '
            f'{unknown[:4]}'
        )
    for name, (shape, dtype) in found.items():
        spec = expected[name]
        if tuple(shape) != spec.shape:
            raise ValueError(f'{source}: {name}: expected shape {spec.shape}, found {tuple(shape)}')
        if dtype not in (None, spec.dtype):
            raise ValueError(f'{source}: {name}: expected {spec.dtype}, found {dtype}')
