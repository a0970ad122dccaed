"""What every record checks at birth."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..protocols import TASKS


def check_shape(owner: str, name: str, value: np.ndarray | torch.Tensor, *expected: int | str) -> None:
    """Raise ValueError unless `value` has the expected shape; letters stand for any size.

    Raises:
        ValueError: names the record, the field, the shape found and the shape expected.
    """
    shape = tuple(getattr(value, 'shape', ()))
    fits = len(shape) == len(expected) and all(
        isinstance(e, str) or e == s for e, s in zip(expected, shape, strict=True)
    )
    if not hasattr(value, 'shape') or not fits:
        sizes = ', '.join(str(e) for e in expected)
        raise ValueError(f'{owner}.{name}: expected shape ({sizes}), found {shape or type(value).__name__}')


def check_weights(owner: str, name: str, weights: np.ndarray | None, *shape: int | str) -> None:
    """Raise ValueError unless weights are of a shape and all of them 0 to 1; None is fine."""
    if weights is None:
        return
    check_shape(owner, name, weights, *shape)
    if weights.size and not (weights.min() >= 0 and weights.max() <= 1):
        raise ValueError(
            f'{owner}.{name}: expected 0 to 1, found values from {weights.min()} to {weights.max()}')


def check_extra_tasks(owner: str, extra: Mapping[str, Any]) -> None:
    """Raise ValueError where `extra` holds one of the four tasks that have a field of their own."""
    built_in = [task for task in extra if task in TASKS]
    if built_in:
        raise ValueError(
            f'{owner}.extra: expected tasks other than {", ".join(TASKS)}, found {built_in[0]!r}'
        )
