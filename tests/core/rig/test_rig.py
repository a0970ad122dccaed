from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from perception.core.lens import Distortion
from perception.core.rig.file import DEFAULT_RIG_PATH, load_rig, write_rig
from perception.core.rig.sensors import FORWARD_T_OPTICAL, CameraSensor, RadarSensor, SensorRig
from perception.world.writing.options import WorldOptions


def test_intrinsics_keep_the_image_corners():
    camera = load_rig().cameras['CAM_FRONT']
    small, big = camera.intrinsics_for((450, 800)), camera.K_33
    corner = np.array([-0.5, -0.5, 1.0])
    np.testing.assert_allclose(np.linalg.inv(small) @ corner, np.linalg.inv(big) @ corner, atol=1e-12)
    far = np.linalg.inv(small) @ np.array([799.5, 449.5, 1.0])
    np.testing.assert_allclose(far, np.linalg.inv(big) @ np.array([1599.5, 899.5, 1.0]), atol=1e-12)


def changed(tmp_path: Path, change: Callable[[dict], object]) -> Path:
    """The rig file of nuScenes with a change."""
    content = json.loads(DEFAULT_RIG_PATH.read_text(encoding='utf-8'))
    change(content)
    path = tmp_path / 'rig.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    return path


def test_rig_file_errors_name_file_and_field(tmp_path):
    path = tmp_path / 'rig.json'
    path.write_text('{"cameras": {"CAM_FRONT": {"fx": 1, "fy": 1}}}')
    with pytest.raises(ValueError, match=r'rig\.json: cameras\.CAM_FRONT\.cx: it is missing, expected'):
        load_rig(path)
    path.write_text('no json')
    with pytest.raises(ValueError, match=r'rig\.json'):
        load_rig(path)
    with pytest.raises(FileNotFoundError, match='none.json'):
        load_rig(tmp_path / 'none.json')


@pytest.mark.parametrize(('kind', 'sensor', 'field', 'value'), [
    ('cameras', 'CAM_FRONT', 'cx', math.nan), ('cameras', 'CAM_FRONT', 'size_hw', [900, 2 ** 31]),
    ('cameras', 'CAM_FRONT', 'size_hw', [900.5, 1600]), ('cameras', 'CAM_FRONT', 'yaw_deg', math.inf),
    ('cameras', 'CAM_BACK', 'fx', -805.0), ('cameras', 'CAM_BACK', 'fy', 0),
    ('cameras', 'CAM_BACK', 'fx', True), ('cameras', 'CAM_BACK', 'fx', '805'),
    ('cameras', 'CAM_BACK', 'xyz_m', [1, 2]), ('cameras', 'CAM_BACK', 'xyz_m', [1, 2, math.nan]),
    ('cameras', 'CAM_BACK', 'size_hw', [-900, 1600]),
    ('cameras', 'CAM_BACK', 'roll_deg', None), ('cameras', 'CAM_BACK', 'pitch_deg', 1e6),
    ('cameras', 'CAM_BACK', 'distortion', {'model': 'plumb_bob', 'coefficients': [0] * 5}),
    ('cameras', 'CAM_BACK', 'yaw', 3.0), ('lidars', 'LIDAR_TOP', 'fx', 1.0),
    ('lidars', 'LIDAR_TOP', 'beams', 2 ** 31), ('lidars', 'LIDAR_TOP', 'max_range_m', math.nan),
    ('lidars', 'LIDAR_TOP', 'beams', 32.5), ('lidars', 'LIDAR_TOP', 'top_elevation_deg', -31),
    ('radars', 'RADAR_FRONT', 'xyz_m', [1e9, 0, 0]), ('lidars', 'LIDAR_TOP', 'azimuths', 10 ** 400),
    ('radars', 'RADAR_FRONT', 'far_range_m', -1), ('radars', 'RADAR_FRONT', 'near_half_angle_deg', 200)])
