"""Occupancy losses on weighted voxels: cross-entropy, Lovasz-softmax, scene-class affinity.

Cross-entropy is a mean over the voxels of all training processes. The others are ratios of sums over one
process's voxels, as published: their average over processes is near the ratio of the whole batch, not equal
to it.

Shape letters: S sampled voxels, C classes, K classes present.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.processes import shared_count
from ...core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from .targets import OccupancyTargets
from .voxels import VoxelSample, sample_voxels

_TINY = 1e-6


@dataclass(frozen=True)
class OccupancyLosses:
    """Weights of the occupancy losses, and the voxels they look at.

    Args:
        cross_entropy: weight of this term; 0 leaves a term out.
        lovasz: of the Lovasz-softmax.
        semantic_affinity: of the scene-class affinity of the classes.
        geometric_affinity: of that of occupied against free.
        class_weights: 18 numbers for the cross-entropy.
        class_counts: 18 voxel counts, from which weights 1 / log(count), scaled to a mean of 1, are made. Not
            both; all 1 by default.
        density_weight: by how much more a voxel that the LiDAR saw at its densest counts in the cross-entropy
            than one it saw least, where labels have densities (`tools/make_occupancy.py` writes them); see
            `cross_entropy`.
        voxels_per_sample: about how many voxels of a sample the losses look at, None for all: see
            `sample_voxels`.

    Raises:
        ValueError: both weights and counts, not one for each class, or a negative density weight.
    """

    cross_entropy: float = 1.0
    lovasz: float = 1.0
    semantic_affinity: float = 1.0
    geometric_affinity: float = 1.0
    class_weights: Sequence[float] | None = None
    class_counts: Sequence[float] | None = None
    density_weight: float = 0.0
    voxels_per_sample: int | None = None

    def __post_init__(self) -> None:
        if self.class_weights is not None and self.class_counts is not None:
            raise ValueError('class_weights and class_counts: give one of them, found both')
        for name in ('class_weights', 'class_counts'):
            given = getattr(self, name)
            if given is not None and len(given) != len(OCCUPANCY_CLASSES):
                raise ValueError(f'{name}: expected {len(OCCUPANCY_CLASSES)} numbers, found {len(given)}')
        if self.density_weight < 0:
            raise ValueError(f'density_weight: expected 0 or more, found {self.density_weight}')

    def weight_of_class(self) -> Tensor:
        """Weights of the classes in the cross-entropy, float32 `(18,)`."""
        if self.class_weights is not None:
            return torch.tensor(self.class_weights, dtype=torch.float32)
        if self.class_counts is None:
            return torch.ones(len(OCCUPANCY_CLASSES))

        rarity_C = 1 / torch.tensor(self.class_counts, dtype=torch.float64).clamp(min=10).log()
        return (rarity_C / rarity_C.mean()).float()


def occupancy_losses(
    logits_BCYX: Tensor, targets: OccupancyTargets, weights: OccupancyLosses, class_weights_C: Tensor
) -> dict[str, Tensor]:
    """Compute the weighted terms of `weights` that are not 0.

    Args:
        logits_BCYX: `(B, Z * 18, Y, X)`, as `sample_voxels` reads them.
        targets: of the batch.
        weights: of the terms, and how many voxels they look at.
        class_weights_C: of the cross-entropy.
    """
    voxels = sample_voxels(
        logits_BCYX, targets.labels_BZYX, weights.voxels_per_sample, targets.density_BZYX,
        targets.weights_BZYX)

    losses = {}
    if weights.cross_entropy:
        term = cross_entropy(voxels, class_weights_C, weights.density_weight)
        losses['cross_entropy'] = weights.cross_entropy * term
    if weights.lovasz:
        losses['lovasz'] = weights.lovasz * lovasz_softmax(voxels)

    if weights.semantic_affinity:
        losses['semantic_affinity'] = weights.semantic_affinity * semantic_affinity(voxels)
    if weights.geometric_affinity:
        losses['geometric_affinity'] = weights.geometric_affinity * geometric_affinity(voxels)
    return losses


def cross_entropy(voxels: VoxelSample, class_weights_C: Tensor, density_weight: float = 0.0) -> Tensor:
    """Weighted mean of the cross-entropy.

    The weight of a voxel is its own times its class's times (1 + density_weight * d). d is the voxel's local
    density, 0..1, so that what the LiDAR saw well counts more than a stray point (Yuan et al. 2025, arXiv
    2507.21358, say that local density is part of their labels; this use of it is inferred). Without densities
    d = 0.
    """
    weights_S = voxels.weights_S * class_weights_C.to(voxels.weights_S)[voxels.labels_S]
    if density_weight and voxels.density_S is not None:
        weights_S = weights_S * (1 + density_weight * voxels.density_S)

    losses_S = F.cross_entropy(voxels.logits_SC, voxels.labels_S, reduction='none')
    return (losses_S * weights_S).sum() / shared_count(weights_S.sum(), _TINY)


def lovasz_softmax(voxels: VoxelSample) -> Tensor:
    """Lovasz extension of the Jaccard loss, mean over the classes present.

    With weights, intersection and union are sums of weights; with weights of 1 it is the published loss
    (Berman et al. 2018, arXiv 1705.08790, equation 11).
    """
    present_K = voxels.labels_S.unique()
    if len(present_K) == 0:
        return voxels.logits_SC.sum() * 0

    probability_KS = voxels.logits_SC.softmax(1)[:, present_K].T
    is_class_KS = voxels.labels_S == present_K[:, None]

    # each class's errors, largest first
    errors_KS = torch.where(is_class_KS, 1 - probability_KS, probability_KS)
    errors_KS, order_KS = errors_KS.sort(1, descending=True)
    hits_KS = is_class_KS.gather(1, order_KS) * voxels.weights_S[order_KS]
    misses_KS = voxels.weights_S[order_KS] - hits_KS
    return (errors_KS * _jaccard_steps(hits_KS, misses_KS)).sum(1).mean()


def _jaccard_steps(hits_KS: Tensor, misses_KS: Tensor) -> Tensor:
    """How much the Jaccard loss grows when one more voxel of the sorted row is wrong: `(K, S)`."""
    total = hits_KS.sum(1, keepdim=True)
    jaccard = 1 - (total - hits_KS.cumsum(1)) / (total + misses_KS.cumsum(1))
    return torch.diff(jaccard, dim=1, prepend=torch.zeros_like(jaccard[:, :1]))


def semantic_affinity(voxels: VoxelSample) -> Tensor:
    """Scene-class affinity: precision, recall and specificity pushed to 1, mean over the classes present.

    Source: Cao & de Charette 2022, MonoScene, arXiv 2112.00726, section 3.4.
    """
    probability_SC = voxels.logits_SC.softmax(1)
    truth_SC = F.one_hot(voxels.labels_S, probability_SC.shape[1]).to(probability_SC.dtype)

    present_C = truth_SC.any(0)
    if not present_C.any():
        return voxels.logits_SC.sum() * 0
    return _affinity(probability_SC, truth_SC, voxels.weights_S)[present_C].mean()


def geometric_affinity(voxels: VoxelSample) -> Tensor:
    """The same affinity for one class: occupied, all but free. Zero where no voxel is occupied."""
    occupied_S1 = 1 - voxels.logits_SC.softmax(1)[:, OCCUPANCY_FREE:OCCUPANCY_FREE + 1]
    truth_S1 = (voxels.labels_S != OCCUPANCY_FREE)[:, None].to(occupied_S1.dtype)
    return _affinity(occupied_S1, truth_S1, voxels.weights_S)[0] * truth_S1.any()


def _affinity(probability_SC: Tensor, truth_SC: Tensor, weights_S: Tensor) -> Tensor:
    """-log precision - log recall - log specificity per class `(C)`; a ratio over nothing costs nothing."""
    # sums, not a matrix product, which automatic mixed precision would round
    def total(values_SC: Tensor) -> Tensor:
        return (weights_S[:, None] * values_SC).sum(0)

    hits = total(probability_SC * truth_SC)
    rejections = total((1 - probability_SC) * (1 - truth_SC))

    precision = _log_ratio_loss(hits, total(probability_SC))
    recall = _log_ratio_loss(hits, total(truth_SC))
    specificity = _log_ratio_loss(rejections, total(1 - truth_SC))
    return precision + recall + specificity


def _log_ratio_loss(part_C: Tensor, whole_C: Tensor) -> Tensor:
    ratio = part_C / whole_C.clamp(min=_TINY)
    return torch.where(whole_C > _TINY, -ratio.clamp(_TINY, 1).log(), 0)
