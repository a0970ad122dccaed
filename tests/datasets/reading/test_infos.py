"""Info files: what is written comes back, what is damaged is named, nothing half-written stays."""
from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from perception.core.geometry import make_transform, rotation_z
from perception.datasets.maps.ragged import Ragged
from perception.datasets.reading.infos import (
    InfosError,
    SceneFrames,
    read_index,
    read_scene_header,
    scene_path,
    write_index,
    write_scene,
)
from perception.datasets.reading.records import (
    FrameRecord,
    pack_numbers,
    pack_transform,
    unpack_numbers,
    unpack_transform,
)
from tests.datasets.reading.frame_records import whole_frame

HEADER = {'scene': 'scene-1', 'tokens': ['a', 'b']}
INDEX = {
    'version': 'v', 'lidar_sweeps': 1, 'radar_sweeps': 0, 'splits': {'train': ['a']},
    'scenes': {'scene-1': {'location': 'here', 'tokens': ['a', 'b'], 'has_map': False, 'annotated': True}},
    'class_counts': {'a': {'car': 2}}, 'left_out': {'no map': 2}}
FRAMES = [whole_frame('a'), FrameRecord(token='b', timestamp_us=7, global_T_ego=np.eye(4))]


def test_scene_round_trip(tmp_path) -> None:
    write_scene(tmp_path, HEADER, FRAMES)
    frames = SceneFrames(scene_path(tmp_path, 'scene-1'))
    assert len(frames) == 2
    assert frames.frame('b').to_json() == FRAMES[1].to_json()
    assert [frame.to_json() for frame in frames.frames()] == [frame.to_json() for frame in FRAMES]
    assert read_scene_header(scene_path(tmp_path, 'scene-1')) == frames.header
    assert [p.name for p in tmp_path.iterdir()] == ['scene-1.jsonl.gz']


def test_the_same_content_gives_the_same_bytes(tmp_path) -> None:
    write_scene(tmp_path, HEADER, FRAMES)
    first = scene_path(tmp_path, 'scene-1').read_bytes()
    write_scene(tmp_path, HEADER, FRAMES)
    assert scene_path(tmp_path, 'scene-1').read_bytes() == first


@pytest.mark.parametrize(
    'content',
    [
        b'', b'no gzip', gzip.compress(b'', mtime=0), gzip.compress(b'{"schema": "other"}\n', mtime=0),
        gzip.compress(b'[1, 2]\n', mtime=0), gzip.compress(b'{"schema"', mtime=0),
        pickle.dumps({'infos': []}), gzip.compress(b'x' * 1000, mtime=0)[:-20]],
)
def test_damaged_scenes_are_named(tmp_path, content) -> None:
    path = tmp_path / 'scene-1.jsonl.gz'
    path.write_bytes(content)
    with pytest.raises(InfosError, match='scene-1.jsonl.gz'):
        SceneFrames(path)
    with pytest.raises(InfosError, match='scene-1.jsonl.gz'):
        read_scene_header(path)


def test_a_scene_cut_short_is_named(tmp_path) -> None:
    write_scene(tmp_path, HEADER, FRAMES[:1])
    with pytest.raises(InfosError, match='expected 2 frames, found 1'):
        SceneFrames(scene_path(tmp_path, 'scene-1'))


def test_a_frame_without_a_field_is_named(tmp_path) -> None:
    write_scene(tmp_path, HEADER, FRAMES)
    path = scene_path(tmp_path, 'scene-1')
    text = gzip.decompress(path.read_bytes()).decode().replace('"file":"back.jpg",', '')
    path.write_bytes(gzip.compress(text.encode()))

    message = r"scene-1.jsonl.gz: frame 'a': cameras.CAM_BACK: found no field 'file', expected file, missing"
    with pytest.raises(InfosError, match=message):
        SceneFrames(path).frame('a')


