"""LiDAR sweeps -> one bird's-eye-view map, by pillars."""
from __future__ import annotations

from torch import Tensor

from ..core.contracts import Batch
from ..registry import MODELS
from .pillar_encoder import PillarEncoder
from .pillars import describe_lidar


@MODELS.register_module()
class LidarEncoder(PillarEncoder):
    """The LiDAR's pillars; arguments as `PillarEncoder`."""

    sensor = 'lidar'
    described = 2
    describe = staticmethod(describe_lidar)

    def clouds(self, batch: Batch) -> list[Tensor]:
        """B clouds with columns `contracts.LIDAR_COLUMNS`, empty where the LiDAR is absent.

        Raises:
            ValueError: the batch has no LiDAR points.
        """
        return lidar_clouds(batch, type(self).__name__)


def lidar_clouds(batch: Batch, owner: str) -> list[Tensor]:
    """B clouds with columns `contracts.LIDAR_COLUMNS`, empty where the LiDAR is absent.

    Raises:
        ValueError: the batch has no LiDAR points.
    """
    if batch.lidar_points is None:
        raise ValueError(
            f'{owner}.prepare: the batch has no LiDAR points (was the LiDAR left out of the data?)'
        )
    present_B = batch.lidar_present_B.tolist()
    return [
        points if present else points[:0]
        for points, present in zip(batch.lidar_points, present_B, strict=True)
    ]
