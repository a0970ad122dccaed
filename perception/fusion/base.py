"""What every fuser promises: several BEV maps in, one out, any of them absent."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..bev.records import SensorFeature


class Fuser(nn.Module, ABC):
    """{sensor: BEV map} -> one BEV map on the same grid.

    Attributes:
        out_channels: width of the fused map.
        tasks: those it makes a map of their own for; empty: one map serves all.
    """

    out_channels: int
    tasks: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Fuse maps `(B, C_sensor, Y, X)`; `present[sensor]` is bool `(B,)`.

        Where a sensor is not present in a sample its map is never read: it may hold NaN, and the result must
        not change.

        Returns:
            `(B, out_channels, Y, X)`.
        """

    def fuse(self, features: dict[str, SensorFeature], present: dict[str, Tensor]) -> Tensor:
        """All that the encoders know -> the fused map; a fuser that also reads voxels overrides it."""
        return self({sensor: feature.bev_BCYX for sensor, feature in features.items()}, present)

    def fuse_by_task(
        self, features: dict[str, SensorFeature], present: dict[str, Tensor], tasks: Sequence[str]
    ) -> dict[str, Tensor]:
        """The fused map of each task, here the same one; a fuser that routes by task overrides it."""
        return dict.fromkeys(tasks, self.fuse(features, present))


class AbsentMaps(nn.ParameterDict):
    """A learned vector for each sensor that stands for its map where the sensor is absent; zero at first.

    Args:
        in_channels: {sensor: channels of its map}.
    """

    def __init__(self, in_channels: dict[str, int]) -> None:
        super().__init__({sensor: nn.Parameter(torch.zeros(c)) for sensor, c in in_channels.items()})

    def fill(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """The maps `(B, C_sensor, Y, X)`, always in the same order, absent ones replaced by their vector.

        An absent map is not read: `present[sensor]` is bool `(B,)`.
        """
        return {
            sensor: torch.where(
                present[sensor][:, None, None, None], bevs[sensor],
                vector[:, None, None].to(bevs[sensor].dtype))
            for sensor, vector in self.items()
        }
