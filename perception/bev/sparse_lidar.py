"""LiDAR sweeps -> one bird's-eye-view map, by convolutions over the cells that hold points."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .lidar import LidarEncoder
from .ops.blocks import BasicBlock, conv_bn_relu, residual_stage
from .ops.table_max import table_max
from .records import SensorFeature
from .sparse.layers import SparseBlock, SparseEntry, chosen_form
from .sparse.maps import ActiveMap, masked_of_slots, rows_of_slots
from .sparse.places import ConvWindow
from .sparse.spconv_map import SpconvMap


@MODELS.register_module()
class SparseLidarEncoder(LidarEncoder):
    """Fine pillars, sparse residual stages from their own grid to the output's, a dense stage and a neck.

    PillarNet-18 (Shi et al., 2022, arXiv 2205.07403, section 3): a stage at each resolution, its first
    convolution strided from the second stage on, residual blocks of submanifold convolutions. Arguments as
    `PillarEncoder`, but for `channels` and `layers`: one entry for each resolution from `pillar_grid` to
    `grid`; one more is a dense stage at half that resolution, which the neck joins with the last sparse one.

    Attributes:
        implementation: 'rows' (plain torch), 'spconv', or 'masked', whole maps and a mask in plain operators,
            all three with the same weights and numbers. 'auto': 'masked' in a graph that is exported or
            recorded, spconv on a GPU where a build for GPUs is installed, rows elsewhere.
    """

    implementation = 'auto'

    def add_backbone(self, widths: Sequence[int], layers: Sequence[int], halvings: int) -> None:
        """Make the sparse stages and what follows them, see `PillarEncoder.add_backbone`.

        Raises:
            ValueError: neither one stage for each resolution nor one more.
        """
        sparse = halvings + 1
        if len(layers) not in (sparse, sparse + 1):
            raise ValueError(
                f'{type(self).__name__}.channels: from cells of {self.pillar_grid.cell_m} m to '
                f'{self.grid.cell_m} m expected {sparse} sparse stages, or {sparse + 1} with the dense one, '
                f'found {len(layers)}')

        self.stages = nn.ModuleList(
            _sparse_stage(widths[i], widths[i + 1], layers[i], 2 if i else 1) for i in range(sparse))
        if len(layers) > sparse:
            self.output = PillarNeck(widths[sparse], widths[-1], layers[-1], self.out_channels)
        else:
            self.output = conv_bn_relu(widths[-1], self.out_channels, 1)

    # the names are those of `prepare`
    def forward(self, points: Tensor, pillar_points: Tensor, slot_map: Tensor) -> SensorFeature:
        """Graph inputs -> BEV map `(B, out_channels, Y, X)` on `grid`."""
        active = self.active_map(points, pillar_points, slot_map)
        for stage in self.stages:
            for layer in stage:
                active = layer(active)
        return SensorFeature(self.output(active.dense()))

    def active_map(self, points: Tensor, pillar_points: Tensor, slot_map: Tensor) -> ActiveMap:
        """Points -> pillars on their own grid, in the form that `implementation` asks for.

        Raises:
            ValueError: an unknown implementation. ModuleNotFoundError: spconv is asked for and missing.
        """
        # float32: tens of metres do not fit half precision
        with torch.autocast(points.device.type, enabled=False):
            pillars = table_max(self.point_net(points.float()), pillar_points)

        kind = chosen_form(self, points.device)
        if kind == 'masked':
            return masked_of_slots(pillars, slot_map, self.pillar_grid.shape_YX)
        rows = rows_of_slots(pillars, slot_map, self.pillar_grid.shape_YX)
        return SpconvMap.of(rows) if kind == 'spconv' else rows


class PillarNeck(nn.Module):
    """A dense stage at half the resolution, brought back and joined with the map before it.

    Args:
        in_channels: of the last sparse stage.
        channels: of the dense stage.
        layers: its residual blocks.
        out_channels: of the result.
    """

    def __init__(self, in_channels: int, channels: int, layers: int, out_channels: int) -> None:
        super().__init__()
        half = max(1, out_channels // 2)
        self.entry = conv_bn_relu(in_channels, channels, 3, 2)
        self.stage = residual_stage(BasicBlock, channels, channels, layers, 1)
        self.fine = conv_bn_relu(in_channels, half, 3)
        self.coarse = nn.Sequential(
            nn.ConvTranspose2d(channels, half, 2, 2, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True))
        self.joined = conv_bn_relu(2 * half, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, Y, X)` -> `(B, out_channels, Y, X)`."""
        y, w = x.shape[-2:]
        coarse = self.coarse(self.stage(self.entry(x)))[:, :, :y, :w]
        return self.joined(torch.cat([self.fine(x), coarse], 1))


def _sparse_stage(in_channels: int, channels: int, layers: int, stride: int) -> nn.ModuleList:
    """The strided or widening layer where there is one, then residual blocks."""
    stage = nn.ModuleList()
    if stride > 1 or in_channels != channels:
        stage.append(SparseEntry(in_channels, channels, ConvWindow.cube(2, stride)))
    stage.extend(SparseBlock(channels) for _ in range(layers))
    return stage
