"""nuScenes detection metric: AP by centre distance, five true-positive errors, NDS.

Equal to the devkit's numbers, without the devkit. Per class c and distance d in {0.5, 1, 2, 4} m, detections
of the whole split are taken best first and matched greedily (`matching.py`). Precision is sampled at recalls
r = 0, 0.01 ... 1 (linear in between, 0 beyond the highest recall):

    AP(c, d) = mean over r in {0.11 ... 1} of max(0, precision(r) - 0.1) / 0.9          mAP = mean over c, d
    TP error(c) = mean over r from 0.11 to the highest recall of the running mean of the error among matches
                  at 2 m, 1 where that recall is below 0.11
    mTP = mean over c                 NDS = (5 mAP + sum over five mTP of max(0, 1 - mTP)) / 10

Errors of a match: translation = centre distance in the ground plane (m); scale = 1 - IoU of the sizes laid on
each other; orientation = smallest angle between the headings (rad), period pi for barriers; velocity = length
of the difference (m/s); attribute = 0 right, 1 wrong.

Edge cases, all as in the official evaluation:
* Only boxes nearer to the car than the class's range count (50, 40 or 30 m, border out); truth without a
  LiDAR or radar point does not count; neither side's bicycles and motorcycles inside a bicycle rack count.
* Equal scores: the later entry of the file goes first; on a split of `splits.json` the sample that comes
  later in the table, and samples outside the split are left out. Equal distances: the earlier truth box is
  taken.
* A class without truth, or without one match, has AP 0 and errors 1. Cones have no orientation, velocity and
  attribute error, barriers no velocity and attribute error: those are NaN and left out of the class mean.
* NaN velocity on either side, or truth without attribute: left out of the running mean; if that is all of
  them the error is 1.
* On a split too small to hold all ten classes the official scores count the absent ones as AP 0 and errors
  1; `NDS_present_classes` and `mAP_present_classes` (ours, not official) look at the others alone.
* The whole split must be there, at most 500 boxes a sample; a file without any box scores 0 here (the devkit
  stops).

Source: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, CVPR 2020 (arXiv 1903.11027),
section 3.1; nuscenes.org/object-detection; behaviour measured against nuscenes-devkit 1.2.0.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...core.contracts import NUSCENES_CLASSES, DetectionClass, DetectionClasses
from ..errors import ResultError
from .boxes import BoxTable, in_racks
from .file import MAX_BOXES_PER_SAMPLE, DetectionResults
from .matching import match_class
from .samples import align
from .truth import GroundTruth

TP_ERRORS = ('trans_err', 'scale_err', 'orient_err', 'vel_err', 'attr_err')
SHORT_NAMES = {
    'trans_err': 'mATE', 'scale_err': 'mASE', 'orient_err': 'mAOE', 'vel_err': 'mAVE', 'attr_err': 'mAAE'}
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class DetectionProtocol:
    """Numbers of the protocol; the default is the official `detection_cvpr_2019` configuration.

    Ranges and the errors that a class has are those of `core.contracts.DetectionClass`.
    """

    distances_m: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    error_distance_m: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    map_weight: float = 5.0
    max_boxes: int = MAX_BOXES_PER_SAMPLE


OFFICIAL = DetectionProtocol()


@dataclass(frozen=True)
class Curves:
    """One class at one distance, sampled at 101 recalls.

    Attributes:
        precision: per recall.
        confidence: the score that reaches the recall.
        errors: running means of the five errors, at the error distance only, else None.
        matches: true positives.
        truths: boxes to be detected.
    """

    precision: np.ndarray = field(default_factory=lambda: np.zeros(101))
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(101))
    errors: dict[str, np.ndarray] | None = None
    matches: int = 0
    truths: int = 0


@dataclass(frozen=True)
class DetectionScores:
    """Scores of a split.

    Attributes:
        ap_CT: `(classes, distances)`.
        tp_error_CE: `(classes, errors)` in the order of `TP_ERRORS`, NaN where the class has no such error.
        curves: (class, distance) -> `Curves`.
        protocol: what it was scored by.
        classes: that were scored, in the order of the arrays.
    """

    ap_CT: np.ndarray
    tp_error_CE: np.ndarray
    curves: dict[tuple[str, float], Curves]
    protocol: DetectionProtocol
    classes: DetectionClasses = NUSCENES_CLASSES

    @cached_property
    def mean_ap(self) -> float:
        """Mean AP over all classes and the four distances."""
        return float(self.ap_CT.mean(1).mean())

    @cached_property
    def tp_errors(self) -> dict[str, float]:
        """Each error's mean over the classes that have it, NaN where none has."""
        errors = zip(TP_ERRORS, self.tp_error_CE.T, strict=True)
        return {
            name: float(np.nanmean(error_C)) if not np.isnan(error_C).all() else float('nan')
            for name, error_C in errors}

    @cached_property
    def nds(self) -> float:
        """The nuScenes detection score; an error that no class has is left out, and its weight too."""
        scores = [max(0.0, 1.0 - error) for error in self.tp_errors.values() if not np.isnan(error)]
        return float(
            (self.protocol.map_weight * self.mean_ap + sum(scores)) / (self.protocol.map_weight + len(scores))
        )

    def of_present_classes(self) -> tuple[float, float]:
        """NDS and mAP over the classes that the truth holds, which are no official scores.

        For splits too small to hold all classes. Errors that none of these classes has are left out of
        the sum and of its weight.
        """
        distance_m = self.protocol.error_distance_m
        present = [c for c, name in enumerate(self.classes.names) if self.curves[name, distance_m].truths]
        if not present:
            return float('nan'), float('nan')

        mean_ap = float(self.ap_CT[present].mean())
        columns = [column[~np.isnan(column)] for column in self.tp_error_CE[present].T]
        scores = [max(0.0, 1.0 - float(column.mean())) for column in columns if len(column)]
        weight = self.protocol.map_weight
        return (weight * mean_ap + sum(scores)) / (weight + len(scores)), mean_ap

    def summary(self) -> dict[str, Any]:
        """The devkit's `metrics_summary` fields, without its run time and configuration."""
        names, distances = self.classes.names, self.protocol.distances_m
        return {
            'mean_ap': self.mean_ap, 'nd_score': self.nds, 'tp_errors': self.tp_errors,
            'tp_scores': {name: max(0.0, 1.0 - error) for name, error in self.tp_errors.items()},
            'mean_dist_aps': {name: float(self.ap_CT[c].mean()) for c, name in enumerate(names)},
            'label_aps': {name: {d: float(self.ap_CT[c, t]) for t, d in enumerate(distances)}
                          for c, name in enumerate(names)},
            'label_tp_errors': {name: {e: float(self.tp_error_CE[c, i]) for i, e in enumerate(TP_ERRORS)}
                                for c, name in enumerate(names)},
        }

    def flat(self, prefix: str = 'detection/') -> dict[str, float]:
        """Scores by name: `detection/NDS`, `detection/mAP`, `detection/mATE`, `detection/AP_car`, ..."""
        flat = {'NDS': self.nds, 'mAP': self.mean_ap}
        flat.update({SHORT_NAMES[name]: error for name, error in self.tp_errors.items()})
        flat.update({f'AP_{name}': float(self.ap_CT[c].mean()) for c, name in enumerate(self.classes.names)})

        for t, distance_m in enumerate(self.protocol.distances_m):
            flat[f'mAP@{distance_m:g}m'] = float(self.ap_CT[:, t].mean())
        flat['NDS_present_classes'], flat['mAP_present_classes'] = self.of_present_classes()
        return {prefix + name: value for name, value in flat.items()}


