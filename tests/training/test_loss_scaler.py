"""The guard against bad updates with scaled losses: an overflow halves the scale, ten in a row stop."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from perception.training.optim import GuardedOptimWrapper


def wrapper_of(layer: nn.Module, scale: float, **options: int) -> GuardedOptimWrapper:
    """A guard that scales losses, as it does for float16 on a GPU."""
    wrapper = GuardedOptimWrapper(torch.optim.SGD(layer.parameters(), 0.1), **options)
    wrapper.scaler = torch.amp.GradScaler('cpu', init_scale=scale)
    return wrapper


def step(wrapper: GuardedOptimWrapper, layer: nn.Module, factor: float) -> None:
    """One update whose gradient is about `factor` times the scale."""
    with wrapper.optim_context(layer):
        loss = (layer(torch.ones(1, 2)) * factor).sum()
    wrapper.update_params(loss)


def test_a_gradient_that_never_is_finite_stops_the_training() -> None:
    layer = nn.Linear(2, 1)
    before, wrapper = layer.weight.clone(), wrapper_of(layer, 8.0, max_skipped=2)
    for _ in range(2):
        step(wrapper, layer, float('inf'))
    assert wrapper.scaler.get_scale() == 2.0 and torch.equal(layer.weight, before)
    with pytest.raises(FloatingPointError, match='3 updates in a row were not finite.*the gradient'):
        step(wrapper, layer, float('inf'))


def test_a_scale_that_is_too_large_costs_a_few_updates_alone() -> None:
    layer = nn.Linear(2, 1)
    before, wrapper = layer.weight.clone(), wrapper_of(layer, 2.0 ** 30, max_skipped=4)
    while wrapper.skipped < 3:
        step(wrapper, layer, 2.0 ** 100)
        assert torch.equal(layer.weight, before)
    step(wrapper, layer, 1.0)
    assert (wrapper.skipped, wrapper.skipped_in_a_row) == (3, 0)
    torch.testing.assert_close(layer.weight, before - 0.1)
