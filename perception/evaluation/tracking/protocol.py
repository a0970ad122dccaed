"""nuScenes tracking metric: AMOTA, AMOTP and the CLEAR MOT counts, equal to the devkit's, without the devkit.

Per class, with the boxes that count and tracks filled (`tracks.py`): all boxes are followed once
(`events.py`, pairs below 2 m), and the scores of the matches give the score threshold at which each of 40
recalls, 0.1 ... 1, should be reached. At every threshold that exists the class is followed again:

    MOTAR = max(0, 1 - (misses + switches + false positives - (1 - r) objects) / (r objects)),
            r = matches / objects                       MOTP = mean distance of matches and switches
    AMOTA = mean MOTAR over the 40 thresholds, 0 where it does not exist; AMOTP = mean MOTP, 2 m there

The other scores are those of the threshold with the highest MOTA = max(0, 1 - errors / objects), the one of
the highest recall among equals: recall = (matches + switches) / objects, TP = matches, FP, FN, IDS =
switches, FRAG = how often an object was lost and found again, MT and ML = objects tracked in 80 % of their
frames and more, below 20 %, FAF = false positives in 100 frames, TID = mean time before an object's first
box, LGD = mean over objects of the longest time without one, both in seconds of 0.5 a frame, over objects
that are found at all. Means over classes leave out those without truth; counts are summed.

Edge cases, all as in the official evaluation:
* A class without truth has no scores (NaN). One without a match has AMOTA 0, AMOTP 2, FP, IDS and FRAG NaN.
* Centre distances are the square roots of |a|^2 - 2ab + |b|^2, which for places a kilometre from the origin
  are wrong by up to 2e-5 m. That shows in AMOTP of perfect boxes.
* A threshold is compared with a track's mean score; boxes that fill holes have it too, up to rounding.
* The whole split must be there, at most 500 boxes a sample. A file without any box scores 0 here (the devkit
  stops); an id twice in one sample is refused (the devkit counts wrongly).

Source: Caesar et al., nuScenes, CVPR 2020 (arXiv 1903.11027), section 3.2; Weng and Kitani, A baseline for 3D
multi-object tracking, 2019 (arXiv 1907.03961); nuscenes.org/tracking; behaviour measured against
nuscenes-devkit 1.2.0 with motmetrics 1.4.0.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.protocols import TRACKING_CLASSES
from ..base import ScoreTable
from ..detection.file import MAX_BOXES_PER_SAMPLE, DetectionResults
from ..detection.protocol import counted_rows
from ..detection.samples import align
from ..detection.truth import GroundTruth
from ..errors import ResultError
from .events import FollowedClass, follow_class
from .tracks import TrackTable, make_tracks

SUMMED = ('mt', 'ml', 'tp', 'fp', 'fn', 'ids', 'frag')
AT_BEST = ('recall', 'motar', 'gt', 'mota', 'motp', 'mt', 'ml', 'faf', 'tp', 'fp', 'fn', 'ids', 'frag', 'tid',
           'lgd')
TRACKING_SCORES = ('amota', 'amotp', *AT_BEST)
NEAR_M = 2.0
TRACKING_TABLE = ScoreTable(
    'tracking', tuple(name.upper() for name in TRACKING_SCORES), TRACKING_CLASSES,
    ('AMOTA', 'AMOTP', 'RECALL', 'MOTA', 'IDS', 'FRAG'),
    lower_is_better=('AMOTP', 'MOTP', 'ML', 'FAF', 'FP', 'FN', 'IDS', 'FRAG', 'TID', 'LGD'),
    other_classes=True)
WORST = {
    'recall': 0.0, 'motar': 0.0, 'mota': 0.0, 'motp': 2.0, 'mt': 0.0, 'faf': 500.0, 'tp': 0.0, 'fp': np.nan,
    'ids': np.nan, 'frag': np.nan, 'tid': 20.0, 'lgd': 20.0}
"""Scores of a class of which nothing was found; `ml`, `fn` and `gt` are then counted from the truth."""
RECALLS = np.linspace(0.1, 1, 40).round(12)
_FRAME_S = 0.5


@dataclass(frozen=True)
class TrackingScores:
    """Scores of a split.

    Attributes:
        by_class: {score: {class: value}}, names as in `TRACKING_SCORES`.
        curves: {class: {score: 40 values from the highest recall to the lowest, NaN where it is not
            reached}}; also 'confidence', the thresholds.
    """

    by_class: dict[str, dict[str, float]]
    curves: dict[str, dict[str, np.ndarray]]

    def mean(self, score: str) -> float:
        """A score over all classes that have it: summed where it is a count, else the mean."""
        values = np.array(list(self.by_class[score].values()))
        known = values[~np.isnan(values)]
        if score in SUMMED:
            return float(known.sum())
        return float(known.mean()) if len(known) else float('nan')

    def summary(self) -> dict[str, Any]:
        """The devkit's `metrics_summary` fields, without its run time and configuration."""
        return {'label_metrics': self.by_class, **{name: self.mean(name) for name in TRACKING_SCORES}}

    def flat(self, prefix: str = 'tracking/') -> dict[str, float]:
        """Scores by name: `tracking/AMOTA`, ..., `tracking/AMOTA_car`, ..."""
        flat = {name.upper(): self.mean(name) for name in TRACKING_SCORES}
        for column in TRACKING_TABLE.columns:
            flat |= {f'{column}_{kind}': value for kind, value in self.by_class[column.lower()].items()}
        return {prefix + name: value for name, value in flat.items()}


