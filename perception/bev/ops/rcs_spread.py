"""Which cells a radar target reaches: the tables of the RCS-aware scatter. Outside the graph.

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
from ..records import SpreadOptions


def spread_tables(rcs_BV: Tensor, grid: BEVGrid, options: SpreadOptions) -> tuple[Tensor, Tensor]:
    """For every cell the targets that reach it.

    Args:
        rcs_BV: cross-section (dBsm) of the V = Y * X cells, minus infinity where there is no target.
        grid: of the cells.
        options: radius and S; the largest weights stay, of equal ones the lower source cell.

    Returns:
        index: int32 `(B, V, S)` of source cells; V, the padding index, in an empty slot.
        weight: float32 `(B, V, S)`.
    """
    index, weight = zip(*(_tables_of_sample(rcs, grid, options) for rcs in rcs_BV), strict=True)
    return torch.stack(index), torch.stack(weight)


def _tables_of_sample(rcs_V: Tensor, grid: BEVGrid, options: SpreadOptions) -> tuple[Tensor, Tensor]:
    cells, device = grid.y_size * grid.x_size, rcs_V.device
    source = (rcs_V > -torch.inf).nonzero()[:, 0]
    radius = radii(rcs_V, grid, options)[source]

    # every target with every cell of the square that its largest radius spans: (targets, steps)
    step = torch.arange(-options.max_cells, options.max_cells + 1, device=device)
    dy, dx = (offset.reshape(-1) for offset in torch.meshgrid(step, step, indexing='ij'))
    row = source.div(grid.x_size, rounding_mode='floor')[:, None] + dy
    column = (source % grid.x_size)[:, None] + dx
    squared = (dy ** 2 + dx ** 2).expand(len(source), -1)
    on_grid = (row >= 0) & (row < grid.y_size) & (column >= 0) & (column < grid.x_size)
    reached = on_grid & (squared <= radius[:, None] ** 2)

    sigma = (2 * radius + 1) / 6
    weight = torch.exp(-squared / (2 * sigma[:, None] ** 2))[reached].float()
    target = (row * grid.x_size + column)[reached]
    source = source[:, None].expand_as(row)[reached]

    # by cell, in it by falling weight: two stable sorts, the second one wins
    order = weight.argsort(descending=True, stable=True)
    order = order[target[order].argsort(stable=True)]
    target, source, weight = target[order], source[order], weight[order]

    counts = torch.bincount(target, minlength=cells)
    rank = torch.arange(len(target), device=device) - (counts.cumsum(0) - counts)[target]
    stays = rank < options.slots

    index = torch.full((cells, options.slots), cells, dtype=torch.int32, device=device)
    weights = torch.zeros(cells, options.slots, device=device)
    index[target[stays], rank[stays]] = source[stays].int()
    weights[target[stays], rank[stays]] = weight[stays]
    return index, weights


def radii(rcs_V: Tensor, grid: BEVGrid, options: SpreadOptions) -> Tensor:
    """Radius in cells of a target in each cell, float64 `(V,)`."""
    squared_m2 = torch.as_tensor(grid.centres_m(), device=rcs_V.device).double().square().sum(-1).flatten()
    farthest_m2 = sum(max(abs(low), abs(high)) ** 2 for low, high in (grid.x_range_m, grid.y_range_m))
    gain = options.per_dbsm * rcs_V.double().clamp(min=0) * squared_m2 / farthest_m2
    return (1 + gain).clamp(max=options.max_cells)


def spread_tables_reference(rcs_BV: Tensor, grid: BEVGrid, options: SpreadOptions) -> tuple[Tensor, Tensor]:
    """Reference implementation of `spread_tables`, cell by cell."""
    y_size, x_size = grid.shape_YX
    cells = y_size * x_size
    index = torch.full((len(rcs_BV), cells, options.slots), cells, dtype=torch.int32)
    weight = torch.zeros(len(rcs_BV), cells, options.slots)

    for b, rcs in enumerate(rcs_BV):
        radius = radii(rcs, grid, options).tolist()
        for cell in range(cells):
            reaching = []
            for source in range(cells):
                squared = (cell // x_size - source // x_size) ** 2 + (cell % x_size - source % x_size) ** 2
                if rcs[source] > -math.inf and squared <= radius[source] ** 2:
                    sigma = (2 * radius[source] + 1) / 6
                    reaching.append((-math.exp(-squared / (2 * sigma ** 2)), source))

            # the negative weight sorts the largest first and leaves the lower source of equal ones
            for slot, (negative, source) in enumerate(sorted(reaching)[: options.slots]):
                index[b, cell, slot] = source
                weight[b, cell, slot] = -negative
    return index, weight
