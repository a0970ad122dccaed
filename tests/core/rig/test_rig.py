from __future__ import annotations

import json
import math

import numpy as np
import pytest

from perception.core.rig.file import DEFAULT_RIG_PATH, load_rig


def test_intrinsics_keep_the_image_corners():
    camera = load_rig().cameras['CAM_FRONT']
    small, big = camera.intrinsics_for((450, 800)), camera.K_33
    corner = np.array([-0.5, -0.5, 1.0])
    np.testing.assert_allclose(np.linalg.inv(small) @ corner, np.linalg.inv(big) @ corner, atol=1e-12)
    far = np.linalg.inv(small) @ np.array([799.5, 449.5, 1.0])
    np.testing.assert_allclose(far, np.linalg.inv(big) @ np.array([1599.5, 899.5, 1.0]), atol=1e-12)


def test_rig_file_errors_name_file_and_field(tmp_path):
    path = tmp_path / 'rig.json'
    path.write_text('{"cameras": {"CAM_FRONT": {"fx": 1}}, "lidars": {}, "radars": {}}')
    with pytest.raises(ValueError, match=r'rig\.json.*cx'):
        load_rig(path)
    path.write_text('no json')
    with pytest.raises(ValueError, match=r'rig\.json'):
        load_rig(path)


@pytest.mark.parametrize(('kind', 'sensor', 'field', 'value'), [
    ('cameras', 'CAM_FRONT', 'cx', math.nan), ('cameras', 'CAM_FRONT', 'size_hw', [900, 2 ** 31]),
    ('cameras', 'CAM_FRONT', 'size_hw', [900.5, 1600]), ('cameras', 'CAM_FRONT', 'yaw_deg', math.inf),
    ('lidars', 'LIDAR_TOP', 'beams', 2 ** 31), ('lidars', 'LIDAR_TOP', 'max_range_m', math.nan),
    ('radars', 'RADAR_FRONT', 'xyz_m', [1e9, 0, 0]), ('lidars', 'LIDAR_TOP', 'azimuths', 10 ** 400)])
def test_a_sensor_that_cannot_be_is_refused(kind, sensor, field, value, tmp_path):
    content = json.loads(DEFAULT_RIG_PATH.read_text(encoding='utf-8'))
    content[kind][sensor][field] = value
    path = tmp_path / 'rig.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    with pytest.raises(ValueError, match=rf'rig\.json: not a rig file: .*{field}'):
        load_rig(path)


def test_a_rig_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / 'rig.json'
    path.write_text(DEFAULT_RIG_PATH.read_text(encoding='utf-8'), encoding='utf-8-sig')
    assert list(load_rig(path).cameras) == list(load_rig().cameras)
