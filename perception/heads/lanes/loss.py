"""Lane losses: class, points, directions of edges, and the same lines as masks."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.processes import shared_count
from ..losses import sigmoid_focal_loss
from .matching import match_elements
from .targets import LaneTargets


@dataclass(frozen=True)
class LaneLosses:
    """Weights of the losses; those of class and points are also the weights of the matching costs.

    Args:
        classification: of the focal loss of the classes.
        points: of the L1 loss of the points.
        direction: of the loss of the edges' directions.
        segmentation: of the cross-entropy of the masks; 0 leaves that branch out.
        segmentation_positive: of a mask's cells on a line, cells beside it having 1.
    """

    classification: float = 2.0
    points: float = 5.0
    direction: float = 0.005
    segmentation: float = 1.0
    segmentation_positive: float = 4.0


def element_losses(
    logits_BLK: Tensor,
    points_BLP2: Tensor,
    targets: LaneTargets,
    weights: LaneLosses,
    size_m: tuple[float, float],
    repeats: int = 1,
) -> dict[str, Tensor]:
    """Match the instances of one decoder layer and compute their losses.

    Unlabelled samples are left out; sums are divided by the matched pairs of all training processes
    (`shared_count`), each counted as often as its element's weight says. An instance has the weight of its
    element; one without an element has 1, but 0 where its points lie outside the labelled area in the mean.

    Args:
        logits_BLK: class logits of the layer's instances.
        points_BLP2: their points.
        targets: of the batch.
        weights: of the losses.
        size_m: extent of the range (x, y), to measure directions in metres.
        repeats: see `match_elements`.
    """
    matches = _match_batch(logits_BLK, points_BLP2, targets, weights, repeats)
    weight_T = matches.weight_T
    pairs = shared_count(weight_T.sum())

    one_hot_BLK = torch.zeros_like(logits_BLK, dtype=torch.float32)
    one_hot_BLK[matches.sample_T, matches.instance_T, matches.label_T] = 1
    focal = sigmoid_focal_loss(logits_BLK, one_hot_BLK, alpha=0.25) * targets.labelled_B[:, None, None]
    if is_weighted(targets):
        weight_BL = inside_areas(points_BLP2, targets).to(focal.device)
        weight_BL[matches.sample_T, matches.instance_T] = weight_T
        focal = focal * weight_BL[..., None]

    predicted_TP2 = points_BLP2[matches.sample_T, matches.instance_T].float()
    distance = ((predicted_TP2 - matches.target_TP2).abs() * weight_T[:, None, None]).sum()
    turn = direction_loss(predicted_TP2, matches.target_TP2, size_m, weight_T)
    return {'classification': weights.classification * focal.sum() / pairs,
            'points': weights.points * distance / pairs,
            'direction': weights.direction * turn / pairs}


def is_weighted(targets: LaneTargets) -> bool:
    """Whether some element of the batch has a weight, or was looked for in a part of the range alone."""
    return any(e.weights_G is not None or e.area is not None for e in targets.elements)


def inside_areas(points_BLP2: Tensor, targets: LaneTargets) -> Tensor:
    """1 where the mean of an instance's points lies in its sample's labelled area, else 0: `(B, L)`."""
    means_BL2 = points_BLP2.detach().float().mean(2).cpu().numpy()
    inside_BL = torch.ones(means_BL2.shape[:2])
    for b, elements in enumerate(targets.elements):
        if elements.area is not None:
            (x_low, x_high), (y_low, y_high) = elements.range_m
            metres_L2 = means_BL2[b] * (x_high - x_low, y_high - y_low) + (x_low, y_low)
            inside_BL[b] = torch.from_numpy(elements.area.covers(metres_L2)).float()
    return inside_BL


def direction_loss(
    predicted_TP2: Tensor, target_TP2: Tensor, size_m: tuple[float, float], weight_T: Tensor | None = None
) -> Tensor:
    """Sum over edges of 1 - cosine between predicted and true edge, each pair with its weight.

    Source: Liao et al. 2023, MapTR, arXiv 2208.14437, equation 6, here as a loss from 0.
    """
    scale_2 = predicted_TP2.new_tensor(size_m)
    predicted_edges = torch.diff(predicted_TP2, dim=1) * scale_2
    target_edges = torch.diff(target_TP2, dim=1) * scale_2
    turns_TE = 1 - F.cosine_similarity(predicted_edges, target_edges, dim=-1, eps=1e-4)
    return (turns_TE if weight_T is None else turns_TE * weight_T[:, None]).sum()


def segmentation_loss(logits_BKYX: Tensor, targets: LaneTargets, positive_weight: float) -> Tensor:
    """Cross-entropy per cell and class, mean over labelled samples.

    Cells on a line have the weight `positive_weight`. With weights of cells it is their weighted mean, as in
    `map_segmentation.loss.focal_loss`.
    """
    labelled_B = targets.labelled_B.float()
    cells_BKYX = F.binary_cross_entropy_with_logits(
        logits_BKYX.float(), targets.masks_BKYX.float(), reduction='none',
        pos_weight=logits_BKYX.new_tensor(positive_weight, dtype=torch.float32))
    counted_B = labelled_B
    if targets.weights_BKYX is not None:
        cells_BKYX = cells_BKYX * targets.weights_BKYX
        counted_B = labelled_B * targets.weights_BKYX.mean((1, 2, 3))
    return (cells_BKYX.mean((1, 2, 3)) * labelled_B).sum() / shared_count(counted_B.sum())


@dataclass(frozen=True)
class _BatchMatches:
    """T pairs of the whole batch, on the device of the predictions; how much each of them counts."""

    sample_T: Tensor
    instance_T: Tensor
    label_T: Tensor
    target_TP2: Tensor
    weight_T: Tensor


def _match_batch(
    logits_BLK: Tensor,
    points_BLP2: Tensor,
    targets: LaneTargets,
    weights: LaneLosses,
    repeats: int,
) -> _BatchMatches:
    """Match sample by sample on the CPU, where the Hungarian algorithm runs."""
    logits = logits_BLK.detach().float().cpu().numpy()
    points = points_BLP2.detach().float().cpu().numpy()

    samples: list[Tensor] = []
    instances: list[Tensor] = []
    labels: list[Tensor] = []
    target_points: list[Tensor] = []
    element_weights: list[Tensor] = []
    for b, elements in enumerate(targets.elements):
        match = match_elements(
            logits[b], points[b], elements, weights.classification, weights.points, repeats
        )
        samples.append(torch.full((len(match.instance_T),), b))
        instances.append(torch.from_numpy(match.instance_T))
        labels.append(torch.from_numpy(elements.labels_G[match.element_T]))
        target_points.append(torch.from_numpy(elements.orders_VP2[match.order_T]))
        given = elements.weights_G
        ones = np.ones(len(match.element_T), np.float32)
        element_weights.append(torch.from_numpy(ones if given is None else given[match.element_T]))

    columns = (samples, instances, labels, target_points, element_weights)
    return _BatchMatches(*(torch.cat(column).to(logits_BLK.device) for column in columns))
