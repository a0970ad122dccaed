"""Which cells of a batch of maps are active, and which of them a 3x3 convolution joins: the rule book.

A table `(M', 9)` names for each row that a convolution writes the row that it reads at each of the nine
places of its kernel, in the kernel's order (row by row), and the padding index M, a row of zeros, where
nothing lies.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

KERNEL = 3


@dataclass(frozen=True)
class ConvTables:
    """Who reads whom in one convolution.

    Attributes:
        read: `(M', 9)`, rows of the input that each row of the output reads.
        written: `(M, 9)`, rows of the output that read a row of the input, at the same place of the kernel.
    """

    read: Tensor
    written: Tensor


class Places:
    """The active cells of B maps of Y x X cells.

    Args:
        cells_M: int64 b * Y * X + row * X + column, ascending.
        shape_BYX: of the maps.
    """

    def __init__(self, cells_M: Tensor, shape_BYX: tuple[int, int, int]) -> None:
        self.cells_M = cells_M
        self.shape_BYX = shape_BYX

    def __len__(self) -> int:
        """M."""
        return len(self.cells_M)

    @cached_property
    def slots(self) -> Tensor:
        """int64 `(B * Y * X,)`: the row of each cell, M where it is not active."""
        b, y, x = self.shape_BYX
        slots = torch.full((b * y * x,), len(self), device=self.cells_M.device)
        return slots.index_copy(0, self.cells_M, torch.arange(len(self), device=self.cells_M.device))

    @cached_property
    def beside(self) -> ConvTables:
        """Of a submanifold convolution (Graham et al., 2018, arXiv 1711.10275): active cells stay so."""
        sample, row, column = self.split()
        step_row, step_column = _steps(self.cells_M.device)
        read = self.find(sample[:, None], row[:, None] + step_row, column[:, None] + step_column)

        # who lies to my left has me to its right
        return ConvTables(read, read.flip(1))

    @cached_property
    def halved(self) -> tuple[Places, ConvTables]:
        """Of a convolution with stride 2 and padding 1: every cell is active that touches an active one."""
        sample, row, column = self.split()
        step_row, step_column = _steps(self.cells_M.device)
        b, y, x = self.shape_BYX
        shape = (b, (y + 1) // 2, (x + 1) // 2)

        # output o reads the rows 2 o - 1, 2 o, 2 o + 1: (M, 9) outputs that may read this cell
        twice_row = row[:, None] - step_row
        twice_column = column[:, None] - step_column
        to_row, to_column = twice_row // 2, twice_column // 2
        reads = (twice_row % 2 == 0) & (twice_column % 2 == 0)
        reads &= (twice_row >= 0) & (twice_column >= 0) & (to_row < shape[1]) & (to_column < shape[2])

        touched = torch.zeros(shape[0] * shape[1] * shape[2], dtype=torch.bool, device=reads.device)
        flat = (sample[:, None] * shape[1] + to_row) * shape[2] + to_column
        touched = touched.index_fill(0, flat[reads], True)
        outputs = Places(touched.nonzero()[:, 0], shape)

        written = torch.where(reads, outputs.find(sample[:, None], to_row, to_column), len(outputs))
        sample, row, column = outputs.split()
        read = self.find(sample[:, None], 2 * row[:, None] + step_row, 2 * column[:, None] + step_column)
        return outputs, ConvTables(read, written)

    def split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sample, row and column of each active cell."""
        _, y, x = self.shape_BYX
        return self.cells_M // (y * x), self.cells_M // x % y, self.cells_M % x

    def find(self, sample: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The rows of cells, M for those that are not active or outside the map."""
        _, y, x = self.shape_BYX
        inside = (row >= 0) & (row < y) & (column >= 0) & (column < x)
        cell = (sample * y + row.clamp(0, y - 1)) * x + column.clamp(0, x - 1)
        found = self.slots.index_select(0, cell.reshape(-1)).view(cell.shape)
        return torch.where(inside, found, len(self))


def _steps(device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns from the kernel's middle to its nine places."""
    place = torch.arange(KERNEL * KERNEL, device=device)
    return place // KERNEL - KERNEL // 2, place % KERNEL - KERNEL // 2