def score_detection(results: DetectionResults, truth: GroundTruth,
                    protocol: DetectionProtocol = OFFICIAL) -> DetectionScores:
    """Score a results file's boxes against the truth of its split.

    Raises:
        ResultError: the samples of the two differ (names one), a sample has too many boxes, a matched box has
            no size, scores are negative or infinite so that no curve exists.
    """
    predictions = align(results, truth, protocol.max_boxes)
    return score_boxes(predictions, truth, protocol)


def score_boxes(predictions: BoxTable, truth: GroundTruth,
                protocol: DetectionProtocol = OFFICIAL) -> DetectionScores:
    """Score boxes whose `sample_M` counts the truth's samples.

    The order of rows decides between equal scores. The classes are the truth's.
    """
    predictions, boxes = counted(predictions, truth), counted(truth.boxes, truth)
    classes, distances_m = truth.classes, protocol.distances_m
    at_error_distance = distances_m.index(protocol.error_distance_m)

    ap_CT = np.zeros((len(classes), len(distances_m)))
    tp_error_CE = np.ones((len(classes), len(TP_ERRORS)))
    curves: dict[tuple[str, float], Curves] = {}

    for c, name in enumerate(classes.names):
        class_predictions = predictions.select(predictions.label_M == c)
        class_boxes = boxes.select(boxes.label_M == c)
        by_distance = _curves_of_class(
            class_predictions, class_boxes, classes.classes[c], len(truth), protocol)

        for t, distance_m in enumerate(distances_m):
            curves[name, distance_m] = by_distance[t]
            precision = by_distance[t].precision
            ap_CT[c, t] = average_precision(precision, protocol.min_recall, protocol.min_precision)

        for i, error in enumerate(TP_ERRORS):
            exists = error not in missing_errors(classes.classes[c])
            curve = by_distance[at_error_distance]
            tp_error_CE[c, i] = mean_error(curve, error, protocol.min_recall) if exists else np.nan

    return DetectionScores(ap_CT, tp_error_CE, curves, protocol, classes)


