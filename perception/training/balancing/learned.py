"""A vector that learns beside the network: plain Adam or gradient descent, its state as plain values."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def new_vector(size: int, start: float = 0.0) -> dict[str, Any]:
    """State of a vector `(size,)` that has not moved yet, in float64."""
    zeros = torch.zeros(size, dtype=torch.float64)
    return {'value': zeros + start, 'mean': zeros.clone(), 'square': zeros.clone(), 'steps': 0}


def adam_step(
    vector: dict[str, Any], gradient: Tensor, lr: float, active: Tensor | None = None, decay: float = 0.0
) -> None:
    """One step of Adam (Kingma and Ba 2015, arXiv 1412.6980) with betas 0.9, 0.999.

    Args:
        vector: see `new_vector`; changed in place.
        gradient: `(T,)`.
        lr: step length.
        active: entries that move `(T,)`; None moves all.
        decay: weight decay, added to the gradient.
    """
    moves = torch.ones_like(gradient, dtype=torch.bool) if active is None else active
    gradient = gradient + decay * vector['value']
    vector['steps'] += 1
    mean = 0.9 * vector['mean'] + 0.1 * gradient
    square = 0.999 * vector['square'] + 0.001 * gradient.square()
    vector['mean'] = torch.where(moves, mean, vector['mean'])
    vector['square'] = torch.where(moves, square, vector['square'])

    unbiased = vector['mean'] / (1 - 0.9 ** vector['steps'])
    spread = (vector['square'] / (1 - 0.999 ** vector['steps'])).sqrt() + 1e-8
    vector['value'] = torch.where(moves, vector['value'] - lr * unbiased / spread, vector['value'])
