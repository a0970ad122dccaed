"""A trained model -> one ONNX network and its sidecar, checked against the operators an engine may hold."""
from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.contracts import Batch
from ...model import MultiTaskPerception
from ..errors import ExportError
from .graph import ExportGraph, TensorSpec, fixed_shapes, graph_inputs, index_limits
from .operators import walk
from .parts import remove_network
from .sidecar import NETWORK_NAME, Sidecar, config_hash, file_hash, weights_hash
from .simplify import simplify

OPSET = 18


def plain(value: Any) -> Any:
    """A configuration as JSON can hold it: dictionaries, lists, numbers, strings."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def export_network(
    model: MultiTaskPerception,
    batch: Batch,
    folder: str | Path,
    model_config: dict[str, Any],
    data_config: dict[str, Any] | None = None,
    opset: int = OPSET,
    check: bool = True,
) -> Sidecar:
    """Write `network.onnx` and `sidecar.json` into `folder`, and remove quantised networks of an earlier
    export there.

    Args:
        model: with its trained weights.
        batch: one sample, which fixes the shapes.
        model_config, data_config: plain parts of the configuration, kept in the sidecar so that a runtime can
            prepare inputs and decode outputs.
        check: refuse a graph that a plugin-free engine cannot hold.

    Returns:
        The sidecar that was written.

    Raises:
        ExportError: the graph holds something an engine cannot (each named). ValueError: opset outside
        17..20.
    """
    if not 17 <= opset <= 20:
        raise ValueError(f'opset: expected 17 to 20, found {opset}')
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = graph_inputs(model, batch)
    partial = folder / 'network.partial.onnx'
    try:
        outputs = _write_onnx(model, inputs, partial, opset)
        violations = walk(partial) if check else []
        if violations:
            listed = '\n  '.join(str(v) for v in violations[:20])
            raise ExportError(
                f'the graph holds {len(violations)} things that an engine without plugins cannot:\n  {listed}'
            )
        os.replace(partial, folder / NETWORK_NAME)
    finally:
        partial.unlink(missing_ok=True)
    config, kept = (
        plain(model_config), _kept_specs(folder / NETWORK_NAME, inputs, index_limits(model, inputs)))
    dropped = tuple(sorted(set(inputs) - {spec.name for spec in kept}))
    sidecar = Sidecar(
        config, plain(data_config or {}), kept, outputs, config_hash(config), weights_hash(model),
        file_hash(folder / NETWORK_NAME), opset, dropped)
    sidecar.write(folder)
    for old in (path for kind in ('onnx', 'xml') for path in folder.glob(f'network*.int8.{kind}')):
        remove_network(old)
    return sidecar


def _write_onnx(
    model: MultiTaskPerception, inputs: dict[str, np.ndarray], path: Path, opset: int
) -> tuple[TensorSpec, ...]:
    graph = ExportGraph(model, list(inputs)).eval()
    with fixed_shapes(model), torch.no_grad():
        found = graph(*map(torch.from_numpy, inputs.values()))
        names = graph.output_names
        write_graph(graph, inputs, names, path, opset)
    return tuple(TensorSpec.of(name, value) for name, value in zip(names, found, strict=True))


def write_graph(
    graph: nn.Module, inputs: dict[str, np.ndarray], output_names: Sequence[str], path: Path, opset: int
) -> None:
    """Write a module with positional inputs as ONNX, its weights inside."""
    tensors = tuple(map(torch.from_numpy, inputs.values()))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            graph, tensors, dynamo=True, opset_version=opset, input_names=list(inputs),
            output_names=list(output_names), verbose=False, optimize=False)
        simplify(program.model)
    program.save(str(path), external_data=False)


def _kept_specs(path: Path, inputs: dict[str, np.ndarray], limits: dict[str, int]) -> tuple[TensorSpec, ...]:
    """Specs of the inputs that the graph really has (an exporter may drop one that nothing reads)."""
    import onnx
    names = [value.name for value in onnx.load(str(path), load_external_data=False).graph.input]
    return tuple(TensorSpec.of(name, inputs[name], limits.get(name)) for name in names)


def select_parts(
    model_config: dict[str, Any],
    sensors: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The configuration with some tasks only (sensors stay: an absent one is a masked input of the same
    graph).

    Raises:
        ValueError: a task the configuration does not have.
    """
    config = dict(model_config)
    if tasks:
        unknown = sorted(set(tasks) - set(config['heads']))
        if unknown:
            raise ValueError(f'tasks: the configuration has {sorted(config["heads"])}, found {unknown}')
        config['heads'] = {task: head for task, head in config['heads'].items() if task in tasks}
    if sensors:
        unknown = sorted(set(sensors) - set(config['encoders']))
        if unknown:
            raise ValueError(f'sensors: the configuration has {sorted(config["encoders"])}, found {unknown}')
        config['encoders'] = {s: e for s, e in config['encoders'].items() if s in sensors}
        if 'in_channels' in config['fuser']:
            config['fuser'] = {
                **config['fuser'],
                'in_channels': {s: c for s, c in config['fuser']['in_channels'].items() if s in sensors}}
    return config
