"""Lane losses: what it is, where its points lie, where its edges point, and the same lines as masks."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.processes import shared_count
from ..losses import sigmoid_focal_loss
from .matching import match_elements
from .targets import LaneTargets


@dataclass(frozen=True)
class LaneWeights:
    """Weights of the losses; those of class and points also weigh the matching."""

    classification: float = 2.0
    points: float = 5.0
    direction: float = 0.005
    segmentation: float = 1.0
    segmentation_positive: float = 4.0


def element_losses(logits_BLK: Tensor, points_BLP2: Tensor, targets: LaneTargets, weights: LaneWeights,
                   size_m: tuple[float, float], repeats: int = 1) -> dict[str, Tensor]:
    """Losses of one decoder layer after matching; unlabelled samples left out, sums divided by the matched
    pairs of all training processes (`shared_count`).

    Args:
        logits_BLK, points_BLP2: the layer's answer.
        size_m: extent of the range (x, y), to measure directions in metres.
        repeats: see `match_elements`.
    """
    samples, instances, labels, wanted = _matched(logits_BLK, points_BLP2, targets, weights, repeats)
    pairs = shared_count(len(labels), device=labels.device)
    truth = torch.zeros_like(logits_BLK, dtype=torch.float32)
    truth[samples, instances, labels] = 1
    focal = sigmoid_focal_loss(logits_BLK, truth, alpha=0.25) * targets.labelled_B[:, None, None]
    found = points_BLP2[samples, instances].float()
    return {'classification': weights.classification * focal.sum() / pairs,
            'points': weights.points * (found - wanted).abs().sum() / pairs,
            'direction': weights.direction * direction_loss(found, wanted, size_m) / pairs}


def direction_loss(found_TP2: Tensor, wanted_TP2: Tensor, size_m: tuple[float, float]) -> Tensor:
    """Sum over edges of 1 - cosine between found and wanted edge (Liao et al. 2023, equation 6, as a loss
    from 0)."""
    scale = found_TP2.new_tensor(size_m)
    found, wanted = torch.diff(found_TP2, dim=1) * scale, torch.diff(wanted_TP2, dim=1) * scale
    return (1 - F.cosine_similarity(found, wanted, dim=-1, eps=1e-4)).sum()


def segmentation_loss(logits_BKYX: Tensor, targets: LaneTargets, positive_weight: float) -> Tensor:
    """Cross-entropy per cell and class, cells on a line `positive_weight` times, mean over labelled
    samples."""
    labelled = targets.labelled_B.float()
    cells = F.binary_cross_entropy_with_logits(
        logits_BKYX.float(), targets.masks_BKYX.float(), reduction='none',
        pos_weight=logits_BKYX.new_tensor(positive_weight, dtype=torch.float32))
    return (cells.mean((1, 2, 3)) * labelled).sum() / shared_count(labelled.sum())


def _matched(
    logits_BLK: Tensor,
    points_BLP2: Tensor,
    targets: LaneTargets,
    weights: LaneWeights,
    repeats: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All pairs of the batch: sample, instance and label indices `(T,)` and the wanted points `(T, P, 2)`."""
    logits, points = logits_BLK.detach().float().cpu().numpy(), points_BLP2.detach().float().cpu().numpy()
    samples = []
    instances = []
    labels = []
    wanted = []
    for b, elements in enumerate(targets.elements):
        match = match_elements(
            logits[b], points[b], elements, weights.classification, weights.points, repeats
        )
        samples.append(torch.full((len(match.instance_T),), b))
        instances.append(torch.from_numpy(match.instance_T))
        labels.append(torch.from_numpy(elements.labels_G[match.element_T]))
        wanted.append(torch.from_numpy(elements.orders_VP2[match.order_T]))
    return tuple(torch.cat(part).to(logits_BLK.device) for part in (samples, instances, labels, wanted))
