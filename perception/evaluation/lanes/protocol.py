"""Vector lanes: average precision by Chamfer distance, as MapTR evaluates.

Truth is cut to the range (60 x 30 m: |x| <= 30 m forward and back, |y| <= 15 m to the sides; option 100 x 50
m); every piece is one element. Truth and prediction are both resampled to 100 points evenly by length, D is
their distance matrix:

    Chamfer(a, b) = (mean over a of min over b of D + mean over b of min over a of D) / 2

Within a sample and a class, predictions go best first; each looks at its *nearest* truth only (taken or not):
it is a true positive when that is within the threshold and not taken yet, else false. Over the split,
precision is made non-increasing from the right and AP is the area under it; AP(c) = mean over 0.5, 1.0, 1.5
m; mAP = mean over the classes that occur in the truth.

Edge cases: a class without truth has AP NaN and is left out of mAP (the public code's average counts it as 0;
on the nuScenes val split every class occurs, so that score is the same). Ties in score keep the order of
samples. A truth ring that the range cuts once is one piece, not two. The public code compares only pairs
whose 2 m wide outlines touch, which changes nothing for distances up to 1.5 m except for very short elements
in one line; that shortcut is left out.

Source: Liao et al., MapTR, ICLR 2023 (arXiv 2208.14437), section 4.1, after Li et al., HDMapNet (arXiv
2107.06307); the 100 x 50 m range after Liao et al., MapTRv2 (arXiv 2308.05736).
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from ...core.contracts import LanePolylines, Lanes
from ...core.protocols import LANE_CLASSES, LANE_RANGES_M
from ...core.raster import clip_polyline, resample_polyline

THRESHOLDS_M = (0.5, 1.0, 1.5)
POINTS = 100


@dataclass(frozen=True)
class LaneMatches:
    """Predictions of one or more samples with what they match.

    Attributes:
        labels_L: class of each.
        scores_L: score of each.
        hits_TL: bool `(thresholds, predictions)`, true positives.
        truths_C: true elements per class.
    """

    labels_L: np.ndarray
    scores_L: np.ndarray
    hits_TL: np.ndarray
    truths_C: np.ndarray

    @staticmethod
    def join(parts: Sequence[LaneMatches]) -> LaneMatches:
        """Several samples, in order."""
        if not parts:
            return LaneMatches(np.zeros(0, np.int64), np.zeros(0), np.zeros((len(THRESHOLDS_M), 0), bool),
                               np.zeros(len(LANE_CLASSES), np.int64))
        return LaneMatches(
            np.concatenate([p.labels_L for p in parts]), np.concatenate([p.scores_L for p in parts]),
            np.concatenate([p.hits_TL for p in parts], 1), np.sum([p.truths_C for p in parts], 0))


def cut_element(points_P2: np.ndarray, closed: bool, size: str = '60x30') -> list[np.ndarray]:
    """The pieces of a truth element inside a range.

    A closed ring that was cut is joined where its two ends met.
    """
    pieces = clip_polyline(np.asarray(points_P2)[:, :2], *LANE_RANGES_M[size])
    whole = len(pieces) > 1 and closed and np.allclose(pieces[0][0], pieces[-1][-1], atol=1e-3)
    return [np.concatenate([pieces[-1], pieces[0][1:]]), *pieces[1:-1]] if whole else pieces


def cut_truth(lanes: LanePolylines, size: str = '60x30') -> tuple[list[np.ndarray], np.ndarray]:
    """All pieces of the truth inside a range, and the class of each."""
    pieces: list[np.ndarray] = []
    labels: list[int] = []
    for points, label, closed in zip(lanes.points, lanes.labels_L, lanes.closed_L, strict=True):
        inside = cut_element(points, bool(closed), size)
        pieces += inside
        labels += [label] * len(inside)
    return pieces, np.array(labels, dtype=np.int64)


def _resampled(lines: Sequence[np.ndarray]) -> np.ndarray:
    """Lines as points evenly by length: `(lines, POINTS, 2)`."""
    if len(lines) == 0:
        return np.zeros((0, POINTS, 2))
    return np.stack([resample_polyline(line, POINTS) for line in lines])


def match_lanes(predicted: Lanes, truth: LanePolylines, size: str = '60x30') -> LaneMatches:
    """Match one sample's predictions with the truth inside a range.

    Raises:
        ValueError: a score or a coordinate is not finite, or a label is no lane class.
    """
    check_lanes(predicted)
    lines, true_labels = cut_truth(truth, size)
    distance_m = chamfer_matrix(_resampled(predicted.points_LP2), _resampled(lines))

    hits_TL = np.zeros((len(THRESHOLDS_M), len(predicted.scores_L)), dtype=bool)
    for c in range(len(LANE_CLASSES)):
        rows, columns = np.flatnonzero(predicted.labels_L == c), np.flatnonzero(true_labels == c)
        if len(rows) and len(columns):
            hits_TL[:, rows] = _match(distance_m[np.ix_(rows, columns)], predicted.scores_L[rows])

    truths_C = np.bincount(true_labels, minlength=len(LANE_CLASSES))
    return LaneMatches(
        predicted.labels_L.astype(np.int64), predicted.scores_L.astype(np.float64), hits_TL, truths_C
    )


def check_lanes(predicted: Lanes) -> None:
    """Raise ValueError unless scores and points are finite and labels are lane classes."""
    if not (np.isfinite(predicted.scores_L).all() and np.isfinite(predicted.points_LP2).all()):
        raise ValueError('lanes: scores and points must be finite numbers')

    known = (predicted.labels_L >= 0) & (predicted.labels_L < len(LANE_CLASSES))
    if not known.all():
        labels = np.unique(predicted.labels_L).tolist()
        raise ValueError(f'lanes: labels must be 0..{len(LANE_CLASSES) - 1}, found {labels}')


def _match(distance_m_LG: np.ndarray, scores_L: np.ndarray) -> np.ndarray:
    """True positives `(thresholds, L)` among one class's predictions of one sample."""
    nearest_L, nearest_m_L = distance_m_LG.argmin(1), distance_m_LG.min(1)
    hits_TL = np.zeros((len(THRESHOLDS_M), len(scores_L)), dtype=bool)

    for t, limit_m in enumerate(THRESHOLDS_M):
        taken: set[int] = set()
        for row in np.argsort(-scores_L, kind='stable'):
            if nearest_m_L[row] <= limit_m and nearest_L[row] not in taken:
                taken.add(int(nearest_L[row]))
                hits_TL[t, row] = True

    return hits_TL


