"""Rigs of ROS: camera_info files, URDF and tf trees, and what of them is refused."""
from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from perception.cli import run_verb
from perception.core.lens import Distortion
from perception.core.rig.file import load_rig
from perception.core.rig.frames import load_frames
from perception.core.rig.ros import read_camera_info
from perception.core.rig.xml import parse_xml

INFO = """
image_width: 1936
image_height: 1216
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [1984.5, 0, 970.25, 0, 1983.5, 612.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.2, 0.1, 0.001, -0.002, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [0, -1, 0, 1, 0, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [1900, 0, 960, 0, 0, 1900, 600, 0, 0, 0, 1, 0]}
"""
URDF = """<?xml version="1.0"?>
<robot name="car">
  <link name="base_link"/><link name="mast"/><link name="cam"/><link name="cam_optical"/>
  <link name="velodyne"/>
  <joint name="up" type="fixed"><parent link="base_link"/><child link="mast"/><origin xyz="1 0 1.5"/></joint>
  <joint name="left" type="fixed">
    <parent link="mast"/><child link="cam"/><origin xyz="0.5 0.2 0" rpy="0 0.1 1.5707963267948966"/>
  </joint>
  <joint name="optics" type="fixed">
    <parent link="cam"/><child link="cam_optical"/><origin rpy="-1.5707963267948966 0 -1.5707963267948966"/>
  </joint>
  <joint name="roof" type="fixed"><parent link="mast"/><child link="velodyne"/></joint>
</robot>
"""


@pytest.fixture()
def car(tmp_path: Path) -> Path:
    (tmp_path / 'car.urdf').write_text(URDF)
    (tmp_path / 'left.yaml').write_text(INFO)
    return tmp_path


def words(car: Path, *more: str, camera: str = 'cam_optical', frames: str = 'car.urdf') -> list[str]:
    return [
        '--frames', str(car / frames), '--base-xyz', '0', '0', '0.3', '--out', str(car / 'rig.json'),
        '--camera', f'CAM_LEFT={car / "left.yaml"}:{camera}', *more]


def test_a_camera_that_looks_left_and_down_comes_to_its_place(car, capsys):
    lidar = ['--lidar', 'TOP=velodyne', '--beams', '16', '--elevations', '-15', '15']
    assert run_verb('import-rig', words(car, *lidar)) == 0
    rig = load_rig(car / 'rig.json')
    camera = rig.cameras['CAM_LEFT']
    np.testing.assert_allclose(camera.ego_T_cam[:3, 3], [1.5, 0.2, 1.8], atol=1e-8)
    # its sight: to the left, 0.1 rad down; its right: ahead
    np.testing.assert_allclose(
        camera.ego_T_cam[:3, 2], [0, math.cos(0.1), -math.sin(0.1)], atol=1e-8)
    np.testing.assert_allclose(camera.ego_T_cam[:3, 0], [1, 0, 0], atol=1e-8)
    assert camera.size_hw == (1216, 1936)
    assert camera.K_33.tolist() == [[1984.5, 0, 970.25], [0, 1983.5, 612.5], [0, 0, 1]]
    assert camera.distortion == Distortion('brown_conrady', (-0.2, 0.1, 0.001, -0.002, 0))
    assert rig.lidar.name == 'TOP' and len(rig.lidar.elevations_rad) == 16
    np.testing.assert_allclose(rig.lidar.ego_T_lidar[:3, 3], [1, 0, 1.8], atol=1e-8)
    record = json.loads((car / 'rig.json').read_text())['cameras']['CAM_LEFT']
    assert record['yaw_deg'] == 90 and record['pitch_deg'] == pytest.approx(math.degrees(0.1))


def test_a_bodys_frame_is_taken_when_it_is_said_and_refused_otherwise(car, capsys):
    assert run_verb('import-rig', words(car)) == 0
    optical = load_rig(car / 'rig.json').cameras['CAM_LEFT']
    (car / 'rig.json').unlink()
    assert run_verb('import-rig', words(car, camera='cam')) == 2
    assert "car.urdf: frame 'cam': its z points up, so it is a body" in capsys.readouterr().err
    assert not (car / 'rig.json').exists()

    assert run_verb('import-rig', words(car, '--body-frames', camera='cam')) == 0
    np.testing.assert_allclose(
        load_rig(car / 'rig.json').cameras['CAM_LEFT'].ego_T_cam, optical.ego_T_cam, atol=1e-8)
    assert run_verb('import-rig', words(car, '--body-frames')) == 2
    assert "'cam_optical': its y points down, so it is an optical frame" in capsys.readouterr().err


def test_rectified_images_have_no_lens_and_turned_axes(car):
    assert run_verb('import-rig', words(car, '--rectified')) == 0
    camera = load_rig(car / 'rig.json').cameras['CAM_LEFT']
    assert camera.distortion is None and camera.K_33[0].tolist() == [1900, 0, 960]
    # the rectified image's x is the camera's -y (up), seen from behind the camera: up in ego
    np.testing.assert_allclose(camera.ego_T_cam[:3, 0], [0, math.sin(0.1), math.cos(0.1)], atol=1e-8)


def transform(parent: str, child: str, **changes: object) -> dict:
    return {
        'frame_id': parent, 'child_frame_id': child, 'translation': [1, 2, 3], 'rotation': [0, 0, 0, 1],
        **changes}


