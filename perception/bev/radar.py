"""Radar sweeps -> one bird's-eye-view map: pillars, the spread that a radar cross-section suggests, two
streams that talk.

The parts are those of RadarBEVNet (Lin et al., CVPR 2024, arXiv 2403.16440, section 3.2). Everything that
depends on how many targets there are (who spreads where, which rows belong to which sample) is made in
`prepare`; the graph only gathers.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.contracts import Batch, SensorFeature
from ..core.grid import BEVGrid
from ..registry import MODELS
from .ops.blocks import conv_bn_relu
from .ops.gather import gather_sum
from .ops.rcs_spread import spread_tables
from .ops.table_max import table_max_reference
from .pillar_encoder import PillarEncoder
from .pillars import Pillars
from .radar_streams import DualStream

_RCS_COLUMN = 5
RCS_SCALE_DBSM, VELOCITY_SCALE_MPS = 10.0, 10.0


def describe_radar(points: Tensor) -> Tensor:
    """What a radar target says besides its place, `(P, 4)`: vx, vy / 10 m/s, RCS / 10 dBsm, time lag (s).

    Columns of `points`: `contracts.RADAR_COLUMNS`.
    """
    return torch.cat(
        [points[:, 3:5] / VELOCITY_SCALE_MPS, points[:, 5:6] / RCS_SCALE_DBSM, points[:, 6:7]], 1
    )


@MODELS.register_module()
class RadarEncoder(PillarEncoder):
    """Five radars merged in ego -> pillars -> BEV map. A radar whose mask is False is never read.

    A radar does not measure height: a target outside the pillar grid's heights is moved to their border, not
    left out.

    Args:
        spread: RCS-aware scatter: each pillar also reaches the cells around it, the farther the larger its
            cross-section and the farther it is from the car.
        spread_cells: largest radius.
        spread_per_dbsm: radius in cells that a target at the far corner of the grid gains per dBsm.
        spread_slots: how many pillars may reach one cell.
        streams: blocks of the dual-stream backbone (point stream and transformer stream); 0 leaves it out.
        heads: of its attention. Everything else: see `PillarEncoder`.
    """

    sensor = 'radar'
    described = 4
    describe = staticmethod(describe_radar)

    def __init__(
        self,
        pillar_grid: BEVGrid,
        grid: BEVGrid,
        point_channels: Sequence[int] = (32,),
        channels: Sequence[int] = (64, 128),
        layers: Sequence[int] = (1, 1),
        out_channels: int = 64,
        max_points_per_pillar: int | None = 16,
        export_points: int = 2000,
        export_pillars: int = 1500,
        static: bool = False,
        spread: bool = True,
        spread_cells: int = 3,
        spread_per_dbsm: float = 0.1,
        spread_slots: int = 4,
        streams: int = 0,
        heads: int = 2,
    ) -> None:
        super().__init__(
            pillar_grid, grid, point_channels, channels, layers, out_channels, max_points_per_pillar, 0,
            export_points, export_pillars, static)
        width = point_channels[-1]
        self.streams = DualStream(width, streams, heads) if streams else None
        self.spread_options = (spread_cells, spread_per_dbsm, spread_slots) if spread else None
        if spread:
            self.spread_mix = nn.Conv2d(width, width, 1)
            self.spread_join = conv_bn_relu(2 * width, width, 3)

    def clouds(self, batch: Batch) -> list[Tensor]:
        """B clouds of the targets of present radars, heights within the pillar grid."""
        if batch.radar_points is None:
            raise ValueError(
                'RadarEncoder.prepare: the batch has no radar points (were the radars left out of the data?)'
            )
        low, high = self.pillar_grid.z_range_m
        border = torch.nextafter(torch.tensor(high), torch.tensor(low)).item()
        clouds = []
        for points, present_R in zip(batch.radar_points, batch.radar_present_BR, strict=True):
            points = points[present_R[points[:, 7].long()]]
            clouds.append(torch.cat([points[:, :2], points[:, 2:3].clamp(low, border), points[:, 3:]], 1))
        return clouds

    @torch.no_grad()
    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """As `PillarEncoder.prepare`; with the spread `spread_index`, `spread_weight` `(B, Y * X, S)` over
        cells of the pillar grid; with two streams `sample_rows` `(B, N)`: the points of each sample, P where
        there is none, and `row_places` `(P,)`: where in it each point stands.
        """
        pillars = self.make_pillars(batch)
        inputs = {
            'points': pillars.points, 'pillar_points': pillars.pillar_points, 'slot_map': pillars.slot_map}
        if self.spread_options:
            index, weight = spread_tables(self._rcs_map(pillars), self.pillar_grid, *self.spread_options)
            inputs |= {'spread_index': index, 'spread_weight': weight}
        if self.streams is not None:
            fixed = self.sizes.points if self.static and not self.training else None
            rows, places = sample_tables(pillars, fixed)
            inputs |= {'sample_rows': rows, 'row_places': places}
        return inputs

    def _rcs_map(self, pillars: Pillars) -> Tensor:
        """Largest cross-section of each cell in dBsm, `(B, Y * X)`; minus infinity in empty cells."""
        rcs = table_max_reference(pillars.points[:, _RCS_COLUMN:_RCS_COLUMN + 1], pillars.pillar_points)[:, 0]
        rcs = torch.cat([rcs * RCS_SCALE_DBSM, rcs.new_full((1,), -torch.inf)])
        return rcs[pillars.slot_map.long()]

    # the names are those of `prepare`
    def forward(
        self,
        points: Tensor,
        pillar_points: Tensor,
        slot_map: Tensor,
        spread_index: Tensor | None = None,
        spread_weight: Tensor | None = None,
        sample_rows: Tensor | None = None,
        row_places: Tensor | None = None,
    ) -> SensorFeature:
        """Graph inputs -> BEV map `(B, out_channels, Y, X)` on `grid`."""
        with torch.autocast(points.device.type, enabled=False):
            features = self.point_net(points.float())
            if self.streams is not None:
                features = self.streams(features, points[:, :2].float(), sample_rows, row_places)
            cells = self.place(features, pillar_points, slot_map)
        if self.spread_options:
            cells = self._spread(cells, spread_index, spread_weight)
        return SensorFeature(self.output(self.stages(cells)))

    def _spread(self, cells: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """RCS-aware scatter: Gaussian-weighted neighbours through a 1x1, beside the plain map through a 3x3
        convolution."""
        reached = (
            gather_sum(cells.flatten(2).transpose(1, 2), index, weight).transpose(1, 2).view(cells.shape)
        )
        return self.spread_join(torch.cat([cells, self.spread_mix(reached)], 1))


def sample_tables(pillars: Pillars, fixed: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows of each sample `(B, N)` int32, P where it has fewer than N points, and each row's place in that
    `(P,)` int32.

    `fixed`: N; None takes the longest sample's. Padded rows of `pillars.points` belong to nobody; their place
    is 0, never read.
    """
    total, device = len(pillars.points), pillars.points.device
    n = fixed or max(1, *(count for _, count in pillars.rows_of_sample))
    rows = torch.full((len(pillars.rows_of_sample), n), total, dtype=torch.int32, device=device)
    places = torch.zeros(total, dtype=torch.int32, device=device)
    for b, (start, count) in enumerate(pillars.rows_of_sample):
        own = torch.arange(count, dtype=torch.int32, device=device)
        rows[b, :count] = own + start
        places[start:start + count] = own + b * n
    return rows, places
