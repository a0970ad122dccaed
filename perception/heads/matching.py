"""Set prediction: which prediction stands for which true element (Carion et al. 2020, arXiv 2005.12872)."""
from __future__ import annotations

import numpy as np

_BAD = 1e6
"""Cost of a pair whose cost is not a number: dearer than every real one."""


def cheapest_pairs(cost_LG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the cheapest one-to-one assignment of predictions and elements (Hungarian).

    NaN in a prediction must reach the loss, where it is detected and named: the assignment may not fail, such
    a pair is very dear instead.

    Args:
        cost_LG: of each prediction with each element.

    Returns:
        Predictions, ascending, and the element of each, int64: as many as the smaller of both counts.
    """
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(np.nan_to_num(cost_LG, nan=_BAD, posinf=_BAD, neginf=-_BAD))


def class_cost(logits_LK: np.ndarray, alpha: float = 0.25, gamma: float = 2.0) -> np.ndarray:
    """Focal loss as a positive minus focal loss as a negative, `(L, K)`.

    Source: Zhu et al. 2021, Deformable DETR, arXiv 2010.04159.
    """
    logits = logits_LK.astype(np.float64)
    probability = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    log_probability = -np.logaddexp(0, -logits)
    log_complement = -np.logaddexp(0, logits)

    positive = -alpha * (1 - probability) ** gamma * log_probability
    negative = -(1 - alpha) * probability ** gamma * log_complement
    return positive - negative
