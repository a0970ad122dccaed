"""Parts that compute their activations again have the same losses and gradients, and leave no trace."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from perception.fusion.experts import RoutedExperts
from perception.training.recompute import recompute_parts


def decoder() -> nn.ModuleDict:
    torch.manual_seed(0)
    layers = nn.ModuleList(
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), RoutedExperts(8, 16, 4, 2, balance=0.1))
        for _ in range(2))
    return nn.ModuleDict({'layers': layers, 'head': nn.Linear(8, 1)})


def run(model: nn.ModuleDict, x: torch.Tensor) -> list[torch.Tensor]:
    """Two steps without an update: losses, gradients, statistics."""
    seen = []
    for _ in range(2):
        y = x
        for layer in model['layers']:
            y = layer(y)
        loss = model['head'](y).square().mean()
        balance = [term for m in model.modules() if hasattr(m, 'extra_losses')
                   for term in m.extra_losses().values()]
        assert len(balance) == 2
        model.zero_grad()
        (loss + sum(balance)).backward()
        seen += [loss.detach(), *(term.detach() for term in balance), *(p.grad for p in model.parameters())]
    return [*(part.clone() for part in seen), *model.buffers()]


def test_losses_gradients_and_statistics_are_the_same() -> None:
    x, plain, saving = torch.randn(32, 8), decoder(), decoder()
    assert recompute_parts(saving, ['layers']) == 2
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        run(plain, x)
        of_plain = len(kept)
        run(saving, x)
    assert len(kept) - of_plain < of_plain / 2
    for a, b in zip(run(plain, x), run(saving, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert saving.state_dict().keys() == plain.state_dict().keys()


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(ValueError, match="no module 'layer'; did you mean 'layers"):
        recompute_parts(decoder(), ['layer'])
