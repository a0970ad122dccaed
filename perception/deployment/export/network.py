"""A trained model -> one ONNX network and its sidecar, checked against the operators of an engine."""
from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.config import kept_widths
from ...core.contracts import Batch
from ...model import MultiTaskPerception
from ..errors import ExportError
from .fields import HALF_NAME
from .graph import ExportGraph, TensorSpec, fixed_shapes, graph_inputs, index_limits
from .operators import walk
from .parts import remove_network
from .sidecar import NETWORK_NAME, SIDECAR_NAME, Sidecar, config_hash, file_hash, weights_hash
from .simplify import simplify

OPSET = 18


def plain(value: Any) -> Any:
    """A configuration in JSON's types: dictionaries, lists, numbers, strings."""
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
    """Write `network.onnx` and `sidecar.json`; remove other networks of an earlier export.

    Args:
        model: with its trained weights.
        batch: one sample, which fixes the shapes.
        folder: is made where it does not exist.
        model_config: plain part of the configuration, kept in the sidecar so that a runtime can prepare
            inputs and decode outputs.
        data_config: the same of the dataset.
        opset: 17 to 20.
        check: refuse a graph that a plugin-free engine cannot contain.

    Returns:
        The sidecar that was written.

    Raises:
        ExportError: the graph contains what an engine cannot (each violation named).
        ValueError: opset outside 17 to 20.
    """
    if not 17 <= opset <= 20:
        raise ValueError(f'opset: expected 17 to 20, found {opset}')
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    inputs = graph_inputs(model, batch)
    partial = folder / 'network.partial.onnx'
    try:
        outputs = _write_checked(model, inputs, partial, opset, check)

        # an exporter drops inputs that nothing in the graph reads
        specs = _graph_specs(partial, inputs, index_limits(model, inputs))
        dropped = tuple(sorted(set(inputs) - {spec.name for spec in specs}))
        sidecar = _make_sidecar(model, partial, specs, outputs, dropped, opset, model_config, data_config)

        # the old export's other networks go first: whenever this is ended, no file passes for another's
        _remove_others(folder)
        os.replace(partial, folder / NETWORK_NAME)
        sidecar.write(folder)
    finally:
        partial.unlink(missing_ok=True)
    return sidecar


def _remove_others(folder: Path) -> None:
    """Remove what was made from an earlier network, and what a killed export left."""
    for old in (*folder.glob('network*.int8.onnx'), *folder.glob('network*.int8.xml')):
        remove_network(old)
    for old in (*folder.glob(HALF_NAME), *folder.glob(f'.{SIDECAR_NAME}.*.tmp')):
        old.unlink(missing_ok=True)


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


def _write_checked(
    model: MultiTaskPerception, inputs: dict[str, np.ndarray], network: Path, opset: int, check: bool
) -> tuple[TensorSpec, ...]:
    """Write the network and check it; the specs of its outputs."""
    outputs = _write_network(model, inputs, network, opset)
    violations = walk(network) if check else []
    if violations:
        listed = '\n  '.join(str(violation) for violation in violations[:20])
        raise ExportError(
            f'the graph contains {len(violations)} nodes that an engine without plugins cannot run:\n  '
            f'{listed}'
        )
    return outputs


def _write_network(
    model: MultiTaskPerception, inputs: dict[str, np.ndarray], path: Path, opset: int
) -> tuple[TensorSpec, ...]:
    graph = ExportGraph(model, list(inputs)).eval()
    with fixed_shapes(model), torch.no_grad():
        # names and shapes of the outputs are known after a first run
        outputs = graph(*map(torch.from_numpy, inputs.values()))
        names = graph.output_names
        write_graph(graph, inputs, names, path, opset)
    return tuple(TensorSpec.of(name, value) for name, value in zip(names, outputs, strict=True))


def _graph_specs(path: Path, inputs: dict[str, np.ndarray], limits: dict[str, int]) -> tuple[TensorSpec, ...]:
    """Specs of the inputs that the graph really has."""
    import onnx
    names = [value.name for value in onnx.load(str(path), load_external_data=False).graph.input]
    return tuple(TensorSpec.of(name, inputs[name], limits.get(name)) for name in names)


def _make_sidecar(
    model: MultiTaskPerception,
    network: Path,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    dropped: tuple[str, ...],
    opset: int,
    model_config: dict[str, Any],
    data_config: dict[str, Any] | None,
) -> Sidecar:
    config = plain(model_config)
    return Sidecar(
        model_config=config,
        data_config=plain(data_config or {}),
        inputs=inputs,
        outputs=outputs,
        config_hash=config_hash(config),
        weights_hash=weights_hash(model),
        network_hash=file_hash(network),
        opset=opset,
        dropped_inputs=dropped,
    )


def select_parts(
    model_config: dict[str, Any],
    sensors: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The configuration with some of its tasks and sensors only.

    A sensor that may be absent at times needs no export of its own: it is a masked input of the same graph.

    Raises:
        ValueError: a task or sensor that the configuration does not have.
    """
    left_out = [
        f'{kind}.{name}' for kind, kept in (('heads', tasks), ('encoders', sensors)) if kept
        for name in model_config[kind] if name not in kept]
    config = {**model_config, **kept_widths(model_config, left_out)}
    if tasks:
        _check_known('tasks', tasks, config['heads'])
        config['heads'] = {task: head for task, head in config['heads'].items() if task in tasks}

    if sensors:
        _check_known('sensors', sensors, config['encoders'])
        config['encoders'] = {
            sensor: encoder for sensor, encoder in config['encoders'].items() if sensor in sensors
        }
        # the fuser of several sensors says how many channels each has
        channels = config['fuser'].get('in_channels')
        if channels is not None:
            channels = {sensor: count for sensor, count in channels.items() if sensor in sensors}
            config['fuser'] = {**config['fuser'], 'in_channels': channels}
    return config


def _check_known(kind: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f'{kind}: the configuration has {sorted(known)}, found {unknown}')
