"""What the task of map segmentation is, whatever the head reads: targets, loss, decoding, averaging."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...core.contracts import Annotations, MapSegmentation
from ...core.grid import BEVGrid
from ..averaging import Mirror, OutputSpace, mean_logits, mirror_map
from ..base import TaskHead
from ..losses import binary_entropy
from .decode import decode_map
from .loss import MapLosses, focal_loss
from .targets import MapTargets, build_targets


class MapTask(TaskHead):
    """A head whose raw output is `logits` `(B, K, Y, X)` of map classes per cell of `task_grid`.

    Attributes:
        task_grid: where the predictions lie.
        classes: K, `MAP_CLASSES` or with vehicles `MAP_AND_VEHICLE_CLASSES`.
        losses: weights.
    """

    task = 'map_segmentation'
    task_grid: BEVGrid
    classes: tuple[str, ...]
    losses: MapLosses

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> MapTargets:
        """Turn the map layers of B samples into masks."""
        return build_targets(annotations, self.task_grid, self.classes).to(device)

    def loss(self, raw: dict[str, Tensor], targets: MapTargets) -> dict[str, Tensor]:
        """Compute `focal`, the protocol's loss, weighted."""
        weights = (*self.losses.class_weights, self.losses.vehicle_weight)[:len(self.classes)]
        focal = focal_loss(raw['logits'], targets, self.losses.gamma, weights)
        return {'focal': self.losses.focal * focal}

    def entropy(self, raw: dict[str, Tensor]) -> Tensor:
        """Whether each class covers each cell."""
        return binary_entropy(raw['logits'])

    def decode(self, raw: dict[str, Tensor]) -> list[MapSegmentation]:
        """Decode raw logits to probabilities."""
        return decode_map(raw, self.task_grid)

    def output_space(self) -> OutputSpace:
        """Cells and classes."""
        return OutputSpace(self.task_grid, {'classes': self.classes})

    def mirror(self, raw: dict[str, Tensor], mirror: Mirror) -> dict[str, Tensor]:
        """Turn the map back."""
        return {'logits': mirror_map(raw['logits'], self.task_grid, mirror)}

    def average(self, raws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Take the mean of the probabilities."""
        return {'logits': mean_logits([raw['logits'] for raw in raws])}
