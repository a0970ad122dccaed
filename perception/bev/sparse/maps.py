"""Maps that have values at their active cells only, in two forms that give the same numbers.

`RowMap` keeps the active cells as rows, the form to train and run in; `MaskedMap` is its dense twin, whole
maps and a mask in plain operators, the form to export. `spconv_map.SpconvMap` is `RowMap` in the kernels of
spconv.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.memory_order import laid_out
from .places import ConvWindow, Places
from .rule_conv import rule_conv

FLAT = ConvWindow.cube(2)
_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


class ConvNorm(nn.Module):
    """A convolution over active cells and its batch norm over active cells.

    Without a stride submanifold (what was active stays so), with one every cell that it touches is active.

    Args:
        in_channels: C.
        channels: O.
        window: of the convolution, of two or three axes.
    """

    def __init__(self, in_channels: int, channels: int, window: ConvWindow = FLAT) -> None:
        super().__init__()
        self.conv = _CONVOLUTIONS[len(window.size)](
            in_channels, channels, window.size, window.stride, window.padding, bias=False)
        self.norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)
        self.window = window

    def forward(self, x: ActiveMap) -> ActiveMap:
        """A map to the same kind of map."""
        return x.conv_norm(self)


class ActiveMap(ABC):
    """What the stages of an encoder do with a map, whatever its form."""

    @abstractmethod
    def conv_norm(self, layer: ConvNorm) -> ActiveMap:
        """Convolution and norm."""

    @abstractmethod
    def relu(self) -> ActiveMap:
        """Negative values become zero."""

    @abstractmethod
    def plus(self, other: Any) -> ActiveMap:
        """The sum with a map of the same form and the same active cells."""

    @abstractmethod
    def dense(self) -> Tensor:
        """`(B, C, Y, X)` or `(B, C, Z, Y, X)`, zeros where no cell is active."""


class RowMap(ActiveMap):
    """Active cells as rows.

    Args:
        rows_MC: their values.
        places: where they lie.
    """

    def __init__(self, rows_MC: Tensor, places: Places) -> None:
        self.rows_MC = rows_MC
        self.places = places

    def conv_norm(self, layer: ConvNorm) -> RowMap:
        """Convolution and norm; the rule book is made once for each set of places."""
        places, book = self.places.through(layer.window)
        return RowMap(norm_rows(layer.norm, rule_conv(self.rows_MC, layer.conv.weight, book)), places)

    def relu(self) -> RowMap:
        """Negative values become zero."""
        return RowMap(F.relu(self.rows_MC), self.places)

    def plus(self, other: RowMap) -> RowMap:
        """The sum of two maps with the same places."""
        return RowMap(self.rows_MC + other.rows_MC, self.places)

    def dense(self) -> Tensor:
        """The whole map."""
        return whole_map(self.rows_MC, self.places.cells_M, self.places.shape)


class MaskedMap(ActiveMap):
    """Whole maps, zero where no cell is active: only operators that engines have.

    Args:
        x: values `(B, C, Y, X)` or `(B, C, Z, Y, X)`.
        mask: 1 where a cell is active, 0 elsewhere, in the type of the values, with one channel.
    """

    def __init__(self, x: Tensor, mask: Tensor) -> None:
        self.x = x
        self.mask = mask

    def conv_norm(self, layer: ConvNorm) -> MaskedMap:
        """Convolution and norm; what the convolution says outside the active cells is cut off behind both."""
        window, mask = layer.window, self.mask
        convolve, pool = _DENSE[len(window.size)]
        if not window.submanifold:
            mask = pool(mask, window.size, window.stride, window.padding)
        x = convolve(self.x, layer.conv.weight, None, window.stride, window.padding)
        return MaskedMap(self._normed(layer.norm, x, mask), mask)

    @staticmethod
    def _normed(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        if not norm.training:
            return with_running(norm, x) * mask

        # statistics of the active cells alone
        cells_last = x.movedim(1, -1)
        active = mask[:, 0] > 0
        rows = norm_rows(norm, cells_last[active])
        return rows.new_zeros(cells_last.shape).masked_scatter(active[..., None], rows).movedim(-1, 1)

    def relu(self) -> MaskedMap:
        """Negative values become zero; zeros stay."""
        return MaskedMap(F.relu(self.x), self.mask)

    def plus(self, other: MaskedMap) -> MaskedMap:
        """The sum of two maps with the same mask."""
        return MaskedMap(self.x + other.x, self.mask)

    def dense(self) -> Tensor:
        """The whole map."""
        return self.x


_DENSE = {2: (F.conv2d, F.max_pool2d), 3: (F.conv3d, F.max_pool3d)}


def norm_rows(norm: nn.Module, rows_MC: Tensor) -> Tensor:
    """A batch norm over rows; fewer than two have no spread, and are normalised by the running statistics."""
    if norm.training and len(rows_MC) < 2 and isinstance(norm, nn.BatchNorm1d):
        return with_running(norm, rows_MC)
    return norm(rows_MC)


def with_running(norm: nn.Module, x: Tensor) -> Tensor:
    """`x` `(N, C, ...)` normalised by the running statistics."""
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


def whole_map(rows_MC: Tensor, cells_M: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Rows at their cells of whole maps `(B, C, Y, X)` or `(B, C, Z, Y, X)`, zeros elsewhere.

    Args:
        rows_MC: values.
        cells_M: as in `Places`; behind the last cell of the last map for rows that lie nowhere.
        shape: (B, Y, X) or (B, Z, Y, X).
    """
    cells = prod(shape)
    whole = rows_MC.new_zeros(cells + 1, rows_MC.shape[1]).index_copy(0, cells_M, rows_MC)
    return whole[:cells].view(*shape, -1).movedim(-1, 1)


def rows_of_slots(rows_MC: Tensor, slot_map: Tensor, shape_YX: tuple[int, int]) -> RowMap:
    """Pillars and the map that names the pillar of each cell -> rows in the order of the cells.

    Args:
        rows_MC: values of the pillars; those that no cell names are left out.
        slot_map: `(B, Y * X)`, M where a cell has none.
        shape_YX: of the map.
    """
    slots = slot_map.reshape(-1)
    cells = (slots < len(rows_MC)).nonzero()[:, 0]
    rows = rows_MC.index_select(0, slots.index_select(0, cells))
    return RowMap(rows, Places(cells, (len(slot_map), *shape_YX)))


def masked_of_slots(rows_MC: Tensor, slot_map: Tensor, shape_YX: tuple[int, int]) -> MaskedMap:
    """As `rows_of_slots`, the dense twin."""
    m, channels = rows_MC.shape
    padded = F.pad(rows_MC, (0, 0, 0, 1))  # what the padding index M reads
    cells = padded.index_select(0, slot_map.reshape(-1))
    x = laid_out(cells.view(slot_map.shape[0], *shape_YX, channels).permute(0, 3, 1, 2))
    mask = (slot_map < m).to(rows_MC.dtype).view(slot_map.shape[0], 1, *shape_YX)
    return MaskedMap(x, mask)
