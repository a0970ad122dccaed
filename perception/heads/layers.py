"""A building block that several heads share."""
from __future__ import annotations

from torch import nn

from ..bev.ops.blocks import conv_bn_relu


def conv_stack(in_channels: int, width: int, layers: int) -> nn.Sequential:
    """Stack `layers` blocks of `conv_bn_relu`; the first one changes the width."""
    return nn.Sequential(*(conv_bn_relu(in_channels if i == 0 else width, width) for i in range(layers)))
