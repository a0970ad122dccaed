"""One proof for every module that goes into an engine: it exports, holds only what engines hold, and answers
the same."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from perception.deployment.export.operators import walk


class Named(nn.Module):
    """A module that takes and gives dictionaries of tensors, with positional tensors as an exporter wants
    them."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self.names = module, tuple(names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(dict(zip(self.names, tensors, strict=True))).values())


def assert_exports(module: nn.Module, inputs: Sequence[Tensor], folder: Path, atol: float = 2e-4) -> set[str]:
    """Export in evaluation mode, walk the operators, compare ONNX Runtime's outputs; gives the operators
    used."""
    import onnx
    import onnxruntime
    module.eval()
    path = folder / 'module.onnx'
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        expected = module(*inputs)
        torch.onnx.export(module, tuple(inputs), str(path), dynamo=True, opset_version=18, verbose=False)
    assert [str(v) for v in walk(path)] == []
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    found = session.run(None, {i.name: t.numpy() for i, t in zip(session.get_inputs(), inputs, strict=True)})
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    assert len(found) == len(expected)
    for value, tensor in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, tensor.numpy(), atol=atol, rtol=2e-3)
    return {node.op_type for node in onnx.load(str(path)).graph.node}
