"""Occupancy from one query for each occupied coarse voxel (Chen et al. 2025, M3Net, arXiv 2503.18100)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.config import build_record
from ...core.grid import BEVGrid
from ...core.protocols import OCCUPANCY_GRID
from ...registry import MODELS
from ..queried import QueriedMap, expect_queries
from .loss import OccupancyLosses
from .targets import MASKS
from .task import OccupancyTask
from .voxel_attention import VoxelLayer
from .voxels import CLASSES

HEIGHTS = ('own', 'interpolated')


@dataclass(frozen=True)
class VoxelDecoderOptions:
    """What works among the coarse voxels.

    Args:
        layers: of attention in space, published 2.
        heads: of each, published 8.
        points: places per head, published 4.
        feedforward: hidden width, published 1024 at width 256; None is four times the width.
        heights: 'interpolated' as published: each coarse voxel has the logits of one voxel, and finer heights
            lie linearly between them; 'own': it has logits for each of its finer heights, which lets thin
            layers (the road in voxels of 0.4 m) stay thin.

    Raises:
        ValueError: unknown heights.
    """

    layers: int = 2
    heads: int = 8
    points: int = 4
    feedforward: int | None = None
    heights: str = 'own'

    def __post_init__(self) -> None:
        if self.heights not in HEIGHTS:
            raise ValueError(f'heights: expected one of {HEIGHTS}, found {self.heights!r}')


@MODELS.register_module()
class QueryOccupancyHead(OccupancyTask):
    """The class of every voxel of `task_grid` from queries that stand in coarse voxels.

    The queries fill their voxels, one learned vector all others; layers of attention in space exchange;
    three layers give logits, and what is between coarse voxels is interpolated. Raw output: `logits`
    `(B, Z * 18, Y', X')` on the coarse cells with the fine heights, as those of `OccupancyHead`, whose losses
    and decoding interpolate the cells.

    Args:
        in_channels: width of the queries.
        voxel_grid: the coarse voxels, those of the bridge, whole multiples of the task's on the same space.
        decoder: options of `VoxelDecoderOptions`.
        mask: train where 'camera' or 'lidar' saw the voxel, or everywhere (None).
        losses: options of `OccupancyLosses`.
        task_grid: where the predictions lie.

    Raises:
        ValueError: a name is wrong, an option unknown, or the coarse voxels do not fit the task's.
    """

    reads_queries = True

    def __init__(
        self,
        in_channels: int,
        voxel_grid: BEVGrid,
        decoder: Mapping[str, Any] | None = None,
        mask: str | None = 'camera',
        losses: Mapping[str, Any] | None = None,
        task_grid: BEVGrid = OCCUPANCY_GRID,
    ) -> None:
        super().__init__()
        if mask not in MASKS:
            raise ValueError(f"mask: expected 'camera', 'lidar' or None, found {mask!r}")
        _check_voxels(voxel_grid, task_grid)
        options = build_record(VoxelDecoderOptions, decoder, 'QueryOccupancyHead.decoder')

        self.task_grid, self.voxel_grid, self.mask = task_grid, voxel_grid, mask
        self.work_grid = replace(task_grid, cell_m=voxel_grid.cell_m)
        self.losses = build_record(OccupancyLosses, losses, 'QueryOccupancyHead.losses')
        self.register_buffer('class_weights_C', self.losses.weight_of_class(), persistent=False)

        width, shape_ZYX = in_channels, voxel_grid.shape_ZYX
        self.empty_C = nn.Parameter(torch.randn(width) * width ** -0.5)
        self.layers = nn.Sequential(*(
            VoxelLayer(width, shape_ZYX, options.heads, options.points, options.feedforward or 4 * width)
            for _ in range(options.layers)))

        # logits of one voxel, or of all its heights
        own = options.heights == 'own'
        numbers = CLASSES * (task_grid.z_size // voxel_grid.z_size if own else 1)
        self.classifier = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width), nn.ReLU(inplace=True),
            nn.Linear(width, numbers))
        between = None if own else torch.from_numpy(linear_heights(voxel_grid.z_size, task_grid.z_size))
        self.register_buffer('between_ZY', between, persistent=False)

    def forward(self, branch: QueriedMap) -> dict[str, Tensor]:
        """Compute `logits`, see the class, from the queries that a bridge hands over."""
        queried = expect_queries(branch, 'QueryOccupancyHead', self.voxel_grid)
        voxels_BVC = self.layers(fill_voxels(
            queried.content_BQC, queried.taken_BQ, self.empty_C, int(np.prod(self.voxel_grid.shape_ZYX))))

        # (B, coarse heights, heights in each * classes, Y, X)
        logits_BVN = self.classifier(voxels_BVC)
        logits = logits_BVN.unflatten(1, self.voxel_grid.shape_ZYX).permute(0, 1, 4, 2, 3)
        if self.between_ZY is not None:
            coarse_BZN = logits.flatten(2)
            logits = (self.between_ZY.to(coarse_BZN.dtype) @ coarse_BZN).unflatten(2, logits.shape[2:])
        return {'logits': logits.flatten(1, 2)}


def fill_voxels(content_BNC: Tensor, voxel_BN: Tensor, empty_C: Tensor, count: int) -> Tensor:
    """Put each query into its voxel, and one vector into all others: `(B, V, C)`.

    A table of who stands where, then one read: the gradient needs no scatter of features.

    Args:
        content_BNC: of the queries.
        voxel_BN: int64, whose voxels differ from each other in a sample.
        empty_C: of the other voxels.
        count: V.
    """
    b, n, width = content_BNC.shape
    rows_BM = torch.cat([content_BNC, empty_C.to(content_BNC.dtype).expand(b, 1, width)], 1).flatten(0, 1)

    number_BN = torch.arange(n, device=voxel_BN.device).expand(b, n)
    slot_BV = torch.full((b, count), n, dtype=torch.int64, device=voxel_BN.device)
    slot_BV = slot_BV.scatter(1, voxel_BN, number_BN)
    first_B1 = torch.arange(b, device=voxel_BN.device)[:, None] * (n + 1)
    return rows_BM.index_select(0, (slot_BV + first_B1).flatten()).unflatten(0, (b, count))


def linear_heights(coarse: int, fine: int) -> np.ndarray:
    """Weights of `coarse` heights at the centres of `fine` ones on the same length: float32 `(fine, coarse)`.

    Beyond the outer centres the outer heights continue, as `interpolate` does (align_corners=False).
    """
    position = np.clip((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0, coarse - 1)
    away = np.abs(position[:, None] - np.arange(coarse))
    return np.clip(1 - away, 0, None).astype(np.float32)


def _check_voxels(voxel_grid: BEVGrid, task_grid: BEVGrid) -> None:
    same = all(np.allclose(getattr(voxel_grid, name), getattr(task_grid, name))
               for name in ('x_range_m', 'y_range_m', 'z_range_m'))
    fits = voxel_grid.height_cell_m is not None and all(
        fine % coarse == 0 for fine, coarse in zip(task_grid.shape_ZYX, voxel_grid.shape_ZYX, strict=True))
    if not same or not fits:
        raise ValueError(
            f'voxel_grid: expected the space of the task_grid {task_grid} in whole multiples of its voxels, '
            f'found {voxel_grid}')
