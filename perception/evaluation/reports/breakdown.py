"""Where a detector is right and whether its scores mean what they say: histograms, calibration, distance,
visibility.

All figures look at the boxes that the nuScenes protocol counts, matched per class at 2 m, best first.

* Histogram: right and wrong detections per score bin of 0.05.
* Calibration: expected calibration error, ECE = sum over bins of n_b / N * |right_b / n_b - mean score_b|
  (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599, equation 3). 0 where a
  score of 0.7 is right 7 times of 10. For occupancy the same over voxels that a camera observed, with the
  confidence of the predicted class.
* Distance: the protocol's AP on truth and detections of one ring around the car alone; a pair on both sides
  of a border is not matched. Mean over the classes that have truth there and whose range covers the ring.
* Visibility: recall by the annotators' level (1: 0-40 % visible, 2: 40-60, 3: 60-80, 4: 80-100; 0: not
  annotated). Detections have no visibility, so there is no precision.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.protocols import DETECTION_CLASSES, OCCUPANCY_CLASSES
from ..detection.boxes import BoxTable
from ..detection.matching import match_class
from ..detection.metric import OFFICIAL, counted, judge_boxes
from ..detection.truth import GroundTruth
from ..judge import Verdict

BINS = 20
RINGS_M = ((0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 40.0), (40.0, 50.0))
VISIBILITY = {1: '0-40 %', 2: '40-60 %', 3: '60-80 %', 4: '80-100 %', 0: 'unknown'}


@dataclass(frozen=True)
class Matches:
    """Counted detections and truth with what happened to them at one distance: hit_M bool per detection,
    found_G per truth."""

    predictions: BoxTable
    hit_M: np.ndarray
    truths: BoxTable
    found_G: np.ndarray


def match_all(boxes: BoxTable, truth: GroundTruth, distance_m: float = 2.0) -> Matches:
    """Match all classes at one distance."""
    boxes, truths = counted(boxes, truth), counted(truth.boxes, truth)
    hit_M, found_G = np.zeros(len(boxes), bool), np.zeros(len(truths), bool)
    for c in range(len(DETECTION_CLASSES)):
        rows, columns = np.flatnonzero(boxes.label_M == c), np.flatnonzero(truths.label_M == c)
        rows = rows[np.argsort(boxes.score_M[rows], kind='stable')[::-1]]
        start = np.searchsorted(truths.sample_M[columns], np.arange(len(truth) + 1))
        (match,) = match_class(
            boxes.sample_M[rows], boxes.centre_M3[rows, :2].copy(), truths.centre_M3[columns, :2].copy(),
            start, np.array([distance_m]))
        hit_M[rows] = match >= 0
        found_G[columns[match[match >= 0]]] = True
    return Matches(boxes, hit_M, truths, found_G)


def score_bins(scores_M: np.ndarray, right_M: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Per bin of scores in 0..1: how many, how many right, sum of scores: float64 `(3, bins)`. A score of 1
    is in the last."""
    k = np.clip((scores_M * bins).astype(int), 0, bins - 1)
    return np.stack(
        [
            np.bincount(k, weights=w, minlength=bins)
            for w in (np.ones(len(k)), right_M.astype(float), scores_M)
        ]
    )


def calibration_error(bins_3K: np.ndarray) -> float:
    """ECE of bins as `score_bins` makes them; NaN where nothing was counted."""
    total = bins_3K[0].sum()
    return float(np.abs(bins_3K[1] - bins_3K[2]).sum() / total) if total else float('nan')


def by_class(matches: Matches) -> dict[str, np.ndarray]:
    """Score bins per class that has detections, and of all together ('all')."""
    scores, hit, label = matches.predictions.score_M, matches.hit_M, matches.predictions.label_M
    found = {'all': score_bins(scores, hit)}
    for c, name in enumerate(DETECTION_CLASSES):
        if (label == c).any():
            found[name] = score_bins(scores[label == c], hit[label == c])
    return found


