"""Points -> pillars: which point belongs to which column of the ground, and its features. Outside the graph.

One form serves training and export. The points that stay lie together pillar by pillar; `pillar_points` `(M,
T)` names the points of each pillar, a short pillar repeating its first point, so that a maximum over T needs
no mask; `slot_map` `(B, Y * X)` names the pillar of each ground cell, M where there is none. Training lets P
and M be what they are; `PillarSizes` pads both to fixed sizes for an engine, which changes no number.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.grid import BEVGrid
from .ops.voxelise import group_points, group_points_reference
from .records import PillarSizes

PLACE_FEATURES = 8
BASE_FEATURES = PLACE_FEATURES + 2
Describe = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pillars:
    """Pillars of a batch (see the module's first lines).

    Attributes:
        points: float32 `(P, F)` decorated points.
        pillar_points: int32 `(M, T)` rows of `points`.
        slot_map: int32 `(B, Y * X)`.
        dropped: pillars of this batch that had no room in the fixed sizes.
        rows_of_sample: (first row of `points`, real points) of each sample; padded rows follow the real ones.
    """

    points: Tensor
    pillar_points: Tensor
    slot_map: Tensor
    dropped: int = 0
    rows_of_sample: tuple[tuple[int, int], ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """The graph inputs by name."""
        return {'points': self.points, 'pillar_points': self.pillar_points, 'slot_map': self.slot_map}


def describe_lidar(points: Tensor) -> Tensor:
    """What a LiDAR point says besides its place: intensity / 255, time lag (s).

    Columns of `points`: `contracts.LIDAR_COLUMNS`.
    """
    return torch.cat([points[:, 3:4] / 255, points[:, 5:6]], 1)


def make_pillars(
    clouds: Sequence[Tensor],
    grid: BEVGrid,
    max_points_per_pillar: int | None = 32,
    sizes: PillarSizes | None = None,
    height_bins: int = 0,
    describe: Describe = describe_lidar,
) -> Pillars:
    """Pillars of B clouds `(P, columns)` in ego metres, x, y, z first (a LiDAR's: `contracts.LIDAR_COLUMNS`).

    Points that are not finite or outside the grid (its heights included) are left out.

    Args:
        clouds: B clouds.
        grid: of the pillars, its heights included.
        max_points_per_pillar: of a pillar with more points the first in the cloud's order stay.
        sizes: to pad to. Of more pillars or points than fit, the pillars nearest to the car stay and the
            others are counted.
        height_bins: see `decorate`.
        describe: what a point says besides its place.
    """
    samples = [
        _pillars_of_cloud(cloud, grid, max_points_per_pillar, sizes, height_bins, describe)
        for cloud in clouds
    ]
    slots = max(sample.pillar_points.shape[1] for sample in samples)
    total = sum(len(sample.pillar_points) for sample in samples)

    # samples are joined end to end, so a sample's indices move by what lies before it
    tables, maps, rows = [], [], []
    first_point = 0
    first_pillar = 0
    for sample in samples:
        missing = slots - sample.pillar_points.shape[1]
        table = torch.cat([sample.pillar_points, sample.pillar_points[:, :1].expand(-1, missing)], 1)
        tables.append(table + first_point)
        rows.append((first_point, sample.rows_of_sample[0][1]))

        empty = sample.slot_map == len(sample.pillar_points)
        maps.append(torch.where(empty, total, sample.slot_map + first_pillar))

        first_point += len(sample.points)
        first_pillar += len(sample.pillar_points)

    return Pillars(
        torch.cat([sample.points for sample in samples]), torch.cat(tables), torch.cat(maps),
        sum(sample.dropped for sample in samples), tuple(rows))


def _pillars_of_cloud(
    cloud: Tensor,
    grid: BEVGrid,
    max_points: int | None,
    sizes: PillarSizes | None,
    height_bins: int,
    describe: Describe,
) -> Pillars:
    """Pillars of one cloud; at least two points and one pillar, since empty tensors break later steps."""
    group = group_points if cloud.device.type == 'cpu' else group_points_reference
    kept, cell_of_pillar, counts, dropped = group(cloud, grid, max_points, sizes)
    features = decorate(cloud[kept], cell_of_pillar, counts, grid, height_bins, describe)

    # (M, T): row of each point of a pillar, its first one again where it has fewer than T
    pillars = len(counts)
    slots = max_points or max(int(counts.max()) if pillars else 1, 1)
    start = counts.cumsum(0) - counts
    step = torch.arange(slots, device=cloud.device)
    table = start[:, None] + torch.where(step < counts[:, None], step, torch.zeros_like(step))

    room = sizes or PillarSizes(points=max(len(features), 2), pillars=max(pillars, 1))
    features = F.pad(features, (0, 0, 0, room.points - len(features)))
    table = F.pad(table, (0, 0, 0, room.pillars - pillars))

    slot_map = torch.full(
        (1, grid.y_size * grid.x_size), room.pillars, dtype=torch.int32, device=cloud.device
    )
    slot_map[0, cell_of_pillar] = torch.arange(pillars, dtype=torch.int32, device=cloud.device)
    return Pillars(features, table.int(), slot_map, dropped, ((0, len(kept)),))


def decorate(
    points: Tensor,
    cell_of_pillar: Tensor,
    counts: Tensor,
    grid: BEVGrid,
    height_bins: int = 0,
    describe: Describe = describe_lidar,
) -> Tensor:
    """Features of each point (Lang et al., 2019, arXiv 1812.05784, section 2.1), float32 `(P, F)`.

    Columns: x, y, z (m), what `describe` says (a LiDAR: intensity / 255, time lag in s), offset to the mean
    of the pillar's points (x, y, z), offset to the pillar's centre (x, y), then `height_bins` triangular
    weights over the grid's heights.

    Args:
        points: `(P, columns)`, pillar by pillar.
        cell_of_pillar: `(M,)` row * X + column.
        counts: `(M,)` points of each pillar.
        grid: of the pillars.
        height_bins: 0 leaves the weights out.
        describe: see `make_pillars`.
    """
    pillar = torch.repeat_interleave(
        torch.arange(len(counts), device=points.device), counts, output_size=len(points)
    )
    xyz = points[:, :3]

    # float64: a sum of many metres, whose differences are centimetres
    total = torch.zeros(len(counts), 3, dtype=torch.float64, device=points.device)
    total = total.index_add_(0, pillar, xyz.double())
    mean = (total / counts.clamp(min=1)[:, None]).float()

    column = cell_of_pillar % grid.x_size
    row = cell_of_pillar.div(grid.x_size, rounding_mode='floor')
    centre = grid.to_metres(torch.stack([column, row], -1).double() + 0.5).float()

    parts = [xyz, describe(points), xyz - mean[pillar], xyz[:, :2] - centre[pillar]]
    if height_bins:
        parts.append(height_weights(points[:, 2], grid.z_range_m, height_bins))
    return torch.cat(parts, 1)


def height_weights(z_m: Tensor, z_range_m: tuple[float, float], bins: int) -> Tensor:
    """Linear weights `(P, bins)` of heights over equally spaced knots; each row sums to one."""
    low, high = z_range_m
    knot = torch.arange(bins, device=z_m.device, dtype=z_m.dtype)
    position = ((z_m - low) / (high - low) * (bins - 1)).clamp(0, bins - 1)
    return (1 - (position[:, None] - knot).abs()).clamp(min=0)
