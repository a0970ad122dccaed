"""Info records of real frames agree with the devkit's own loader to 1e-6."""
from __future__ import annotations

import numpy as np
import pytest

from perception.core.contracts import CENTRE, NUSCENES_CLASSES, SIZE, VELOCITY, YAW
from perception.core.protocols import CAMERAS, CATEGORY_TO_CLASS, DETECTION_CLASSES
from perception.datasets.reading.infos import SceneFrames, read_index, scene_path
from perception.datasets.reading.nuscenes import open_tables, scenes_of_splits
from perception.datasets.reading.records import FrameRecord

FIRST = '3e8750f331d7499e9b5123e9eb70f2e2'


@pytest.fixture(scope='session')
def nusc(real_frames):
    return open_tables(real_frames, 'v1.0-mini')


@pytest.fixture(scope='module')
def frames(real_infos) -> list[FrameRecord]:
    scenes = [SceneFrames(scene_path(real_infos, name)) for name in read_index(real_infos)['scenes']]
    return [frame for scene in scenes for frame in scene.frames()]


def test_every_sample_is_there(nusc, frames) -> None:
    assert {f.token for f in frames} == {s['token'] for s in nusc.sample}


def test_boxes_are_the_devkits(nusc, frames) -> None:
    """Centre, size, heading and velocity of all 4,582 boxes, through the devkit's own Box arithmetic."""
    from pyquaternion import Quaternion
    compared = 0
    for frame in frames:
        sample = nusc.get('sample', frame.token)
        pose = nusc.get('ego_pose', nusc.get('sample_data', sample['data']['LIDAR_TOP'])['ego_pose_token'])
        ours = frame.boxes.boxes_M9
        assert frame.boxes.tokens == tuple(sample['anns'])
        for row, token in zip(ours, sample['anns'], strict=True):
            box = nusc.get_box(token)
            box.velocity = np.array([*nusc.box_velocity(token)[:2], 0])
            box.translate(-np.array(pose['translation']))
            box.rotate(Quaternion(pose['rotation']).inverse)
            heading = box.rotation_matrix[:, 0]
            np.testing.assert_allclose(row[CENTRE], box.center, atol=1e-6)
            np.testing.assert_allclose(row[SIZE], box.wlh[[1, 0, 2]], atol=1e-6)
            np.testing.assert_allclose(
                [np.cos(row[YAW]), np.sin(row[YAW])], heading[:2] / np.linalg.norm(heading[:2]), atol=1e-6
            )
            np.testing.assert_allclose(row[VELOCITY], box.velocity[:2], atol=1e-6)
            compared += 1
    assert compared == 4582


def test_poses_and_calibration_are_the_devkits(nusc, frames) -> None:
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    def matrix(record: dict) -> np.ndarray:
        return transform_matrix(record['translation'], Quaternion(record['rotation']))

    for frame in frames[::5]:
        sample = nusc.get('sample', frame.token)
        lidar = nusc.get('sample_data', sample['data']['LIDAR_TOP'])
        global_T_ego = matrix(nusc.get('ego_pose', lidar['ego_pose_token']))
        np.testing.assert_allclose(frame.global_T_ego, global_T_ego, atol=1e-6)
        for name in CAMERAS:
            data = nusc.get('sample_data', sample['data'][name])
            calibration = nusc.get('calibrated_sensor', data['calibrated_sensor_token'])
            camera, own_pose = frame.cameras[name], matrix(nusc.get('ego_pose', data['ego_pose_token']))
            np.testing.assert_allclose(camera.K_33, calibration['camera_intrinsic'], atol=1e-6)
            np.testing.assert_allclose(camera.own_ego_T_sensor, matrix(calibration), atol=1e-6)
            np.testing.assert_allclose(camera.global_T_own_ego, own_pose, atol=1e-6)
            np.testing.assert_allclose(
                global_T_ego @ camera.ego_T_sensor, own_pose @ matrix(calibration), atol=1e-6)
            assert camera.time_lag_s == pytest.approx(
                (lidar['timestamp'] - data['timestamp']) / 1e6, abs=1e-9
            )


def test_sweeps_lead_to_the_key_frames_ego_as_in_the_devkit(nusc, frames) -> None:
    """The devkit's chain (sensor, own ego, global, ego of the key frame) for every listed LiDAR and radar
    sweep."""
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion
    compared = 0
    for frame in frames[::4]:
        sample = nusc.get('sample', frame.token)
        pose = nusc.get('ego_pose', nusc.get('sample_data', sample['data']['LIDAR_TOP'])['ego_pose_token'])
        ego_T_global = transform_matrix(pose['translation'], Quaternion(pose['rotation']), inverse=True)
        for channel, sweeps in {'LIDAR_TOP': frame.lidar, **frame.radars}.items():
            token = sample['data'][channel]
            for sweep in sweeps:
                data = nusc.get('sample_data', token)
                own, mount = (
                    nusc.get(*pair)
                    for pair in (
                        ('ego_pose', data['ego_pose_token']),
                        ('calibrated_sensor', data['calibrated_sensor_token']))
                )
                chain = ego_T_global @ transform_matrix(own['translation'], Quaternion(own['rotation'])) \
                    @ transform_matrix(mount['translation'], Quaternion(mount['rotation']))
                np.testing.assert_allclose(sweep.ego_T_sensor, chain, atol=1e-6)
                assert sweep.file == data['filename'] and sweep.token == token
                token, compared = data['prev'], compared + 1
    assert compared > 100


def test_attributes_visibility_and_points_are_the_tables(nusc, frames) -> None:
    frame = next(f for f in frames if f.token == FIRST)
    for i, token in enumerate(frame.boxes.tokens):
        row = nusc.get('sample_annotation', token)
        names = [nusc.get('attribute', a)['name'] for a in row['attribute_tokens']]
        assert frame.boxes.attributes[i] == (names[0] if names else '')
        assert frame.boxes.num_lidar_points_M[i] == row['num_lidar_pts']
        assert frame.boxes.num_radar_points_M[i] == row['num_radar_pts']
        assert frame.boxes.instances[i] == row['instance_token']
    assert any(frame.boxes.attributes)


def test_sweeps_go_back_in_time_and_missing_files_are_marked(real_frames, frames) -> None:
    missing = 0
    for frame in frames:
        lags = [sweep.time_lag_s for sweep in frame.lidar]
        assert lags[0] == 0 and all(a < b for a, b in zip(lags, lags[1:], strict=False)) and len(lags) <= 11
        radars = (sweep for sweeps in frame.radars.values() for sweep in sweeps)
        for record in (*frame.cameras.values(), *frame.lidar, *radars):
            assert record.missing == (not (real_frames / record.file).exists())
            missing += record.missing
    assert missing > 400


def test_splits(nusc) -> None:
    assert scenes_of_splits(nusc) == {'mini_train': ['scene-0061'], 'mini_val': ['scene-0103', 'scene-0916']}


def test_the_category_mapping_is_the_devkits(nusc) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name
    names = {category['name'] for category in nusc.category} | set(CATEGORY_TO_CLASS)
    assert len(names) > 20
    for name in names:
        theirs = category_to_detection_name(name)
        assert NUSCENES_CLASSES.label(name) == (DETECTION_CLASSES.index(theirs) if theirs else -1)


def test_a_wrong_version_lists_those_there(real_frames) -> None:
    with pytest.raises(FileNotFoundError, match='versions below .*: v1.0-mini'):
        open_tables(real_frames, 'v1.0-trainval')
