"""What every sensor encoder promises: one sensor in, one bird's-eye-view map out."""
from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..core.contracts import Batch
from ..core.grid import BEVGrid
from .records import SensorFeature


class SensorEncoder(nn.Module, ABC):
    """One sensor -> one BEV map on `grid`.

    The work is cut in two. `prepare` does everything that depends on calibration or on how many points there
    are (index tables, voxelising): it runs outside the exported graph and returns named tensors. `forward`
    takes exactly these tensors and uses only operators an engine has. So one exported graph serves every car.

    Attributes:
        sensor: 'camera', 'lidar' or 'radar'.
        also_reads: sensors whose measurements it reads besides: the model must have them, too.
        grid: where the BEV map lies.
        out_channels: its width.
    """

    sensor: str
    also_reads: tuple[str, ...] = ()
    grid: BEVGrid
    out_channels: int

    @abstractmethod
    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        """Named graph inputs of this sensor for a batch (no gradient flows through here)."""

    @abstractmethod
    def forward(self, **inputs: Tensor) -> SensorFeature:
        """Graph inputs, as `prepare` names them -> BEV map `(B, out_channels, Y, X)` and more features."""

    def loss(self, feature: SensorFeature, batch: Batch) -> dict[str, Tensor]:
        """Named auxiliary losses from what the car itself knows (depth from LiDAR, say); none by default."""
        return {}
