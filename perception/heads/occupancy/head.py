"""Occ3D occupancy (Tian et al. 2023, arXiv 2304.14365) by channel-to-height (FlashOcc, arXiv 2311.12058)."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...bev.ops.blocks import conv_bn_relu
from ...core.config import build_record
from ...core.grid import BEVGrid
from ...core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_GRID
from ...registry import MODELS
from ..layers import conv_stack
from ..resample import GridResample
from .loss import OccupancyLosses
from .targets import MASKS
from .task import OccupancyTask


@MODELS.register_module()
class OccupancyHead(OccupancyTask):
    """The class of every voxel of `task_grid`, from the channels of a flat map (Yu et al. 2023, FlashOcc).

    Raw output: `logits` `(B, 16 * 18, Y, X)` on cells of `work_cell_m`; channel z * 18 + c is class c of
    `OCCUPANCY_CLASSES` at height z. Coarser cells than the task's are never upsampled as a whole: losses
    interpolate where they look, decoding as it goes.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        width: of the 3x3 convolutions (the incoming width by default).
        layers: number of 3x3 convolutions.
        hidden: width of one more 1x1 layer before the logits; None for none.
        work_cell_m: cells in which the convolutions work, a multiple of the task's; the task's own by
            default. Coarser is cheaper: twice the cell, a quarter of the work.
        mask: train where 'camera' or 'lidar' saw the voxel, or everywhere (None).
        losses: options of `OccupancyLosses`.
        task_grid: where the predictions lie.

    Raises:
        ValueError: a name, a count or a cell size is wrong, or an option unknown.
    """

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        width: int | None = None,
        layers: int = 2,
        hidden: int | None = None,
        work_cell_m: float | None = None,
        mask: str | None = 'camera',
        losses: Mapping[str, Any] | None = None,
        task_grid: BEVGrid = OCCUPANCY_GRID,
    ) -> None:
        super().__init__()
        if mask not in MASKS:
            raise ValueError(f"mask: expected 'camera', 'lidar' or None, found {mask!r}")

        self.task_grid = task_grid
        self.mask = mask
        self.losses = build_record(OccupancyLosses, losses, 'OccupancyHead.losses')
        self.register_buffer('class_weights_C', self.losses.weight_of_class(), persistent=False)

        scale = 1 if work_cell_m is None else work_cell_m / task_grid.cell_m
        self.work_grid = task_grid.scaled(scale)
        self.resample = GridResample(grid, self.work_grid)

        width = width or in_channels
        self.convolutions = conv_stack(in_channels, width, layers)
        widening = [] if hidden is None else [conv_bn_relu(width, hidden, 1)]
        logits = task_grid.z_size * len(OCCUPANCY_CLASSES)
        self.classifier = nn.Sequential(*widening, nn.Conv2d(hidden or width, logits, 1))

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """Compute `logits`, see the class, from `(B, in_channels, Y, X)` on the trunk's grid."""
        return {'logits': self.classifier(self.convolutions(self.resample(bev_BCYX)))}
