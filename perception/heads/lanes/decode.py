"""Raw lane outputs -> polylines in ego metres."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Lanes
from ...core.grid import BEVGrid
from ...core.protocols import LANE_CLASSES


@dataclass(frozen=True)
class LaneDecoding:
    """Which elements are predicted.

    Args:
        max_lanes: largest number of elements per sample.
        score_threshold: elements with a lower score are dropped.

    Raises:
        ValueError: a number is out of range.
    """

    max_lanes: int = 50
    score_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.max_lanes, int) and self.max_lanes >= 1):
            raise ValueError(f'max_lanes: expected a whole number above 0, found {self.max_lanes!r}')
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f'score_threshold: expected 0 to 1, found {self.score_threshold!r}')


def decode_lanes(
    raw: dict[str, Tensor], grid: BEVGrid, classes: Sequence[str], options: LaneDecoding
) -> list[Lanes]:
    """Decode the best (instance, class) pairs of each sample, best first, points in metres."""
    scores_BLK = torch.sigmoid(raw['logits'].detach().float()).cpu().numpy()
    points_BLP2 = raw['points'].detach().float().clamp(0, 1).cpu().numpy()

    # the range lies at 0..1
    low_2 = np.array([grid.x_range_m[0], grid.y_range_m[0]], dtype=np.float32)
    high_2 = np.array([grid.x_range_m[1], grid.y_range_m[1]], dtype=np.float32)
    points_BLP2 = points_BLP2 * (high_2 - low_2) + low_2

    return [
        _decode_sample(scores_LK, points_LP2, tuple(classes), options)
        for scores_LK, points_LP2 in zip(scores_BLK, points_BLP2, strict=True)
    ]


def _decode_sample(
    scores_LK: np.ndarray, points_LP2: np.ndarray, classes: tuple[str, ...], options: LaneDecoding
) -> Lanes:
    scores = scores_LK.ravel()
    best = np.argsort(-scores, kind='stable')[:options.max_lanes]
    best = best[scores[best] >= options.score_threshold]

    instance, index = np.divmod(best, scores_LK.shape[1])
    label_of_class = np.array([LANE_CLASSES.index(name) for name in classes])
    return Lanes(points_LP2[instance], scores[best], label_of_class[index], classes)
