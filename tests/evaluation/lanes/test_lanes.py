"""Lane scores on lines one can measure with a ruler."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import Annotations, Frame, LanePolylines, Lanes, TaskOutput
from perception.evaluation.errors import ResultError
from perception.evaluation.lanes.metric import ChamferLanes
from perception.evaluation.lanes.protocol import (
    LaneMatches,
    area_under,
    chamfer_matrix,
    chamfer_matrix_reference,
    cut_element,
    lane_scores,
    match_lanes,
    outlines_touch,
    outlines_touch_reference,
)


def line(y: float, x0: float = -20.0, x1: float = 20.0, points: int = 20) -> np.ndarray:
    return np.stack([np.linspace(x0, x1, points), np.full(points, y)], 1)


def truth(*lines, labels=None) -> LanePolylines:
    return LanePolylines(tuple(np.asarray(points, np.float32) for points in lines),
                         np.array(labels or [0] * len(lines), np.int64), 65.0)


def lanes(lines, scores, labels=None) -> Lanes:
    return Lanes(np.array(lines, np.float32).reshape(len(lines), -1, 2), np.array(scores, np.float32),
                 np.array(labels or [0] * len(lines), np.int64))


def published(*lines, labels=None, protocol: str = 'maptr') -> LanePolylines:
    """Truth of a published protocol whose window holds just these lines."""
    inside = truth(*lines, labels=labels)
    return replace(truth(), protocol=protocol, in_range=lambda size: inside)


def score(*pairs) -> dict[str, float]:
    joined = LaneMatches.join([match_lanes(p, t) for p, t in pairs])
    return lane_scores(joined, pairs[0][1].protocol, prefix='')


def test_truth_as_prediction_is_perfect():
    ring = np.array([[-5.0, -5], [5, -5], [5, 5], [-5, 5], [-5, -5]])
    t = truth(line(0.0), line(3.5), ring, line(-8.0), labels=[0, 3, 1, 2])
    from perception.core.raster import resample_polyline
    p = lanes([resample_polyline(points, 20) for points in t.points], [0.9, 0.8, 0.7, 0.6], [0, 3, 1, 2])
    assert score((p, t)) == pytest.approx(dict.fromkeys(score((p, t)), 1.0))


def test_thresholds_by_hand():
    """A parallel line 0.8 m beside: Chamfer 0.8, so false at 0.5 m, true at 1.0 and 1.5 m: AP = 2 / 3."""
    found = score((lanes([line(0.8)], [0.9]), truth(line(0.0))))
    assert (found['mAP@0.5m'], found['mAP@1m'], found['mAP@1.5m']) == (0.0, 1.0, 1.0)
    assert found['mAP'] == pytest.approx(2 / 3) and math.isnan(found['AP_boundary'])


def test_precision_recall_by_hand():
    """Hit, miss, hit of two truths: precision 1, 1/2, 2/3; area = 1/2 * 1 + 1/2 * 2/3 = 5/6."""
    assert area_under(np.array([1, 0, 1], bool), np.array([0.9, 0.8, 0.7]), 2) == pytest.approx(5 / 6)
    assert area_under(np.zeros(0, bool), np.zeros(0), 3) == 0.0
    assert area_under(np.zeros(2, bool), np.ones(2), 0) == 0.0


def test_a_second_prediction_of_the_same_line_is_false():
    found = score((lanes([line(0.0), line(0.1)], [0.9, 0.8]), truth(line(0.0), line(6.0))))
    assert found['mAP'] == pytest.approx(1 / 2)


def test_only_the_nearest_truth_is_looked_at():
    """The second prediction's nearest truth is taken; it does not fall back to the other one 1.4 m away."""
    found = score((lanes([line(0.0), line(0.1)], [0.9, 0.8]), truth(line(0.0), line(1.5))))
    assert found['mAP@1.5m'] == pytest.approx(1 / 2)


def test_classes_do_not_mix_and_samples_without_truth_count_as_false():
    t = truth(line(0.0), labels=[2])
    found = score((lanes([line(0.0)], [0.9], [0]), t), (lanes([line(0.0)], [0.8], [2]), t),
                  (lanes([line(0.0)], [0.95], [2]), truth()))
    assert found['AP_boundary'] == pytest.approx(1 / 2 * 1 / 2) and math.isnan(found['AP_divider'])


