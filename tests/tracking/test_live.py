"""Tracks of a vehicle's outputs: the car moves and turns, drives begin and end, poses fail."""
from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import Annotations, Boxes3D, BoxLabels, Frame, TaskOutput
from perception.core.geometry import invert, make_transform, rotation_z, transform_boxes
from perception.tracking import FrameTracker, TrackerOptions, TruthTracks


def pose_at(step: int) -> np.ndarray:
    """A car on a bend, far from the origin."""
    return make_transform(
        rotation_z(0.1 * step)[:3, :3], np.array([800.0 + 4 * step, 1200.0 + 0.3 * step ** 2, 0]))


def output_at(step: int, scene: str = 'a') -> TaskOutput:
    """A parked car, one that drives a circle of radius 20 m at 1/4 rad/s, and a pole that detections flicker
    on."""
    angle = 0.125 * step
    circle = [820 + 20 * np.sin(angle), 1210 - 20 * np.cos(angle), 1, 4, 2, 1.5, angle]
    rows = [[830, 1190, 1, 4, 2, 1.5, 0.3, 0, 0],
            [*circle, 5 * np.cos(angle), 5 * np.sin(angle)]]
    boxes = transform_boxes(invert(pose_at(step)), np.array(rows, dtype=np.float64))
    found = Boxes3D(
        boxes.astype(np.float32), np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64), np.full(2, -1))
    return TaskOutput(Frame(f'{scene}{step}', step * 500_000_000, pose_at(step), scene), found)


def test_tracks_of_a_turning_car():
    """Numbers stay; the parked car's tail is one place, and the other's lies on its circle, before and
    after."""
    tracker = FrameTracker()
    for step in (0, 1, 2, 4, 5):  # a lost frame
        output = tracker(output_at(step))
    tracks = output.get('tracking')
    assert tracks.ids_M.tolist() == [1, 2] and tracks.rows_M.tolist() == [0, 1]
    assert len(tracks.past[0]) == 5
    assert np.abs(tracks.past[0] - tracks.boxes_M9[0, :2]).max() < 1e-3, 'parked'

    for step, place in zip((0, 1, 2, 4), tracks.past[1], strict=False):
        expected = transform_boxes(
            invert(pose_at(5)) @ pose_at(step), output_at(step).detection.boxes_M9.astype(np.float64))
        np.testing.assert_allclose(place, expected[1, :2], atol=1e-3)
    for k, step in enumerate((6, 7, 8, 9, 10, 11)):
        expected = transform_boxes(
            invert(pose_at(5)) @ pose_at(step), output_at(step).detection.boxes_M9.astype(np.float64))
        np.testing.assert_allclose(tracks.ahead_MF2[1, k], expected[1, :2], atol=0.1)


def other_scene(output):
    return replace(output, frame=replace(output.frame, scene='b'))


def clock_back(output):
    return replace(output, frame=replace(output.frame, timestamp_ns=0))


def pose_jump(output):
    moved = output.frame.global_T_ego.copy()
    moved[0, 3] += 500
    return replace(output, frame=replace(output.frame, global_T_ego=moved))


@pytest.mark.parametrize('change', [other_scene, clock_back, pose_jump])
def test_another_drive_has_other_numbers(change):
    tracker = FrameTracker()
    first = [tracker(output_at(step)).get('tracking').ids_M.tolist() for step in (1, 2)]
    after = tracker(change(output_at(3))).get('tracking')
    assert first == [[1, 2], [1, 2]] and after.ids_M.tolist() == [3, 4]
    assert tracker.resets == 1 and all(len(line) == 1 for line in after.past)


def test_a_pose_that_is_not_finite_gives_no_tracks():
    tracker = FrameTracker()
    tracker(output_at(1))
    broken = replace(output_at(2), frame=replace(output_at(2).frame, global_T_ego=np.full((4, 4), np.nan)))
    assert tracker(broken).get('tracking') is None
    assert tracker(output_at(3)).get('tracking').ids_M.tolist() == [3, 4]


def test_a_frame_without_boxes_is_a_lost_one():
    tracker = FrameTracker()
    tracker(output_at(1))
    assert tracker(replace(output_at(2), detection=None)).get('tracking') is None
    assert tracker(output_at(3)).get('tracking').ids_M.tolist() == [1, 2]


def test_labels_are_numbered_by_their_objects():
    """In the order in which they come; a new scene starts over; labels without objects stay as they are."""
    tracks = TruthTracks()

    def numbers(step: int, tokens: tuple[str, ...], scene: str = 'a') -> list[int] | None:
        output = output_at(step, scene)
        m = len(tokens) or 2
        zeros = np.zeros(m, np.int64)
        boxes = BoxLabels(output.detection.boxes_M9[:m], zeros, zeros, zeros, zeros, zeros, tokens)
        found = tracks(output.frame, Annotations('token', boxes)).get('tracking')
        return None if found is None else found.ids_M.tolist()

    assert numbers(1, ('x', 'y')) == [1, 2] and numbers(2, ('y',)) == [2]
    assert numbers(3, ('z', 'x')) == [3, 1] and numbers(4, ('z',), 'b') == [1]
    assert numbers(5, ()) is None


def test_two_milliseconds_a_frame():
    """300 boxes, all with tails; the median of 20 frames, so that a busy machine does not fail it."""
    tracker, rng = FrameTracker(TrackerOptions('kalman')), np.random.default_rng(0)
    boxes = np.zeros((300, 9), np.float32)
    boxes[:, :2], boxes[:, 3:6] = rng.uniform(-50, 50, (300, 2)), 2.0
    labels, scores = rng.integers(0, 10, 300), rng.random(300)

    took_ms = []
    for step in range(20):
        moved = boxes + rng.normal(size=(300, 9)).astype(np.float32) * 0.01
        found = Boxes3D(moved, scores, labels, labels * 0)
        output = TaskOutput(Frame(str(step), step * 500_000_000, np.eye(4)), found)
        began = time.process_time()
        tracks = tracker(output).get('tracking')
        took_ms.append(1e3 * (time.process_time() - began))
    assert len(tracks.ids_M) == 300
    print(f'median {np.median(took_ms):.2f} ms')
    assert np.median(took_ms) < 10, 'five times what it is meant to take'