def score_tracking(results: DetectionResults, truth: GroundTruth) -> TrackingScores:
    """Score a results file of tracks against the truth of its split.

    Raises:
        ResultError: the file holds detections, the samples of the two differ (names one), a sample has too
            many boxes, or the truth does not say which object a box is of.
    """
    if not results.format.has_id and len(results.boxes):
        raise ResultError('results: found detections, expected tracks (perception track makes them)')
    if truth.drives is None or len(truth.instances) != len(truth.boxes):
        raise ResultError('truth: tracks need scenes, times and instances; read it from the tables')

    if truth.is_custom:
        results = results.of_samples(truth.index())
    boxes = align(results, truth, MAX_BOXES_PER_SAMPLE)

    rows = np.flatnonzero(counted_rows(boxes, truth))
    ids = [results.ids[row] for row in rows.tolist()]
    predicted = make_tracks(boxes.select(rows), ids, truth.drives)
    rows = np.flatnonzero(counted_rows(truth.boxes, truth))
    instances = [truth.instances[row] for row in rows.tolist()]
    objects = make_tracks(truth.boxes.select(rows), instances, truth.drives, average=False)

    by_class: dict[str, dict[str, float]] = {name: {} for name in TRACKING_SCORES}
    curves = {}
    for kind in truth.classes.tracked:
        label = truth.classes.label_of[kind]
        curves[kind] = _curves_of_class(predicted.of_class(label), objects.of_class(label), len(truth))
        for name, value in _scores_of_curves(curves[kind]).items():
            by_class[name][kind] = value
    return TrackingScores(by_class, curves)


def _curves_of_class(tracks: TrackTable, objects: TrackTable, frames: int) -> dict[str, np.ndarray]:
    """Every score at the 40 thresholds of a class; empty without truth."""
    if not len(objects.frame_M):
        return {}
    following = _Following(tracks, objects, frames)
    threshold_R = _thresholds(tracks.score_M[following(-np.inf).is_match_P], len(objects.frame_M))
    curves: dict[str, np.ndarray] = {'confidence': threshold_R}

    reached = np.unique(threshold_R[~np.isnan(threshold_R)])
    if not len(reached):
        count = len(np.unique(objects.track_M))
        worst = {**WORST, 'ml': float(count), 'fn': float(len(objects.frame_M)), 'gt': len(objects.frame_M)}
        return curves | {name: np.full(len(RECALLS), worst[name], dtype=float) for name in AT_BEST}

    scores = {threshold: _scores(following(threshold)) for threshold in reached.tolist()}
    nothing = dict.fromkeys(AT_BEST, np.nan)
    for name in AT_BEST:
        curves[name] = np.array([scores.get(t, nothing)[name] for t in threshold_R.tolist()], dtype=float)
    return curves


def _thresholds(match_score_M: np.ndarray, objects: int) -> np.ndarray:
    """The score at which each recall should be reached, from the highest recall; NaN where it is not."""
    if not len(match_score_M):
        return np.full(len(RECALLS), np.nan)
    best_first = np.sort(match_score_M)[::-1]
    recall_M = np.arange(1, len(best_first) + 1) / objects

    threshold_R = np.interp(RECALLS, recall_M, best_first, right=0)
    threshold_R[RECALLS > recall_M.max()] = np.nan
    return threshold_R[::-1].copy()


