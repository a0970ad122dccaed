"""Our tracking scores against the devkit's, against slow twins, and against numbers one can check in the
head."""
from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from perception.core.protocols import TRACKING_CLASSES
from perception.evaluation.detection.boxes import BoxTable
from perception.evaluation.detection.file import TRACKING, detection_results_from, read_box_results
from perception.evaluation.detection.tables import Drives
from perception.evaluation.detection.truth import GroundTruth
from perception.evaluation.errors import ResultError
from perception.evaluation.evaluate import Split, evaluate, evaluate_official
from perception.evaluation.tracking.assignment import assign, assign_reference
from perception.evaluation.tracking.events import follow_class, follow_class_reference
from perception.evaluation.tracking.protocol import TRACKING_SCORES, pair_distances, score_tracking
from perception.evaluation.tracking.tracks import make_tracks
from tests.evaluation.tracking.conftest import CASES, tracks_as_results

STORED = json.loads(Path(__file__).with_name('devkit_scores.json').read_text(encoding='utf-8'))
"""What nuscenes-devkit 1.2.0 with motmetrics 1.4.0 says of every case: {case: {score: {class: value}}}."""


def results_of(content: dict):
    return detection_results_from(content, formats=(TRACKING,))


def assert_same(ours: dict, official: dict) -> None:
    """Every score of every class agrees, and what does not exist for one does not for the other.

    The devkit's distance of a point to itself is up to 7 micrometres by the processor's rounding, ours 0.
    """
    for name in TRACKING_SCORES:
        within = 1e-5 if name in ('amotp', 'motp') else 1e-6
        for kind in TRACKING_CLASSES:
            mine, theirs = ours[name][kind], official[name][kind]
            theirs = math.nan if theirs is None else theirs
            same = abs(mine - theirs) < within or (math.isnan(mine) and math.isnan(theirs))
            assert same, (name, kind, mine, theirs)


def test_a_point_is_nowhere_else_than_where_it_is() -> None:
    """Whatever the processor: hundreds of metres from the origin, the same point is at no distance."""
    xy = np.random.default_rng(0).uniform(-2000, 2000, (50, 2))
    found = pair_distances(xy, xy[::-1])
    assert np.array_equal(found[np.arange(50), 49 - np.arange(50)], np.zeros(50))
    np.testing.assert_allclose(found, np.hypot(*(xy[:, None] - xy[::-1]).transpose(2, 0, 1)), atol=1e-4)


# -------------------------------------------------------------------- against the devkit

def test_scores_are_the_stored_ones_of_the_devkit(perturbed, small_truth):
    case, content = perturbed
    assert_same(score_tracking(results_of(content), small_truth).by_class, STORED[case])


@pytest.mark.parametrize('case', list(CASES))
def test_scores_are_the_devkits(case, small_root, small_truth, tmp_path):
    """With motmetrics 1.4.0 installed, which the default set-up is not: 20 s a case."""
    pytest.importorskip('motmetrics', reason='motmetrics is not installed: no official tracking evaluation')
    path = tmp_path / 'tracks.json'
    path.write_text(json.dumps(tracks_as_results(small_truth, **CASES[case])))
    split = Split(small_root, 'v1.0-mini', 'mini_val')
    official, ours = evaluate_official(path, split), evaluate(path, split).metrics
    assert official.keys() == ours.keys()
    assert ours == pytest.approx(official, abs=1e-6, nan_ok=True)


def test_real_boxes_are_scored_as_by_the_devkit(real_frames):
    """The 81 samples of mini_val, whose devkit scores (4 minutes) are stored."""
    truth = GroundTruth.from_tables(real_frames, 'v1.0-mini', 'mini_val')
    content = tracks_as_results(truth, **CASES['confused'])
    assert_same(score_tracking(results_of(content), truth).by_class, STORED['real_confused'])


# -------------------------------------------------------------------- slow twins

def test_assignment_is_scipys_with_all_its_ties():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = rng.integers(1, 9, 2)
        cost = rng.integers(0, 4, shape).astype(float) if rng.random() < 0.7 else rng.random(shape)
        np.testing.assert_array_equal(assign(cost), assign_reference(cost))


