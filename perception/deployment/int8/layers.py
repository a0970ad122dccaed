"""The layers of an ONNX network that int8 makes faster, and which of them belong to one task alone."""
from __future__ import annotations

from pathlib import Path
from typing import Any

LAYER_KINDS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')


def read_named(network: str | Path) -> Any:
    """An ONNX network whose nodes all have names."""
    import onnx
    model = onnx.load(str(network))
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f'{node.op_type}_{number}'
    return model


def quantisable_layers(model: Any) -> list[str]:
    """Names of the nodes of `LAYER_KINDS` with constant weights, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == 'Constant'}
    return [
        node.name for node in model.graph.node if node.op_type in LAYER_KINDS and node.input[1] in constants
    ]


def layers_by_head(model: Any) -> dict[str, list[str]]:
    """{task: layers of its head}: those of `quantisable_layers` that outputs of this task alone depend on.

    Outputs are named 'task.output'.
    """
    tasks_of: dict[str, set[str]] = {value.name: {value.name.split('.')[0]} for value in model.graph.output}
    layers = set(quantisable_layers(model))
    heads: dict[str, list[str]] = {}

    # from the outputs back: what a node computes serves the tasks that its outputs serve
    for node in reversed(model.graph.node):
        tasks = set().union(*(tasks_of.get(name, ()) for name in node.output))
        for name in node.input:
            tasks_of[name] = tasks_of.get(name, set()) | tasks

        if node.name in layers and len(tasks) == 1:
            (task,) = tasks
            heads.setdefault(task, []).append(node.name)
    return heads
