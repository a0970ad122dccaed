"""Poses over time, trees of frames, points as of one moment, and cameras."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from perception.core.geometry import make_transform, rotation_z
from perception.recordings.messages.camera_info import camera_model
from perception.recordings.messages.poses import PoseTrack, TransformTree, compensated, odometry_pose
from perception.recordings.messages.values import BadMessage

S = 10 ** 9


def moved(x: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    return make_transform(rotation_z(yaw)[:3, :3], np.array([x, 0.0, 0.0]))


def entry(parent: str, child: str, pose: np.ndarray, time_ns: int = 0) -> SimpleNamespace:
    yaw = np.arctan2(pose[1, 0], pose[0, 0])
    vector = SimpleNamespace(**dict(zip('xyz', pose[:3, 3], strict=True)))
    turn = SimpleNamespace(x=0.0, y=0.0, z=np.sin(yaw / 2), w=np.cos(yaw / 2))
    stamp = SimpleNamespace(sec=time_ns // S, nanosec=time_ns % S)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id=parent), child_frame_id=child,
        transform=SimpleNamespace(translation=vector, rotation=turn))


def message(*entries: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(transforms=list(entries))


def test_a_track_gives_poses_between_and_none_beyond_or_in_gaps():
    track = PoseTrack(longest_gap_s=1.0)
    for time_ns, pose in ((S, moved(2, 3.0)), (0, moved(0, -3.0)), (5 * S, moved(9))):
        track.add(time_ns, pose)
    half = track.at(S // 2)
    # the shortest turn from -3 to +3 goes through pi
    assert half[0, 3] == pytest.approx(1.0) and half[0, 0] == pytest.approx(-1.0)
    np.testing.assert_allclose(track.at(S), moved(2, 3.0))
    assert track.at(-1) is None and track.at(3 * S) is None and track.at(6 * S) is None
    track.forget_before(4 * S)
    assert track.span_ns == (S, 5 * S)


def test_a_tree_joins_fixed_and_moving_frames():
    tree = TransformTree()
    tree.add(message(entry('/base', 'lidar', moved(1)), entry('base', 'camera', moved(0, np.pi / 2))), True)
    for k in range(2):
        tree.add(message(entry('map', 'base', moved(10.0 * k), k * S)), False)
    np.testing.assert_allclose(tree.at('map', 'lidar', S // 2), moved(6), atol=1e-9)
    np.testing.assert_allclose(tree.at('camera', 'lidar', None)[:3, 3], [0, -1, 0], atol=1e-9)
    assert tree.at('map', 'lidar', None) is None and tree.at('map', 'lidar', 2 * S) is None
    assert tree.at('map', 'gps', 0) is None and not tree.connects('map', 'gps')
    assert tree.connects('camera', 'map') and tree.frames == ['base', 'camera', 'lidar', 'map']


def test_a_circle_or_a_turn_that_is_none_is_refused():
    tree = TransformTree()
    tree.add(message(entry('a', 'b', moved())), True)
    with pytest.raises(BadMessage, match='circle'):
        tree.add(message(entry('b', 'a', moved())), True)
    bad = entry('a', 'c', moved())
    bad.transform.rotation.w = 0.0
    with pytest.raises(BadMessage, match='unit quaternion'):
        TransformTree().add(message(bad), True)
    bad.transform.translation.x = np.nan
    with pytest.raises(BadMessage, match='finite'):
        TransformTree().add(message(bad), True)


def test_odometry_says_frames_time_and_pose():
    turn = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
    pose = SimpleNamespace(position=SimpleNamespace(x=1.0, y=2.0, z=3.0), orientation=turn)
    odometry = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=4), frame_id='/odom'),
        child_frame_id='base', pose=SimpleNamespace(pose=pose))
    frame, child, time_ns, odom_T_base = odometry_pose(odometry)
    assert (frame, child, time_ns) == ('odom', 'base', 3 * S + 4)
    assert odom_T_base[:3, 3].tolist() == [1, 2, 3]


def test_points_of_a_moving_car_stand_still_when_compensated():
    """A pole seen from a car that drives and turns: all its points fall together."""
    def world_T_car(time_ns: np.ndarray) -> np.ndarray:
        return moved(10.0 * time_ns / S, 0.8 * time_ns / S)

    times = np.linspace(-S // 10, 0, 50).astype(np.int64)
    pole = np.array([12.0, 3.0, 1.0, 1.0])
    seen = np.stack([(np.linalg.inv(world_T_car(t)) @ pole)[:3] for t in times])
    assert np.ptp(seen, 0).max() > 0.5

    knots = np.linspace(-S // 10, 0, 11).astype(np.int64)
    at_T_then = [(int(t), np.linalg.inv(world_T_car(0)) @ world_T_car(t)) for t in knots]
    result = compensated(seen, times, at_T_then)
    np.testing.assert_allclose(result, np.tile(pole[:3], (50, 1)), atol=2e-4)


# -------------------------------------------------------------------- cameras

def info(**changes) -> SimpleNamespace:
    roi = SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0)
    return SimpleNamespace(**dict(
        header=SimpleNamespace(frame_id='/camera'), height=600, width=800, distortion_model='plumb_bob',
        d=np.array([-0.3, 0.1, 0.001, 0.002, 0.0]), k=np.array([500.0, 0, 399.5, 0, 510, 299.5, 0, 0, 1]),
        p=np.array([450.0, 0, 390, 0, 0, 455, 290, 0, 0, 0, 1, 0]), binning_x=0, binning_y=0,
        roi=roi) | changes)


def test_a_camera_has_its_intrinsics_and_lens():
    camera = camera_model(info())
    assert camera.size_hw == (600, 800) and camera.frame == 'camera'
    assert camera.K_33.tolist() == [[500, 0, 399.5], [0, 510, 299.5], [0, 0, 1]]
    assert camera.lens.model == 'brown_conrady' and camera.lens.coefficients == (-0.3, 0.1, 0.001, 0.002, 0)
    fisheye = camera_model(info(distortion_model='equidistant', d=np.zeros(4)))
    assert fisheye.lens.model == 'kannala_brandt'
    eight = camera_model(info(distortion_model='rational_polynomial', d=np.array([*[0.01] * 8, 0, 0, 0, 0])))
    assert len(eight.lens.coefficients) == 8
    assert camera_model(info(d=np.zeros(5))).lens is None and camera_model(info(d=np.zeros(0))).lens is None

    rectified = camera_model(info(), rectified=True)
    assert rectified.lens is None and rectified.K_33[0].tolist() == [450, 0, 390]


def test_regions_and_binning_change_the_intrinsics():
    roi = SimpleNamespace(x_offset=100, y_offset=50, height=400, width=600)
    camera = camera_model(info(roi=roi, binning_x=2, binning_y=2))
    assert camera.size_hw == (200, 300)
    # pixel 299.5 of the region is the border of pixels 149 and 150 of the binned one
    np.testing.assert_allclose(camera.K_33, [[250, 0, 149.5], [0, 255, 124.5], [0, 0, 1]])


@pytest.mark.parametrize('changes, words', [
    ({'k': np.zeros(9)}, 'CameraInfo.k'), ({'k': np.full(9, np.nan)}, 'finite'),
    ({'distortion_model': 'other'}, "distortion_model: found 'other'"),
    ({'distortion_model': 'rational_polynomial', 'd': np.full(14, 0.1)}, 'zeros behind the first 8')])
def test_a_calibration_that_is_none_is_refused(changes, words):
    with pytest.raises(BadMessage, match=words):
        camera_model(info(**changes))
