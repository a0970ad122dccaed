"""The bird's-eye-view grid: the one place that knows how metres become cells and which axis comes first.

Tensors are `(B, C, Y, X)`: rows run along +y (left), columns along +x (forward). Cell (row, column) = (i, j)
covers x in [x_min + j * cell, x_min + (j + 1) * cell) and y likewise with i. The grid need not be centred on
zero.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch

Array = TypeVar('Array', np.ndarray, torch.Tensor)


def _cells(name: str, low_m: float, high_m: float, cell_m: float) -> int:
    if not (math.isfinite(low_m) and math.isfinite(high_m) and high_m > low_m):
        raise ValueError(
            f'{name}: expected two finite numbers, low < high, in metres; found ({low_m}, {high_m})'
        )
    if not cell_m > 0:
        raise ValueError(f'{name}: the cell size must be positive metres, found {cell_m}')
    count = (high_m - low_m) / cell_m
    if abs(count - round(count)) > 1e-4:
        raise ValueError(f'{name}: {high_m - low_m:g} m is not a whole number of {cell_m:g} m cells')
    return round(count)


def _edges(centres: np.ndarray) -> np.ndarray:
    middles = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


@dataclass(frozen=True)
class BEVGrid:
    """A grid over the ground, optionally with heights, in the ego frame.

    Args:
        x_range_m: (low, high) forward.
        y_range_m: (low, high) left.
        cell_m: side of a cell.
        z_range_m: (low, high) up; with `height_cell_m` it makes the grid a voxel grid. `z_size` is 1 without
            it.
        height_cell_m: height of a voxel where all are equally high.
        heights_m: centres of layers, rising, at least two, in place of `height_cell_m` and `z_range_m`. They
            meet midway between two centres; the lowest and the highest layer are symmetric about theirs.

    Raises:
        ValueError: a range is empty or not a whole number of cells, heights do not rise, or both kinds of
            heights are given.
    """

    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]
    cell_m: float
    z_range_m: tuple[float, float] = (-5.0, 3.0)
    height_cell_m: float | None = None
    heights_m: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.heights_m is not None:
            self._take_heights()
        for name in ('x_range_m', 'y_range_m', 'z_range_m'):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != 2:
                raise ValueError(f'{name}: expected (low, high) in metres, found {getattr(self, name)}')
            object.__setattr__(self, name, value)
        _ = self.shape_ZYX

    def _take_heights(self) -> None:
        heights = np.asarray(self.heights_m, dtype=np.float64)
        rising = heights.ndim == 1 and len(heights) >= 2 and (np.diff(heights) > 0).all()
        if not rising or not np.isfinite(heights).all():
            raise ValueError(
                f'heights_m: expected two or more rising heights in metres, found {self.heights_m}')
        if self.height_cell_m is not None:
            raise ValueError(
                f'expected heights_m or height_cell_m, found both: {self.heights_m} and {self.height_cell_m}')
        object.__setattr__(self, 'heights_m', tuple(heights.tolist()))
        edges = _edges(heights)
        object.__setattr__(self, 'z_range_m', (float(edges[0]), float(edges[-1])))

    @cached_property
    def x_size(self) -> int:
        """Number of columns."""
        return _cells('x_range_m', *self.x_range_m, self.cell_m)

    @cached_property
    def y_size(self) -> int:
        """Number of rows."""
        return _cells('y_range_m', *self.y_range_m, self.cell_m)

    @property
    def has_heights(self) -> bool:
        """Whether the grid is one of voxels."""
        return self.height_cell_m is not None or self.heights_m is not None

    @cached_property
    def z_size(self) -> int:
        """Number of heights, 1 where the grid has none."""
        if self.heights_m is not None:
            return len(self.heights_m)
        low, high = self.z_range_m
        return _cells('z_range_m', low, high, self.height_cell_m or high - low)

    @property
    def z_edges_m(self) -> np.ndarray:
        """Borders of the heights, float64 `(Z + 1,)` metres."""
        if self.heights_m is not None:
            return _edges(np.array(self.heights_m))
        return np.linspace(*self.z_range_m, self.z_size + 1)

    @property
    def z_centres_m(self) -> np.ndarray:
        """Centres of the heights, float64 `(Z,)` metres."""
        if self.heights_m is not None:
            return np.array(self.heights_m)
        edges = self.z_edges_m
        return (edges[:-1] + edges[1:]) / 2

    @property
    def shape_YX(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y_size, self.x_size

    @property
    def shape_ZYX(self) -> tuple[int, int, int]:
        """Heights, rows and columns."""
        return self.z_size, self.y_size, self.x_size

    @property
    def origin_m(self) -> tuple[float, float, float]:
        """The low corner (x, y, z)."""
        return self.x_range_m[0], self.y_range_m[0], self.z_range_m[0]

    def scaled(self, factor: float) -> BEVGrid:
        """The same ground with cells `factor` times as long."""
        return replace(self, cell_m=self.cell_m * factor)

    def to_cells(self, xy_m: Array) -> Array:
        """Continuous cell coordinates (column, row) of points `(*, 2)` (x, y) in metres.

        Cell (0, 0) spans [0, 1).
        """
        x = (xy_m[..., 0] - self.x_range_m[0]) / self.cell_m
        y = (xy_m[..., 1] - self.y_range_m[0]) / self.cell_m
        return torch.stack([x, y], -1) if isinstance(xy_m, torch.Tensor) else np.stack([x, y], -1)

    def to_metres(self, columns_rows: Array) -> Array:
        """Inverse of `to_cells`: continuous (column, row) `(*, 2)` -> (x, y) in metres.

        A cell's centre is index + 0.5.
        """
        x = columns_rows[..., 0] * self.cell_m + self.x_range_m[0]
        y = columns_rows[..., 1] * self.cell_m + self.y_range_m[0]
        return torch.stack([x, y], -1) if isinstance(columns_rows, torch.Tensor) else np.stack([x, y], -1)

    def contains(self, xy_m: Array) -> Array:
        """Which points `(*, 2)` lie on the grid: bool `(*)`; low borders in, high borders out."""
        (x0, x1), (y0, y1) = self.x_range_m, self.y_range_m
        return (xy_m[..., 0] >= x0) & (xy_m[..., 0] < x1) & (xy_m[..., 1] >= y0) & (xy_m[..., 1] < y1)

    def centres_m(self) -> np.ndarray:
        """Centres of all cells, float32 `(Y, X, 2)`: (x, y) in metres."""
        x = self.x_range_m[0] + (np.arange(self.x_size) + 0.5) * self.cell_m
        y = self.y_range_m[0] + (np.arange(self.y_size) + 0.5) * self.cell_m
        return np.stack(np.meshgrid(x, y), -1).astype(np.float32)

    def voxel_centres_m(self) -> np.ndarray:
        """Centres of all voxels, float32 `(Z, Y, X, 3)`: (x, y, z) in metres."""
        ground = np.broadcast_to(self.centres_m()[None], (self.z_size, *self.shape_YX, 2))
        height = np.broadcast_to(self.z_centres_m[:, None, None, None], (*self.shape_ZYX, 1))
        return np.concatenate([ground, height], -1).astype(np.float32)

    def normalised(self, xy_m: Array) -> Array:
        """(x, y) `(*, 2)` -> `grid_sample` coordinates of a `(B, C, Y, X)` map on this grid.

        They are those of align_corners=False.
        """
        cells = self.to_cells(xy_m)
        sizes = (self.x_size, self.y_size)
        if isinstance(xy_m, torch.Tensor):
            return cells / torch.tensor(sizes, dtype=cells.dtype, device=cells.device) * 2 - 1
        return cells / np.asarray(sizes, dtype=cells.dtype) * 2 - 1
