"""Detections of one frame to tracks, greedily: the best detection takes the nearest track that is free."""
from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def match_greedily(
    xy_M2: np.ndarray,
    label_M: np.ndarray,
    order_M: np.ndarray,
    track_xy_N2: np.ndarray,
    track_label_N: np.ndarray,
    gate_m_N: np.ndarray,
) -> np.ndarray:
    """Give each detection the nearest free track of its class whose gate it is in, or none.

    Args:
        xy_M2: detections, metres.
        label_M: their classes.
        order_M: indices of the detections, the one that chooses first first.
        track_xy_N2: where the tracks are expected.
        track_label_N: their classes.
        gate_m_N: a detection must be nearer than this.

    Returns:
        int64 `(M,)`: index of the track, -1 none. Of equally near tracks the earlier is taken.
    """
    track_of_M = np.full(len(xy_M2), -1, dtype=np.int64)
    taken_N = np.zeros(len(track_xy_N2), dtype=np.bool_)

    for m in order_M:
        nearest = np.inf
        for n in range(len(track_xy_N2)):
            if taken_N[n] or track_label_N[n] != label_M[m]:
                continue
            dx = track_xy_N2[n, 0] - xy_M2[m, 0]
            dy = track_xy_N2[n, 1] - xy_M2[m, 1]
            squared = dx * dx + dy * dy
            if squared < nearest and squared < gate_m_N[n] * gate_m_N[n]:
                nearest = squared
                track_of_M[m] = n
        if track_of_M[m] >= 0:
            taken_N[track_of_M[m]] = True
    return track_of_M


def match_greedily_reference(
    xy_M2: np.ndarray,
    label_M: np.ndarray,
    order_M: np.ndarray,
    track_xy_N2: np.ndarray,
    track_label_N: np.ndarray,
    gate_m_N: np.ndarray,
) -> np.ndarray:
    """Reference implementation of `match_greedily`."""
    track_of_M = np.full(len(xy_M2), -1, dtype=np.int64)
    squared_MN = ((xy_M2[:, None] - track_xy_N2[None]) ** 2).sum(-1)
    allowed_MN = (label_M[:, None] == track_label_N[None]) & (squared_MN < gate_m_N ** 2)

    for m in order_M.tolist():
        squared_N = np.where(allowed_MN[m], squared_MN[m], np.inf)
        if len(squared_N) and np.isfinite(squared_N.min()):
            track_of_M[m] = squared_N.argmin()
            allowed_MN[:, track_of_M[m]] = False
    return track_of_M
