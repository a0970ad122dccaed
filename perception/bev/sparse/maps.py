"""Maps that have values at their active cells only, in two forms that give the same numbers.

`RowMap` keeps the active cells as rows, the form to train and run in; `MaskedMap` is its dense twin, whole
maps and a mask in plain operators, the form to export. `spconv_map.SpconvMap` is `RowMap` in the kernels of
spconv.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .places import KERNEL, Places
from .table_conv import table_conv


class ConvNorm(nn.Module):
    """A 3x3 convolution over active cells and its batch norm over active cells.

    With stride 1 submanifold (what was active stays so), with stride 2 every cell that it touches is active.

    Args:
        in_channels: C.
        channels: O.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, KERNEL, stride, KERNEL // 2, bias=False)
        self.norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)
        self.stride = stride

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
        """`(B, C, Y, X)`, zeros where no cell is active."""


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
        """Convolution and norm; the tables are made once for each set of places."""
        places, tables = self.places, None
        if layer.stride == 1:
            tables = places.beside
        else:
            places, tables = places.halved
        return RowMap(norm_rows(layer.norm, table_conv(self.rows_MC, layer.conv.weight, tables)), places)

    def relu(self) -> RowMap:
        """Negative values become zero."""
        return RowMap(F.relu(self.rows_MC), self.places)

    def plus(self, other: RowMap) -> RowMap:
        """The sum of two maps with the same places."""
        return RowMap(self.rows_MC + other.rows_MC, self.places)

    def dense(self) -> Tensor:
        """`(B, C, Y, X)`."""
        b, y, x = self.places.shape_BYX
        whole = self.rows_MC.new_zeros(b * y * x, self.rows_MC.shape[1])
        whole = whole.index_copy(0, self.places.cells_M, self.rows_MC)
        return whole.view(b, y, x, -1).permute(0, 3, 1, 2)


class MaskedMap(ActiveMap):
    """Whole maps, zero where no cell is active: only operators that engines have.

    Args:
        x_BCYX: values.
        mask_B1YX: 1 where a cell is active, 0 elsewhere, in the type of the values.
    """

    def __init__(self, x_BCYX: Tensor, mask_B1YX: Tensor) -> None:
        self.x_BCYX = x_BCYX
        self.mask_B1YX = mask_B1YX

    def conv_norm(self, layer: ConvNorm) -> MaskedMap:
        """Convolution and norm; what the convolution says outside the active cells is cut off behind both."""
        mask = self.mask_B1YX
        if layer.stride == 2:
            mask = F.max_pool2d(mask, KERNEL, 2, KERNEL // 2)
        x = F.conv2d(self.x_BCYX, layer.conv.weight, None, layer.stride, KERNEL // 2)
        return MaskedMap(self._normed(layer.norm, x, mask), mask)

    @staticmethod
    def _normed(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        if not norm.training:
            return with_running(norm, x) * mask

        # statistics of the active cells alone
        cells_last = x.permute(0, 2, 3, 1)
        active = mask[:, 0] > 0
        rows = norm_rows(norm, cells_last[active])
        return rows.new_zeros(cells_last.shape).masked_scatter(active[..., None], rows).permute(0, 3, 1, 2)

    def relu(self) -> MaskedMap:
        """Negative values become zero; zeros stay."""
        return MaskedMap(F.relu(self.x_BCYX), self.mask_B1YX)

    def plus(self, other: MaskedMap) -> MaskedMap:
        """The sum of two maps with the same mask."""
        return MaskedMap(self.x_BCYX + other.x_BCYX, self.mask_B1YX)

    def dense(self) -> Tensor:
        """`(B, C, Y, X)`."""
        return self.x_BCYX


def norm_rows(norm: nn.Module, rows_MC: Tensor) -> Tensor:
    """A batch norm over rows; fewer than two have no spread, and are normalised by the running statistics."""
    if norm.training and len(rows_MC) < 2 and isinstance(norm, nn.BatchNorm1d):
        return with_running(norm, rows_MC)
    return norm(rows_MC)


def with_running(norm: nn.Module, x: Tensor) -> Tensor:
    """`x` `(N, C, ...)` normalised by the running statistics."""
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


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
    x = cells.view(slot_map.shape[0], *shape_YX, channels).permute(0, 3, 1, 2)
    mask = (slot_map < m).to(rows_MC.dtype).view(slot_map.shape[0], 1, *shape_YX)
    return MaskedMap(x, mask)
