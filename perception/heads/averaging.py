"""What heads share where outputs of several forwards are averaged: mirrored maps, means of probabilities.

NaN in a raw output says: this forward does not cover the cell. Means leave it out.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.grid import BEVGrid

_TOLERANCE_CELLS = 1e-3


@dataclass(frozen=True)
class Mirror:
    """A world seen in mirrors that stand upright.

    Args:
        flip_x: front and back are swapped: x becomes 2 * at_m[0] - x.
        flip_y: left and right are: y becomes 2 * at_m[1] - y.
        at_m: where the mirrors stand, in ego.
    """

    flip_x: bool = False
    flip_y: bool = False
    at_m: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class OutputSpace:
    """What raw outputs lie on.

    Args:
        cells: the grid of maps; None where the outputs are no maps.
        meaning: whatever else must be equal for outputs to be averaged (classes, number of points), by name.
    """

    cells: BEVGrid | None
    meaning: Mapping[str, Any] = field(default_factory=dict)


def cells_behind(grid: BEVGrid, mirror: Mirror) -> tuple[int, int] | None:
    """By how many cells a map that is turned round lies off along (x, y).

    None where mirrored cells do not lie on cells.
    """
    lows_m, sizes = (grid.x_range_m[0], grid.y_range_m[0]), (grid.x_size, grid.y_size)
    shifts = []
    for flips, at_m, low_m, size in zip(
            (mirror.flip_x, mirror.flip_y), mirror.at_m, lows_m, sizes, strict=True):
        cells = 2 * (at_m - low_m) / grid.cell_m if flips else size
        if abs(cells - round(cells)) > _TOLERANCE_CELLS:
            return None
        shifts.append(size - round(cells))
    return shifts[0], shifts[1]


def mirror_map(map_BCYX: Tensor, grid: BEVGrid, mirror: Mirror) -> Tensor:
    """A map `(B, C, Y, X)` of the mirrored world -> of the world as it is, NaN where it has nothing.

    Raises:
        ValueError: mirrored cells do not lie on cells.
    """
    shifts = cells_behind(grid, mirror)
    if shifts is None:
        raise ValueError(
            f'a mirror at {mirror.at_m} m: cells of {grid.cell_m:g} m from ({grid.x_range_m[0]:g}, '
            f'{grid.y_range_m[0]:g}) m do not meet themselves in it')
    for dim, flips, shift in ((-1, mirror.flip_x, shifts[0]), (-2, mirror.flip_y, shifts[1])):
        if flips:
            map_BCYX = _shifted(map_BCYX.flip(dim), dim, shift)
    return map_BCYX


def _shifted(values: Tensor, dim: int, shift: int) -> Tensor:
    """values[j + shift] along a dimension, NaN beyond its ends."""
    size = values.shape[dim]
    shift = max(-size, min(shift, size))
    if shift == 0:
        return values
    known = values.narrow(dim, max(shift, 0), size - abs(shift))
    padding = [0, 0] * (-dim - 1) + [max(-shift, 0), max(shift, 0)]
    return F.pad(known, padding, value=float('nan'))


def mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """The logit of the mean of the probabilities, float32; never infinite."""
    def total(sign: float) -> Tensor:
        return reduce(torch.logaddexp, (_known(F.logsigmoid(sign * part.float())) for part in logits))

    return total(1.0) - total(-1.0)


def mean_log_softmax(logits: Sequence[Tensor], dim: int) -> Tensor:
    """The logarithm of the mean of the softmax, up to a constant a cell, float32."""
    return reduce(torch.logaddexp, (_known(part.float().log_softmax(dim)) for part in logits))


def mean_values(values: Sequence[Tensor]) -> Tensor:
    """The mean of regressed values, float32."""
    return torch.stack([part.float() for part in values]).nanmean(0)


def _known(log_probability: Tensor) -> Tensor:
    """Nothing (-inf) where it is not covered."""
    return log_probability.masked_fill(log_probability.isnan(), -torch.inf)