def missing_errors(of: DetectionClass) -> tuple[str, ...]:
    """Those of `TP_ERRORS` that a class does not have: of cones and barriers in nuScenes."""
    missing = {
        'orient_err': of.heading == 'none', 'vel_err': not of.moves, 'attr_err': not of.attributes}
    return tuple(name for name, is_missing in missing.items() if is_missing)


def counted(boxes: BoxTable, truth: GroundTruth) -> BoxTable:
    """The boxes that count, see `counted_rows`."""
    return boxes.select(counted_rows(boxes, truth))


def counted_rows(boxes: BoxTable, truth: GroundTruth) -> np.ndarray:
    """Which boxes count, bool `(M,)`: within the class's range, not without points, not in a bicycle rack."""
    offset_M2 = boxes.centre_M3[:, :2] - truth.ego_S3[boxes.sample_M, :2]
    distance_m_M = np.sqrt(offset_M2[:, 0] * offset_M2[:, 0] + offset_M2[:, 1] * offset_M2[:, 1])
    range_m_C = np.array([c.range_m for c in truth.classes.classes], dtype=np.float64)
    near_M = distance_m_M < range_m_C[boxes.label_M]

    counts_M = near_M & (boxes.points_M != 0)
    return counts_M & ~in_racks(boxes, truth.racks, truth.classes) if truth.racks else counts_M


def _curves_of_class(
    predictions: BoxTable, boxes: BoxTable, of: DetectionClass, samples: int, protocol: DetectionProtocol
) -> list[Curves]:
    """The curves of one class at every distance."""
    if len(boxes) == 0:
        return [Curves() for _ in protocol.distances_m]

    # best first; of equal scores the later row of the file first
    predictions = predictions.select(np.argsort(predictions.score_M, kind='stable')[::-1])
    start_S1 = np.searchsorted(boxes.sample_M, np.arange(samples + 1))
    match_TP = match_class(
        predictions.sample_M, np.ascontiguousarray(predictions.centre_M3[:, :2]),
        np.ascontiguousarray(boxes.centre_M3[:, :2]), start_S1,
        np.array(protocol.distances_m, dtype=np.float64))

    return [
        _curves(match_TP[t], predictions, boxes, of, distance_m == protocol.error_distance_m)
        for t, distance_m in enumerate(protocol.distances_m)
    ]


