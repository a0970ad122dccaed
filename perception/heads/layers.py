"""Two building blocks that several heads share."""
from __future__ import annotations

from torch import nn


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Conv (no bias, size kept), batch norm, ReLU: `(B, in, Y, X)` -> `(B, out, Y, X)`."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def conv_stack(in_channels: int, width: int, layers: int) -> nn.Sequential:
    """`layers` blocks of `conv_bn_relu`, the first one changes the width."""
    return nn.Sequential(*(conv_bn_relu(in_channels if i == 0 else width, width) for i in range(layers)))