def test_direction_does_not_matter():
    assert score((lanes([line(0.0)[::-1]], [0.9]), truth(line(0.0))))['mAP'] == 1.0


def test_truth_is_cut_to_the_range():
    """A lane of 120 m and one beside the range: in 60 x 30 m a 60 m piece stays, in 100 x 50 m both."""
    t = truth(line(0.0, -60, 60), line(20.0))
    p = lanes([line(0.0, -30, 30), line(20.0)], [0.9, 0.8])
    near, far = (
        match_lanes(p, t, '60x30'),
        match_lanes(lanes([line(0.0, -50, 50), line(20.0)], [0.9, 0.8]), t, '100x50'))
    assert near.truths_C[0] == 1 and near.hits_TL[0].tolist() == [True, False]
    assert far.truths_C[0] == 2 and far.hits_TL.all()


def test_a_ring_cut_once_is_one_piece():
    """A square that starts inside and leaves over the side y = 15: three sides and two halves make one piece
    of 5 points."""
    ring = np.array([[0.0, 0], [10, 0], [10, 20], [-10, 20], [-10, 0], [0, 0]])
    pieces = cut_element(ring, closed=True)
    assert len(pieces) == 1
    np.testing.assert_allclose(pieces[0], [[-10, 15], [-10, 0], [0, 0], [10, 0], [10, 15]])
    assert len(cut_element(ring, closed=False)) == 2


def test_chamfer_by_hand_and_against_the_reference():
    a, b = np.array([[0.0, 0], [4, 0]]), np.array([[0.0, 3], [4, 3], [4, 0]])
    assert chamfer_matrix(a[None], b[None])[0, 0] == pytest.approx(((3 + 0) / 2 + (3 + 3 + 0) / 3) / 2)
    rng = np.random.default_rng(0)
    many, others = rng.normal(size=(4, 30, 2)), rng.normal(size=(3, 20, 2))
    slow = [[chamfer_matrix_reference(x, y) for y in others] for x in many]
    np.testing.assert_allclose(chamfer_matrix(many, others), slow, atol=1e-12)


