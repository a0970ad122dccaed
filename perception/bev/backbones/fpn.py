"""Feature pyramid: coarse maps with meaning handed down to fine maps with detail."""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ..ops.blocks import conv_bn_relu, same_length


@MODELS.register_module()
class FPN(nn.Module):
    """Top-down pyramid (Lin et al., 2017, arXiv 1612.03144) with batch norm.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output.
        out_levels: indices into `in_channels` to return; only what these need is built, and levels finer than
            the finest of them are not read.

    Raises:
        ValueError: a level that does not exist, or none.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, out_levels: Sequence[int] = (0,)
    ) -> None:
        super().__init__()
        self.out_levels = tuple(sorted(out_levels))
        if not self.out_levels or not set(self.out_levels) <= set(range(len(in_channels))):
            raise ValueError(
                f'FPN.out_levels: expected some of 0..{len(in_channels) - 1}, found {tuple(out_levels)}'
            )
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        self.first = self.out_levels[0]
        self.lateral = nn.ModuleList(conv_bn_relu(c, out_channels, 1) for c in self.in_channels[self.first:])
        self.output = nn.ModuleList(conv_bn_relu(out_channels, out_channels, 3) for _ in self.out_levels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of the backbone, finest first -> one map `(BN, out_channels, h, w)` a level."""
        same_length('FPN.forward', maps=maps, in_channels=self.in_channels)
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps[self.first:], strict=True)]

        # from the coarsest down, each added to the next finer one
        for i in range(len(levels) - 1, 0, -1):
            finer = levels[i - 1]
            levels[i - 1] = finer + F.interpolate(levels[i], size=finer.shape[-2:], mode='nearest')

        chosen = [levels[level - self.first] for level in self.out_levels]
        return tuple(conv(x) for conv, x in zip(self.output, chosen, strict=True))
