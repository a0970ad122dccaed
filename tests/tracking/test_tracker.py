"""Numbers stay with their objects: over lost frames, jumps of time, and detectors that report no velocity."""
from __future__ import annotations

import numpy as np
import pytest

from perception.tracking import Tracker, TrackerOptions
from perception.tracking.matching import match_greedily, match_greedily_reference
from perception.tracking.motion import KalmanMotion, constant_turn

CAR, PEDESTRIAN = 0, 5
MOTIONS = ('velocity', 'kalman')


def boxes_at(*places, velocity=(0.0, 0.0)) -> np.ndarray:
    """Boxes of a car's size at (x, y) places."""
    rows = [[x, y, 1.0, 4.5, 1.9, 1.6, 0.0, *velocity] for x, y in places]
    return np.array(rows).reshape(-1, 9)


def follow(tracker, time_s, boxes, labels=None, scores=None):
    labels = np.full(len(boxes), CAR) if labels is None else labels
    scores = np.full(len(boxes), 0.5) if scores is None else scores
    return tracker.update(round(time_s * 1e9), boxes, labels, scores)


# -------------------------------------------------------------------- matching

def test_matching_equals_the_reference():
    rng = np.random.default_rng(0)
    for _ in range(30):
        m, n = rng.integers(0, 12, 2)
        case = (
            rng.integers(0, 6, (m, 2)).astype(float), rng.integers(0, 2, m), rng.permutation(m),
            rng.integers(0, 6, (n, 2)).astype(float), rng.integers(0, 2, n), rng.uniform(1, 4, n))
        np.testing.assert_array_equal(match_greedily(*case), match_greedily_reference(*case))


def test_the_best_detection_chooses_first():
    tracker = Tracker()
    first = follow(tracker, 0.0, boxes_at((0, 0))).ids_M
    second = follow(tracker, 0.5, boxes_at((0.2, 0), (1, 0)), scores=np.array([0.3, 0.9])).ids_M
    assert second[1] == first[0] and second[0] not in first


def test_classes_have_their_gates():
    """Three metres off is the same car, and another pedestrian."""
    tracker = Tracker()
    labels = np.array([CAR, PEDESTRIAN])
    first = follow(tracker, 0.0, boxes_at((0, 0), (0, 20)), labels).ids_M
    second = follow(tracker, 0.5, boxes_at((3, 0), (3, 20)), labels).ids_M
    assert second[0] == first[0] and second[1] not in first
    assert follow(tracker, 1.0, boxes_at((3, 0)), np.array([1])).ids_M[0] not in first, 'a truck is no car'


# -------------------------------------------------------------------- motion

@pytest.mark.parametrize('motion', MOTIONS)
@pytest.mark.parametrize('velocity', [(12.0, 0.0), (0.0, 0.0), (np.nan, np.nan)])
def test_a_fast_car_keeps_its_number_over_a_lost_frame(motion, velocity):
    """12 m/s are 6 m a frame and 12 m over a lost one: no gate is that wide, so motion must be known. Without
    reported velocities the first step must lie within the gate."""
    tracker = Tracker(TrackerOptions(motion))
    reported = np.isfinite(velocity).all() and any(velocity)
    speed = 12.0 if reported else 7.0
    ids = [follow(tracker, t, boxes_at((speed * t, 0), velocity=velocity)).ids_M[0]
           for t in (0.0, 0.5, 1.0, 2.0, 2.5)]
    assert len(set(ids)) == 1, ids


@pytest.mark.parametrize('motion', MOTIONS)
def test_velocity_is_learnt_where_none_is_reported(motion):
    tracker = Tracker(TrackerOptions(motion))
    for t in np.arange(0, 5, 0.5):
        tracked = follow(tracker, t, boxes_at((2 * t, -t)))
    np.testing.assert_allclose(tracked.boxes_M9[0, 7:], [2.0, -1.0], atol=0.05)
    np.testing.assert_allclose(tracked.boxes_M9[0, :2], [9.0, -4.5], atol=0.05)