def test_no_predictions_and_no_truth():
    empty = Lanes(np.zeros((0, 20, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert score((empty, truth(line(0.0))))['mAP'] == 0.0
    assert math.isnan(score((empty, truth()))['mAP'])


@pytest.mark.parametrize(
    ('change', 'message'), [('score', 'finite'), ('point', 'finite'), ('label', 'labels must be')]
)
def test_wrong_predictions_are_named(change, message):
    p = lanes([line(0.0)], [math.nan if change == 'score' else 0.9], [7 if change == 'label' else 0])
    if change == 'point':
        p.points_LP2[0, 0, 0] = math.inf
    with pytest.raises(ValueError, match=message):
        match_lanes(p, truth(line(0.0)))


@pytest.mark.parametrize('make', [truth, published])
def test_the_mean_is_over_the_classes_that_the_model_answers(make):
    """A head of MapTR's three classes that knows the truth of four scores 1, not 3/4; two right ones, 2/3."""
    lines = [line(y) for y in (-9.0, -3.0, 3.0, 9.0)]
    t = make(*lines, labels=[0, 1, 2, 3])
    three = ('divider', 'ped_crossing', 'boundary')
    knows = replace(lanes(lines[:3], [0.9, 0.8, 0.7], [0, 1, 2]), classes=three)
    found = score((knows, t))
    assert found['mAP'] == 1.0 and math.isnan(found['AP_centerline'])

    misses_one = replace(lanes(lines[:2], [0.9, 0.8], [0, 1]), classes=three)
    assert score((misses_one, t))['mAP'] == pytest.approx(2 / 3)


def test_table_and_files_name_protocol_classes_and_thresholds():
    metric, frame = ChamferLanes(('60x30', '100x50')), Frame('a', 0, np.eye(4))
    p = replace(lanes([line(0.0)], [0.9]), classes=('divider', 'boundary'))
    part = metric.summarise(TaskOutput(frame, lanes=p), Annotations('a', lanes=published(line(0.0))))
    total = metric.accumulate([(frame, part)])

    scores = metric.scores(total)
    assert scores['lanes/mAP'] == scores['lanes/mAP_maptr'] == 0.5  # no truth of the boundary: 0 there
    assert 'lanes_100x50/mAP@2m' in scores and 'lanes_100x50/mAP@0.5m' not in scores
    assert metric.format_details(metric.details(total)) == [
        'lanes 60x30 m by protocol maptr: mAP over divider, boundary at 0.5, 1.0, 1.5 m',
        'lanes 100x50 m by protocol maptr: mAP over divider, boundary at 1.0, 1.5, 2.0 m']

    other = metric.summarise(TaskOutput(frame, lanes=p), Annotations('a', lanes=truth(line(0.0))))
    with pytest.raises(ResultError, match='one protocol, found maptr, ours'):
        metric.accumulate([(frame, part), (frame, other)])


def test_the_wide_range_has_its_own_thresholds():
    """1.8 m beside: false at 1.0 and 1.5 m, true at 2.0 m."""
    pair = match_lanes(lanes([line(1.8)], [0.9]), truth(line(0.0)), '100x50')
    assert pair.hits_TL[:, 0].tolist() == [False, False, True]
    assert lane_scores(pair, 'ours', '100x50', '')['mAP'] == pytest.approx(1 / 3)


def test_a_class_without_truth_counts_as_nothing_in_published_means_and_not_in_ours():
    p = lanes([line(0.0), line(5.0)], [0.9, 0.8], [0, 1])
    by_ours, by_maptr = (match_lanes(p, make(line(0.0))) for make in (truth, published))
    assert lane_scores(by_ours, 'ours', prefix='')['mAP'] == 1.0
    found = lane_scores(by_maptr, 'maptr', prefix='')
    assert found['AP_ped_crossing'] == found['AP_boundary'] == 0.0 and found['mAP'] == pytest.approx(1 / 3)


def test_outlines_that_do_not_touch_are_no_pair():
    """A prediction collapsed to a point has no outline; two short lines end to end lie 0.2 m apart.

    By distance alone both are pairs: a point in the middle of 4 m is (0 + 1) / 2 = 0.5 m away, the mean
    distance of the short ones is 0.4 m. Beside each other they do touch: strips reach 2 m to either side.
    """
    point, short = np.zeros((20, 2)), line(0.0, 0.0, 0.4)
    for p, t, hits in (
        (point, line(0.0, -1.9, 1.9), False), (short, line(0.0, 0.6, 1.0), False),
        (short, line(0.3, 0.0, 0.4), True)):
        found = lanes([p], [0.9])
        assert match_lanes(found, truth(t)).hits_TL[0, 0]
        assert match_lanes(found, published(t)).hits_TL[0, 0] == hits


def test_a_nearer_truth_that_does_not_touch_is_looked_through():
    """End to end 0.4 m away, beside 1.2 m away: the published protocol takes the one beside."""
    p, ahead, beside = line(0.0, 0.0, 0.4), line(0.0, 0.6, 1.0), line(1.2, 0.0, 0.4)
    found = match_lanes(lanes([p], [0.9]), published(ahead, beside))
    assert found.hits_TL[:, 0].tolist() == [False, False, True]


def test_outlines_equal_the_reference():
    rng = np.random.default_rng(0)
    starts = rng.uniform(-2.5, 2.5, (300, 1, 2)) * (rng.random((300, 1, 1)) < 0.9)
    steps = rng.normal(size=(300, 99, 2)) * rng.choice([0.0, 1e-6, 0.01, 0.1], (300, 1, 1))
    lines = np.concatenate([starts, starts + steps.cumsum(1)], 1)
    touch = outlines_touch(lines, lines[::-1], 2.0)
    np.testing.assert_array_equal(touch, outlines_touch_reference(lines, lines[::-1], 2.0))
    assert 50 < touch.sum() < 250


def test_stored_lanes_keep_what_the_model_answers():
    metric, frame = ChamferLanes(), Frame('a', 0, np.eye(4))
    p = replace(lanes([line(0.0)], [0.9]), classes=('divider', 'boundary'))
    arrays = metric.to_arrays(p, frame)
    assert metric.from_arrays(arrays).classes == p.classes
    with pytest.raises(ValueError, match='found labels of'):
        metric.to_arrays(replace(p, classes=('boundary',)), frame)
