"""Sparse convolutions over voxels, and their heights put side by side: VoxelNet's middle part."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from .layers import SparseBlock, SparseEntry
from .maps import ActiveMap, ConvNorm
from .places import ConvWindow

BLOCKS = 2
_COMPRESSING = ConvWindow((3, 1, 1), (2, 1, 1), (0, 0, 0))


@dataclass(frozen=True)
class DenseCost:
    """What the dense twin of a sparse network needs for one sample.

    Attributes:
        gib: of the maps that live at one moment, float32.
        tflop: of its convolutions, a multiply-add as two.
    """

    gib: float
    tflop: float


class SparseVoxels(nn.Module):
    """The sparse encoder of CenterPoint, TransFusion and BEVFusion (mmdet3d: SparseEncoder of basic blocks).

    A submanifold convolution, then at each resolution two residual blocks; between resolutions a convolution
    of stride 2 along all axes, the last of them without padding in height; at the end one of kernel and
    stride (3, 2) in height alone. Heights become channels. Yan et al., 2018, Sensors 18; Yin et al., 2021,
    arXiv 2006.11275.

    Args:
        in_channels: of a voxel.
        widths: of each resolution.
        out_channels: of a height of the result.
        shape_ZYX: of the voxels' map.

    Attributes:
        out_heights: how many heights are left.

    Raises:
        ValueError: too few heights for that many resolutions.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], out_channels: int, shape_ZYX: tuple[int, int, int]
    ) -> None:
        super().__init__()
        last = len(widths) - 1
        self.entry = SparseEntry(in_channels, widths[0], ConvWindow.cube(3))
        self.stages = nn.ModuleList()
        for i, width in enumerate(widths):
            stage = nn.ModuleList(SparseBlock(width, 3) for _ in range(BLOCKS))
            if i < last:
                padding = (0 if i == last - 1 else 1, 1, 1)
                stage.append(SparseEntry(width, widths[i + 1], ConvWindow((3,) * 3, (2,) * 3, padding)))
            self.stages.append(stage)
        self.output = SparseEntry(widths[-1], out_channels, _COMPRESSING)

        self.out_heights = [shape[0] for _, shape, _ in self._layers(shape_ZYX)][-1]
        if self.out_heights < 1:
            raise ValueError(
                f'SparseVoxels: {shape_ZYX[0]} heights are too few for {len(widths)} resolutions and the '
                f'compression behind them')

    def forward(self, x: ActiveMap) -> Tensor:
        """Voxels -> `(B, out_channels * out_heights, Y, X)`, the heights of a channel side by side."""
        x = self.entry(x)
        for stage in self.stages:
            for layer in stage:
                x = layer(x)
        return self.output(x).dense().flatten(1, 2)

    def dense_cost(self, shape_ZYX: tuple[int, int, int]) -> DenseCost:
        """What the dense twin needs: its largest maps, three in a block (shortcut, before, behind)."""
        tflop = gib = 0.0
        for layer, shape, cells in self._layers(shape_ZYX):
            outputs = prod(shape)
            tflop += 2e-12 * outputs * layer.conv.weight.numel()
            before, behind = layer.conv.in_channels * cells, layer.conv.out_channels * outputs
            shortcut = behind if layer.window.submanifold and layer.conv.in_channels == (
                layer.conv.out_channels) else 0
            gib = max(gib, (before + behind + shortcut) * 4 / 2 ** 30)
        return DenseCost(gib, tflop)

    def _layers(
        self, shape_ZYX: tuple[int, int, int]
    ) -> Iterator[tuple[ConvNorm, tuple[int, ...], int]]:
        """Each convolution in its order, the shape it writes, and the cells that it reads."""
        shape: tuple[int, ...] = shape_ZYX
        for layer in (part for part in self.modules() if isinstance(part, ConvNorm)):
            cells, shape = prod(shape), layer.window.outputs(shape)
            yield layer, shape, cells
