"""What every fuser promises: several BEV maps in, one out, any of them absent."""
from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..contracts import SensorFeature


class Fuser(nn.Module, ABC):
    """{sensor: BEV map} -> one BEV map on the same grid.

    Attributes:
        out_channels: width of the fused map.
    """

    out_channels: int

    @abstractmethod
    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse maps `(B, C_sensor, Y, X)`; `present[sensor]` is bool `(B,)`.

        Where a sensor is not present in a sample its map is never read: it may hold NaN, and the result must not change.

        Returns:
            `(B, out_channels, Y, X)`.
        """

    def fuse(self, features: dict[str, SensorFeature], present: dict[str, Tensor]) -> Tensor:
        """What the model calls: all that the encoders know -> the fused map. Fusers that read voxels, too, override it."""
        return self({sensor: feature.bev_BCYX for sensor, feature in features.items()}, present)
