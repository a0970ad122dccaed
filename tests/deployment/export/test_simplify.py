"""A simplified graph has the nodes that the exporter's own optimiser leaves, and gives the same answers."""
from __future__ import annotations

import warnings
from collections import Counter

import onnxruntime
import torch
from torch import Tensor, nn

from perception.deployment.export.simplify import simplify


class Mixed(nn.Module):
    """Batch norms behind a convolution, a transposed one and a linear layer, a pad, slices, and reshapes that
    undo each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.ZeroPad2d(1), nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, stride=2), nn.BatchNorm2d(4))
        self.last = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.first(x) * 1.0).clamp(min=0).clamp(max=5.0)
        left, right = x[..., :8], x[..., 8:]
        rows = (left + 0.0 - right).permute(0, 2, 3, 1).reshape(-1, 32).reshape(-1, 4).to(torch.float32)
        return self.last(rows) + torch.arange(6) * 2


def program(network: nn.Module, x: Tensor):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        return torch.onnx.export(network, (x,), dynamo=True, verbose=False, optimize=False, input_names=['x'])


def test_it_leaves_what_the_exporters_optimiser_leaves(tmp_path) -> None:
    torch.manual_seed(0)
    network, x = Mixed(), torch.randn(2, 3, 8, 8)
    for norm in (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        (
            nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias), norm.running_mean.normal_(),
            norm.running_var.uniform_(0.5, 2))
    network.eval()
    plain, theirs, ours = (program(network, x) for _ in range(3))
    theirs.optimize()
    simplify(ours.model)
    count = [Counter(node.op_type for node in found.model.graph) for found in (plain, theirs, ours)]
    assert count[2] == count[1] and 'BatchNormalization' in count[0] and 'BatchNormalization' not in count[2]
    assert count[2].total() < count[0].total()
    ours.save(str(tmp_path / 'ours.onnx'))
    session = onnxruntime.InferenceSession(str(tmp_path / 'ours.onnx'), providers=['CPUExecutionProvider'])
    torch.testing.assert_close(
        torch.from_numpy(session.run(None, {'x': x.numpy()})[0]), network(x), atol=1e-5, rtol=1e-5
    )
