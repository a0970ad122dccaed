"""Where a detector is right, and whether its scores mean what they say.

All numbers look at the boxes that the nuScenes protocol counts, matched per class at 2 m, best first.

* Histogram: right and wrong detections per score bin of 0.05.
* Calibration: expected calibration error (`reports/calibration.py`).
* Distance: the protocol's AP on truth and detections of one ring around the car alone; a pair on both sides
  of a border is not matched. Mean over the classes that have truth there and whose range covers the ring.
* Visibility: recall by the annotators' level (1: 0-40 % visible, 2: 40-60, 3: 60-80, 4: 80-100; 0: not
  annotated). Detections have no visibility, so there is no precision.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...core.contracts import NUSCENES_CLASSES, DetectionClasses
from ..reports.calibration import calibration_error, score_bins
from .boxes import BoxTable
from .matching import match_class
from .protocol import TP_ERRORS, DetectionScores, counted, score_boxes
from .truth import GroundTruth

RINGS_M = ((0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 40.0), (40.0, 50.0))
VISIBILITY = {1: '0-40 %', 2: '40-60 %', 3: '60-80 %', 4: '80-100 %', 0: 'unknown'}


@dataclass(frozen=True)
class Matches:
    """Counted detections and truth with what happened to them at one distance.

    Attributes:
        predictions: the detections.
        hit_M: bool, which of them are right.
        truths: the true boxes.
        found_G: bool, which of them were detected.
        classes: what the labels mean.
    """

    predictions: BoxTable
    hit_M: np.ndarray
    truths: BoxTable
    found_G: np.ndarray
    classes: DetectionClasses = NUSCENES_CLASSES


def match_all(boxes: BoxTable, truth: GroundTruth, distance_m: float = 2.0) -> Matches:
    """Match all classes at one distance."""
    boxes, truths = counted(boxes, truth), counted(truth.boxes, truth)
    hit_M, found_G = np.zeros(len(boxes), bool), np.zeros(len(truths), bool)

    for c in range(len(truth.classes)):
        rows, columns = np.flatnonzero(boxes.label_M == c), np.flatnonzero(truths.label_M == c)
        rows = rows[np.argsort(boxes.score_M[rows], kind='stable')[::-1]]
        start = np.searchsorted(truths.sample_M[columns], np.arange(len(truth) + 1))

        (match,) = match_class(
            boxes.sample_M[rows], boxes.centre_M3[rows, :2].copy(), truths.centre_M3[columns, :2].copy(),
            start, np.array([distance_m]))
        hit_M[rows] = match >= 0
        found_G[columns[match[match >= 0]]] = True

    return Matches(boxes, hit_M, truths, found_G, truth.classes)


def by_class(matches: Matches) -> dict[str, np.ndarray]:
    """Score bins per class that has detections, and of all together ('all')."""
    scores, hit, label = matches.predictions.score_M, matches.hit_M, matches.predictions.label_M
    bins = {'all': score_bins(scores, hit)}
    for c, name in enumerate(matches.classes.names):
        if (label == c).any():
            bins[name] = score_bins(scores[label == c], hit[label == c])
    return bins


def by_distance(boxes: BoxTable, truth: GroundTruth) -> list[dict[str, float]]:
    """mAP, translation error, numbers of truth and detections per ring."""
    rows = []
    for low_m, high_m in RINGS_M:
        inside = _in_ring(truth.boxes, truth, low_m, high_m)
        ring = replace(truth, boxes=inside, instances=())
        scores = score_boxes(_in_ring(boxes, truth, low_m, high_m), ring)

        present = [
            c for c, of in enumerate(truth.classes.classes)
            if scores.curves[of.name, 2.0].truths and of.range_m >= high_m
        ]
        translation = scores.tp_error_CE[present, TP_ERRORS.index('trans_err')]
        rows.append(
            {
                'from_m': low_m, 'to_m': high_m, 'truths': float(len(counted(ring.boxes, ring))),
                'mAP': float(scores.ap_CT[present].mean()) if present else float('nan'),
                'mATE': float(np.mean(translation)) if present else float('nan')}
        )
    return rows


def _in_ring(boxes: BoxTable, truth: GroundTruth, low_m: float, high_m: float) -> BoxTable:
    distance_m = np.linalg.norm(boxes.centre_M3[:, :2] - truth.ego_S3[boxes.sample_M, :2], axis=1)
    return boxes.select((distance_m >= low_m) & (distance_m < high_m))


def by_visibility(matches: Matches) -> list[dict[str, Any]]:
    """Recall at 2 m and number of boxes per level of visibility that occurs."""
    level_G = matches.truths.visibility_M
    rows = []
    for level, name in VISIBILITY.items():
        here_G = level_G == level
        if here_G.any():
            recall = float(matches.found_G[here_G].mean())
            rows.append({'visible': name, 'truths': int(here_G.sum()), 'recall': recall})
    return rows


def box_details(boxes: BoxTable, truth: GroundTruth, scores: DetectionScores) -> dict[str, Any]:
    """All of the above as plain values for JSON, and the precision curves at 2 m."""
    matches = match_all(boxes, truth)
    bins = by_class(matches)
    return {
        'score_bins': {name: b.tolist() for name, b in bins.items()},
        'detection_ece': {name: calibration_error(b) for name, b in bins.items()},
        'by_distance': by_distance(boxes, truth),
        'by_visibility': by_visibility(matches),
        'precision_at_2m': {
            name: scores.curves[name, 2.0].precision.tolist()
            for name in scores.classes.names
            if scores.curves[name, 2.0].truths
        },
    }


def format_box_details(details: Mapping[str, Any]) -> list[str]:
    """Lines of text of `box_details`; none where it is not in `details`."""
    if 'by_distance' not in details:
        return []

    lines = ['detection by distance', f'  {"ring (m)":<12}{"truths":>9}{"mAP":>9}{"mATE":>9}']
    for ring in details['by_distance']:
        name = f'  {ring["from_m"]:g}-{ring["to_m"]:g}'.ljust(14)
        lines.append(f'{name}{ring["truths"]:>9g}{ring["mAP"]:>9.4f}{ring["mATE"]:>9.4f}')

    lines += ['detection by visibility', f'  {"visible":<12}{"truths":>9}{"recall@2m":>12}']
    lines += [f'  {r["visible"]:<12}{r["truths"]:>9}{r["recall"]:>12.4f}' for r in details['by_visibility']]
    lines.append(f'calibration error (ECE) of detection scores: {details["detection_ece"]["all"]:.4f}')
    return lines