@njit(cache=True)
def chamfer_matrix(lines_LP2: np.ndarray, lines_GQ2: np.ndarray) -> np.ndarray:
    """Chamfer distance (m) of every line of one set to every line of another: `(L, G)`."""
    count_l = lines_LP2.shape[0]
    count_p = lines_LP2.shape[1]
    count_g = lines_GQ2.shape[0]
    count_q = lines_GQ2.shape[1]
    distance_LG = np.zeros((count_l, count_g))
    nearest_q = np.empty(count_q)

    for i in range(count_l):
        for j in range(count_g):
            nearest_q[:] = math.inf
            total = 0.0

            # there: the nearest point of j to each of i; on the way, the nearest of i to each of j
            for p in range(count_p):
                nearest = math.inf
                for q in range(count_q):
                    dx = lines_LP2[i, p, 0] - lines_GQ2[j, q, 0]
                    dy = lines_LP2[i, p, 1] - lines_GQ2[j, q, 1]
                    squared = dx * dx + dy * dy
                    nearest = min(nearest, squared)
                    nearest_q[q] = min(nearest_q[q], squared)
                total += math.sqrt(nearest)

            back = 0.0
            for q in range(count_q):
                back += math.sqrt(nearest_q[q])
            distance_LG[i, j] = (total / count_p + back / count_q) / 2

    return distance_LG


def chamfer_matrix_reference(line_P2: np.ndarray, line_Q2: np.ndarray) -> float:
    """Reference implementation of `chamfer_matrix` for one pair."""
    distance = np.linalg.norm(line_P2[:, None] - line_Q2[None], axis=-1)
    return float((distance.min(1).mean() + distance.min(0).mean()) / 2)


def area_under(hits_L: np.ndarray, scores_L: np.ndarray, truths: int) -> float:
    """Area under the precision envelope of predictions `hits_L`; 0 without predictions, NaN without truth."""
    if truths == 0:
        return float('nan')

    hits = np.cumsum(hits_L[np.argsort(-scores_L, kind='stable')])
    recall = np.concatenate([[0.0], hits / truths])
    precision = np.concatenate([hits / np.arange(1, len(hits) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[:-1]))


def lane_scores(matches: LaneMatches, prefix: str = 'lanes/') -> dict[str, float]:
    """`lanes/mAP`, `lanes/mAP@0.5m`, ..., `lanes/AP_divider`, ..."""
    ap_CT = np.zeros((len(LANE_CLASSES), len(THRESHOLDS_M)))
    for c in range(len(LANE_CLASSES)):
        of_class_L = matches.labels_L == c
        for t in range(len(THRESHOLDS_M)):
            ap_CT[c, t] = area_under(
                matches.hits_TL[t, of_class_L], matches.scores_L[of_class_L], int(matches.truths_C[c])
            )

    known = ap_CT[matches.truths_C > 0]
    scores = {'mAP': float(known.mean()) if len(known) else float('nan')}
    for t, limit_m in enumerate(THRESHOLDS_M):
        scores[f'mAP@{limit_m:g}m'] = float(known[:, t].mean()) if len(known) else float('nan')
    scores.update({f'AP_{name}': float(ap_CT[c].mean()) for c, name in enumerate(LANE_CLASSES)})
    return {prefix + name: value for name, value in scores.items()}
