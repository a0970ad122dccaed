"""Vector lanes: average precision by Chamfer distance, by the rules of a named protocol.

The labels say by which protocol of `LANE_PROTOCOLS` they were made, and that one scores. Truth is what lies
in a range (60 x 30 m or 100 x 50 m); truth and prediction are both resampled to 100 points evenly by length,
D is their distance matrix:

    Chamfer(a, b) = (mean over a of min over b of D + mean over b of min over a of D) / 2

Within a sample and a class, predictions go best first; each looks at its *nearest* truth only (taken or not):
it is a true positive when that is within the threshold and not taken yet, else false. Over the split,
precision is made non-increasing from the right and AP is the area under it; AP(c) = mean over the
thresholds of the range (`LANE_THRESHOLDS_M`); mAP = mean over the protocol's classes that the model answers.
What the model was not built to answer is not counted against it: AP NaN.

`maptr`, `maptr_v2_centerline`: truth exactly as the public code cuts it, around the LiDAR
(`datasets/maps/published_lanes.py`). A class without truth has AP 0. A pair counts only where the outlines of
both touch, flat strips 2 m to either side of the line, 4 m wide: without that, two short elements in one line
could be a pair across a gap, and a prediction that has collapsed to a point, which has no outline, could hit
what is some metres long.

`ours`: truth is cut from the elements around ego, in which the map's cracks are closed; crossings that the
range cuts stay open; a ring that it cuts once is one piece, not two. All pairs are compared. A class without
truth has AP NaN and is left out of the mean.

Ties in score keep the order of samples (the public code's order is its sort's).

Source: Liao et al., MapTR, ICLR 2023 (arXiv 2208.14437), section 4.1, after Li et al., HDMapNet (arXiv
2107.06307); MapTRv2 (arXiv 2308.05736); the 100 x 50 m range and its thresholds after Yuan et al.,
StreamMapNet (arXiv 2308.12570), and Chen et al., MapTracker (arXiv 2403.15951).
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from ...core.contracts import LanePolylines, Lanes
from ...core.protocols import LANE_CLASSES, LANE_PROTOCOLS, LANE_RANGES_M, LANE_THRESHOLDS_M
from ...core.raster import clip_polyline, resample_polyline

POINTS = 100


@dataclass(frozen=True)
class LaneMatches:
    """Predictions of one or more samples with what they match.

    Attributes:
        labels_L: class of each.
        scores_L: score of each.
        hits_TL: bool `(thresholds, predictions)`, true positives.
        truths_C: true elements per class.
        answered_C: bool, classes that the model answers.
    """

    labels_L: np.ndarray
    scores_L: np.ndarray
    hits_TL: np.ndarray
    truths_C: np.ndarray
    answered_C: np.ndarray

    @staticmethod
    def join(parts: Sequence[LaneMatches]) -> LaneMatches:
        """Several samples, in order; at least one."""
        return LaneMatches(
            np.concatenate([p.labels_L for p in parts]), np.concatenate([p.scores_L for p in parts]),
            np.concatenate([p.hits_TL for p in parts], 1), np.sum([p.truths_C for p in parts], 0),
            np.any([p.answered_C for p in parts], 0))


def cut_element(points_P2: np.ndarray, closed: bool, size: str = '60x30') -> list[np.ndarray]:
    """The pieces of a truth element inside a range around ego.

    A closed ring that was cut is joined where its two ends met.
    """
    pieces = clip_polyline(np.asarray(points_P2)[:, :2], *LANE_RANGES_M[size])
    whole = len(pieces) > 1 and closed and np.allclose(pieces[0][0], pieces[-1][-1], atol=1e-3)
    return [np.concatenate([pieces[-1], pieces[0][1:]]), *pieces[1:-1]] if whole else pieces


def cut_truth(lanes: LanePolylines, size: str = '60x30') -> tuple[list[np.ndarray], np.ndarray]:
    """All pieces of the truth inside a range by its protocol, and the class of each.

    Raises:
        ValueError: a published protocol's elements are not there, since the labels were moved.
    """
    if LANE_PROTOCOLS[lanes.protocol].published:
        if lanes.in_range is None:
            raise ValueError(
                f'lanes: the labels are of protocol {lanes.protocol!r} and do not hold its windows (in_range '
                'is None): they were moved by a transform; expected a pipeline without one')
        window = lanes.in_range(size)
        return list(window.points), window.labels_L

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
    """Match one sample's predictions with the truth inside a range, by the protocol of the truth.

    Raises:
        ValueError: a score or a coordinate is not finite, a label is no lane class or none that the model
            says it answers, or the truth does not hold its protocol's windows.
    """
    check_lanes(predicted)
    limits_m = LANE_THRESHOLDS_M[size]
    lines, true_labels = cut_truth(truth, size)
    points_LP2, points_GP2 = _resampled(predicted.points_LP2), _resampled(lines)
    distance_m = chamfer_matrix(points_LP2, points_GP2)

    # pairs that could count, and do not since their outlines are apart
    outline_m = LANE_PROTOCOLS[truth.protocol].outline_m
    if outline_m:
        near = (predicted.labels_L[:, None] == true_labels) & (distance_m <= max(limits_m))
        rows, columns = np.nonzero(near)
        apart = ~outlines_touch(points_LP2[rows], points_GP2[columns], outline_m)
        distance_m[rows[apart], columns[apart]] = np.inf

    hits_TL = np.zeros((len(limits_m), len(predicted.scores_L)), dtype=bool)
    for c in range(len(LANE_CLASSES)):
        rows, columns = np.flatnonzero(predicted.labels_L == c), np.flatnonzero(true_labels == c)
        if len(rows) and len(columns):
            hits_TL[:, rows] = _match(distance_m[np.ix_(rows, columns)], predicted.scores_L[rows], limits_m)

    truths_C = np.bincount(true_labels, minlength=len(LANE_CLASSES))
    answered_C = np.array([name in predicted.classes for name in LANE_CLASSES])
    return LaneMatches(
        predicted.labels_L.astype(np.int64), predicted.scores_L.astype(np.float64), hits_TL, truths_C,
        answered_C)


def check_lanes(predicted: Lanes) -> None:
    """Raise ValueError unless scores and points are finite and labels are classes that the model answers."""
    if not (np.isfinite(predicted.scores_L).all() and np.isfinite(predicted.points_LP2).all()):
        raise ValueError('lanes: scores and points must be finite numbers')

    known = (predicted.labels_L >= 0) & (predicted.labels_L < len(LANE_CLASSES))
    if not known.all():
        labels = np.unique(predicted.labels_L).tolist()
        raise ValueError(f'lanes: labels must be 0..{len(LANE_CLASSES) - 1}, found {labels}')

    found = {LANE_CLASSES[label] for label in np.unique(predicted.labels_L)}
    if not found <= set(predicted.classes):
        raise ValueError(
            f'lanes: found labels of {sorted(found)}, the model answers {list(predicted.classes)}')


def outlines_touch(lines_EP2: np.ndarray, others_EP2: np.ndarray, half_width_m: float) -> np.ndarray:
    """Whether the outlines of each pair of lines touch: bool `(E,)`.

    An outline reaches `half_width_m` to either side and ends flat; a line without length has none.
    """
    touch_E = surely_touch(lines_EP2, others_EP2, half_width_m)
    unsure = np.flatnonzero(~touch_E)
    touch_E[unsure] = outlines_touch_reference(lines_EP2[unsure], others_EP2[unsure], half_width_m)
    return touch_E


def outlines_touch_reference(
    lines_EP2: np.ndarray, others_EP2: np.ndarray, half_width_m: float
) -> np.ndarray:
    """Reference implementation of `outlines_touch`: draw all outlines."""
    if len(lines_EP2) == 0:
        return np.zeros(0, dtype=bool)

    from shapely import buffer, intersects, linestrings

    strips = [
        buffer(linestrings(lines), half_width_m, cap_style='flat', join_style='mitre')
        for lines in (lines_EP2, others_EP2)]
    return intersects(*strips)


@njit(cache=True)
def surely_touch(lines_EP2: np.ndarray, others_EP2: np.ndarray, half_width_m: float) -> np.ndarray:
    """Pairs whose outlines touch because a point of one lies beside, not beyond, the other: bool `(E,)`."""
    touch_E = np.zeros(len(lines_EP2), dtype=np.bool_)
    for e in range(len(lines_EP2)):
        line, other = lines_EP2[e], others_EP2[e]
        if max(np.ptp(line[:, 0]), np.ptp(line[:, 1])) < 1e-3:
            continue
        if max(np.ptp(other[:, 0]), np.ptp(other[:, 1])) < 1e-3:
            continue

        # the nearest point of the line is an inner one, well within the width
        for q in range(len(other)):
            squared = (line[:, 0] - other[q, 0]) ** 2 + (line[:, 1] - other[q, 1]) ** 2
            p = squared.argmin()
            if 0 < p < len(line) - 1 and squared[p] < (0.9 * half_width_m) ** 2:
                touch_E[e] = True
                break

    return touch_E


def _match(distance_m_LG: np.ndarray, scores_L: np.ndarray, limits_m: Sequence[float]) -> np.ndarray:
    """True positives `(thresholds, L)` among one class's predictions of one sample."""
    nearest_L, nearest_m_L = distance_m_LG.argmin(1), distance_m_LG.min(1)
    hits_TL = np.zeros((len(limits_m), len(scores_L)), dtype=bool)

    for t, limit_m in enumerate(limits_m):
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
    """Area under the precision envelope of predictions `hits_L`; 0 without predictions or without truth."""
    if truths == 0:
        return 0.0

    hits = np.cumsum(hits_L[np.argsort(-scores_L, kind='stable')])
    recall = np.concatenate([[0.0], hits / truths])
    precision = np.concatenate([hits / np.arange(1, len(hits) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[:-1]))


def lane_scores(
    matches: LaneMatches, protocol: str = 'ours', size: str = '60x30', prefix: str = 'lanes/'
) -> dict[str, float]:
    """`lanes/mAP`, `lanes/mAP_<protocol>` (the same), `lanes/mAP@0.5m`, ..., `lanes/AP_divider`, ...

    AP of a class that is not in the mean is NaN.
    """
    limits_m, averaged = LANE_THRESHOLDS_M[size], averaged_classes(matches, protocol)
    ap_CT = np.full((len(LANE_CLASSES), len(limits_m)), np.nan)
    for c in (LANE_CLASSES.index(name) for name in averaged):
        of_class_L = matches.labels_L == c
        for t in range(len(limits_m)):
            ap_CT[c, t] = area_under(
                matches.hits_TL[t, of_class_L], matches.scores_L[of_class_L], int(matches.truths_C[c])
            )

    known = ap_CT[[LANE_CLASSES.index(name) for name in averaged]]
    mean_ap = float(known.mean()) if averaged else float('nan')
    scores = {'mAP': mean_ap, f'mAP_{protocol}': mean_ap}
    for t, limit_m in enumerate(limits_m):
        scores[f'mAP@{limit_m:g}m'] = float(known[:, t].mean()) if averaged else float('nan')
    scores.update({f'AP_{name}': float(ap_CT[c].mean()) for c, name in enumerate(LANE_CLASSES)})
    return {prefix + name: value for name, value in scores.items()}


def averaged_classes(matches: LaneMatches, protocol: str) -> list[str]:
    """The classes of the mean: the protocol's that the model answers; of ours, those that occur in truth."""
    rules = LANE_PROTOCOLS[protocol]
    names = [name for name in rules.classes if matches.answered_C[LANE_CLASSES.index(name)]]
    if rules.published:
        return names
    return [name for name in names if matches.truths_C[LANE_CLASSES.index(name)] > 0]
