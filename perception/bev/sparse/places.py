"""Which cells of a batch of maps are active, and which of them a convolution joins: the rule book.

Maps have two axes (Y, X) or three (Z, Y, X); nothing here asks which.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True)
class ConvWindow:
    """What one output of a convolution reads: a number for each axis of the map.

    Output o reads the inputs o * stride - padding + k, k from 0 to size - 1. Without a stride a convolution
    is submanifold (Graham et al., 2018, arXiv 1711.10275): the cells that were active are those that it
    writes.

    Args:
        size: of the kernel.
        stride: of the outputs.
        padding: cells before the first one that the first output reads.

    Raises:
        ValueError: another number of axes, or a submanifold window that has no cell in its middle.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.size) == len(self.stride) == len(self.padding):
            raise ValueError(f'ConvWindow: expected as many sizes as strides and paddings, found {self}')
        if self.submanifold and any(k != 2 * p + 1 for k, p in zip(self.size, self.padding, strict=True)):
            raise ValueError(f'ConvWindow: without a stride expected size = 2 * padding + 1, found {self}')

    @classmethod
    def cube(cls, axes: int, stride: int = 1) -> ConvWindow:
        """Three cells along each axis, the middle one where the output lies."""
        return cls((3,) * axes, (stride,) * axes, (1,) * axes)

    @property
    def submanifold(self) -> bool:
        """Whether what is active stays as it is."""
        return all(stride == 1 for stride in self.stride)

    def outputs(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """How many cells the result has along each axis of a map of `shape`."""
        return tuple(
            (n + 2 * padding - size) // stride + 1
            for n, size, stride, padding in zip(shape, self.size, self.stride, self.padding, strict=True))

    def steps(self, device: torch.device) -> tuple[Tensor, ...]:
        """For each axis int64 `(K,)`: k of each of the kernel's K places, the last axis fastest."""
        places, steps = torch.arange(prod(self.size), device=device), []
        for size in reversed(self.size):
            steps.append(places % size)
            places = places // size
        return tuple(reversed(steps))


@dataclass(frozen=True)
class RuleBook:
    """Who reads whom in one convolution, by place of its kernel.

    Attributes:
        read: int64 `(P,)` rows of the input, all pairs of the first place, then those of the second, ...
        written: int64 `(P,)` the rows of the output that read them. At one place of the kernel no row stands
            twice in either, and both ascend.
        counts: pairs of each of the K places.
        rows: of the output.
    """

    read: Tensor
    written: Tensor
    counts: tuple[int, ...]
    rows: int

    def by_place(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of each place."""
        return zip(self.read.split(self.counts), self.written.split(self.counts), strict=True)


class Places:
    """The active cells of B maps.

    Args:
        cells_M: int64, ascending: in a map of Z x Y x X ((b * Z + z) * Y + y) * X + x, likewise in others.
        shape: (B, Y, X) or (B, Z, Y, X).
    """

    def __init__(self, cells_M: Tensor, shape: tuple[int, ...]) -> None:
        self.cells_M = cells_M
        self.shape = shape
        self._through: dict[ConvWindow, tuple[Places | None, RuleBook]] = {}

    def __len__(self) -> int:
        """M."""
        return len(self.cells_M)

    def through(self, window: ConvWindow) -> tuple[Places, RuleBook]:
        """What a convolution makes active, and its rule book; made once for each window."""
        if window not in self._through:
            outputs, book = self._joined(window)
            # not itself: in a circle the books of every step would lie about until the collector comes
            self._through[window] = (None if outputs is self else outputs, book)
        outputs, book = self._through[window]
        return self if outputs is None else outputs, book

    def _joined(self, window: ConvWindow) -> tuple[Places, RuleBook]:
        shape = (self.shape[0], *window.outputs(self.shape[1:]))
        cells_MK, reached_MK = self._reached(window, shape[1:])
        outputs = self if window.submanifold else Places(cells_MK[reached_MK].unique(), shape)
        rows_MK = outputs.find(cells_MK)
        reached_KM = (reached_MK & (rows_MK < len(outputs))).T.contiguous()

        # place by place, rows ascending
        read = reached_KM.nonzero()[:, 1]
        written = rows_MK.T[reached_KM]
        return outputs, RuleBook(read, written, tuple(reached_KM.sum(1).tolist()), len(outputs))

    def _reached(self, window: ConvWindow, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """`(M, K)`: the output that reads this cell at a place of the kernel, and whether there is one."""
        sample, *at = self.split()
        cells_MK = sample[:, None]
        reached_MK = torch.ones_like(cells_MK, dtype=torch.bool)
        steps = window.steps(self.cells_M.device)

        for place, step, stride, padding, n in zip(
                at, steps, window.stride, window.padding, shape, strict=True):
            strided = place[:, None] + padding - step  # stride times the output
            to = strided // stride
            reached_MK = reached_MK & (strided >= 0) & (to < n)
            if stride > 1:
                reached_MK &= strided % stride == 0
            cells_MK = cells_MK * n + to
        return cells_MK, reached_MK

    def split(self) -> tuple[Tensor, ...]:
        """Sample and place along each axis of each active cell."""
        parts, rest = [], self.cells_M
        for n in reversed(self.shape[1:]):
            parts.append(rest % n)
            rest = rest // n
        return rest, *reversed(parts)

    def find(self, cells: Tensor) -> Tensor:
        """The rows of cells, M for those that are not active."""
        rows = torch.searchsorted(self.cells_M, cells)
        # a cell behind the last one meets -1, which no cell is
        found = torch.cat([self.cells_M, self.cells_M.new_full((1,), -1)]).index_select(0, rows.reshape(-1))
        return torch.where(found.view(cells.shape) == cells, rows, len(self))
