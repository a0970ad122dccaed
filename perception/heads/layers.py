"""Building blocks that several heads share."""
from __future__ import annotations

import math

from torch import Tensor, nn

from ..bev.ops.blocks import conv_bn_relu


def prior_logit(probability: float = 0.1) -> float:
    """The bias with which rare classes start at this probability (Lin et al. 2017, arXiv 1708.02002, 4.1)."""
    return -math.log((1 - probability) / probability)


def conv_stack(in_channels: int, width: int, layers: int) -> nn.Sequential:
    """Stack `layers` blocks of `conv_bn_relu`; the first one changes the width."""
    return nn.Sequential(*(conv_bn_relu(in_channels if i == 0 else width, width) for i in range(layers)))


class NormedFeedForward(nn.Module):
    """Two layers, added and normed."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """`(*, C)` -> the same shape."""
        return self.norm(x + self.layers(x))
