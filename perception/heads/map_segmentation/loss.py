"""Map segmentation loss of the BEVFusion protocol (Liu et al. 2023, arXiv 2205.13542)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.processes import shared_count
from ...core.protocols import MAP_CLASSES
from ..losses import sigmoid_focal_loss
from .targets import MapTargets


@dataclass(frozen=True)
class MapLosses:
    """Weights of the map loss.

    Args:
        focal: of the focal loss.
        gamma: its exponent.
        class_weights: six numbers in the order of `MAP_CLASSES`.
        vehicle_weight: of the class of vehicles, where it is learned.

    Raises:
        ValueError: not one weight for each class.
    """

    focal: float = 1.0
    gamma: float = 2.0
    class_weights: Sequence[float] = (1.0,) * len(MAP_CLASSES)
    vehicle_weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.class_weights) != len(MAP_CLASSES):
            raise ValueError(f'losses.class_weights: expected {len(MAP_CLASSES)} numbers {MAP_CLASSES}, '
                             f'found {self.class_weights}')


def focal_loss(
    logits_B6YX: Tensor, targets: MapTargets, gamma: float, class_weights: Sequence[float]
) -> Tensor:
    """Sigmoid focal loss without alpha: mean over labelled samples' cells, weighted sum over classes.

    With weights of cells it is, class by class, their weighted mean, as long as all weights together are
    those of one whole sample or more; below that, their weighted sum over the cells of one sample.
    """
    labelled_B = targets.labelled_B.float()
    cells_B6YX = sigmoid_focal_loss(logits_B6YX, targets.masks_B6YX, gamma)
    share_B6 = torch.ones_like(cells_B6YX[:, :, 0, 0])
    if targets.weights_B6YX is not None:
        cells_B6YX = cells_B6YX * targets.weights_B6YX
        share_B6 = targets.weights_B6YX.mean((2, 3))

    per_sample_B6 = cells_B6YX.mean((2, 3)) * labelled_B[:, None]
    per_class_6 = per_sample_B6.sum(0) / shared_count((share_B6 * labelled_B[:, None]).sum(0))
    return (per_class_6 * per_class_6.new_tensor(class_weights)).sum()
