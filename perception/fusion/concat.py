"""The default fuser: put the maps side by side and let a convolution choose."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..bev.ops.blocks import conv_bn_relu
from ..registry import MODELS
from .base import Fuser


@MODELS.register_module()
class ConcatFuser(Fuser):
    """Concatenate the sensors' maps, one 3x3 convolution. An absent sensor's map is replaced by a learned vector.

    Args:
        in_channels: {sensor: channels of its map}. out_channels: of the fused map.
    """

    def __init__(self, in_channels: dict[str, int], out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.absent = nn.ParameterDict({sensor: nn.Parameter(torch.zeros(c)) for sensor, c in in_channels.items()})
        self.mix = conv_bn_relu(sum(in_channels.values()), out_channels, 3)

    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        maps = [torch.where(present[sensor][:, None, None, None], bevs[sensor], vector[:, None, None].to(bevs[sensor].dtype))
                for sensor, vector in self.absent.items()]
        return self.mix(torch.cat(maps, 1))
