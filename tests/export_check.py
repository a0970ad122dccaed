"""One proof for every module that goes into an engine: it exports, holds only what engines hold, and answers
the same."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perception.deployment.export.network import OPSET, write_graph
from perception.deployment.export.operators import walk


class Named(nn.Module):
    """A module that takes and gives dictionaries of tensors, with positional tensors as an exporter wants
    them."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self.names = module, tuple(names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(dict(zip(self.names, tensors, strict=True))).values())


def export(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> list[Tensor]:
    """Write a module in evaluation mode as the package writes networks; gives what it answers."""
    with torch.no_grad():
        expected = module.eval()(*inputs.values())
        expected = [expected] if isinstance(expected, Tensor) else list(
            expected.values() if isinstance(expected, Mapping) else expected)
        names = [f'output_{i}' for i in range(len(expected))]
        write_graph(module, {name: value.numpy() for name, value in inputs.items()}, names, path, OPSET)
    return expected


def open_session(path: Path) -> Any:
    """The network in ONNX Runtime."""
    import onnxruntime
    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


def assert_exports(module: nn.Module, inputs: Sequence[Tensor], folder: Path, atol: float = 2e-4) -> set[str]:
    """Export in evaluation mode, walk the operators, compare ONNX Runtime's outputs; gives the operators
    used."""
    import onnx
    path = folder / 'module.onnx'
    named = {f'input_{i}': value for i, value in enumerate(inputs)}
    expected = export(module, named, path)
    assert [str(v) for v in walk(path)] == []
    found = open_session(path).run(None, {name: value.numpy() for name, value in named.items()})
    assert len(found) == len(expected)
    for value, tensor in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, tensor.numpy(), atol=atol, rtol=2e-3)
    return {node.op_type for node in onnx.load(str(path)).graph.node}
