"""Hidden points -> what each hidden pillar holds, in its own cell."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Annotations, HiddenPoints
from ...core.grid import BEVGrid


@dataclass(frozen=True)
class ReconstructionTargets:
    """C hidden pillars of the whole batch and E empty cells.

    Attributes:
        place_C3: int64, sample, row and column of each pillar.
        points_CN3: float32, its points: x and y in its cell and z in the grid's heights, all 0..1.
        known_CN: bool, False where a pillar has fewer points.
        filled_CZ: bool, heights that have a point.
        empty_E3: int64, sample, row and column of cells without any point.
    """

    place_C3: Tensor
    points_CN3: Tensor
    known_CN: Tensor
    filled_CZ: Tensor
    empty_E3: Tensor

    def to(self, device: Any) -> ReconstructionTargets:
        """Copy the targets to another device."""
        return ReconstructionTargets(
            **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


def build_targets(annotations: Sequence[Annotations], grid: BEVGrid, points: int) -> ReconstructionTargets:
    """Build the targets of a batch, on the CPU; samples of which nothing was hidden have no pillar.

    Args:
        annotations: of B samples.
        grid: cells, and heights of the occupancy.
        points: at most so many points of a pillar, spread evenly over those it has.
    """
    parts = [
        _sample_targets(b, one.get('reconstruction'), grid, points) for b, one in enumerate(annotations)]
    names = ReconstructionTargets.__dataclass_fields__
    return ReconstructionTargets(
        *(torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in names))


def _sample_targets(
    sample: int, hidden: HiddenPoints | None, grid: BEVGrid, limit: int
) -> dict[str, np.ndarray]:
    points_P3 = np.zeros((0, 3)) if hidden is None else hidden.points_P3.astype(np.float64)
    hidden_P = np.zeros(0, bool) if hidden is None else hidden.hidden_P
    low, high = grid.z_range_m
    inside_P = grid.contains(points_P3[:, :2]) & (points_P3[:, 2] >= low) & (points_P3[:, 2] < high)

    # cells with any point, so that the others are empty
    cells_P2 = grid.to_cells(points_P3[:, :2])
    index_P2 = np.floor(cells_P2).astype(np.int64)
    cell_P = index_P2[:, 1] * grid.x_size + index_P2[:, 0]
    seen = np.unique(cell_P[inside_P])

    # the hidden ones, pillar by pillar
    rows = np.flatnonzero(inside_P & hidden_P)
    rows = rows[np.argsort(cell_P[rows], kind='stable')]
    cell_C, first_C, count_C = np.unique(cell_P[rows], return_index=True, return_counts=True)
    unit_P3 = np.concatenate([cells_P2 - index_P2, (points_P3[:, 2:] - low) / (high - low)], 1)

    spread_CN = np.arange(limit) * np.maximum(count_C, limit)[:, None] // limit
    taken_CN = np.minimum(spread_CN, count_C[:, None] - 1)
    known_CN = np.arange(limit) < np.minimum(count_C, limit)[:, None]
    points_CN3 = unit_P3[rows[first_C[:, None] + taken_CN]] if len(rows) else np.zeros((0, limit, 3))

    filled_CZ = np.zeros((len(cell_C), grid.z_size), bool)
    height = np.minimum((unit_P3[rows, 2] * grid.z_size).astype(np.int64), grid.z_size - 1)
    filled_CZ[np.repeat(np.arange(len(cell_C)), count_C), height] = True

    empty = np.setdiff1d(np.arange(grid.y_size * grid.x_size), seen)
    chosen = np.linspace(0, max(0, len(empty) - 1), min(len(empty), len(cell_C))).astype(np.int64)
    return {
        'place_C3': _places(sample, cell_C, grid), 'points_CN3': points_CN3.astype(np.float32),
        'known_CN': known_CN, 'filled_CZ': filled_CZ, 'empty_E3': _places(sample, empty[chosen], grid)}


def _places(sample: int, cells: np.ndarray, grid: BEVGrid) -> np.ndarray:
    row, column = np.divmod(cells.astype(np.int64), grid.x_size)
    return np.stack([np.full(len(cells), sample), row, column], 1)