def test_following_equals_the_reference():
    """Crowded frames with whole distances: ties, objects that share their last track, empty frames."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        counts = rng.integers(0, 5, (2, 12)) * (rng.random((2, 12)) < 0.8)
        ids, tracks = (np.concatenate([rng.permutation(6)[:n] for n in side]) for side in counts)
        sizes = counts[0] * counts[1]
        distances = rng.integers(0, 3, sizes.sum()).astype(float)
        distances[rng.random(len(distances)) < 0.5] = np.nan

        starts = [np.concatenate([[0], np.cumsum(side)]) for side in counts]
        case = starts[0], ids, starts[1], tracks, np.cumsum(sizes) - sizes, distances, 6
        if not set(range(6)) <= set(ids.tolist()):
            continue
        for name, fast, slow in zip(
            follow_class(*case)._fields, follow_class(*case), follow_class_reference(*case), strict=True
        ):
            np.testing.assert_array_equal(fast, slow, err_msg=name)


# -------------------------------------------------------------------- in the head

def one_car(frames: int = 5) -> GroundTruth:
    """A car that drives 1 m a frame past a car that stands at the origin; the second frame lasts 1.5 s."""
    tokens = tuple(f's{k}' for k in range(frames))
    times_us = np.array([0, 500_000, 2_000_000, 2_500_000, 3_000_000][:frames])
    places = [[k, 5.0, 0] for k in range(frames)]
    boxes = BoxTable.make(
        np.arange(frames), places, np.ones((frames, 3)), np.zeros(frames), np.zeros((frames, 2)),
        np.zeros(frames))
    return GroundTruth(
        tokens, np.zeros((frames, 3)), boxes, drives=Drives(tokens, ('scene',) * frames, times_us),
        instances=('car',) * frames)


def tracks_at(truth, places: dict[int, tuple[str, float, float]]) -> dict:
    """Results with one box a frame: {frame: (id, x, score)}."""
    results = {token: [] for token in truth.tokens}
    for frame, (identity, x, score) in places.items():
        token = truth.tokens[frame]
        results[token].append(
            dict(
                sample_token=token, translation=[x, 5.0, 0.0], size=[1.0] * 3, rotation=[1.0, 0, 0, 0],
                velocity=[0.0, 0.0], tracking_id=identity, tracking_name='car', tracking_score=score))
    return {'meta': {}, 'results': results}


def test_a_switch_and_a_late_start():
    """Seen from the second frame on, under another id from the fourth: 3 matches, 1 switch, 1 miss of 5. Of
    the 40 recalls those up to 3/5 exist: 22. MOTAR, which allows 2 errors at 3 matches of 5, is 1."""
    truth = one_car()
    places = {1: ('a', 1.5), 2: ('a', 2.5), 3: ('b', 3.5), 4: ('b', 4.5)}
    content = tracks_at(truth, {frame: (*place, 0.6) for frame, place in places.items()})
    scores = score_tracking(results_of(content), truth)
    car = {name: scores.by_class[name]['car'] for name in TRACKING_SCORES}
    expected = dict(
        recall=0.8, mota=0.6, motar=1, motp=0.5, tp=3, fp=0, fn=1, ids=1, frag=0, mt=1, ml=0, gt=5,
        tid=0.5, lgd=0.5, faf=0)
    assert car == pytest.approx({**expected, 'amota': 22 / 40, 'amotp': (22 * 0.5 + 18 * 2) / 40})
    assert math.isnan(scores.by_class['amota']['bus']) and scores.mean('amota') == car['amota']


def test_holes_are_filled_with_the_weights_exchanged():
    """As in the devkit: 0.5 s after the earlier and 1.5 s before the later box it is 3/4 of the way."""
    truth = one_car()
    content = tracks_at(truth, {0: ('a', 0.0, 0.4), 2: ('a', 8.0, 0.8)})
    results = results_of(content)
    tracks = make_tracks(results.boxes, results.ids, truth.drives)
    assert tracks.frame_M.tolist() == [0, 1, 2] and tracks.xy_M2[1, 0] == pytest.approx(6.0)
    assert tracks.score_M == pytest.approx(0.6)


def test_a_class_without_a_match_has_the_worst_scores():
    truth = one_car()
    scores = score_tracking(results_of(tracks_at(truth, {0: ('a', 30.0, 0.5)})), truth).by_class
    assert [scores[name]['car'] for name in ('amota', 'amotp', 'fn', 'ml', 'tid')] == [0, 2, 5, 1, 20]
    assert math.isnan(scores['fp']['car'])
    without = score_tracking(results_of(tracks_at(truth, {})), truth).by_class
    assert_same(without, scores)


# -------------------------------------------------------------------- files

def change_id(box, box2):
    box2['tracking_id'] = box['tracking_id']


@pytest.mark.parametrize('change, message', [
    (change_id, 'tracking_id "a" twice'), (lambda a, b: a.pop('tracking_id'), 'field "tracking_id"'),
    (lambda a, b: a.update(tracking_id=True), 'a text or a whole number, found True'),
    (lambda a, b: a.update(tracking_name='barrier'), "field \"tracking_name\": expected one of 'bicycle'"),
    (lambda a, b: a.update(tracking_score=math.nan), 'field "tracking_score" may not be NaN'),
    (lambda a, b: a.pop('tracking_score'), 'field "tracking_score": expected a number')])
def test_bad_tracks_are_named(change, message):
    truth = one_car()
    content = tracks_at(truth, {0: ('a', 0.0, 0.5)})
    boxes = content['results']['s0']
    boxes.append({**boxes[0], 'tracking_id': 'b'})
    change(*boxes)
    with pytest.raises(ResultError, match='s0.*' + message):
        results_of(content)


def test_detections_are_no_tracks(small_truth, results_from_truth, tmp_path):
    path = tmp_path / 'detections.json'
    path.write_text(json.dumps(results_from_truth(small_truth)))
    with pytest.raises(ResultError, match='found detections, expected tracks'):
        score_tracking(read_box_results(path), small_truth)
