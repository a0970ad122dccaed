"""What an engine without plugins may contain, and a walk that finds what it may not.

The table (`tensorrt_operators.csv`: operator, supported, types, restriction) lists the ONNX operators of TensorRT's own parser.
"""
from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_TABLE = Path(__file__).with_name('tensorrt_operators.csv')
MAX_OPSET = 20
MAX_TOPK = 3840
_TYPE_NAMES = {1: 'FP32', 10: 'FP16', 16: 'BF16', 6: 'INT32', 7: 'INT64', 9: 'BOOL', 2: 'UINT8', 3: 'INT8'}
# operators that a compiler folds away before an engine is built, and shape arithmetic
_FOLDED = {'Constant', 'Identity', 'Shape', 'ConstantOfShape'}


@dataclass(frozen=True)
class Violation:
    """One thing an engine could not hold: the node, its operator and why."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f'{self.operator} ({self.node}): {self.reason}'


def read_table(path: str | Path = DEFAULT_TABLE) -> dict[str, dict[str, str]]:
    """{operator: row} of the table.

    Raises:
        ValueError: the file lacks one of its four columns.
    """
    with open(path, newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    wanted = {'operator', 'supported', 'types', 'restriction'}
    if not rows or not wanted <= set(rows[0]):
        raise ValueError(f'{path}: expected the columns {sorted(wanted)}, found {sorted(rows[0]) if rows else "no rows"}')
    return {row['operator']: row for row in rows}


def walk(model_path: str | Path, table_path: str | Path = DEFAULT_TABLE) -> list[Violation]:
    """Everything in an ONNX file that a plugin-free TensorRT engine could not hold: operators, types, restrictions, shapes."""
    import onnx
    model = onnx.shape_inference.infer_shapes(onnx.load(str(model_path)))
    table = read_table(table_path)
    found = list(_model_violations(model))
    shapes = _shapes(model)
    types = _types(model)
    for node in _nodes(model.graph):
        found += [Violation(node.name or node.output[0], node.op_type, reason)
                  for reason in _node_reasons(node, table, shapes, types)]
    return found


def _model_violations(model: Any) -> Iterator[Violation]:
    for entry in model.opset_import:
        if entry.domain in ('', 'ai.onnx') and entry.version > MAX_OPSET:
            yield Violation('model', 'opset', f'opset {entry.version}, at most {MAX_OPSET} is read')
        elif entry.domain not in ('', 'ai.onnx') and any(n.domain == entry.domain for n in _nodes(model.graph)):
            yield Violation('model', 'opset', f'operators of the domain {entry.domain!r} are plugins')
    for value in [*model.graph.input, *model.graph.output]:
        if not all(d.HasField('dim_value') for d in value.type.tensor_type.shape.dim):
            yield Violation(value.name, 'shape', 'a dimension is not fixed')


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField('g'):
                yield from _nodes(attribute.g)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values
              if v.type.tensor_type.HasField('shape')}
    return shapes | {t.name: tuple(t.dims) for t in model.graph.initializer}


def _types(model: Any) -> dict[str, int]:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {t.name: t.data_type for t in model.graph.initializer}


def _node_reasons(node: Any, table: dict[str, dict[str, str]], shapes: dict, types: dict[str, int]) -> Iterator[str]:
    if node.op_type in _FOLDED:
        return
    row = table.get(node.op_type)
    if row is None or row['supported'] != 'yes':
        yield 'not supported without a plugin'
        return
    allowed = set(row['types'].split())
    used = _TYPE_NAMES.get(types.get(node.input[0], 0)) if node.input else None
    if allowed and used and used not in allowed:
        yield f'type {used} is not among {" ".join(sorted(allowed))}'
    yield from _restriction_reasons(node, shapes)


def _restriction_reasons(node: Any, shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == 'GridSample' and len(shapes.get(node.input[0], (0,) * 4)) != 4:
        yield f'input of {len(shapes[node.input[0]])} dimensions, only 4 are read'
    if node.op_type in ('ScatterND', 'ScatterElements') and 'reduction' in attributes \
            and attributes['reduction'].s not in (b'', b'none'):
        yield f'reduction {attributes["reduction"].s.decode()!r}'
    if node.op_type == 'TopK':
        if 'sorted' in attributes and attributes['sorted'].i != 1:
            yield 'sorted must be 1'
        k = shapes.get(node.output[0], (0,))[-1]
        if k >= MAX_TOPK:
            yield f'K is {k}, must be under {MAX_TOPK}'
    if node.op_type == 'NonZero':
        yield 'the output shape depends on data'
    if node.op_type == 'Resize' and 'mode' in attributes and attributes['mode'].s == b'cubic':
        yield 'mode cubic'
