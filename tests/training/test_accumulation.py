"""Gradients of several small batches are those of one large batch; one bad batch leaves all of them out."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from perception.training.optim import GuardedOptimWrapper

SAMPLES = torch.arange(24.0).reshape(6, 4).sin()


def train(batches: list[Tensor], accumulate: int) -> tuple[nn.Module, GuardedOptimWrapper]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3).eval(), nn.Linear(3, 1))
    wrapper = GuardedOptimWrapper(
        torch.optim.AdamW(model.parameters(), 0.05), accumulative_counts=accumulate,
        clip_grad=dict(max_norm=1.0))
    wrapper.initialize_count_status(model, 0, len(batches))
    for batch in batches:
        with wrapper.optim_context(model):
            loss = model(batch).square().mean()
        wrapper.update_params(loss)
    return model, wrapper


def test_small_batches_equal_a_large_one() -> None:
    (small, _), (large, _) = train([*SAMPLES.split(2)], 3), train([SAMPLES], 1)
    for a, b in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    start, _ = train([], 1)
    assert not torch.equal(start[0].weight, small[0].weight)


def test_a_bad_batch_among_them_leaves_the_update_out() -> None:
    start, _ = train([], 1)
    model, wrapper = train([SAMPLES[:2], SAMPLES[2:4] * float('inf'), SAMPLES[4:]], 3)
    assert wrapper.skipped == 1 and torch.equal(model[0].weight, start[0].weight)
