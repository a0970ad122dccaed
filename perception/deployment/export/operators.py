"""What an engine without plugins may contain, and a walk that finds what it may not.

The table (`tensorrt_operators.csv`: operator, supported, types, restriction) lists the ONNX operators of
TensorRT's own parser.
"""
from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
    """A node that an engine cannot contain, its operator and why."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f'{self.operator} ({self.node}): {self.reason}'


def read_operator_table(path: str | Path = DEFAULT_TABLE) -> dict[str, dict[str, str]]:
    """{operator: row} of the table.

    Raises:
        ValueError: the file lacks one of its four columns.
    """
    with open(path, newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    columns = {'operator', 'supported', 'types', 'restriction'}
    if not rows or not columns <= set(rows[0]):
        raise ValueError(
            f'{path}: expected the columns {sorted(columns)}, found {sorted(rows[0]) if rows else "no rows"}'
        )
    return {row['operator']: row for row in rows}


@dataclass(frozen=True)
class _Known:
    """What is known about the values of a graph.

    Attributes:
        shapes: by name.
        types: ONNX element types by name.
        constants: {name: its numbers}; None for those of more than one dimension.
    """

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    constants: dict[str, Any]

    @classmethod
    def of(cls, model: Any) -> _Known:
        """Collect them from a model after shape inference, bodies of loops included."""
        from onnx import numpy_helper
        graphs = list(_graphs(model.graph))
        values = [
            value for graph in graphs for value in (*graph.input, *graph.output, *graph.value_info)]
        shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in values
            if value.type.tensor_type.HasField('shape')
        }
        types = {value.name: value.type.tensor_type.elem_type for value in values}

        # weights, and the outputs of Constant nodes
        tensors = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
        for node in _nodes(model.graph):
            if node.op_type == 'Constant':
                value = next((a.t for a in node.attribute if a.name == 'value'), None)
                tensors |= {node.output[0]: value} if value is not None else {}
        shapes |= {name: tuple(tensor.dims) for name, tensor in tensors.items()}
        types |= {name: tensor.data_type for name, tensor in tensors.items()}

        small = {name: numpy_helper.to_array(t) for name, t in tensors.items() if len(t.dims) < 2}
        return cls(shapes, types, dict.fromkeys(tensors) | small)


def walk(model_path: str | Path, table_path: str | Path = DEFAULT_TABLE) -> list[Violation]:
    """Everything in an ONNX file that a plugin-free TensorRT engine cannot contain.

    Operators, types, restrictions of operators and shapes are checked.
    """
    import onnx
    model = onnx.shape_inference.infer_shapes(onnx.load(str(model_path)))
    table = read_operator_table(table_path)
    known = _Known.of(model)

    violations = list(_model_violations(model))
    for node in _nodes(model.graph):
        name = node.name or node.output[0]
        violations += [Violation(name, node.op_type, reason) for reason in _node_reasons(node, table, known)]
    return violations


def _model_violations(model: Any) -> Iterator[Violation]:
    for entry in model.opset_import:
        if entry.domain in ('', 'ai.onnx') and entry.version > MAX_OPSET:
            yield Violation('model', 'opset', f'opset {entry.version}, at most {MAX_OPSET} is read')
        elif entry.domain not in ('', 'ai.onnx') and any(
            n.domain == entry.domain for n in _nodes(model.graph)
        ):
            yield Violation('model', 'opset', f'operators of the domain {entry.domain!r} are plugins')
    for value in [*model.graph.input, *model.graph.output]:
        if not all(d.HasField('dim_value') for d in value.type.tensor_type.shape.dim):
            yield Violation(value.name, 'shape', 'a dimension is not fixed')


def _nodes(graph: Any) -> Iterator[Any]:
    return (node for one in _graphs(graph) for node in one.node)


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and the bodies of its loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField('g'):
                yield from _graphs(attribute.g)


def _node_reasons(node: Any, table: dict[str, dict[str, str]], known: _Known) -> Iterator[str]:
    if node.op_type in _FOLDED:
        return
    row = table.get(node.op_type)
    if row is None or row['supported'] != 'yes':
        yield 'not supported without a plugin'
        return
    allowed = set(row['types'].split())
    used = _TYPE_NAMES.get(known.types.get(node.input[0], 0)) if node.input else None
    if allowed and used and used not in allowed:
        yield f'type {used} is not among {" ".join(sorted(allowed))}'
    if node.op_type in _RESTRICTIONS:
        yield from _RESTRICTIONS[node.op_type](node, _attributes(node), known)
    elif node.op_type.startswith('Reduce'):
        yield from _constant_inputs(node, {}, known, (1,))


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _constant_inputs(node: Any, attributes: dict, known: _Known, places: Sequence[int]) -> Iterator[str]:
    for place in places:
        if len(node.input) > place and node.input[place] and node.input[place] not in known.constants:
            yield f'input {place} ({node.input[place]}) must be constant'


def _grid_sample(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    shape = known.shapes.get(node.input[0])
    if shape is None or len(shape) != 4:
        yield f'input of {"unknown" if shape is None else len(shape)} dimensions, only 4 are read'


def _no_reduction(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    if attributes.get('reduction', b'none') not in (b'', b'none'):
        yield f'reduction {attributes["reduction"].decode()!r}'


def _top_k(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    if attributes.get('sorted', 1) != 1:
        yield 'sorted must be 1'
    k = known.constants.get(node.input[1])
    if k is None:
        yield 'K must be constant'
    elif int(k.reshape(-1)[0]) >= MAX_TOPK:
        yield f'K is {int(k.reshape(-1)[0])}, must be under {MAX_TOPK}'


def _resize(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    if attributes.get('mode', b'nearest') not in (b'nearest', b'linear'):
        yield f'mode {attributes["mode"].decode()}'
    if attributes.get('coordinate_transformation_mode', b'half_pixel') not in _RESIZE_COORDINATES:
        yield f'coordinates {attributes["coordinate_transformation_mode"].decode()}'


def _max_pool(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    if len(node.output) > 1 and node.output[1]:
        yield 'the output Indices is asked for'
    if any(d != 1 for d in attributes.get('dilations', [])):
        yield f'dilations {list(attributes["dilations"])}'


def _first_output_only(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    if any(node.output[1:]):
        yield f'only the first output is given, found {len(node.output)}'


def _zero_point(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    if len(node.input) < 3 or not node.input[2]:
        return
    zero = known.constants.get(node.input[2])
    if zero is None or zero.any():
        yield 'the zero point must be a constant 0'


def _shape_depends_on_data(node: Any, attributes: dict, known: _Known) -> Iterator[str]:
    yield 'the output shape depends on data'


_RESIZE_COORDINATES = (
    b'half_pixel', b'pytorch_half_pixel', b'tf_half_pixel_for_nn', b'asymmetric', b'align_corners')
_RESTRICTIONS = {
    'GridSample': _grid_sample, 'ScatterND': _no_reduction, 'ScatterElements': _no_reduction, 'TopK': _top_k,
    'Resize': _resize, 'MaxPool': _max_pool, 'LayerNormalization': _first_output_only,
    'QuantizeLinear': _zero_point, 'DequantizeLinear': _zero_point, 'NonZero': _shape_depends_on_data,
    'Unique': _shape_depends_on_data, 'Slice': partial(_constant_inputs, places=(3,)),
    'Pad': partial(_constant_inputs, places=(1, 3)), 'Squeeze': partial(_constant_inputs, places=(1,)),
    'Unsqueeze': partial(_constant_inputs, places=(1,))}