def _distance_m(boxes: BoxTable, truth: GroundTruth) -> np.ndarray:
    return np.linalg.norm(boxes.centre_M3[:, :2] - truth.ego_S3[boxes.sample_M, :2], axis=1)


def by_distance(boxes: BoxTable, truth: GroundTruth) -> list[dict[str, float]]:
    """mAP, translation error, numbers of truth and detections per ring."""
    rows = []
    for low_m, high_m in RINGS_M:
        def inside(table: BoxTable, low_m: float = low_m, high_m: float = high_m) -> BoxTable:
            distance_m = _distance_m(table, truth)
            return table.select((distance_m >= low_m) & (distance_m < high_m))
        ring = GroundTruth(truth.tokens, truth.ego_S3, inside(truth.boxes), truth.racks)
        scores = judge_boxes(inside(boxes), ring)
        present = [c for c, name in enumerate(DETECTION_CLASSES)
                   if scores.curves[name, 2.0].truths and OFFICIAL.range_m[c] >= high_m]
        rows.append({'from_m': low_m, 'to_m': high_m, 'truths': float(len(counted(ring.boxes, ring))),
                     'mAP': float(scores.ap_CT[present].mean()) if present else float('nan'),
                     'mATE': float(np.mean(scores.tp_error_CE[present, 0])) if present else float('nan')})
    return rows


def by_visibility(matches: Matches) -> list[dict[str, Any]]:
    """Recall at 2 m and number of boxes per level of visibility that occurs."""
    level = matches.truths.visibility_M
    return [
        {
            'visible': name, 'truths': int((level == k).sum()),
            'recall': float(matches.found_G[level == k].mean())}
        for k, name in VISIBILITY.items()
        if (level == k).any()
    ]


def breakdown(verdict: Verdict) -> dict[str, Any]:
    """Everything beyond the figures, as plain lists for JSON; parts whose task was not judged are absent."""
    found: dict[str, Any] = {}
    if verdict.detection is not None:
        matches = match_all(verdict.boxes, verdict.truth)
        bins = by_class(matches)
        found['score_bins'] = {name: b.tolist() for name, b in bins.items()}
        found['detection_ece'] = {name: calibration_error(b) for name, b in bins.items()}
        found['by_distance'] = by_distance(verdict.boxes, verdict.truth)
        found['by_visibility'] = by_visibility(matches)
        found['precision_at_2m'] = {
            name: verdict.detection.curves[name, 2.0].precision.tolist()
            for name in DETECTION_CLASSES
            if verdict.detection.curves[name, 2.0].truths
        }
    if verdict.occupancy is not None:
        found['occupancy_confusion_camera'] = verdict.occupancy.confusion_MCC[0].tolist()
        found['occupancy_classes'] = list(OCCUPANCY_CLASSES)
        if verdict.occupancy.bins_3K[0].sum():
            found['occupancy_bins'] = verdict.occupancy.bins_3K.tolist()
            found['occupancy_ece'] = calibration_error(verdict.occupancy.bins_3K)
    return found


def format_breakdown(found: dict[str, Any]) -> str:
    """The tables of `breakdown` for a person."""
    lines: list[str] = []
    if 'by_distance' in found:
        lines += ['detection by distance', f'  {"ring (m)":<12}{"truths":>9}{"mAP":>9}{"mATE":>9}']
        lines += [
            f'  {r["from_m"]:g}-{r["to_m"]:g}'.ljust(14)
            + f'{r["truths"]:>9g}{r["mAP"]:>9.4f}{r["mATE"]:>9.4f}'
            for r in found['by_distance']
        ]
        lines += ['detection by visibility', f'  {"visible":<12}{"truths":>9}{"recall@2m":>12}']
        lines += [f'  {r["visible"]:<12}{r["truths"]:>9}{r["recall"]:>12.4f}' for r in found['by_visibility']]
        lines += [f'calibration error (ECE) of detection scores: {found["detection_ece"]["all"]:.4f}']
    if 'occupancy_ece' in found:
        lines += [
            f'calibration error (ECE) of occupancy confidence, camera mask: {found["occupancy_ece"]:.4f}'
        ]
    return '\n'.join(lines)
