"""Raw lane outputs -> polylines in ego metres."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Lanes
from ...core.grid import BEVGrid
from ...core.protocols import LANE_CLASSES


def decode_lanes(
    raw: dict[str, Tensor],
    grid: BEVGrid,
    classes: Sequence[str],
    max_lanes: int,
    score_threshold: float,
) -> list[Lanes]:
    """The best (instance, class) pairs of each sample, best first, points in metres."""
    scores_BLK = torch.sigmoid(raw['logits'].detach().float()).cpu().numpy()
    points = raw['points'].detach().float().clamp(0, 1).cpu().numpy()
    low = np.array([grid.x_range_m[0], grid.y_range_m[0]], dtype=np.float32)
    size = np.array([grid.x_range_m[1], grid.y_range_m[1]], dtype=np.float32) - low
    label_of = np.array([LANE_CLASSES.index(name) for name in classes])
    return [_one_sample(scores_BLK[b], points[b] * size + low, label_of, max_lanes, score_threshold)
            for b in range(len(points))]


def _one_sample(
    scores_LK: np.ndarray,
    points_LP2: np.ndarray,
    label_of: np.ndarray,
    max_lanes: int,
    threshold: float,
) -> Lanes:
    flat = scores_LK.ravel()
    best = np.argsort(-flat, kind='stable')[:max_lanes]
    best = best[flat[best] >= threshold]
    instance, label = np.divmod(best, scores_LK.shape[1])
    return Lanes(points_LP2[instance], flat[best], label_of[label])
