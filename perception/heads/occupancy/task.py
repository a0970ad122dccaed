"""What the task of occupancy is, whatever the head reads: targets, losses, decoding, averaging."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...core.contracts import Annotations, Occupancy
from ...core.grid import BEVGrid
from ...core.protocols import OCCUPANCY_CLASSES
from ..averaging import Mirror, OutputSpace, mean_log_softmax, mirror_map
from ..base import TaskHead
from ..losses import class_entropy
from .decode import decode_occupancy
from .loss import OccupancyLosses, occupancy_losses
from .targets import OccupancyTargets, build_targets


class OccupancyTask(TaskHead):
    """A head whose raw output is `logits` `(B, Z * 18, Y, X)`, channel z * 18 + class.

    Attributes:
        task_grid: the voxels of the prediction.
        work_grid: the cells of the logits, the same or coarser.
        mask: which voxels are learned: those that 'camera' or 'lidar' saw, or all (None).
        losses: weights.
        class_weights_C: of the cross-entropy.
    """

    task = 'occupancy'
    task_grid: BEVGrid
    work_grid: BEVGrid
    mask: str | None
    losses: OccupancyLosses
    class_weights_C: Tensor

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> OccupancyTargets:
        """Turn the voxels of B samples into labels in the order of the logits."""
        density = bool(self.losses.density_weight)
        return build_targets(annotations, self.task_grid, self.mask, density).to(device)

    def loss(self, raw: dict[str, Tensor], targets: OccupancyTargets) -> dict[str, Tensor]:
        """Compute the weighted terms of `OccupancyLosses` whose weight is not 0."""
        return occupancy_losses(raw['logits'], targets, self.losses, self.class_weights_C)

    def entropy(self, raw: dict[str, Tensor]) -> Tensor:
        """Which class each voxel has."""
        return class_entropy(raw['logits'].unflatten(1, (-1, len(OCCUPANCY_CLASSES))), 2)

    def decode(self, raw: dict[str, Tensor]) -> list[Occupancy]:
        """Decode raw logits to voxels in Occ3D order (X, Y, Z) with the softmax of the chosen class."""
        return decode_occupancy(raw['logits'], self.task_grid.shape_YX)

    def output_space(self) -> OutputSpace:
        """The cells of the logits, and those of the prediction."""
        return OutputSpace(self.work_grid, {'task_grid': self.task_grid})

    def mirror(self, raw: dict[str, Tensor], mirror: Mirror) -> dict[str, Tensor]:
        """Turn the voxels back: heights and classes are channels, which stay."""
        return {'logits': mirror_map(raw['logits'], self.work_grid, mirror)}

    def average(self, raws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Take the mean of the classes' probabilities in each voxel, on the cells of the logits."""
        voxels = [raw['logits'].unflatten(1, (-1, len(OCCUPANCY_CLASSES))) for raw in raws]
        return {'logits': mean_log_softmax(voxels, 2).flatten(1, 2)}
