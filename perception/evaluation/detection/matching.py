"""Greedy matching of detections to truth by centre distance, all thresholds of a class in one pass."""
from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def match_class(
    pred_sample_P: np.ndarray,
    pred_xy_P2: np.ndarray,
    gt_xy_G2: np.ndarray,
    gt_start_S1: np.ndarray,
    thresholds_m_T: np.ndarray,
) -> np.ndarray:
    """Match one class's detections, given best first, to the truth of their samples.

    Each detection takes the nearest truth box that no better one has taken (the first of equally near ones);
    it is a match when that distance is *below* the threshold. Thresholds are matched independently.

    Args:
        pred_sample_P: int sample of each detection.
        pred_xy_P2: metres.
        gt_xy_G2: metres.
        gt_start_S1: `(S + 1,)` first truth row of each sample.
        thresholds_m_T: metres.

    Returns:
        int32 `(T, P)`: row of the matched truth box, -1 where there is none.
    """
    count_t = len(thresholds_m_T)
    count_p = len(pred_sample_P)
    match_TP = np.full((count_t, count_p), -1, dtype=np.int32)
    taken_TG = np.zeros((count_t, len(gt_xy_G2)), dtype=np.bool_)
    nearest_T = np.empty(count_t)

    for p in range(count_p):
        sample = pred_sample_P[p]
        nearest_T[:] = math.inf

        # the nearest truth box of the sample that is still free, for each threshold
        for g in range(gt_start_S1[sample], gt_start_S1[sample + 1]):
            dx = pred_xy_P2[p, 0] - gt_xy_G2[g, 0]
            dy = pred_xy_P2[p, 1] - gt_xy_G2[g, 1]
            distance = math.sqrt(dx * dx + dy * dy)
            for t in range(count_t):
                if distance < nearest_T[t] and not taken_TG[t, g]:
                    nearest_T[t] = distance
                    match_TP[t, p] = g

        # it counts when it is near enough, and is then taken
        for t in range(count_t):
            if nearest_T[t] < thresholds_m_T[t]:
                taken_TG[t, match_TP[t, p]] = True
            else:
                match_TP[t, p] = -1
    return match_TP


def match_class_reference(
    pred_sample_P: np.ndarray,
    pred_xy_P2: np.ndarray,
    gt_xy_G2: np.ndarray,
    gt_start_S1: np.ndarray,
    thresholds_m_T: np.ndarray,
) -> np.ndarray:
    """Reference implementation of `match_class`."""
    match_TP = np.full((len(thresholds_m_T), len(pred_sample_P)), -1, dtype=np.int32)

    for t, threshold_m in enumerate(thresholds_m_T):
        taken: set[int] = set()
        for p, sample in enumerate(pred_sample_P):
            free = [g for g in range(gt_start_S1[sample], gt_start_S1[sample + 1]) if g not in taken]
            if not free:
                continue

            distance_m = np.linalg.norm(pred_xy_P2[p] - gt_xy_G2[free], axis=1)
            nearest = int(distance_m.argmin())
            if distance_m[nearest] < threshold_m:
                taken.add(free[nearest])
                match_TP[t, p] = free[nearest]

    return match_TP
