"""Radar sweeps -> one bird's-eye-view map: pillars, spread by radar cross-section, two streams of features.

The parts are those of RadarBEVNet (Lin et al., CVPR 2024, arXiv 2403.16440, section 3.2). Everything that
depends on how many targets there are (which cells a target reaches, which rows belong to which sample) is
made in `prepare`; the graph only gathers.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.config import build_record
from ..core.contracts import Batch
from ..core.grid import BEVGrid
from ..registry import MODELS
from .ops.blocks import conv_bn_relu
from .ops.gather import gather_sum
from .ops.rcs_spread import spread_tables
from .ops.table_max import table_max_reference
from .pillar_encoder import PillarEncoder
from .pillars import Pillars
from .radar_streams import DualStream
from .records import PillarSizes, SensorFeature, SpreadOptions, StreamOptions

RCS_SCALE_DBSM = 10.0
VELOCITY_SCALE_MPS = 10.0
RADAR_SIZES = PillarSizes(points=2000, pillars=1500)
DEFAULT_SPREAD = SpreadOptions()
_RCS_FEATURE = 5  # column of the decorated points: x, y, z, vx, vy, RCS


def describe_radar(points: Tensor) -> Tensor:
    """What a radar target says besides its place, `(P, 4)`: vx, vy / 10 m/s, RCS / 10 dBsm, time lag (s).

    Columns of `points`: `contracts.RADAR_COLUMNS`.
    """
    velocity = points[:, 3:5] / VELOCITY_SCALE_MPS
    cross_section = points[:, 5:6] / RCS_SCALE_DBSM
    return torch.cat([velocity, cross_section, points[:, 6:7]], 1)


@MODELS.register_module()
class RadarEncoder(PillarEncoder):
    """Five radars merged in ego -> pillars -> BEV map. A radar whose mask is False is never read.

    A radar does not measure height: a target outside the pillar grid's heights is moved to their border, not
    left out.

    Args:
        pillar_grid: see `PillarEncoder`, as everything before `spread`.
        grid: of the output.
        point_channels: widths of the point network.
        channels: of the backbone's stages.
        layers: of the backbone's stages.
        out_channels: of the BEV map.
        max_points_per_pillar: the first points in order stay.
        export_sizes: `PillarSizes` of an engine.
        spread: RCS-aware scatter, `SpreadOptions`: each pillar also reaches the cells around it, the farther
            the larger its cross-section and the farther it is from the car; None leaves it out.
        streams: dual-stream backbone, `StreamOptions`; None leaves it out.
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
        export_sizes: PillarSizes | Mapping[str, Any] = RADAR_SIZES,
        spread: SpreadOptions | Mapping[str, Any] | None = DEFAULT_SPREAD,
        streams: StreamOptions | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            pillar_grid, grid, point_channels, channels, layers, out_channels, max_points_per_pillar,
            export_sizes=export_sizes)
        width = point_channels[-1]
        self.streams = None
        if streams is not None:
            options = build_record(StreamOptions, streams, 'RadarEncoder.streams')
            self.streams = DualStream(width, options.blocks, options.heads)

        self.spread_options = None
        if spread is not None:
            self.spread_options = build_record(SpreadOptions, spread, 'RadarEncoder.spread')
            self.spread_projection = nn.Conv2d(width, width, 1)
            self.spread_fusion = conv_bn_relu(2 * width, width, 3)

    def clouds(self, batch: Batch) -> list[Tensor]:
        """B clouds of the targets of present radars, heights within the pillar grid.

        Raises:
            ValueError: the batch has no radar points.
        """
        if batch.radar_points is None:
            raise ValueError(
                'RadarEncoder.prepare: the batch has no radar points (were the radars left out of the data?)'
            )
        low, high = self.pillar_grid.z_range_m
        border = torch.nextafter(torch.tensor(high), torch.tensor(low)).item()  # the range is half open

        clouds = []
        for points, present_R in zip(batch.radar_points, batch.radar_present_BR, strict=True):
            points = points[present_R[points[:, 7].long()]]
            clouds.append(torch.cat([points[:, :2], points[:, 2:3].clamp(low, border), points[:, 3:]], 1))
        return clouds

    @torch.no_grad()
    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """As `PillarEncoder.prepare`, and the tables of spread and streams.

        Returns:
            In addition, with the spread: `spread_index` and `spread_weight` `(B, Y * X, S)` over cells of the
            pillar grid. With two streams: `sample_rows` `(B, N)`, the points of each sample, P where there is
            none, and `row_places` `(P,)`, where in it each point stands.
        """
        pillars = self.make_pillars(batch)
        inputs = pillars.tensors()
        if self.spread_options is not None:
            index, weight = spread_tables(self._rcs_map(pillars), self.pillar_grid, self.spread_options)
            inputs |= {'spread_index': index, 'spread_weight': weight}

        if self.streams is not None:
            sizes = self.fixed_sizes()
            rows, places = sample_tables(pillars, None if sizes is None else sizes.points)
            inputs |= {'sample_rows': rows, 'row_places': places}
        return inputs

    def _rcs_map(self, pillars: Pillars) -> Tensor:
        """Largest cross-section of each cell in dBsm, `(B, Y * X)`; minus infinity in empty cells."""
        scaled = pillars.points[:, _RCS_FEATURE : _RCS_FEATURE + 1]
        rcs = table_max_reference(scaled, pillars.pillar_points)[:, 0] * RCS_SCALE_DBSM
        rcs = torch.cat([rcs, rcs.new_full((1,), -torch.inf)])  # what the padding index reads
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
        # float32: tens of metres do not fit half precision
        with torch.autocast(points.device.type, enabled=False):
            features = self.point_net(points.float())
            if self.streams is not None:
                features = self.streams(features, points[:, :2].float(), sample_rows, row_places)
            cells = self.place(features, pillar_points, slot_map)

        if self.spread_options is not None:
            cells = self._spread(cells, spread_index, spread_weight)
        return SensorFeature(self.output(self.stages(cells)))

    def _spread(self, cells: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """RCS-aware scatter: weighted neighbours (through a 1x1) beside the plain map, through a 3x3."""
        rows = cells.flatten(2).transpose(1, 2)  # (B, Y * X, C)
        reached = gather_sum(rows, index, weight).transpose(1, 2).view(cells.shape)
        return self.spread_fusion(torch.cat([cells, self.spread_projection(reached)], 1))


def sample_tables(pillars: Pillars, fixed: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows of points by sample, and the way back.

    Args:
        pillars: of the batch.
        fixed: N; None takes the longest sample's.

    Returns:
        rows: int32 `(B, N)` into `pillars.points`, P where a sample has fewer than N points.
        places: int32 `(P,)`, each row's place in `rows`, flattened. Padded rows of `pillars.points` belong to
        no sample; their place is 0, never read.
    """
    total, device = len(pillars.points), pillars.points.device
    n = fixed or max(1, *(count for _, count in pillars.rows_of_sample))
    rows = torch.full((len(pillars.rows_of_sample), n), total, dtype=torch.int32, device=device)
    places = torch.zeros(total, dtype=torch.int32, device=device)

    for b, (start, count) in enumerate(pillars.rows_of_sample):
        step = torch.arange(count, dtype=torch.int32, device=device)
        rows[b, :count] = step + start
        places[start : start + count] = step + b * n
    return rows, places
