"""Whether tensors hold numbers: NaN and infinity are named before anybody reads them as an answer."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class NotFiniteError(FloatingPointError):
    """A network's outputs hold NaN or infinite values; there is no prediction to be made of them."""


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinite values.

    One pass for all: a finite sum proves it; only what a sum cannot prove is looked at value by value.
    """
    floating = {name: value.detach() for name, value in tensors.items() if value.is_floating_point()}
    if not floating:
        return []
    sums = torch.stack([value.float().sum() for value in floating.values()])
    doubtful = [name for name, good in zip(floating, sums.isfinite().tolist(), strict=True) if not good]
    return [name for name in doubtful if not bool(floating[name].isfinite().all())]


def check_losses(losses: Mapping[str, Tensor], tokens: Sequence[str]) -> None:
    """Stop at a loss that is not a number, before it spoils the weights.

    Raises:
        NotFiniteError: names the loss terms (so the task) and the samples of the batch.
    """
    bad = not_finite(losses)
    if bad:
        raise NotFiniteError(f'not finite: {", ".join(bad)}; samples: {", ".join(tokens)}')
