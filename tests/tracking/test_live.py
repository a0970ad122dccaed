"""Tracks of a vehicle's outputs: the car moves and turns, drives begin and end, poses fail."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import Boxes3D, Frame, TaskOutput
from perception.core.geometry import invert, make_transform, rotation_z, transform_boxes
from perception.tracking import FrameTracker


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
