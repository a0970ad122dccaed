"""Half precision as a file: the exported network in float16, in float32 only where values overflow.

Inputs and outputs stay float32. Engines that take the precision from the network (TensorRT from 11 on, ONNX
Runtime) compute this file in half precision; others may.
"""
from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..onnx_session import Arrays, open_session, run_network
from .fields import HALF_NAME
from .sidecar import NETWORK_NAME, Sidecar, file_hash

LARGEST_HALF = 65504.0
HEADROOM = 4.0
"""Values may be this many times as large as in the samples before a layer overflows."""

MOST_ERROR = 0.02
"""Relative L2 error of any output, over the samples, from which the network is refused."""


@dataclass(frozen=True)
class HalfReport:
    """What was written.

    Attributes:
        islands: names of the nodes that stay in float32.
        nodes: how many nodes the network has.
        error: largest relative L2 error of an output against the float32 network, by the samples.
        output: of that error.
    """

    islands: tuple[str, ...]
    nodes: int
    error: float
    output: str

    def summary(self) -> str:
        """One line."""
        return (
            f'{HALF_NAME}: {self.nodes - len(self.islands)} of {self.nodes} nodes in half precision, largest '
            f'relative error {self.error:.1e} ({self.output})'
        )


def export_half(folder: str | Path, samples: Iterable[Arrays]) -> HalfReport:
    """Write `network.fp16.onnx` beside an exported network and its hash into the sidecar.

    Args:
        folder: of the export.
        samples: graph inputs that show how large values become.

    Raises:
        ExportError: outputs are not finite, or differ by more than `MOST_ERROR`; nothing is written.
        ValueError: no samples.
    """
    folder, samples = Path(folder), list(samples)
    if not samples:
        raise ValueError('half precision: expected samples that show how large values become, found none')
    sidecar = Sidecar.read(folder)

    model, islands = _convert(folder / NETWORK_NAME, samples)
    partial = folder / 'network.partial.fp16.onnx'
    try:
        _save(model, partial)
        error, output = _largest_error(folder / NETWORK_NAME, partial, samples)
        if not error <= MOST_ERROR:
            raise ExportError(
                f'{HALF_NAME}: {output}: expected a relative error of at most {MOST_ERROR:g} in half '
                f'precision, found {error:g}'
            )
        os.replace(partial, folder / HALF_NAME)
    finally:
        partial.unlink(missing_ok=True)

    report = HalfReport(islands, len(model.graph.node), error, output)
    sidecar.with_half({
        'file': HALF_NAME, 'hash': file_hash(folder / HALF_NAME), 'islands': list(islands), 'error': error,
    }).write(folder)
    return report


def _convert(network: Path, samples: Sequence[Arrays]) -> tuple[Any, tuple[str, ...]]:
    """The network in float16 with float32 inputs and outputs, and the nodes that stay in float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(network))
    _name_nodes(model)
    large = _large_tensors(model, samples)
    islands = tuple(
        node.name for node in model.graph.node if large.intersection([*node.input, *node.output]))

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of constants below float16's smallest number
        half = convert_float_to_float16(
            model, keep_io_types=True, node_block_list=list(islands))
    _join_islands(half)
    return half, islands


def _join_islands(model: Any) -> None:
    """Let values go from one float32 node to the next as they are.

    The converter casts every output of an island to float16 and every input back, where what made it an
    island would overflow after all, and writes the same cast once for every reader.
    """
    from onnx import TensorProto
    from onnxruntime.transformers.onnx_model import OnnxModel

    graph = model.graph
    casts = {node.output[0]: node for node in graph.node if node.op_type == 'Cast'}
    to = {name: node.attribute[0].i for name, node in casts.items()}

    # {name of a float32 value that went through float16: name of that value before}
    direct = {
        name: casts[node.input[0]].input[0] for name, node in casts.items()
        if to[name] == TensorProto.FLOAT and to.get(node.input[0]) == TensorProto.FLOAT16}
    ends = {value.name for value in graph.output}
    nodes, written = [], set()
    for node in graph.node:
        if written.intersection(node.output):
            continue
        written.update(node.output)
        if node.output[0] in direct and node.output[0] in ends:
            node.op_type = 'Identity'
            del node.attribute[:]
        for i, name in enumerate(node.input):
            node.input[i] = direct.get(name, name)
        if node.op_type == 'Identity' and node.output[0] in direct:
            node.input[0] = direct[node.output[0]]
        nodes.append(node)

    read = ends.union(*(node.input for node in nodes))
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.op_type != 'Cast' or node.output[0] in read)
    OnnxModel(model).topological_sort(is_deterministic=True)


def _name_nodes(model: Any) -> None:
    """Give every node a name of its own, by which it can be left in float32."""
    for index, node in enumerate(model.graph.node):
        node.name = f'{index}_{node.op_type}'


def _large_tensors(model: Any, samples: Sequence[Arrays]) -> set[str]:
    """Names of the weights and values that come near float16's largest number."""
    from onnx import numpy_helper

    limit = LARGEST_HALF / HEADROOM
    large = {
        weight.name for weight in model.graph.initializer
        if (value := numpy_helper.to_array(weight)).dtype.kind == 'f' and value.size
        and np.abs(value).max() > limit}
    for name, value in _values(model, samples):
        if not np.abs(value).max(initial=0.0) <= limit:
            large.add(name)
    return large


def _values(model: Any, samples: Sequence[Arrays], at_once: int = 64) -> Iterator[tuple[str, np.ndarray]]:
    """(name, value) of every float value inside the network, some of them at once to bound the memory."""
    import onnx
    known = {value.name for value in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]

    for first in range(0, len(names), at_once):
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        for name in names[first:first + at_once]:
            watched.graph.output.append(onnx.ValueInfoProto(name=name))
        session = open_session(watched.SerializeToString())
        for sample in samples:
            for name, value in run_network(session, sample).items():
                if value.dtype.kind == 'f':
                    yield name, value


def _save(model: Any, path: Path) -> None:
    import onnx
    onnx.save(model, str(path))


def _largest_error(network: Path, half: Path, samples: Sequence[Arrays]) -> tuple[float, str]:
    """The largest relative L2 error of an output over all samples, and its name; infinite for no numbers."""
    exact, found = open_session(network), open_session(half)
    square: dict[str, list[float]] = {}
    for sample in samples:
        outputs = run_network(found, sample)
        for name, value in run_network(exact, sample).items():
            sums = square.setdefault(name, [0.0, 0.0])
            sums[0] += float(np.square(outputs[name].astype(np.float64) - value).sum())
            sums[1] += float(np.square(value.astype(np.float64)).sum())

    errors = {name: float(np.sqrt(top / max(below, 1e-30))) for name, (top, below) in square.items()}
    worst = max(errors, key=lambda name: errors[name] if errors[name] == errors[name] else np.inf)
    return (errors[worst] if errors[worst] == errors[worst] else float('inf')), worst


def file_precision(network: str | Path) -> str:
    """What an ONNX file computes in: 'int8' with quantised operators, 'fp16' with half weights, or 'fp32'."""
    import onnx
    graph = onnx.load(str(network), load_external_data=False).graph
    if any(node.op_type == 'QuantizeLinear' for node in graph.node):
        return 'int8'
    halves = onnx.TensorProto.FLOAT16
    return 'fp16' if any(weight.data_type == halves for weight in graph.initializer) else 'fp32'
