"""Greedy matching of detections to truth by centre distance, all thresholds of a class in one compiled
pass."""
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
        pred_xy_P2, gt_xy_G2: metres.
        gt_start_S1: `(S + 1,)` first truth row of each sample.
        thresholds_m_T: metres.

    Returns:
        int32 `(T, P)`: row of the matched truth box, -1 where there is none.
    """
    count_t, count_p = len(thresholds_m_T), len(pred_sample_P)
    match_TP = np.full((count_t, count_p), -1, dtype=np.int32)
    taken_TG = np.zeros((count_t, len(gt_xy_G2)), dtype=np.bool_)
    nearest_T = np.empty(count_t)
    for p in range(count_p):
        sample = pred_sample_P[p]
        nearest_T[:] = math.inf
        for g in range(gt_start_S1[sample], gt_start_S1[sample + 1]):
            dx, dy = pred_xy_P2[p, 0] - gt_xy_G2[g, 0], pred_xy_P2[p, 1] - gt_xy_G2[g, 1]
            distance = math.sqrt(dx * dx + dy * dy)
            for t in range(count_t):
                if distance < nearest_T[t] and not taken_TG[t, g]:
                    nearest_T[t] = distance
                    match_TP[t, p] = g
        for t in range(count_t):
            if nearest_T[t] < thresholds_m_T[t]:
                taken_TG[t, match_TP[t, p]] = True
            else:
                match_TP[t, p] = -1
    return match_TP


def match_class_slow(
    pred_sample_P: np.ndarray,
    pred_xy_P2: np.ndarray,
    gt_xy_G2: np.ndarray,
    gt_start_S1: np.ndarray,
    thresholds_m_T: np.ndarray,
) -> np.ndarray:
    """The readable twin of `match_class`."""
    match_TP = np.full((len(thresholds_m_T), len(pred_sample_P)), -1, dtype=np.int32)
    for t, threshold_m in enumerate(thresholds_m_T):
        taken: set[int] = set()
        for p, sample in enumerate(pred_sample_P):
            free = [g for g in range(gt_start_S1[sample], gt_start_S1[sample + 1]) if g not in taken]
            if not free:
                continue
            best = min(free, key=lambda g: np.linalg.norm(pred_xy_P2[p] - gt_xy_G2[g]))  # noqa: B023
            if np.linalg.norm(pred_xy_P2[p] - gt_xy_G2[best]) < threshold_m:
                taken.add(best)
                match_TP[t, p] = best
    return match_TP