def test_a_sensor_that_cannot_be_is_refused(kind, sensor, field, value, tmp_path):
    path = changed(tmp_path, lambda content: content[kind][sensor].update({field: value}))
    with pytest.raises(ValueError, match=rf'rig\.json: {kind}\.{sensor}.*{field}.*expected'):
        load_rig(path)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda c: c.update(camera={}), "the file: unknown field 'camera', expected some of description"),
    (lambda c: c['lidars'].update(TWO=c['lidars']['LIDAR_TOP']), 'lidars: found LIDAR_TOP, TWO, expected'),
    (lambda c: c['radars'].update(CAM_BACK=c['radars']['RADAR_FRONT']), "found the name 'CAM_BACK' for"),
    (lambda c: c['cameras'].update({'../x': c['cameras']['CAM_BACK']}), "cameras: found '../x', expected"),
    (lambda c: c.update(cameras=[]), 'cameras: found list, expected an object'),
    (lambda c: c['cameras'].update(CAM_BACK=5), 'cameras.CAM_BACK: found 5, expected an object'),
    (lambda c: (c.clear(), c.update(cameras={})), 'found no sensor')])
def test_a_rig_that_cannot_be_is_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=rf'rig\.json: {message}'):
        load_rig(changed(tmp_path, change))


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / 'rig.json'
    record = json.dumps(json.loads(DEFAULT_RIG_PATH.read_text(encoding='utf-8'))['cameras']['CAM_BACK'])
    path.write_text(f'{{"cameras": {{"A": {record}, "A": {record}}}}}', encoding='utf-8')
    with pytest.raises(ValueError, match=r"rig\.json: found 'A' twice in one place"):
        load_rig(path)


def test_a_car_of_one_camera_has_no_lidar(tmp_path):
    def one_camera(content: dict) -> None:
        content.update(cameras={'nose': content['cameras']['CAM_FRONT']}, lidars={}, radars={})
        del content['radars']

    path = changed(tmp_path, one_camera)
    rig = load_rig(path)
    assert list(rig.cameras) == ['nose'] and not rig.lidars and not rig.radars
    with pytest.raises(ValueError, match='lidars: found none beside nose, expected one LiDAR'):
        _ = rig.lidar
    with pytest.raises(ValueError, match=r'rig\.json: found no LiDAR, expected one'):
        WorldOptions(2, rig=str(path))


def test_nuscenes_own_rig_keeps_its_numbers():
    """As before roll could be given, to the bit."""
    back = load_rig().cameras['CAM_BACK']
    yaw, pitch = np.deg2rad(180.0), np.deg2rad(1.0)
    axis = [np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)]
    np.testing.assert_array_equal(back.ego_T_cam[:3, 2], axis)
    assert back.K_33.tolist() == [[805, 0, 840], [0, 805, 480], [0, 0, 1]]


def test_roll_turns_about_the_axis_that_a_camera_looks_along(tmp_path):
    path = changed(tmp_path, lambda c: c['cameras']['CAM_FRONT'].update(pitch_deg=0, roll_deg=90))
    # vehicle y (left) to z (up): the right of the picture, at the vehicle's right before, shows the ground
    pose = load_rig(path).cameras['CAM_FRONT'].ego_T_cam
    np.testing.assert_allclose(pose[:3, :3], [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], atol=1e-12)


def test_a_written_rig_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    cameras = {}
    for i, angles in enumerate([*rng.uniform(-180, 180, (8, 3)), (10, 90, 20), (10, -90, 0)]):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler('ZYX', angles, degrees=True).as_matrix() @ FORWARD_T_OPTICAL
        pose[:3, 3] = rng.uniform(-3, 3, 3)
        K = np.array([[500.25, 0, 319.5], [0, 501, 240], [0, 0, 1]])
        lens = Distortion('kannala_brandt', (0.1, 0, 0.25, i)) if i % 2 else None
        cameras[f'C{i}'] = CameraSensor(f'C{i}', (480, 640), K, pose, lens)

    rig = load_rig()
    rig = SensorRig(cameras, rig.lidars, {'R': RadarSensor('R', pose, near_range_m=30.0)})
    write_rig(rig, tmp_path / 'own.json', 'own')
    found = load_rig(tmp_path / 'own.json')
    for name, camera in rig.cameras.items():
        np.testing.assert_allclose(found.cameras[name].ego_T_cam, camera.ego_T_cam, atol=1e-8)
        np.testing.assert_array_equal(found.cameras[name].K_33, camera.K_33)
        assert found.cameras[name].distortion == camera.distortion
    np.testing.assert_allclose(found.lidar.elevations_rad, rig.lidar.elevations_rad, atol=1e-10)
    assert found.radars['R'].near_range_m == 30 and found.radars['R'].far_range_m == 200


def test_a_rig_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / 'rig.json'
    path.write_text(DEFAULT_RIG_PATH.read_text(encoding='utf-8'), encoding='utf-8-sig')
    assert list(load_rig(path).cameras) == list(load_rig().cameras)
