"""Map segmentation loss of the BEVFusion protocol (Liu et al. 2023, arXiv 2205.13542)."""
from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...core.processes import shared_count
from ..losses import sigmoid_focal_loss
from .targets import MapTargets


def focal_loss(
    logits_B6YX: Tensor, targets: MapTargets, gamma: float, class_weights: Sequence[float]
) -> Tensor:
    """Sigmoid focal loss without alpha: mean over the cells of labelled samples, weighted sum over
    classes."""
    labelled = targets.labelled_B.float()
    cells = sigmoid_focal_loss(logits_B6YX, targets.masks_B6YX, gamma)
    per_class = (cells.mean((2, 3)) * labelled[:, None]).sum(0) / shared_count(labelled.sum())
    return (per_class * per_class.new_tensor(class_weights)).sum()