def test_another_schema_version_says_what_to_do(tmp_path) -> None:
    path = tmp_path / 'index.json'
    path.write_text(json.dumps({'schema': 'perception.infos', 'schema_version': 99}))
    with pytest.raises(InfosError, match='schema_version: expected 1, found 99.*create_data'):
        read_index(tmp_path)


def test_no_index_says_what_to_do(tmp_path) -> None:
    with pytest.raises(InfosError, match='create_data.py nuscenes'):
        read_index(tmp_path)


def test_index_round_trip(tmp_path) -> None:
    write_index(tmp_path, INDEX)
    assert {name: value for name, value in read_index(tmp_path).items() if name in INDEX} == INDEX


@pytest.mark.parametrize(('change', 'words'), [
    ({'splits': {'train': ['a', 'a']}}, 'splits.train: a sample token stands in it twice'),
    ({'splits': {'train': ['c']}}, "splits.train: 'c' is a frame of no scene"),
    ({'splits': {'train': 'a'}}, 'splits.train: expected a list'),
    ({'scenes': {'../x': INDEX['scenes']['scene-1']}}, "scenes: found '../x', expected a name"),
    ({'scenes': {'s': []}}, 'scenes.s: found list, expected an object'),
    ({'scenes': {'s': {'location': ''}}}, 'scenes.s.tokens: is absent'),
    ({'lidar_sweeps': True}, 'lidar_sweeps: found True, expected int'),
    ({'class_counts': {'a': {'car': -1}}}, 'class_counts')])
def test_a_damaged_index_names_the_field(tmp_path, change: dict, words: str) -> None:
    write_index(tmp_path, INDEX | change)
    with pytest.raises(InfosError, match=f'index.json: {words}'):
        read_index(tmp_path)


def damaged(content: dict, place: str, value) -> None:
    *path, last = [int(part) if part.isdigit() else part for part in place.split('.')]
    for part in path:
        content = content[part]
    content[last] = value


@pytest.mark.parametrize(('place', 'value', 'words'), [
    ('global_T_ego.3', None, 'global_T_ego: found nan, expected a number from -1e[+]08'),
    ('cameras.CAM_BACK.ego_T_sensor.3', 1e300, 'cameras.CAM_BACK.ego_T_sensor: found 1e[+]300'),
    ('cameras.CAM_BACK.ego_T_sensor.0', 2.0, 'CAM_BACK.ego_T_sensor: found 2, expected a number from -1.01'),
    ('lidar.1.ego_T_sensor.0', 0.0, r'lidar\[1\].ego_T_sensor: found a matrix that is .* off'),
    ('cameras.CAM_BACK.K.0.0', 0, 'cameras.CAM_BACK.K, focal length: found 0'),
    ('cameras.CAM_BACK.K.2.2', 0, 'cameras.CAM_BACK.K: expected rows'),
    ('cameras.CAM_BACK.width_px', 1e9, 'CAM_BACK.width_px: found 1000000000.0, expected pixels'),
    ('cameras.CAM_BACK.file', '../../etc/passwd', "CAM_BACK.file: found '../../etc/passwd', expected a path"),
    ('occupancy', '/etc/passwd', 'occupancy: found'),
    ('lidarseg', 7, 'lidarseg: found 7'),
    ('token', '..', 'token: found'),
    ('radars.RADAR_FRONT.0.time_lag_s', 1e38, r'radars.RADAR_FRONT\[0\].time_lag_s: found 1e[+]38'),
    ('lidar.0.timestamp_us', 0.5, r'lidar\[0\].timestamp_us: found 0.5, expected whole'),
    ('lidar.0.missing', 'no', r'lidar\[0\]: found missing'),
    ('boxes.boxes.0.0', 1e30, r'boxes\[0\].centre: found 1e[+]30'),
    ('boxes.boxes.1.4', 0, r'boxes\[1\].size: found 0'),
    ('boxes.boxes.1.4', -2, r'boxes\[1\].size: found -2'),
    ('boxes.boxes.0.6', None, r'boxes\[0\].yaw: found nan'),
    ('boxes.boxes.0.7', 1e9, r'boxes\[0\].velocity: found 1e[+]09'),
    ('boxes.visibility.0', 9, r'boxes\[0\].visibility: found 9'),
    ('boxes.categories.0', 3, 'boxes.categories: expected text'),
    ('cameras', 3, "int"), ('boxes.boxes.0', [], 'reshape|sequence|shape'), ('global_T_ego', {}, 'numbers')])
