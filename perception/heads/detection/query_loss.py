"""Set prediction of boxes: which query stands for which true box, and the losses of the pairs.

Shape letters: B batch, Q queries, K classes, G true boxes of a sample, T matched pairs.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import SIZE, YAW
from ...core.grid import BEVGrid
from ...core.processes import shared_count
from ..losses import sigmoid_focal_loss
from ..matching import cheapest_pairs, class_cost
from .decode import decode_codes
from .loss import attribute_entropy, code_distance
from .nms import rotated_iou
from .targets import BOX_CODE, DetectionTargets

_OFFSET = slice(0, 2)


@dataclass(frozen=True)
class MatchingCosts:
    """Weights of the costs by which queries are matched with boxes (Bai et al. 2022, arXiv 2203.11496).

    Args:
        classification: of the focal cost of the class, published 0.15.
        centre: of the distance |dx| + |dy| of the centres in parts of the grid's sides, published 0.25.
        iou: of the overlap in space, which makes a pair cheaper, published 0.25.
    """

    classification: float = 0.15
    centre: float = 0.25
    iou: float = 0.25


@dataclass(frozen=True)
class QueryBoxLosses:
    """Weights of the losses of boxes from queries.

    Args:
        classification: of the focal loss, published as much as `box`.
        box: of the L1 loss.
        attribute: of the cross-entropy, ours.
        code: of each number of `BOX_CODE` inside the L1 loss, published 1.

    Raises:
        ValueError: not one weight for each number of the box code.
    """

    classification: float = 1.0
    box: float = 1.0
    attribute: float = 0.2
    code: Sequence[float] = (1,) * len(BOX_CODE)

    def __post_init__(self) -> None:
        if len(self.code) != len(BOX_CODE):
            raise ValueError(
                f'losses.code: expected {len(BOX_CODE)} numbers {BOX_CODE}, found {len(self.code)}')


@dataclass(frozen=True)
class BoxPairs:
    """T matched pairs of a batch, sample by sample, queries ascending.

    Attributes:
        sample_T: int64.
        query_T: int64, of that sample.
        object_T: int64, index into the objects of `DetectionTargets`.
    """

    sample_T: Tensor
    query_T: Tensor
    object_T: Tensor


def query_losses(
    raw: dict[str, Tensor],
    targets: DetectionTargets,
    grid: BEVGrid,
    weights: QueryBoxLosses,
    costs: MatchingCosts,
) -> dict[str, Tensor]:
    """Match the queries with the true boxes and compute the weighted losses.

    Unlabelled samples are left out; sums are divided by the matched pairs of all training processes
    (`shared_count`), each as often as its weight says where labels have weights.
    """
    pairs = match_boxes(raw, targets, grid, costs)
    weight_T = torch.ones_like(targets.code_P10[:, 0]) if targets.weight_P is None else targets.weight_P
    weight_T = weight_T[pairs.object_T]
    count = shared_count(weight_T.sum())

    # a query without a box is of no class
    one_hot_BQK = torch.zeros_like(raw['logits'], dtype=torch.float32)
    label_T = targets.label_P[pairs.object_T]
    one_hot_BQK[pairs.sample_T, pairs.query_T, label_T] = 1
    focal = sigmoid_focal_loss(raw['logits'], one_hot_BQK, alpha=0.25) * targets.labelled_B[:, None, None]
    if targets.weight_BCYX is not None:
        focal = focal * _query_weights(raw['cell'], targets, pairs, weight_T)

    code_T10 = raw['box'][pairs.sample_T, pairs.query_T].float()
    distance_T = code_distance(
        code_T10, _codes_from_queries(raw, targets, pairs), targets.half_turn_K[label_T], weights.code)
    attribute_T8 = raw['attribute'][pairs.sample_T, pairs.query_T].float()
    attribute = attribute_entropy(
        attribute_T8, targets.attribute_P[pairs.object_T], targets.attributes_K8[label_T], weight_T)
    return {
        'classification': weights.classification * focal.sum() / count,
        'box': weights.box * (distance_T * weight_T).sum() / count,
        'attribute': weights.attribute * attribute}


def _query_weights(
    cell_BQ2: Tensor, targets: DetectionTargets, pairs: BoxPairs, weight_T: Tensor
) -> Tensor:
    """How much each query counts for each class, `(B, Q, K)`: as its box does, without one as its cell."""
    column_BQ, row_BQ = cell_BQ2.long().unbind(-1)
    sample_B1 = torch.arange(len(cell_BQ2), device=cell_BQ2.device)[:, None]
    weights_BQK = targets.weight_BCYX[sample_B1, :, row_BQ, column_BQ].float().clone()
    weights_BQK[pairs.sample_T, pairs.query_T] = weight_T[:, None].to(weights_BQK.dtype)
    return weights_BQK


def _codes_from_queries(raw: dict[str, Tensor], targets: DetectionTargets, pairs: BoxPairs) -> Tensor:
    """True codes `(T, 10)`, their offsets from the corner of the query's cell."""
    target_T10 = targets.code_P10[pairs.object_T]
    corner_T2 = torch.stack([targets.column_P[pairs.object_T], targets.row_P[pairs.object_T]], -1)
    cell_T2 = raw['cell'][pairs.sample_T, pairs.query_T].float()
    return torch.cat([target_T10[:, _OFFSET] + corner_T2 - cell_T2, target_T10[:, 2:]], 1)


