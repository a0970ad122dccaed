"""Which predicted instance answers for which element, and in which order of points."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .targets import LaneElements


@dataclass(frozen=True)
class Match:
    """T pairs: instance_T predicted, element_T true, order_T the row of `LaneElements.orders_VP2` that fits
    best."""

    instance_T: np.ndarray
    element_T: np.ndarray
    order_T: np.ndarray


def match_elements(
    logits_LK: np.ndarray,
    points_LP2: np.ndarray,
    elements: LaneElements,
    class_weight: float = 2.0,
    point_weight: float = 5.0,
    repeats: int = 1,
) -> Match:
    """Cheapest one-to-one assignment (Hungarian), each element in its best order (Liao et al. 2023, section
    3.3).

    Args:
        logits_LK: class logits.
        points_LP2: in 0..1.
        repeats: how many instances may answer for an element; fewer where there are not enough instances.
    """
    from scipy.optimize import linear_sum_assignment
    count = len(elements.labels_G)
    if count == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Match(nothing, nothing, nothing)
    distance_LV = point_distance(points_LP2, elements.orders_VP2)
    nearest_LG = np.minimum.reduceat(distance_LV, elements.first_G, axis=1)
    cost = class_weight * class_cost(logits_LK)[:, elements.labels_G] + point_weight * nearest_LG
    repeats = max(1, min(repeats, len(logits_LK) // count))
    # a network that answers NaN must reach its loss, where the NaN is found and named
    instance, column = linear_sum_assignment(
        np.nan_to_num(np.tile(cost, (1, repeats)), nan=1e6, posinf=1e6, neginf=-1e6)
    )
    element = column % count
    last = np.append(elements.first_G, len(elements.orders_VP2))
    order = [
        last[g] + distance_LV[i, last[g] : last[g + 1]].argmin()
        for i, g in zip(instance, element, strict=True)
    ]
    return Match(instance, element, np.array(order, dtype=np.int64))


def point_distance(points_LP2: np.ndarray, orders_VP2: np.ndarray) -> np.ndarray:
    """Sum over points and coordinates of |difference|: `(L, V)`."""
    from scipy.spatial.distance import cdist

    return cdist(
        points_LP2.reshape(len(points_LP2), -1), orders_VP2.reshape(len(orders_VP2), -1), 'cityblock'
    )


def class_cost(logits_LK: np.ndarray, alpha: float = 0.25, gamma: float = 2.0) -> np.ndarray:
    """Focal loss of saying yes minus focal loss of saying no, `(L, K)` (Zhu et al. 2021, arXiv
    2010.04159)."""
    logits = logits_LK.astype(np.float64)
    yes = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    log_yes, log_no = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    return -alpha * (1 - yes) ** gamma * log_yes + (1 - alpha) * yes ** gamma * log_no
