"""The neck of BEVFusion's cameras: each coarser map laid beside the next finer one, and joined."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ..ops.blocks import conv_bn_relu, same_length


@MODELS.register_module()
class GeneralizedLSSFPN(nn.Module):
    """Top-down pyramid that concatenates, as BEVFusion has it (Liu et al., 2023, arXiv 2205.13542).

    A coarser map is read between its cells (bilinear), laid beside the finer one, and both become one by a
    1x1 and a 3x3 convolution.

    Args:
        in_channels: of the backbone's maps, finest first; at least two.
        out_channels: of every output.

    Raises:
        ValueError: fewer than two maps.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        if len(in_channels) < 2:
            raise ValueError(
                f'GeneralizedLSSFPN.in_channels: expected two maps or more, found {tuple(in_channels)}')
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        coarser = [out_channels] * (len(in_channels) - 2) + [in_channels[-1]]
        self.lateral = nn.ModuleList(
            conv_bn_relu(fine + coarse, out_channels, 1)
            for fine, coarse in zip(in_channels[:-1], coarser, strict=True))
        self.output = nn.ModuleList(conv_bn_relu(out_channels, out_channels, 3) for _ in self.lateral)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> maps `(BN, out_channels, h, w)`, none for the coarsest."""
        same_length('GeneralizedLSSFPN.forward', maps=maps, in_channels=self.in_channels)
        levels = list(maps)

        # from the coarsest down
        for i in range(len(levels) - 2, -1, -1):
            coarse = F.interpolate(
                levels[i + 1], size=levels[i].shape[-2:], mode='bilinear', align_corners=False)
            levels[i] = self.output[i](self.lateral[i](torch.cat([levels[i], coarse], 1)))
        return tuple(levels[:-1])