def match_boxes(
    raw: dict[str, Tensor], targets: DetectionTargets, grid: BEVGrid, costs: MatchingCosts
) -> BoxPairs:
    """Find the cheapest assignment of queries to the true boxes of each sample (Hungarian, on the CPU)."""
    logits, codes, cells = (
        raw[name].detach().float().cpu().numpy() for name in ('logits', 'box', 'cell'))
    sample_P, label_P = targets.sample_P.cpu().numpy(), targets.label_P.cpu().numpy()
    corner_P2 = torch.stack([targets.column_P, targets.row_P], -1).cpu().numpy()
    true_P9 = _in_metres(targets.code_P10.cpu().numpy(), corner_P2, grid)

    rows: list[tuple[np.ndarray, ...]] = []
    for b in np.unique(sample_P):
        of_sample = np.flatnonzero(sample_P == b)
        found_Q9 = _in_metres(codes[b], cells[b], grid)
        cost_QG = pair_costs(logits[b], found_Q9, label_P[of_sample], true_P9[of_sample], grid, costs)
        query_T, column_T = cheapest_pairs(cost_QG)
        rows.append((np.full(len(query_T), b), query_T, of_sample[column_T]))

    none = np.zeros(0, dtype=np.int64)
    parts = zip(*rows, strict=True) if rows else ((none,), (none,), (none,))
    device = targets.sample_P.device
    return BoxPairs(*(torch.from_numpy(np.concatenate(part)).to(device) for part in parts))


def _in_metres(codes_K10: np.ndarray, cells_K2: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """Boxes; numbers that are none, as unknown velocities, are 0: costs do not read them."""
    return decode_codes(np.nan_to_num(codes_K10), cells_K2, grid)


def pair_costs(
    logits_QK: np.ndarray,
    found_Q9: np.ndarray,
    label_G: np.ndarray,
    true_G9: np.ndarray,
    grid: BEVGrid,
    costs: MatchingCosts,
) -> np.ndarray:
    """What it costs that a query stands for a true box: class, distance, overlap; float64 `(Q, G)`.

    Boxes are in ego metres. Source: Bai et al. 2022, arXiv 2203.11496, section 3.4.
    """
    sides_2 = np.array([grid.x_size, grid.y_size]) * grid.cell_m
    distance_QG = (np.abs(found_Q9[:, None, :2] - true_G9[None, :, :2]) / sides_2).sum(2)
    classification_QG = class_cost(logits_QK)[:, label_G]
    return (costs.classification * classification_QG + costs.centre * distance_QG
            - costs.iou * iou_3d(found_Q9, true_G9))


def iou_3d(a_M9: np.ndarray, b_N9: np.ndarray) -> np.ndarray:
    """IoU in space of upright boxes, float64 `(M, N)`: overlap on the ground times overlap in height."""
    a, b = a_M9.astype(np.float64), b_N9.astype(np.float64)
    rectangles = (np.concatenate([x[:, :2], x[:, SIZE][:, :2], x[:, YAW, None]], 1) for x in (a, b))
    ground_MN = rotated_iou(*rectangles)

    # what two rectangles share, from their IoU
    area_M, area_N = a[:, 3] * a[:, 4], b[:, 3] * b[:, 4]
    shared_MN = ground_MN * (area_M[:, None] + area_N) / (1 + ground_MN)

    top_MN = np.minimum(*np.broadcast_arrays((a[:, 2] + a[:, 5] / 2)[:, None], b[:, 2] + b[:, 5] / 2))
    low_MN = np.maximum(*np.broadcast_arrays((a[:, 2] - a[:, 5] / 2)[:, None], b[:, 2] - b[:, 5] / 2))
    common_MN = shared_MN * (top_MN - low_MN).clip(min=0)
    union_MN = (area_M * a[:, 5])[:, None] + area_N * b[:, 5] - common_MN
    return common_MN / np.maximum(union_MN, 1e-9)