class _Following:
    """Follows one class at thresholds that rise; distances are computed again only where boxes fell away.

    Args:
        tracks: predicted boxes of the class.
        objects: annotated ones.
        frames: how many there are.
    """

    def __init__(self, tracks: TrackTable, objects: TrackTable, frames: int) -> None:
        self.tracks, self.objects = tracks, objects
        self.frames = frames
        self.object_start = np.searchsorted(objects.frame_M, np.arange(frames + 1))
        self.count = int(objects.track_M.max()) + 1
        self.blocks: dict[int, tuple[int, np.ndarray]] = {}

    def __call__(self, threshold: float) -> FollowedClass:
        """What happens when only boxes of at least this score are there."""
        kept = self.tracks.score_M >= threshold
        frame_P, xy_P2 = self.tracks.frame_M[kept], self.tracks.xy_M2[kept]
        box_start = np.searchsorted(frame_P, np.arange(self.frames + 1))

        objects_F, boxes_F = np.diff(self.object_start), np.diff(box_start)
        blocks = [
            self._distances(f, xy_P2[box_start[f]:box_start[f + 1]])
            for f in np.flatnonzero((objects_F > 0) & (boxes_F > 0)).tolist()]
        block_start = np.cumsum(objects_F * boxes_F) - objects_F * boxes_F
        distances = np.concatenate(blocks) if blocks else np.zeros(0)
        return follow_class(
            self.object_start, self.objects.track_M, box_start, self.tracks.track_M[kept], block_start,
            distances, self.count)

    def _distances(self, frame: int, xy_P2: np.ndarray) -> np.ndarray:
        """Distances of all pairs of a frame in a row, NaN from 2 m on."""
        count, block = self.blocks.get(frame, (0, None))
        if count != len(xy_P2):
            block = pair_distances(
                self.objects.xy_M2[self.object_start[frame]:self.object_start[frame + 1]], xy_P2)
            block[block >= NEAR_M] = np.nan
            block = block.ravel()
            self.blocks[frame] = (len(xy_P2), block)
        return block


def pair_distances(a_N2: np.ndarray, b_M2: np.ndarray) -> np.ndarray:
    """Distance of every pair `(N, M)`, by the sum that scikit-learn's `euclidean_distances` takes.

    Products one by one: a library's matrix product rounds as the processor does, and the distance of a point
    to itself would be micrometres on one and nothing on another.
    """
    (a_x, a_y), (b_x, b_y) = a_N2.T, b_M2.T
    squared = -2 * (a_x[:, None] * b_x + a_y[:, None] * b_y)
    squared += (a_x * a_x + a_y * a_y)[:, None]
    squared += b_x * b_x + b_y * b_y
    return np.sqrt(np.maximum(squared, 0))


def _scores(followed: FollowedClass) -> dict[str, float]:
    """The scores at one threshold."""
    objects = int(followed.seen_G.sum())
    found = followed.matches + followed.switches
    errors = followed.misses + followed.switches + followed.false_positives

    # MOTAR counts against what was reached, MOTA against all there is
    recall = followed.matches / objects
    motar = np.nan
    if followed.matches:
        motar = max(0.0, 1 - (errors - (1 - recall) * objects) / (recall * objects))
    ratio_G = followed.tracked_G / followed.seen_G
    hit_G = followed.start_G >= 0
    found_objects = int(hit_G.sum())

    return {
        'gt': objects, 'tp': followed.matches, 'fp': followed.false_positives, 'fn': followed.misses,
        'ids': followed.switches, 'frag': int(followed.breaks_G.sum()), 'recall': found / objects,
        'motar': motar, 'mota': max(0.0, 1.0 - errors / objects),
        'motp': followed.distance_m / found if found else np.nan,
        'mt': int((ratio_G >= 0.8).sum()), 'ml': int((ratio_G < 0.2).sum()),
        'faf': followed.false_positives / followed.frames * 100,
        'tid': _FRAME_S * followed.start_G[hit_G].sum() / found_objects if found_objects else np.nan,
        'lgd': _FRAME_S * followed.longest_gap_G[hit_G].sum() / found_objects if found_objects else np.nan}


def _scores_of_curves(curves: dict[str, np.ndarray]) -> dict[str, float]:
    """One class's scores: the means over thresholds, the others at the best one."""
    if not curves:
        return dict.fromkeys(TRACKING_SCORES, float('nan'))

    scores = dict.fromkeys(AT_BEST, float('nan'))
    if not np.isnan(curves['mota']).all():
        best = int(np.nanargmax(curves['mota']))
        scores = {name: float(curves[name][best]) for name in AT_BEST}

    for mean, curve, worst in (('amota', 'motar', 0.0), ('amotp', 'motp', NEAR_M)):
        values = curves[curve]
        known = ~np.isnan(values)
        scores[mean] = float(np.where(known, values, worst).mean()) if known.any() else float('nan')
    return scores
