"""LiDAR sweeps -> one bird's-eye-view map by sparse convolutions over voxels, for published weights too."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...core.config import build_record
from ...core.contracts import Batch
from ...core.grid import BEVGrid
from ...registry import MODELS
from ..base import SensorEncoder
from ..lidar import lidar_clouds
from ..ops.blocks import same_length
from ..pillar_encoder import count_halvings
from ..records import SensorAxes, SensorFeature, VoxelSizes
from ..sparse.layers import chosen_form
from ..sparse.maps import ActiveMap, MaskedMap, RowMap, whole_map
from ..sparse.places import Places
from ..sparse.spconv_map import SpconvMap
from ..sparse.voxel_net import SparseVoxels
from ..sparse.voxels import MEANS, make_voxels
from .second import second_branch, second_stage, side_by_side
from .turned import turned_back, turned_grid, turned_points


@MODELS.register_module()
class VoxelNet(SensorEncoder):
    """Means of points in voxels, sparse 3-D convolutions, heights as channels, SECOND and its pyramid.

    The LiDAR encoder of CenterPoint with voxels, TransFusion and BEVFusion in its published form: Zhou and
    Tuzel, 2018, arXiv 1711.06396; Yan et al., 2018, Sensors 18; Yin et al., 2021, arXiv 2006.11275.
    `tools/import_weights.py` brings the weights.

    Args:
        voxel_grid: of the voxels, in ego metres; `height_cell_m` is their height.
        grid: of the output, the same ground, cells as many times as long as `widths` halve.
        widths: of the sparse part at each resolution.
        compressed: width of each height that is left; the published two become 2 * 128 channels.
        channels: of SECOND's stages, the first without stride; none: the heights side by side go out.
        layers: convolutions of each stage behind its first.
        out_channels: of the BEV map, the same share from each stage.
        axes: `SensorAxes`, the frame that the weights were trained in.
        sizes: `VoxelSizes`.

    Attributes:
        implementation: see `SparseLidarEncoder`. The convolutions over voxels run in float32 whatever the
            rest of the network runs in, as published.
        shape_ZYX: of the voxels' map: one empty layer above the grid, as published.
        most_dense_gib: the dense twin is refused where its maps need more; at 0.075 m they do.
        static: as `PillarEncoder`.
        dropped_voxels: how many had no room so far; the first time is said.
        cut_batches: how many calls of `prepare` dropped some.

    Raises:
        ValueError: the grids do not fit together, the voxels have no height, or the widths do not.
    """

    sensor = 'lidar'
    implementation = 'auto'
    most_dense_gib = 4.0

    def __init__(
        self,
        voxel_grid: BEVGrid,
        grid: BEVGrid,
        widths: Sequence[int] = (16, 32, 64, 128),
        compressed: int = 128,
        channels: Sequence[int] = (128, 256),
        layers: Sequence[int] = (5, 5),
        out_channels: int = 512,
        axes: SensorAxes | Mapping[str, Any] | None = None,
        sizes: VoxelSizes | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if channels:
            same_length('VoxelNet', channels=channels, layers=layers)
        _check_grids(voxel_grid, grid, widths)
        self.grid, self.out_channels = grid, out_channels
        self.axes = build_record(SensorAxes, axes, 'VoxelNet.axes')
        self.sizes = build_record(VoxelSizes, sizes, 'VoxelNet.sizes')
        self.voxel_grid = turned_grid(voxel_grid, self.axes)
        z, y, x = self.voxel_grid.shape_ZYX
        self.shape_ZYX = (z + 1, y, x)
        self.static, self.dropped_voxels, self.cut_batches = False, 0, 0

        self.middle = SparseVoxels(MEANS, widths, compressed, self.shape_ZYX)
        self._add_second(compressed * self.middle.out_heights, channels, layers)

    def _add_second(self, in_channels: int, channels: Sequence[int], layers: Sequence[int]) -> None:
        """Stages and branches, none where the heights go out as they are."""
        self.stages, self.branches = nn.ModuleList(), nn.ModuleList()
        if not channels and in_channels != self.out_channels or channels and (
                self.out_channels % len(channels)):
            raise ValueError(
                f'VoxelNet.out_channels: expected a multiple of {len(channels)} stages, found '
                f'{self.out_channels}' if channels else
                f'VoxelNet.out_channels: without stages expected {in_channels}, the heights side by side, '
                f'found {self.out_channels}')

        widths = [in_channels, *channels]
        for i, (width, count) in enumerate(zip(channels, layers, strict=True)):
            self.stages.append(second_stage(widths[i], width, count, 2 if i else 1))
            self.branches.append(second_branch(width, self.out_channels // len(channels), -i))

    @torch.no_grad()
    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """`voxels` `(M, 5)`, `voxel_cells` `(M,)` and `voxel_counts` `(B,)`, see `voxels.Voxels`.

        Raises:
            ValueError: the batch lacks the LiDAR, or an engine is asked for whose maps are too large.
        """
        padded = self.static and not self.training
        if padded:
            self.check_dense()
        clouds = [turned_points(points, self.axes) for points in lidar_clouds(batch, 'VoxelNet')]
        voxels = make_voxels(clouds, self.voxel_grid, self.shape_ZYX, self.sizes, padded)
        if voxels.dropped:
            self._count_dropped(voxels.dropped)
        return voxels.tensors()

    def check_dense(self) -> None:
        """Whether the dense twin can be asked for.

        Raises:
            ValueError: says what it would need.
        """
        cost = self.middle.dense_cost(self.shape_ZYX)
        if cost.gib > self.most_dense_gib:
            z, y, x = self.shape_ZYX
            raise ValueError(
                f'VoxelNet: exported or recorded it is dense, and on {x} x {y} x {z} voxels that needs '
                f'{cost.gib:.1f} GiB for maps and {cost.tflop:.1f} TFLOP a frame, at most '
                f'{self.most_dense_gib:g} GiB are taken (most_dense_gib). Export longer voxels '
                f'(voxel_grid.cell_m), or an encoder of pillars: LidarEncoder, SparseLidarEncoder')

    def _count_dropped(self, dropped: int) -> None:
        if not self.dropped_voxels:
            from mmengine.logging import print_log

            print_log(
                f'lidar: {dropped} voxels have no room in sizes.voxels ({self.sizes.voxels} of a sample); '
                f'those that the cloud meets last are left out, from now on without saying so',
                logger='current', level=30)
        self.dropped_voxels += dropped
        self.cut_batches += 1

    def describe_cuts(self) -> str:
        """How much had no room so far, and what gives it room."""
        return (
            f'{self.cut_batches} clouds had more voxels than there is room for; in all {self.dropped_voxels} '
            f'voxels, those that a cloud meets last, were left out (model.encoders.lidar.sizes.voxels)')

    # the names are those of `prepare`
    def forward(self, voxels: Tensor, voxel_cells: Tensor, voxel_counts: Tensor) -> SensorFeature:
        """Graph inputs -> BEV map `(B, out_channels, Y, X)` on `grid`, in ego axes."""
        # float32: tens of metres do not fit half precision
        with torch.autocast(voxels.device.type, enabled=False):
            bev = self.middle(self.active_map(voxels, voxel_cells, len(voxel_counts)))
        if len(self.stages):
            bev = side_by_side(bev, self.stages, self.branches)
        return SensorFeature(turned_back(bev, self.axes))

    def active_map(self, voxels: Tensor, voxel_cells: Tensor, samples: int) -> ActiveMap:
        """Voxels in the form that `implementation` asks for.

        Raises:
            ValueError: an unknown implementation, or maps too large for 'masked'. ModuleNotFoundError: spconv
                is asked for and missing.
        """
        shape = (samples, *self.shape_ZYX)
        kind = chosen_form(self, voxels.device)
        if kind == 'masked':
            self.check_dense()
            ones = torch.ones_like(voxels[:, :1])
            return MaskedMap(whole_map(voxels, voxel_cells, shape), whole_map(ones, voxel_cells, shape))

        size = self.shape_ZYX[0] * self.shape_ZYX[1] * self.shape_ZYX[2]
        real = voxel_cells < samples * size  # not padding
        rows = RowMap(voxels[real], Places(voxel_cells[real], shape))
        return SpconvMap.of(rows) if kind == 'spconv' else rows


def _check_grids(voxel_grid: BEVGrid, grid: BEVGrid, widths: Sequence[int]) -> None:
    """Voxels need a height, and the output's cells as many halvings as there are widths but one."""
    if voxel_grid.height_cell_m is None:
        raise ValueError('VoxelNet.voxel_grid: expected height_cell_m, the height of a voxel; found none')
    halvings = len(widths) - 1
    if halvings < 1 or count_halvings('VoxelNet', voxel_grid, grid, halvings) != halvings:
        raise ValueError(
            f'VoxelNet.widths: {len(widths)} resolutions make cells of {voxel_grid.cell_m} m '
            f'{2 ** halvings} times as long; expected two or more and {grid.cell_m} m, the cells of grid')
