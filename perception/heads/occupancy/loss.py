"""Occupancy losses on weighted voxels: cross-entropy, Lovasz-softmax, scene-class affinity.

Cross-entropy is a mean over the voxels of all training processes. The others are ratios of sums over one
process's voxels, as published: their average over processes is near the ratio of the whole batch, not equal
to it.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.processes import shared_count
from ...core.protocols import OCCUPANCY_FREE
from .voxels import VoxelSample

_TINY = 1e-6


def cross_entropy(voxels: VoxelSample, class_weights_C: Tensor, density_weight: float = 0.0) -> Tensor:
    """Weighted mean of the cross-entropy; a voxel counts its own weight times its class's times (1 +
    density_weight * d).

    d is the voxel's local density, 0..1, so that what the LiDAR saw well teaches more than a stray point
    (Yuan et al. 2025, arXiv 2507.21358, say that local density is part of their labels; this use of it is
    inferred). Without densities d = 0.
    """
    weights = voxels.weights_S * class_weights_C.to(voxels.weights_S)[voxels.labels_S]
    if density_weight and voxels.density_S is not None:
        weights = weights * (1 + density_weight * voxels.density_S)
    losses = F.cross_entropy(voxels.logits_SC, voxels.labels_S, reduction='none')
    return (losses * weights).sum() / shared_count(weights.sum(), _TINY)


def lovasz_softmax(voxels: VoxelSample) -> Tensor:
    """Lovasz extension of the Jaccard loss, mean over the classes present (Berman et al. 2018, arXiv
    1705.08790, eq. 11).

    With weights, intersection and union are sums of weights; with weights of 1 it is the published loss.
    """
    present = voxels.labels_S.unique()
    if len(present) == 0:
        return voxels.logits_SC.sum() * 0
    probability = voxels.logits_SC.softmax(1)[:, present].T
    truth = (voxels.labels_S == present[:, None])
    errors, order = torch.where(truth, 1 - probability, probability).sort(1, descending=True)
    hits = truth.gather(1, order) * voxels.weights_S[order]
    misses = voxels.weights_S[order] - hits
    return (errors * _jaccard_steps(hits, misses)).sum(1).mean()


def _jaccard_steps(hits_KS: Tensor, misses_KS: Tensor) -> Tensor:
    """How much the Jaccard loss grows when one more voxel of the sorted row is wrong: `(K, S)`."""
    total = hits_KS.sum(1, keepdim=True)
    jaccard = 1 - (total - hits_KS.cumsum(1)) / (total + misses_KS.cumsum(1))
    return torch.diff(jaccard, dim=1, prepend=torch.zeros_like(jaccard[:, :1]))


def semantic_affinity(voxels: VoxelSample) -> Tensor:
    """Scene-class affinity: precision, recall and specificity of each class present pushed to 1, mean over
    those classes (Cao & de Charette 2022, MonoScene, arXiv 2112.00726, section 3.4).
    """
    probability = voxels.logits_SC.softmax(1)
    truth = F.one_hot(voxels.labels_S, probability.shape[1]).to(probability.dtype)
    present = truth.any(0)
    if not present.any():
        return voxels.logits_SC.sum() * 0
    return _affinity(probability, truth, voxels.weights_S)[present].mean()


def geometric_affinity(voxels: VoxelSample) -> Tensor:
    """The same for one class: occupied, that is anything but free. Zero where nothing is occupied."""
    occupied = 1 - voxels.logits_SC.softmax(1)[:, OCCUPANCY_FREE:OCCUPANCY_FREE + 1]
    truth = (voxels.labels_S != OCCUPANCY_FREE)[:, None].to(occupied.dtype)
    return _affinity(occupied, truth, voxels.weights_S)[0] * truth.any()


def _affinity(probability_SC: Tensor, truth_SC: Tensor, weights_S: Tensor) -> Tensor:
    """-log precision - log recall - log specificity per class `(C)`; a ratio over nothing costs nothing."""
    # sums, not a matrix product, which automatic mixed precision would round
    def total(values_SC: Tensor) -> Tensor:
        return (weights_S[:, None] * values_SC).sum(0)

    positives, claimed, hits = total(truth_SC), total(probability_SC), total(probability_SC * truth_SC)
    negatives, rejected = total(1 - truth_SC), total((1 - probability_SC) * (1 - truth_SC))
    return _pull_to_one(hits, claimed) + _pull_to_one(hits, positives) + _pull_to_one(rejected, negatives)


def _pull_to_one(part_C: Tensor, whole_C: Tensor) -> Tensor:
    ratio = part_C / whole_C.clamp(min=_TINY)
    return torch.where(whole_C > _TINY, -ratio.clamp(_TINY, 1).log(), 0)