def test_a_damaged_frame_names_file_frame_and_field(tmp_path, place: str, value, words: str) -> None:
    write_scene(tmp_path, HEADER, FRAMES)
    path = scene_path(tmp_path, 'scene-1')
    header, first, second = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    damaged(first, place, value)
    path.write_bytes(gzip.compress('\n'.join(map(json.dumps, (header, first, second))).encode()))

    frames = SceneFrames(path)
    with pytest.raises(InfosError, match=f"scene-1.jsonl.gz: frame '.*': .*{words}"):
        frames.frame('a')
    assert frames.frame('b').token == 'b'


def test_a_frame_that_could_not_be_read_is_not_written(tmp_path) -> None:
    broken = replace(FRAMES[1], global_T_ego=np.full((4, 4), np.nan))
    with pytest.raises(InfosError, match="scene-1.jsonl.gz: frame 'b': global_T_ego: found nan"):
        write_scene(tmp_path, HEADER, [FRAMES[0], broken])
    with pytest.raises(ValueError, match="scene: found '../up', expected a name"):
        write_scene(tmp_path, {**HEADER, 'scene': '../up'}, FRAMES)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_never_written(tmp_path) -> None:
    with pytest.raises(ValueError, match='JSON compliant'):
        write_index(tmp_path, {'value': float('nan')})
    assert list(tmp_path.iterdir()) == []


def test_numbers_with_nan_round_trip() -> None:
    values = np.array([[1.5, np.nan], [0.1, -3]])
    packed = pack_numbers(values)
    assert packed == [[1.5, None], [0.1, -3.0]]
    np.testing.assert_array_equal(unpack_numbers(json.loads(json.dumps(packed)), 2), values)
    assert unpack_numbers(pack_numbers(np.zeros((0, 9))), 9).shape == (0, 9)


def test_transforms_round_trip_exactly() -> None:
    transform = make_transform(rotation_z(0.3)[:3, :3], np.array([1e3, -2.123456789012345, 0.1]))
    np.testing.assert_array_equal(
        unpack_transform(json.loads(json.dumps(pack_transform(transform)))), transform
    )
    with pytest.raises(InfosError, match='12 numbers, found 16'):
        unpack_transform([0.0] * 16)


def test_ragged_round_trip_and_nearness() -> None:
    lines = [
        np.array([[0.0, 0], [10, 0]]), np.zeros((0, 2)), np.array([[100.0, 100], [101, 100], [101, 101]])]
    ragged = Ragged.of(lines, [3, 1, 2])
    again = Ragged.from_arrays(ragged.arrays('x'), 'x')
    for i, line in enumerate(lines):
        np.testing.assert_array_equal(again[i], line)
    assert again.near(np.array([5.0, 3]), 3.0).tolist() == [0]
    assert again.near(np.array([5.0, 3]), 2.9).tolist() == []
    assert again.near(np.array([50.0, 50]), 1e3).tolist() == [0, 2]
    assert len(Ragged.of([], [])) == 0


def test_ragged_refuses_arrays_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match='starts'):
        Ragged(np.zeros((3, 2)), np.array([0, 2, 9]), np.zeros(2, int), np.zeros(2, int))
    with pytest.raises(ValueError, match='R = 2'):
        Ragged(np.zeros((3, 2)), np.array([0, 3]), np.zeros(2, int), np.zeros(2, int))
