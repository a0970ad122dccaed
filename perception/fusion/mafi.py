"""MAFI: every sensor says which channels of the joint map matter to it."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..bev.ops.blocks import conv_bn_relu
from ..registry import MODELS
from .base import AbsentMaps, Fuser


@MODELS.register_module()
class MAFI(Fuser):
    """Modality-adaptive feature integration of M3Net, for any number of sensors.

    Chen et al., AAAI 2025, arXiv 2503.18100:

        F = ConvBNReLU3x3(concatenation of all maps)
        G_s = ConvBNReLU3x3(map of sensor s)
        a_s = sigmoid(Conv1x1(mean of G_s over the ground)), one number per channel
        out = sum over s of F * a_s

    The paper lets the LiDAR speak for detection and the camera for the map, so each sensor's own attention is
    applied, once. (The published code applies the LiDAR's twice and never the camera's; we follow the paper.)

    Ours: an absent sensor is a learned vector in F, has no attention, and the sum over the others is scaled
    to as many terms as there are sensors. The attentions start at 1 / sensors, so that a new MAFI equals
    `ConcatFuser`.

    Args:
        in_channels: {sensor: channels of its map}.
        out_channels: of the fused map.
    """

    def __init__(self, in_channels: dict[str, int], out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.absent = AbsentMaps(in_channels)
        self.mix = conv_bn_relu(sum(in_channels.values()), out_channels, 3)
        self.features = nn.ModuleDict(
            {sensor: conv_bn_relu(c, out_channels, 3) for sensor, c in in_channels.items()}
        )
        self.attention = nn.ModuleDict(
            {sensor: nn.Conv2d(out_channels, out_channels, 1) for sensor in in_channels}
        )
        for layer in self.attention.values():
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, -math.log(max(len(in_channels) - 1, 1)))

    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """See `Fuser.forward`."""
        maps = self.absent.fill(bevs, present)
        return self.mix(torch.cat(list(maps.values()), 1)) * self.channel_attention(maps, present)

    def channel_attention(self, maps: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Sum of the present sensors' channel attentions, scaled to all sensors, `(B, out_channels, 1, 1)`.

        Zero in a sample without any sensor.
        """
        total, count = 0.0, 0.0
        for sensor, bev in maps.items():
            features = self.features[sensor](bev).mean((2, 3), keepdim=True)
            attention = self.attention[sensor](features).sigmoid()
            flag = present[sensor][:, None, None, None].to(bev.dtype)
            total = total + flag * attention
            count = count + flag
        return total * (len(maps) / count.clamp(min=1))
