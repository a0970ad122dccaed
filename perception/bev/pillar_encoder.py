"""Points -> one bird's-eye-view map, by pillars: what LiDAR and radar have in common."""
from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.config import build_record
from ..core.contracts import Batch
from ..core.grid import BEVGrid
from .base import SensorEncoder
from .ops.blocks import BasicBlock, conv_bn_relu, residual_stage, same_length
from .ops.memory_order import laid_out
from .ops.table_max import table_max
from .pillars import PLACE_FEATURES, Pillars, make_pillars
from .point_linear import PointLinear
from .records import PillarSizes, SensorFeature

LIDAR_SIZES = PillarSizes(points=60_000, pillars=12_000)


class PillarEncoder(SensorEncoder):
    """Dynamic pillars and a BEV backbone.

    Zhou et al., 2020, arXiv 1910.06528; Lang et al., 2019, arXiv 1812.05784.

    Args:
        pillar_grid: where points become pillars; its heights bound the cloud.
        grid: of the output, the same ground, its cells a power of two times as long.
        point_channels: widths of the point network.
        channels: of the backbone's residual stages; the first ones halve the resolution until `grid` is
            reached.
        layers: residual blocks of each stage.
        out_channels: of the BEV map.
        max_points_per_pillar: the first points in order stay; None keeps all.
        height_bins: see `pillars.decorate`.
        export_sizes: points and pillars of one sample where `static` is set, `PillarSizes`.
        units: of each feature of a point (`pillars.decorate`), how much of it counts as one while it learns,
            see `PointLinear`; None, as published, takes them as they come.

    Attributes:
        described: how many columns `describe` returns.
        static: in evaluation `prepare` pads to `export_sizes` (engines need fixed shapes); the numbers do not
            change. In training it does nothing: padding would be counted by the point network's batch norm.
        dropped_pillars: how many pillars had no room in the fixed sizes so far; the first time is said.
        cut_batches: how many calls of `prepare` dropped some.

    Raises:
        ValueError: the two grids do not fit together.
    """

    described: int

    def __init__(
        self,
        pillar_grid: BEVGrid,
        grid: BEVGrid,
        point_channels: Sequence[int] = (64,),
        channels: Sequence[int] = (64, 128),
        layers: Sequence[int] = (2, 2),
        out_channels: int = 128,
        max_points_per_pillar: int | None = 32,
        height_bins: int = 0,
        export_sizes: PillarSizes | Mapping[str, Any] = LIDAR_SIZES,
        units: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        same_length(owner, channels=channels, layers=layers)
        halvings = count_halvings(owner, pillar_grid, grid, len(channels))
        self.pillar_grid = pillar_grid
        self.grid = grid
        self.out_channels = out_channels
        self.max_points_per_pillar = max_points_per_pillar
        self.height_bins = height_bins
        self.sizes = build_record(PillarSizes, export_sizes, f'{owner}.export_sizes')
        self.static = False
        self.dropped_pillars = 0
        self.cut_batches = 0

        features = PLACE_FEATURES + self.described + height_bins
        self.point_net = point_net(features, point_channels, units)
        self.add_backbone([point_channels[-1], *channels], layers, halvings)

    def add_backbone(self, widths: Sequence[int], layers: Sequence[int], halvings: int) -> None:
        """Make the parts behind the point network: the first stages halve the resolution.

        Args:
            widths: of the pillars, then of each stage.
            layers: residual blocks of each stage.
            halvings: from the pillars' grid to the output's.
        """
        stages = [
            residual_stage(BasicBlock, widths[i], widths[i + 1], layers[i], 2 if i < halvings else 1)
            for i in range(len(layers))
        ]
        self.stages = nn.Sequential(*stages)
        self.output = conv_bn_relu(widths[-1], self.out_channels, 1)

    @abstractmethod
    def clouds(self, batch: Batch) -> list[Tensor]:
        """B clouds `(P, columns)` in ego metres of what is present.

        Raises:
            ValueError: the batch lacks the sensor.
        """

    @staticmethod
    @abstractmethod
    def describe(points: Tensor) -> Tensor:
        """What a point says besides its place, `(P, described)`."""

    @torch.no_grad()
    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """`points` `(P, F)`, `pillar_points` `(M, T)` and `slot_map` `(B, Y * X)`, see `pillars.Pillars`.

        Raises:
            ValueError: the batch lacks the sensor, or fixed sizes are needed with `max_points_per_pillar`
                None.
        """
        return self.make_pillars(batch).tensors()

    def make_pillars(self, batch: Batch) -> Pillars:
        """The batch's pillars, in fixed sizes where `static` asks for them; counts those that had no room."""
        clouds = self.clouds(batch)
        if self.static and self.max_points_per_pillar is None:
            raise ValueError(
                f'{type(self).__name__}.static: fixed sizes need max_points_per_pillar, found None'
            )
        pillars = make_pillars(
            clouds, self.pillar_grid, self.max_points_per_pillar, self.fixed_sizes(), self.height_bins,
            self.describe)
        if pillars.dropped:
            self._count_dropped(pillars)
        return pillars

    def _count_dropped(self, pillars: Pillars) -> None:
        if not self.dropped_pillars:
            from mmengine.logging import print_log

            print_log(
                f'{self.sensor}: {pillars.dropped} pillars of a cloud have no room in export_sizes '
                f'({self.sizes.points} points, {self.sizes.pillars} pillars); the farthest are left out, '
                f'from now on without saying so', logger='current', level=30)
        self.dropped_pillars += pillars.dropped
        self.cut_batches += 1

    def describe_cuts(self) -> str:
        """How much had no room so far, and what gives it room."""
        return (
            f'{self.cut_batches} clouds had more pillars than the export has room for; in all '
            f'{self.dropped_pillars} pillars, the farthest ones, were left out '
            f'(model.encoders.{self.sensor}.export_sizes, then export again)')

    def fixed_sizes(self) -> PillarSizes | None:
        """The sizes `prepare` pads to; None where shapes may vary."""
        return self.sizes if self.static and not self.training else None

    # the names are those of `prepare`
    def forward(self, points: Tensor, pillar_points: Tensor, slot_map: Tensor) -> SensorFeature:
        """Graph inputs -> BEV map `(B, out_channels, Y, X)` on `grid`."""
        return SensorFeature(self.output(self.stages(self.scatter(points, pillar_points, slot_map))))

    def scatter(self, points: Tensor, pillar_points: Tensor, slot_map: Tensor) -> Tensor:
        """Points -> pillar map `(B, C, Y, X)` on the pillar grid."""
        # float32: tens of metres do not fit half precision
        with torch.autocast(points.device.type, enabled=False):
            return self.place(self.point_net(points.float()), pillar_points, slot_map)

    def place(self, points_PC: Tensor, pillar_points: Tensor, slot_map: Tensor) -> Tensor:
        """Points' features -> pillar map: a cell fetches the maximum of its pillar, an empty cell zeros."""
        # the row of zeros behind the pillars is what the padding index M reads
        rows = F.pad(table_max(points_PC, pillar_points), (0, 0, 0, 1))
        cells = rows.index_select(0, slot_map.reshape(-1))
        return laid_out(cells.view(slot_map.shape[0], *self.pillar_grid.shape_YX, -1).permute(0, 3, 1, 2))


def point_net(
    in_channels: int, channels: Sequence[int], units: Sequence[float] | None = None
) -> nn.Sequential:
    """Linear, batch norm, ReLU on each point by itself; the first layer learns in units of its features."""
    widths = [in_channels, *channels]
    layers = [
        nn.Sequential(
            PointLinear(before, after, units if i == 0 else None),
            nn.BatchNorm1d(after, eps=1e-3, momentum=0.01),
            nn.ReLU(inplace=True),
        )
        for i, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True))
    ]
    return nn.Sequential(*layers)


def count_halvings(owner: str, pillar_grid: BEVGrid, grid: BEVGrid, most: int) -> int:
    """How often the pillars' cells must double to become the output's.

    Raises:
        ValueError: the grids cover different ground or their cells are not a power of two apart, or more
            than 2 ** most.
    """
    if (pillar_grid.x_range_m, pillar_grid.y_range_m) != (grid.x_range_m, grid.y_range_m):
        raise ValueError(
            f'{owner}: pillar_grid covers {pillar_grid.x_range_m}, {pillar_grid.y_range_m} m, '
            f'grid {grid.x_range_m}, {grid.y_range_m} m; expected the same ground'
        )
    ratio = grid.cell_m / pillar_grid.cell_m
    halvings = round(math.log2(ratio))
    if abs(ratio - 2 ** halvings) > 1e-6 or not 0 <= halvings <= most:
        raise ValueError(
            f'{owner}: cells of {pillar_grid.cell_m} m do not become cells of {grid.cell_m} m in {most} '
            f'stages of stride 1 or 2'
        )
    return halvings
