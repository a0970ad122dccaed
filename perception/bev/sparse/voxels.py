"""Points -> voxels: the mean of each one's points, and where it lies. Outside the graph, without weights.

Zhou and Tuzel, 2018, arXiv 1711.06396, in the form that mmdet3d calls HardSimpleVFE: no point network.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.grid import BEVGrid
from ..ops.voxelise import first_of_each_cell
from ..records import VoxelSizes

MEANS = 5
_COLUMNS = [0, 1, 2, 3, 5]
"""Of a LiDAR's points: x, y, z (m), intensity 0..255, time lag (s)."""


@dataclass(frozen=True)
class Voxels:
    """Voxels of a batch.

    Attributes:
        means: float32 `(M, 5)`: x, y, z (m), intensity 0..255, time lag (s), means of the points.
        cells: int64 `(M,)` ((b * Z + z) * Y + y) * X + x, ascending; B * Z * Y * X for padding.
        counts: int64 `(B,)` voxels of each sample.
        dropped: voxels of this batch that had no room.
    """

    means: Tensor
    cells: Tensor
    counts: Tensor
    dropped: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """The graph inputs by name."""
        return {'voxels': self.means, 'voxel_cells': self.cells, 'voxel_counts': self.counts}


def make_voxels(
    clouds: Sequence[Tensor],
    grid: BEVGrid,
    shape_ZYX: tuple[int, int, int],
    sizes: VoxelSizes,
    padded: bool = False,
) -> Voxels:
    """Voxels of B clouds with columns `contracts.LIDAR_COLUMNS`, x, y, z in the grid's frame.

    Points that are not finite or outside the grid (its heights included) are left out.

    Args:
        clouds: B clouds.
        grid: of the voxels, all equally high.
        shape_ZYX: of the map that they lie in, at least the grid's.
        sizes: bounds.
        padded: to `sizes.voxels` in all, for one sample: engines need fixed shapes.
    """
    size = prod(shape_ZYX)
    samples = [_of_cloud(cloud, grid, shape_ZYX, sizes) for cloud in clouds]
    means = torch.cat([means for means, _, _ in samples])
    cells = torch.cat([cells + number * size for number, (_, cells, _) in enumerate(samples)])
    counts = torch.tensor([len(cells) for _, cells, _ in samples], device=cells.device)

    if padded:
        room = sizes.voxels * len(clouds) - len(cells)
        means = F.pad(means, (0, 0, 0, room))
        cells = F.pad(cells, (0, room), value=size * len(clouds))
    return Voxels(means, cells, counts, sum(dropped for _, _, dropped in samples))


def _of_cloud(
    cloud: Tensor, grid: BEVGrid, shape_ZYX: tuple[int, int, int], sizes: VoxelSizes
) -> tuple[Tensor, Tensor, int]:
    """Means, cells within the map, and how many voxels had no room."""
    inside, cell = _cell_of_point(cloud, grid, shape_ZYX)
    kept, cells, group, counts = first_of_each_cell(cell, sizes.points)
    values = cloud.index_select(0, inside.index_select(0, kept))[:, _COLUMNS]

    # float64: a sum of many metres, whose differences are centimetres
    total = torch.zeros(len(cells), MEANS, dtype=torch.float64, device=cloud.device)
    total = total.index_add_(0, group, values.double())
    means = (total / counts[:, None]).float()

    dropped = len(cells) - sizes.voxels
    if dropped <= 0:
        return means, cells, 0
    first = kept.index_select(0, counts.cumsum(0) - counts)
    stays = first.argsort()[:sizes.voxels].sort().values
    return means[stays], cells[stays], dropped


def _cell_of_point(
    cloud: Tensor, grid: BEVGrid, shape_ZYX: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Which points lie on the grid, `(P',)` indices in their order, and the cell of each."""
    sides = (grid.cell_m, grid.cell_m, grid.height_cell_m)
    most = (grid.x_size, grid.y_size, grid.z_size)
    inside, places = cloud.isfinite().all(1), []
    for axis in range(3):
        place = ((cloud[:, axis].double() - grid.origin_m[axis]) / sides[axis]).floor()
        inside &= (place >= 0) & (place < most[axis])
        places.append(place)

    kept = inside.nonzero()[:, 0]
    x, y, z = (place.index_select(0, kept).long() for place in places)
    return kept, (z * shape_ZYX[1] + y) * shape_ZYX[2] + x
