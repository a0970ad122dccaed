"""LiDAR sweeps -> one bird's-eye-view map by the published form of pillars, for published weights."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.config import build_record
from ...core.contracts import Batch
from ...core.grid import BEVGrid
from ...registry import MODELS
from ..lidar import LidarEncoder
from ..records import SensorAxes, SensorFeature
from .second import second_branch, second_stage, side_by_side
from .turned import turned_back, turned_grid, turned_points


@MODELS.register_module()
class CenterPointPillars(LidarEncoder):
    """PointPillars as CenterPoint has it in mmdet3d: one point layer, SECOND, its pyramid.

    Lang et al., 2019, arXiv 1812.05784; Yan et al., 2018, Sensors 18; Yin et al., 2021, arXiv 2006.11275.
    `tools/import_weights.py` brings the weights. Different from `LidarEncoder`: plain convolutions in stages
    of stride 2, each stage's map brought to `grid` and all put side by side; one more number of a point, its
    height over the middle of the grid; a pillar with room left counts a point of zeros in its maximum.

    Args:
        pillar_grid: as `PillarEncoder`; in ego metres, as all grids.
        grid: as `PillarEncoder`.
        point_channels: one width.
        channels: of the stages.
        layers: convolutions of each stage behind its strided one.
        out_channels: of the BEV map, the same share from each stage.
        axes: `SensorAxes`, the frame that the weights were trained in.
        options: `max_points_per_pillar` and `export_sizes` of `PillarEncoder`.

    Raises:
        ValueError: the grids do not fit together, or `out_channels` cannot be shared among the stages.
    """

    described = 3

    def __init__(
        self,
        pillar_grid: BEVGrid,
        grid: BEVGrid,
        point_channels: Sequence[int] = (64,),
        channels: Sequence[int] = (64, 128, 256),
        layers: Sequence[int] = (3, 5, 5),
        out_channels: int = 384,
        axes: SensorAxes | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if out_channels % len(channels):
            raise ValueError(
                f'CenterPointPillars.out_channels: expected a multiple of {len(channels)} stages, found '
                f'{out_channels}')
        super().__init__(pillar_grid, grid, point_channels, channels, layers, out_channels, **options)
        self.axes = build_record(SensorAxes, axes, 'CenterPointPillars.axes')
        # points become pillars in the weights' own frame
        self.pillar_grid = turned_grid(pillar_grid, self.axes)

    def add_backbone(self, widths: Sequence[int], layers: Sequence[int], halvings: int) -> None:
        """Make stages and branches, see `PillarEncoder.add_backbone`."""
        share = self.out_channels // len(layers)
        self.stages = nn.ModuleList(
            second_stage(widths[i], widths[i + 1], layer, 2) for i, layer in enumerate(layers))
        self.branches = nn.ModuleList(
            second_branch(width, share, halvings - i - 1) for i, width in enumerate(widths[1:]))

    def clouds(self, batch: Batch) -> list[Tensor]:
        """As `LidarEncoder.clouds`, in the axes of the weights."""
        return [turned_points(points, self.axes) for points in super().clouds(batch)]

    def describe(self, points: Tensor) -> Tensor:
        """Intensity / 255, time lag (s), height over the middle of the grid (m)."""
        middle = sum(self.pillar_grid.z_range_m) / 2
        return torch.cat([points[:, 3:4] / 255, points[:, 5:6], points[:, 2:3] - middle], 1)

    def place(self, points_PC: Tensor, pillar_points: Tensor, slot_map: Tensor) -> Tensor:
        """Pillar map; the last row of `points_PC` is what a point of zeros becomes."""
        points_PC, of_zeros = points_PC[:-1], points_PC[-1:]
        pillars = super().place(points_PC, pillar_points, slot_map)

        # a table's row that has ended repeats its first entry; where M stands no pillar is, and zeros stay
        short_M = pillar_points[:, -1] == pillar_points[:, 0] if pillar_points.shape[1] > 1 else (
            torch.zeros_like(pillar_points[:, 0], dtype=torch.bool))
        floor_M1 = F.pad(short_M.to(points_PC.dtype), (0, 1))[:, None]
        floor = floor_M1.index_select(0, slot_map.reshape(-1)) * of_zeros
        floor = floor.view(len(slot_map), *self.pillar_grid.shape_YX, -1).permute(0, 3, 1, 2)
        return torch.maximum(pillars, floor)

    # the names are those of `prepare`
    def forward(self, points: Tensor, pillar_points: Tensor, slot_map: Tensor) -> SensorFeature:
        """Graph inputs -> BEV map `(B, out_channels, Y, X)` on `grid`, in ego axes."""
        x = self.scatter(F.pad(points, (0, 0, 0, 1)), pillar_points, slot_map)
        return SensorFeature(turned_back(side_by_side(x, self.stages, self.branches), self.axes))
