"""Lane scores on lines one can measure with a ruler."""
from __future__ import annotations

import math

import numpy as np
import pytest

from perception.core.contracts import LanePolylines, Lanes
from perception.evaluation.lanes.protocol import (
    LaneMatches,
    area_under,
    chamfer_matrix,
    chamfer_matrix_reference,
    cut_element,
    lane_scores,
    match_lanes,
)


def line(y: float, x0: float = -20.0, x1: float = 20.0, points: int = 20) -> np.ndarray:
    return np.stack([np.linspace(x0, x1, points), np.full(points, y)], 1)


def truth(*lines, labels=None) -> LanePolylines:
    return LanePolylines(tuple(np.asarray(points, np.float32) for points in lines),
                         np.array(labels or [0] * len(lines), np.int64), 65.0)


def lanes(lines, scores, labels=None) -> Lanes:
    return Lanes(np.array(lines, np.float32).reshape(len(lines), -1, 2), np.array(scores, np.float32),
                 np.array(labels or [0] * len(lines), np.int64))


def score(*pairs) -> dict[str, float]:
    return lane_scores(LaneMatches.join([match_lanes(p, t) for p, t in pairs]), prefix='')


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
    assert area_under(np.zeros(0, bool), np.zeros(0), 3) == 0.0 and math.isnan(
        area_under(np.zeros(0, bool), np.zeros(0), 0)
    )


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
