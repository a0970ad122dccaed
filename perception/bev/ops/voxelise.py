"""Sorting points into pillars: numba on the CPU, torch elsewhere, equal results."""
from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ...core.grid import BEVGrid
from ..records import PillarSizes

Grouped = tuple[Tensor, Tensor, Tensor, int]


def group_points(cloud: Tensor, grid: BEVGrid, max_points: int | None, sizes: PillarSizes | None) -> Grouped:
    """Which points stay and which pillar each belongs to, by counting instead of sorting (CPU).

    Arguments and results as `group_points_reference`.
    """
    points = np.ascontiguousarray(cloud.detach().numpy())
    low = np.array(grid.origin_m)
    cells = grid.y_size * grid.x_size
    cell = _cells(points, low, grid.cell_m, grid.z_range_m[1], grid.y_size, grid.x_size)

    # the first bin counts the points without a cell (-1)
    limit = max_points if max_points is not None else len(points) + 1
    counts_by_cell = np.minimum(np.bincount(cell + 1, minlength=cells + 1)[1:], limit)
    cell_of_pillar = np.flatnonzero(counts_by_cell)
    counts = counts_by_cell[cell_of_pillar]

    dropped = 0
    if sizes is not None and (len(counts) > sizes.pillars or counts.sum() > sizes.points):
        keep = fitting(cell_of_pillar, counts, grid, sizes)
        dropped = int((~keep).sum())
        cell_of_pillar = cell_of_pillar[keep]
        counts = counts[keep]

    kept = _place(cell, cell_of_pillar, counts, cells)
    return torch.from_numpy(kept), torch.from_numpy(cell_of_pillar), torch.from_numpy(counts), dropped


def group_points_reference(
    cloud: Tensor, grid: BEVGrid, max_points: int | None, sizes: PillarSizes | None
) -> Grouped:
    """Reference implementation of `group_points`, by sorting; also what runs on other devices.

    Args:
        cloud: `(P, 6)` float32 ego metres.
        grid: of the pillars, with heights.
        max_points: of a pillar, the first in order stay; None keeps all.
        sizes: room for points and pillars; the nearest pillars stay.

    Returns:
        kept: int64 indices into the cloud, pillar by pillar in ascending cell, in the cloud's order within a
        pillar; cell_of_pillar: int64 `(M,)` row * X + column; counts: int64 `(M,)` points of each; dropped:
        number of pillars.
    """
    xyz = cloud[:, :3].double()
    column = ((xyz[:, 0] - grid.x_range_m[0]) / grid.cell_m).floor()
    row = ((xyz[:, 1] - grid.y_range_m[0]) / grid.cell_m).floor()
    inside = cloud.isfinite().all(1) & (xyz[:, 2] >= grid.z_range_m[0]) & (xyz[:, 2] < grid.z_range_m[1])
    inside &= (column >= 0) & (column < grid.x_size) & (row >= 0) & (row < grid.y_size)

    candidates = inside.nonzero()[:, 0]
    cell = (row[candidates] * grid.x_size + column[candidates]).long()
    order, cell_of_pillar, pillar, counts = first_of_each_cell(cell, max_points)
    kept = candidates[order]

    if sizes is None or (len(counts) <= sizes.pillars and len(kept) <= sizes.points):
        return kept, cell_of_pillar, counts, 0
    keep = torch.as_tensor(
        fitting(cell_of_pillar.cpu().numpy(), counts.cpu().numpy(), grid, sizes), device=cloud.device
    )
    return kept[keep[pillar]], cell_of_pillar[keep], counts[keep], int((~keep).sum())


def first_of_each_cell(cell: Tensor, most: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points sorted by cell, of each cell the first `most` in their order; None keeps all.

    Args:
        cell: int64 `(P,)`.
        most: points of a cell.

    Returns:
        kept: int64 `(P',)` indices into `cell`, cell by cell; cells: int64 `(M,)` ascending; group: int64
        `(P',)` which of them each kept point lies in; counts: int64 `(M,)` kept points of each.
    """
    # a stable sort keeps the points' order within a cell
    sorted_cell, kept = cell.sort(stable=True)
    cells, group, counts = sorted_cell.unique_consecutive(return_inverse=True, return_counts=True)
    if most is None:
        return kept, cells, group, counts

    rank = torch.arange(len(kept), device=cell.device) - (counts.cumsum(0) - counts)[group]
    stays = rank < most
    return kept[stays], cells, group[stays], counts.clamp(max=most)


def fitting(cell_of_pillar: np.ndarray, counts: np.ndarray, grid: BEVGrid, sizes: PillarSizes) -> np.ndarray:
    """Which pillars fit into the sizes, nearest to the car first: bool `(M,)`."""
    order = nearest_first(cell_of_pillar, grid)
    fits = (np.arange(len(order)) < sizes.pillars) & (np.cumsum(counts[order]) <= sizes.points)
    keep = np.zeros(len(order), dtype=bool)
    keep[order[fits]] = True
    return keep


def nearest_first(cell: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """Order of pillars by distance of their centre from the car, ties by cell."""
    rows, columns = cell // grid.x_size, cell % grid.x_size
    centre = grid.to_metres(np.stack([columns, rows], -1) + 0.5)
    return np.argsort((centre ** 2).sum(-1).round(6), kind='stable')


@njit(cache=True, nogil=True)
def _cells(points, low, cell_m, z_high, y_size, x_size):
    """Ground cell of each point, -1 where it has none."""
    cell = np.full(len(points), -1, dtype=np.int64)
    for p in range(len(points)):
        finite = True
        for k in range(points.shape[1]):
            finite &= np.isfinite(points[p, k])
        if not finite:
            continue

        column = np.floor((np.float64(points[p, 0]) - low[0]) / cell_m)
        row = np.floor((np.float64(points[p, 1]) - low[1]) / cell_m)
        z = np.float64(points[p, 2])
        if 0 <= column < x_size and 0 <= row < y_size and low[2] <= z < z_high:
            cell[p] = int(row) * x_size + int(column)
    return cell


@njit(cache=True, nogil=True)
def _place(cell, cell_of_pillar, counts, cells):
    """Indices of the points that stay, pillar by pillar."""
    room = np.zeros(cells, dtype=np.int64)
    position = np.zeros(cells, dtype=np.int64)
    total = 0
    for m in range(len(counts)):
        room[cell_of_pillar[m]] = counts[m]
        position[cell_of_pillar[m]] = total
        total += counts[m]

    kept = np.empty(total, dtype=np.int64)
    for p in range(len(cell)):
        c = cell[p]
        if c >= 0 and room[c] > 0:
            kept[position[c]] = p
            position[c] += 1
            room[c] -= 1
    return kept