def _curves(
    match_P: np.ndarray, predictions: BoxTable, boxes: BoxTable, of: DetectionClass, with_errors: bool
) -> Curves:
    """Precision, confidence and errors over recall.

    Args:
        match_P: row of `boxes` that each prediction matches, or -1.
        predictions: of one class, best first.
        boxes: the truth of that class.
        of: the class.
        with_errors: the five errors too.
    """
    hit_P = match_P >= 0
    if not hit_P.any():
        return Curves(truths=len(boxes))

    hits = np.cumsum(hit_P).astype(float)
    recall = hits / float(len(boxes))
    precision = np.interp(_RECALLS, recall, hits / np.arange(1, len(hits) + 1), right=0)
    confidence = np.interp(_RECALLS, recall, predictions.score_M, right=0)

    if not np.array_equal(confidence, np.sort(confidence)[::-1]):
        raise ResultError(f'results: scores of class {of.name} must be finite and not negative '
                          f'(lowest {predictions.score_M.min()}, highest {predictions.score_M.max()})')

    errors = None
    if with_errors:
        matched, targets = predictions.select(hit_P), boxes.select(match_P[hit_P])
        # the running mean of each error, carried from the matches' scores to the recalls' confidences
        errors = {
            name: np.interp(confidence[::-1], matched.score_M[::-1], running_mean(value)[::-1])[::-1]
            for name, value in match_errors(matched, targets, of).items()
        }
    return Curves(precision, confidence, errors, int(hit_P.sum()), len(boxes))


def match_errors(predictions: BoxTable, truths: BoxTable, of: DetectionClass) -> dict[str, np.ndarray]:
    """The five errors of matched pairs, each `(M,)`; NaN where an error does not exist.

    Args:
        predictions: row by row with `truths`, of one class.
        truths: the matched boxes.
        of: the class.

    Raises:
        ResultError: a box has a width, length or height that is not positive.
    """
    _check_sizes('results', predictions)
    _check_sizes('truth', truths)

    offset = predictions.centre_M3[:, :2] - truths.centre_M3[:, :2]
    change = predictions.velocity_M2 - truths.velocity_M2

    common = np.prod(np.minimum(predictions.size_M3, truths.size_M3), axis=1)
    union = np.prod(truths.size_M3, axis=1) + np.prod(predictions.size_M3, axis=1) - common

    # a barrier has no front: its heading repeats every half turn
    turns = np.pi if of.heading == 'half' else 2 * np.pi
    wrong = (predictions.attribute_M != truths.attribute_M).astype(float)

    return {
        'trans_err': np.sqrt(offset[:, 0] * offset[:, 0] + offset[:, 1] * offset[:, 1]),
        'scale_err': 1 - common / union,
        'orient_err': angle_between(truths.yaw_M, predictions.yaw_M, turns),
        'vel_err': np.sqrt(change[:, 0] * change[:, 0] + change[:, 1] * change[:, 1]),
        'attr_err': np.where(truths.attribute_M < 0, np.nan, wrong)}


def _check_sizes(side: str, boxes: BoxTable) -> None:
    positive = boxes.size_M3 > 0
    if not positive.all():
        row = int(np.argwhere(~positive)[0, 0])
        raise ResultError(
            f'{side}: a matched box has size {boxes.size_M3[row].tolist()} m; sizes must be positive '
            f'(sample number {int(boxes.sample_M[row])}, centre {boxes.centre_M3[row].tolist()})'
        )


def angle_between(a_rad: np.ndarray, b_rad: np.ndarray, period_rad: float) -> np.ndarray:
    """Smallest turn between two angles that mean the same after `period_rad`: 0 .. period / 2."""
    return np.abs((a_rad - b_rad + period_rad / 2) % period_rad - period_rad / 2)


def running_mean(values_M: np.ndarray) -> np.ndarray:
    """Mean of the values up to each place, NaN left out.

    0 before the first number; all 1 where there is no number.
    """
    known = ~np.isnan(values_M)
    if not known.any():
        return np.ones(len(values_M))
    count = np.cumsum(known)
    return np.divide(np.nancumsum(values_M), count, out=np.zeros(len(values_M)), where=count != 0)


def average_precision(precision_101: np.ndarray, min_recall: float, min_precision: float) -> float:
    """Area of the precision above `min_precision` over recalls above `min_recall`, scaled to 0..1."""
    counted_part = precision_101[round(100 * min_recall) + 1:] - min_precision
    return float(np.mean(np.maximum(counted_part, 0))) / (1.0 - min_precision)


def mean_error(curves: Curves, error: str, min_recall: float) -> float:
    """Mean of an error's curve from above `min_recall` to the highest recall reached.

    1 where `min_recall` is not reached.
    """
    reached = np.flatnonzero(curves.confidence)
    first = round(100 * min_recall) + 1
    last = int(reached[-1]) if len(reached) else 0

    if last < first or curves.errors is None:
        return 1.0
    return float(np.mean(curves.errors[error][first : last + 1]))
