"""The shared body after fusion: a BEV backbone with a wide view, and a pyramid back to the same grid."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bev.ops.blocks import BasicBlock, conv_bn_relu, residual_stage, same_length
from ..registry import MODELS


@MODELS.register_module()
class Trunk(nn.Module):
    """Residual stages, each brought back to the input's grid, joined.

    As SECOND and its pyramid: Yan et al., 2018, Sensors 18.

    Args:
        in_channels: of the fused map.
        out_channels: of the result.
        channels: of each stage.
        layers: residual blocks of each stage.
        strides: of each stage.
        branch_channels: of each stage's map before they are joined; out_channels / stages where None.
        passed_channels: of the fused map itself, behind one layer, that stand behind those of the result
            (`self.out_channels` counts both): narrow branches let little of it through.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 128,
        channels: Sequence[int] = (64, 128),
        layers: Sequence[int] = (2, 2),
        strides: Sequence[int] = (1, 2),
        branch_channels: int | None = None,
        passed_channels: int = 0,
    ) -> None:
        super().__init__()
        same_length('Trunk', channels=channels, layers=layers, strides=strides)
        branch = branch_channels or max(1, out_channels // len(channels))
        widths = [in_channels, *channels]
        self.out_channels, self.passed_channels = out_channels + passed_channels, passed_channels
        self.stages = nn.ModuleList(
            residual_stage(BasicBlock, widths[i], widths[i + 1], layers[i], strides[i])
            for i in range(len(channels))
        )
        self.branches = nn.ModuleList(conv_bn_relu(c, branch, 1) for c in channels)
        self.output = conv_bn_relu(branch * len(channels), out_channels, 3)
        self.passed = conv_bn_relu(in_channels, passed_channels, 3) if passed_channels else None

    def forward(self, bev_BCYX: Tensor) -> Tensor:
        """`(B, in_channels, Y, X)` -> `(B, self.out_channels, Y, X)`, the same grid."""
        size = bev_BCYX.shape[-2:]
        x, maps = bev_BCYX, []
        for stage, branch in zip(self.stages, self.branches, strict=True):
            x = stage(x)
            branched = branch(x)
            if branched.shape[-2:] != size:
                branched = F.interpolate(branched, size=size, mode='bilinear', align_corners=False)
            maps.append(branched)
        output = self.output(torch.cat(maps, 1))
        if self.passed is None:
            return output
        return torch.cat([output, self.passed(bev_BCYX)], 1)


@MODELS.register_module()
class NoTrunk(nn.Module):
    """The fused map as it is, where an encoder brings a backbone and a pyramid of its own.

    Args:
        out_channels: of the fused map.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, bev_BCYX: Tensor) -> Tensor:
        """A map to the same map."""
        return bev_BCYX
