"""Losses of reconstruction: chamfer distance of points, cross-entropy of occupancy."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.processes import shared_count
from .targets import ReconstructionTargets


def chamfer(predicted_CK3: Tensor, true_CN3: Tensor, known_CN: Tensor) -> Tensor:
    """Chamfer distance of each pillar `(C,)`, in squared metres.

    Mean over the predicted points of the squared distance to the nearest true one, plus mean over the true
    points of that to the nearest predicted one (Fan et al. 2017, arXiv 1612.00603, equation 1, as means).
    """
    squared_CKN = (predicted_CK3[:, :, None] - true_CN3[:, None]).square().sum(-1)
    to_true_CK = squared_CKN.masked_fill(~known_CN[:, None], torch.inf).amin(2)
    to_predicted_CN = squared_CKN.amin(1) * known_CN
    return to_true_CK.mean(1) + to_predicted_CN.sum(1) / known_CN.sum(1).clamp(min=1)


def point_loss(points_BCYX: Tensor, targets: ReconstructionTargets, size_m: Tensor) -> Tensor:
    """Chamfer distance, mean over the hidden pillars of all training processes.

    Args:
        points_BCYX: raw, `(B, K * 3, Y, X)`: logits of x, y and z, each 0..1 in its pillar.
        targets: of the batch.
        size_m: `(3,)`, of a pillar.
    """
    raw_CK3 = _at(points_BCYX, targets.place_C3).unflatten(1, (-1, 3))
    distance_C = chamfer(
        raw_CK3.sigmoid() * size_m, targets.points_CN3 * size_m, targets.known_CN)
    return distance_C.sum() / shared_count(len(distance_C), device=distance_C.device) + 0 * raw_CK3.sum()


def occupancy_loss(logits_BZYX: Tensor, targets: ReconstructionTargets) -> Tensor:
    """Cross-entropy of each height, mean over heights, hidden pillars and as many empty cells."""
    logits = torch.cat([_at(logits_BZYX, targets.place_C3), _at(logits_BZYX, targets.empty_E3)])
    truth = torch.zeros_like(logits)
    truth[:len(targets.filled_CZ)] = targets.filled_CZ.to(logits.dtype)
    total = F.binary_cross_entropy_with_logits(logits, truth, reduction='sum')
    return total / (shared_count(len(logits), device=logits.device) * logits.shape[1])


def _at(maps_BCYX: Tensor, place_P3: Tensor) -> Tensor:
    """Read `(P, C)` float32 at sample, row and column."""
    sample, row, column = place_P3.unbind(1)
    return maps_BCYX[sample, :, row, column].float()