@pytest.mark.parametrize('shape', ['list', 'yaml', 'message'])
def test_a_tf_tree_gives_poses(tmp_path, shape):
    half = math.sqrt(0.5)
    content = [transform('/map', 'base_link'), transform('base_link', 'lidar', rotation=[0, 0, half, half])]
    if shape == 'message':
        content = {'transforms': [
            {'header': {'frame_id': t['frame_id']}, 'child_frame_id': t['child_frame_id'],
             'transform': {'translation': dict(zip('xyz', t['translation'], strict=True)),
                           'rotation': dict(zip('xyzw', t['rotation'], strict=True))}} for t in content]}
    path = tmp_path / ('tf.yaml' if shape == 'yaml' else 'tf.json')
    path.write_text(json.dumps(content))  # JSON is YAML, too
    tree = load_frames(path)
    pose = tree.pose('base_link', 'lidar')
    np.testing.assert_allclose(pose @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    np.testing.assert_allclose(tree.pose('lidar', 'map') @ tree.pose('map', 'lidar'), np.eye(4), atol=1e-12)


@pytest.mark.parametrize(('content', 'message'), [
    ([transform('a', 'b'), transform('b', 'a')], 'in a circle: b -> a -> b'),
    ([transform('a', 'b'), transform('c', 'b')], "frame 'b' hangs on 'a' and on 'c'"),
    ([transform('a', 'b'), transform('c', 'd')], r'2 frames that hang on nothing \(a, c\), exp'),
    ([transform('a', 'b', rotation=[0, 0, 0, 2])], r'transform 0 \(a to b\)\.rotation: found .* of length 1'),
    ([transform('a', 'b', translation=[0, math.nan, 0])], r'transform 0 \(a to b\)\.translation: .*finite'),
    ([transform('a', None)], r'transform 0\.child_frame_id: found None'),
    ([], 'found 0 frames'), ({}, 'found no list of transforms'), ([3], 'transform 0: found 3')])
def test_a_tree_that_is_none_is_refused(content, message, tmp_path):
    path = tmp_path / 'tf.json'
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf'tf\.json: .*{message}'):
        load_frames(path)


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('<parent link="mast"/><child link="cam"/>', '<parent link="roof"/><child link="cam"/>',
     r"joint 'left': found no <link name=\"roof\">"),
    ('xyz="1 0 1.5"', 'xyz="1 0"', r"joint 'up'\.xyz: found '1 0', expected three finite numbers"),
    ('rpy="0 0.1 ', 'rpy="0 nan ', r"joint 'left'\.rpy"),
    ('<link name="velodyne"/>', '<link name="velodyne"/><link name="spare"/>',
     'links spare hang on no joint'),
    ('<child link="mast"/>', '', r"joint 'up': expected <parent link=...> and <child"),
    ('<parent link="base_link"/>', '<parent link="cam"/>',
     'frames hang on each other in a circle: mast -> cam -> mast'),
    ('</robot>', '', 'cannot be read as XML'), ('robot', 'sdf', 'found <sdf>, expected a URDF')])
def test_a_urdf_with_a_gap_is_refused(old, new, message, car):
    (car / 'car.urdf').write_text(URDF.replace(old, new))
    with pytest.raises(ValueError, match=rf'car\.urdf: {message}'):
        load_frames(car / 'car.urdf')


def test_an_unknown_frame_is_named_with_the_nearest(car):
    with pytest.raises(ValueError, match="no frame 'cam_optic', .* base_link.*did you mean 'cam_optical'"):
        load_frames(car / 'car.urdf').pose('base_link', 'cam_optic')


@pytest.mark.parametrize('head', [
    '<!DOCTYPE robot [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>',
    '<!DOCTYPE robot [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE robot SYSTEM "http://localhost/x.dtd">'])
def test_xml_that_could_unfold_or_call_is_refused(head):
    with pytest.raises(ValueError, match=r'x\.urdf: found a document type or an entity'):
        parse_xml('x.urdf', f'<?xml version="1.0"?>{head}<robot name="&a;"/>'.encode())
    with pytest.raises(ValueError, match='over 200 within each other'):
        parse_xml('x.urdf', b'<a>' * 300 + b'</a>' * 300)


@pytest.mark.parametrize(('old', 'new', 'message'), [
    ('image_width: 1936', 'image_width: -1', 'image_width: found -1'),
    ('image_width: 1936', '', 'image_width: found None'),
    ('1984.5', '0', r'camera_matrix: .*0 says: not calibrated'),
    ('1984.5', '.nan', 'camera_matrix: .*finite numbers'),
    ('[1984.5, 0, 970.25,', '[1984.5, 970.25,', 'camera_matrix: .*finite numbers'),
    ('plumb_bob', 'thin_prism', "distortion_model: found 'thin_prism', expected one of plumb_bob"),
    ('plumb_bob', 'equidistant', 'distortion_coefficients: .*4 finite coefficients'),
    ('camera_name: front', 'a: &x [1]\nb: *x', 'found a YAML reference'),
    ('camera_name: front', 'a: !!python/object:os.system {}', 'cannot be read as YAML')])
def test_a_camera_info_that_cannot_be_is_refused(old, new, message, tmp_path):
    path = tmp_path / 'info.yaml'
    path.write_text(INFO.replace(old, new))
    with pytest.raises(ValueError, match=rf'info\.yaml: {message}'):
        read_camera_info(path)


def test_a_pinholes_zeros_are_no_lens(tmp_path):
    path = tmp_path / 'info.yaml'
    path.write_text(INFO.replace('[-0.2, 0.1, 0.001, -0.002, 0]', '[0, 0, 0, 0, 0]'))
    assert read_camera_info(path).distortion is None
