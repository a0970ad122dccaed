"""One occupancy query for each coarse voxel that is likely occupied (M3Net, arXiv 2503.18100).

The publication has a query per voxel that a sparse LiDAR encoder left non-empty, a number that changes with
every frame. Here the map itself says which voxels are occupied, which serves pillars and cameras too, and the
likeliest N of them get a query, which keeps the graph's shapes.

Shape letters: B batch, N queries, V voxels (Z Y X of them, height by height), C channels.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.blocks import conv_bn_relu
from ...core.grid import BEVGrid
from ...core.processes import shared_count
from ...core.protocols import OCCUPANCY_FREE, OCCUPANCY_IGNORED
from ..layers import prior_logit
from ..queried import Queries
from ..resample import GridResample
from .queries import PositionEncoding, gather_cells


class VoxelQueries(nn.Module):
    """The likeliest voxels of a first occupancy.

    Args:
        width: of the map.
        grid: of the map.
        voxel_grid: coarse voxels.
        count: N.

    Raises:
        ValueError: more queries than voxels.
    """

    def __init__(self, width: int, grid: BEVGrid, voxel_grid: BEVGrid, count: int) -> None:
        super().__init__()
        z, y, x = voxel_grid.shape_ZYX
        if not 0 < count <= z * y * x:
            raise ValueError(f'queries.voxels: expected 1 to {z * y * x} voxels of voxel_grid, found {count}')

        self.count, self.cells = count, y * x
        self.resample = GridResample(grid, voxel_grid)
        self.first = nn.Sequential(conv_bn_relu(width, width), nn.Conv2d(width, z, 1))
        nn.init.constant_(self.first[-1].bias, prior_logit())

        # a voxel's place on the map, and its height
        self.position_encoding = PositionEncoding(width)
        self.height_ZC = nn.Parameter(torch.randn(z, width) * width ** -0.5)
        places = (grid.normalised(torch.from_numpy(voxel_grid.centres_m())) + 1) / 2
        self.register_buffer('places_V2', places.flatten(0, 1).float(), persistent=False)

    def forward(self, bev_BCYX: Tensor) -> tuple[Queries, Tensor, Tensor]:
        """Place the queries on a map.

        Returns:
            The queries, the logits of the first occupancy `(B, Z, Y, X)`, and the voxels taken, `(B, N)`
            numbered height by height.
        """
        cells_BCYX = self.resample(bev_BCYX)
        logits_BZYX = self.first(cells_BCYX)

        voxel_BN = logits_BZYX.detach().float().flatten(1).topk(self.count, sorted=True).indices
        height_BN = torch.div(voxel_BN, self.cells, rounding_mode='floor')
        cell_BN = voxel_BN - height_BN * self.cells

        places_BN2 = self.places_V2[cell_BN]
        position_BNC = self.position_encoding(places_BN2) + self.height_ZC[height_BN]
        return Queries(gather_cells(cells_BCYX, cell_BN), position_BNC, places_BN2), logits_BZYX, voxel_BN


def first_voxels_loss(
    logits_BZYX: Tensor, labels_BZYX: Tensor, weights_BZYX: Tensor | None = None
) -> Tensor:
    """Cross-entropy of coarse voxels: occupied where any of the fine ones is.

    It is a mean over all processes' voxels in which at least one fine voxel is labelled. With weights it is
    their weighted mean: a coarse voxel is as sure as the surest of the fine ones that say what it is.

    Args:
        logits_BZYX: of the first occupancy.
        labels_BZYX: fine voxels, uint8 into `OCCUPANCY_CLASSES`, 255 ignored.
        weights_BZYX: how much each fine voxel counts; None: all 1.

    Raises:
        ValueError: the fine voxels are no whole parts of the coarse ones.
    """
    coarse, fine = logits_BZYX.shape[1:], labels_BZYX.shape[1:]
    if any(f % c for f, c in zip(fine, coarse, strict=True)):
        raise ValueError(
            f'M3NetBridge.voxel_grid: expected whole multiples of the labels\' {tuple(fine)} voxels '
            f'(heights, rows, columns), found {tuple(coarse)}')

    parts = [f // c for f, c in zip(fine, coarse, strict=True)]
    is_known, is_occupied = labels_BZYX != OCCUPANCY_IGNORED, labels_BZYX < OCCUPANCY_FREE
    occupied_BZYX = _largest(is_occupied, parts)
    loss = F.binary_cross_entropy_with_logits(logits_BZYX.float(), occupied_BZYX, reduction='none')

    counted_BZYX = _largest(is_known, parts)
    if weights_BZYX is not None:
        known, taken = (_largest(which * weights_BZYX, parts) for which in (is_known, is_occupied))
        counted_BZYX = torch.where(occupied_BZYX > 0, taken, known)
    return (loss * counted_BZYX).sum() / shared_count(counted_BZYX.sum())


def _largest(fine_BZYX: Tensor, parts: list[int]) -> Tensor:
    """The largest of the fine voxels in each coarse one, of true and false whether any is true: float32."""
    return F.max_pool3d(fine_BZYX[:, None].float(), parts, parts)[:, 0]
