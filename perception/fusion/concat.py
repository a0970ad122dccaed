"""The default fuser: put the maps side by side and let a convolution choose."""
from __future__ import annotations

import torch
from torch import Tensor

from ..bev.ops.blocks import conv_bn_relu
from ..registry import MODELS
from .base import AbsentMaps, Fuser


@MODELS.register_module()
class ConcatFuser(Fuser):
    """Concatenate the sensors' maps, one 3x3 convolution; a learned vector stands for an absent sensor.

    Args:
        in_channels: {sensor: channels of its map}.
        out_channels: of the fused map.
    """

    def __init__(self, in_channels: dict[str, int], out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.absent = AbsentMaps(in_channels)
        self.mix = conv_bn_relu(sum(in_channels.values()), out_channels, 3)

    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """See `Fuser.forward`."""
        return self.mix(torch.cat(list(self.absent.fill(bevs, present).values()), 1))


@MODELS.register_module()
class OneSensor(Fuser):
    """The map of a model's only sensor as it is, for the published form of such models.

    Args:
        in_channels: {sensor: channels of its map}, one entry.

    Raises:
        ValueError: none or several sensors.
    """

    def __init__(self, in_channels: dict[str, int]) -> None:
        super().__init__()
        if len(in_channels) != 1:
            raise ValueError(f'OneSensor.in_channels: expected one sensor, found {sorted(in_channels)}')
        self.out_channels = next(iter(in_channels.values()))
        self.absent = AbsentMaps(in_channels)

    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """See `Fuser.forward`."""
        return next(iter(self.absent.fill(bevs, present).values()))