def test_kalman_equals_the_matrices():
    """Three numbers a track stand for the 4 x 4 covariance of place and velocity."""
    rng = np.random.default_rng(0)
    options = TrackerOptions('kalman')
    motion = KalmanMotion(options)
    motion.begin(np.zeros((1, 2)), np.array([[1.0, 2.0]]))
    state, cov = np.array([0, 0, 1.0, 2.0]), np.diag([0.25, 0.25, 1, 1])

    for step_s, has_velocity in ((0.5, True), (1.0, False), (0.05, True)):
        seen = rng.normal(size=4) * 3
        motion.predict(step_s)
        reported = seen[None, 2:] if has_velocity else np.zeros((1, 2))
        motion.correct(np.array([0]), seen[None, :2], reported)

        step = np.eye(4) + step_s * np.eye(4, k=2)
        push = np.array([step_s ** 2 / 2, step_s])[:, None]
        cov = step @ cov @ step.T + 9 * np.kron(push @ push.T, np.eye(2))
        state, rows = step @ state, slice(None, 4 if has_velocity else 2)
        noise = np.diag([0.25, 0.25, 1, 1])[rows, rows]
        gain = cov[:, rows] @ np.linalg.inv(cov[rows, rows] + noise)
        state, cov = state + gain @ (seen[rows] - state[rows]), cov - gain @ cov[rows]
        np.testing.assert_allclose([*motion.xy_N2[0], *motion.velocity_N2[0]], state, atol=1e-12)


def test_constant_turn_by_hand():
    """A quarter turn at 1 rad/s and 2 m/s is an arc of radius 2; without a turn the way is straight."""
    steps_s = np.array([np.pi / 2, np.pi])
    arc, straight = constant_turn(
        np.array([[1.0, 0.0], [0, 0]]), np.array([[2.0, 0.0], [0, 3]]), np.array([1.0, 0]), steps_s)
    np.testing.assert_allclose(arc, [[3, 2], [1, 4]], atol=1e-12)
    np.testing.assert_allclose(straight, [[0, 3 * np.pi / 2], [0, 3 * np.pi]], atol=1e-12)
    unknown = constant_turn(np.ones((1, 2)), np.full((1, 2), np.nan), np.zeros(1), steps_s)
    np.testing.assert_array_equal(unknown, np.ones((1, 2, 2)))


# -------------------------------------------------------------------- birth, death, time

def test_birth_and_death():
    tracker = Tracker(TrackerOptions(min_hits=2, birth_score=0.4))
    first = follow(tracker, 0.0, boxes_at((0, 0), (50, 0)), scores=np.array([0.5, 0.1]))
    assert first.ids_M.tolist() == [0, 0]
    assert len(tracker) == 1
    number = follow(tracker, 0.5, boxes_at((0, 0))).ids_M[0]
    assert number > 0

    # a low score goes on with a track; 1.5 s unseen are survived, more are not
    assert follow(tracker, 2.0, boxes_at((0, 0)), scores=np.array([0.1])).ids_M[0] == number
    follow(tracker, 4.0, boxes_at())
    assert len(tracker) == 0 and tracker.resets == 0


@pytest.mark.parametrize('jump_s', [-0.5, 60.0])
def test_a_jump_of_the_clock_ends_all_tracks(jump_s):
    tracker = Tracker()
    first = follow(tracker, 100.0, boxes_at((0, 0))).ids_M[0]
    assert follow(tracker, 100.0, boxes_at((0, 0))).ids_M[0] == first, 'the same moment again'
    assert follow(tracker, 100.0 + jump_s, boxes_at((0, 0))).ids_M[0] > first
    assert tracker.resets == 1


def test_no_boxes_and_many():
    tracker = Tracker(TrackerOptions('kalman'))
    assert follow(tracker, 0.0, boxes_at()).ids_M.shape == (0,)
    ids = follow(tracker, 0.5, boxes_at(*[(20 * k, 0) for k in range(300)])).ids_M
    assert len(set(ids.tolist())) == 300
    assert follow(tracker, 1.0, boxes_at()).ids_M.shape == (0,)


@pytest.mark.parametrize('change, message', [
    (lambda boxes, labels, scores: boxes.__setitem__((1, 3), np.nan), r'box\[1\].length is nan'),
    (lambda boxes, labels, scores: labels.__setitem__(0, 10), r'box\[0\] has label 10'),
    (lambda boxes, labels, scores: scores.__setitem__(1, np.inf), r'box\[1\] has .* score inf')])
def test_boxes_that_are_none_are_refused(change, message):
    boxes, labels, scores = boxes_at((0, 0), (9, 9)), np.zeros(2, int), np.ones(2)
    change(boxes, labels, scores)
    with pytest.raises(ValueError, match=message):
        Tracker().update(0, boxes, labels, scores)


@pytest.mark.parametrize('options, message', [
    ({'motion': 'imm'}, 'expected one of velocity, kalman'), ({'gates_m': (1.0,)}, '10 numbers'),
    ({'max_age_s': 0.0}, 'max_age_s'), ({'min_hits': 0}, 'min_hits'),
    ({'birth_score': np.nan}, 'birth_score')])
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        TrackerOptions(**options)
