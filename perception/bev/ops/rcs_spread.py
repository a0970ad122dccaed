"""Which cells a radar target reaches: the tables of the RCS-aware scatter, fast and in loops. Outside the
graph.

A target's cross-section is a prior for its size (Lin et al., CVPR 2024, arXiv 2403.16440, section 3.2: radius
grows with the cross-section times the squared distance). Here the radius in cells is `1 + per_dbsm * max(rcs,
0) * d^2` with d the distance from the car divided by that of the grid's farthest corner, at most `max_cells`,
and the weight a Gaussian whose three sigmas are the radius and half a cell. These constants are ours: the
paper leaves units and bounds open.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from ...core.grid import BEVGrid


def spread_tables(
    rcs_BV: Tensor, grid: BEVGrid, max_cells: int, per_dbsm: float, slots: int
) -> tuple[Tensor, Tensor]:
    """For every cell the targets that reach it: index `(B, V, S)` int32 of source cells (V: nobody), weight
    float32.

    Args:
        rcs_BV: cross-section (dBsm) of the V = Y * X cells, minus infinity where there is no target.
        max_cells: largest radius.
        per_dbsm: see the module.
        slots: S; the largest weights stay, of equal ones the lower source cell.
    """
    index, weight = zip(*(_one(rcs, grid, max_cells, per_dbsm, slots) for rcs in rcs_BV), strict=True)
    return torch.stack(index), torch.stack(weight)


def _one(rcs_V: Tensor, grid: BEVGrid, max_cells: int, per_dbsm: float, slots: int) -> tuple[Tensor, Tensor]:
    cells, device = grid.y_size * grid.x_size, rcs_V.device
    source = (rcs_V > -torch.inf).nonzero()[:, 0]
    radius = radii(rcs_V, grid, max_cells, per_dbsm)[source]
    step = torch.arange(-max_cells, max_cells + 1, device=device)
    dy, dx = (t.reshape(-1) for t in torch.meshgrid(step, step, indexing='ij'))
    row = source.div(grid.x_size, rounding_mode='floor')[:, None] + dy
    column = (source % grid.x_size)[:, None] + dx
    squared = (dy ** 2 + dx ** 2).expand(len(source), -1)
    reached = (
        (row >= 0)
        & (row < grid.y_size)
        & (column >= 0)
        & (column < grid.x_size)
        & (squared <= radius[:, None] ** 2)
    )
    sigma = (2 * radius + 1) / 6
    weight = torch.exp(-squared / (2 * sigma[:, None] ** 2))[reached].float()
    target, source = (row * grid.x_size + column)[reached], source[:, None].expand_as(row)[reached]
    order = weight.argsort(descending=True, stable=True)
    order = order[target[order].argsort(stable=True)]
    target, source, weight = target[order], source[order], weight[order]
    counts = torch.bincount(target, minlength=cells)
    rank = torch.arange(len(target), device=device) - (counts.cumsum(0) - counts)[target]
    stays = rank < slots
    index = torch.full((cells, slots), cells, dtype=torch.int32, device=device)
    weights = torch.zeros(cells, slots, device=device)
    index[target[stays], rank[stays]] = source[stays].int()
    weights[target[stays], rank[stays]] = weight[stays]
    return index, weights


def radii(rcs_V: Tensor, grid: BEVGrid, max_cells: int, per_dbsm: float) -> Tensor:
    """Radius in cells of a target in each cell, float64 `(V,)`."""
    squared_m = torch.as_tensor(grid.centres_m(), device=rcs_V.device).double().square().sum(-1).flatten()
    farthest_m2 = sum(max(abs(low), abs(high)) ** 2 for low, high in (grid.x_range_m, grid.y_range_m))
    return (1 + per_dbsm * rcs_V.double().clamp(min=0) * squared_m / farthest_m2).clamp(max=max_cells)


def spread_tables_reference(
    rcs_BV: Tensor, grid: BEVGrid, max_cells: int, per_dbsm: float, slots: int
) -> tuple[Tensor, Tensor]:
    """As `spread_tables`, cell by cell. Slow."""
    y_size, x_size = grid.shape_YX
    cells = y_size * x_size
    index = torch.full((len(rcs_BV), cells, slots), cells, dtype=torch.int32)
    weight = torch.zeros(len(rcs_BV), cells, slots)
    for b, rcs in enumerate(rcs_BV):
        radius = radii(rcs, grid, max_cells, per_dbsm).tolist()
        for cell in range(cells):
            reaching = []
            for source in range(cells):
                squared = (cell // x_size - source // x_size) ** 2 + (cell % x_size - source % x_size) ** 2
                if rcs[source] > -math.inf and squared <= radius[source] ** 2:
                    sigma = (2 * radius[source] + 1) / 6
                    reaching.append((-math.exp(-squared / (2 * sigma ** 2)), source))
            for slot, (negative, source) in enumerate(sorted(reaching)[:slots]):
                index[b, cell, slot], weight[b, cell, slot] = source, -negative
    return index, weight
