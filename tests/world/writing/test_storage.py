"""Files appear whole or not at all."""

import pytest

from perception.core.files import write_bytes
from perception.core.nuscenes.storage import (
    SCENE_ROWS,
    SceneFolder,
    finished_scenes,
    load_json,
    publish,
    recover,
    to_json,
)
from perception.world.writing.options import WorldOptions, parse_image_size


def _write_scene(world, scene):
    with SceneFolder(world, scene) as folder:
        folder.write('samples/LIDAR_TOP/a.bin', b'points')
        folder.write(SCENE_ROWS, b'{}')


def test_a_failed_scene_leaves_nothing(tmp_path):
    with pytest.raises(OSError), SceneFolder(tmp_path, 'scene-0001') as folder:
        folder.write('samples/LIDAR_TOP/a.bin', b'points')
        raise OSError(28, 'No space left on device')
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == []


def test_a_scene_is_finished_only_when_its_files_are_in_place(tmp_path):
    _write_scene(tmp_path, 'scene-0001')
    assert finished_scenes(tmp_path) == set()
    publish(tmp_path, 'scene-0001')
    assert finished_scenes(tmp_path) == {'scene-0001'}
    assert (tmp_path / 'samples/LIDAR_TOP/a.bin').read_bytes() == b'points'


def test_recovery_publishes_the_complete_and_drops_the_rest(tmp_path):
    _write_scene(tmp_path, 'scene-0001')
    SceneFolder(tmp_path, 'scene-0002').__enter__().write('samples/LIDAR_TOP/b.bin', b'half')
    recover(tmp_path)
    assert finished_scenes(tmp_path) == {'scene-0001'}
    assert not (tmp_path / 'samples/LIDAR_TOP/b.bin').exists()


def test_recovery_goes_on_with_a_scene_whose_publishing_was_cut_short(tmp_path):
    _write_scene(tmp_path, 'scene-0001')
    moved = tmp_path / 'samples/LIDAR_TOP/a.bin'
    moved.parent.mkdir(parents=True)
    (tmp_path / '.unfinished/scene-0001/samples/LIDAR_TOP/a.bin').replace(moved)
    recover(tmp_path)
    assert finished_scenes(tmp_path) == {'scene-0001'} and moved.read_bytes() == b'points'


def test_json_that_is_none_is_named(tmp_path):
    write_bytes(tmp_path / 'a.json', b'{"half":')
    with pytest.raises(ValueError, match='a.json: expected JSON'):
        load_json(tmp_path / 'a.json')
    with pytest.raises(ValueError, match='not JSON compliant'):
        to_json({'velocity': float('nan')})


@pytest.mark.parametrize(('change', 'message'), [
    ({'seed': -1}, 'seed: found -1'), ({'key_frames': 41}, 'key-frames: found 41, expected 1 to 40'),
    ({'key_frames': 0}, 'key-frames: found 0'),
    ({'lidar_sweeps': 10}, 'lidar-sweeps: found 10, expected 0 to 9'),
    ({'image_size_hw': (8, 1600)}, 'image-size height: found 8'), ({'scenes': 1}, 'scenes: found 1')])
def test_bad_options_are_refused_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        WorldOptions(**{'scenes': 2} | change)


def test_image_size_is_rows_by_columns():
    assert parse_image_size('900x1600') == (900, 1600)
    with pytest.raises(ValueError, match='expected HEIGHTxWIDTH'):
        parse_image_size('900')
