"""Writing infos: resumable, parallel, in shards, with a report of what is absent."""
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from perception.datasets.create import CreateOptions, create_infos, describe
from perception.datasets.reading.infos import read_index, read_scene_header, scene_path
from tests.command import call

VERSION = 'v1.0-mini'


@pytest.fixture()
def copied_root(real_frames, tmp_path) -> Path:
    """The tables and base maps alone, in a root one may change."""
    shutil.copytree(real_frames / VERSION, tmp_path / 'root' / VERSION)
    for file in (tmp_path / 'root' / VERSION).iterdir():
        file.chmod(0o644)
    (tmp_path / 'root' / VERSION).chmod(0o755)
    (tmp_path / 'root' / 'maps').symlink_to(real_frames / 'maps')
    return tmp_path / 'root'


def make(root: Path, out: Path, **options):
    return create_infos(CreateOptions(root, VERSION, out, **options), progress=False)


def test_finished_scenes_are_not_made_again(real_frames, tmp_path) -> None:
    first = make(real_frames, tmp_path)
    assert len(first.made) == 3 and not first.finished_before and not first.unfinished
    stamps = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob('*.gz')}
    second = make(real_frames, tmp_path)
    assert not second.made and len(second.finished_before) == 3
    assert stamps == {p.name: p.stat().st_mtime_ns for p in tmp_path.glob('*.gz')}
    assert second.index == first.index
    assert len(make(real_frames, tmp_path, overwrite=True).made) == 3


def test_a_scene_lost_half_way_is_made_again(real_frames, tmp_path) -> None:
    make(real_frames, tmp_path)
    path = scene_path(tmp_path, 'scene-0103')
    path.write_bytes(path.read_bytes()[:40])
    assert make(real_frames, tmp_path).made == ('scene-0103',)


def test_damage_anywhere_in_a_scene_is_repaired(tiny_world, tmp_path) -> None:
    version = next((tiny_world / 'infos').iterdir()).name
    out = Path(shutil.copytree(tiny_world / 'infos' / version, tmp_path / 'infos'))
    frames, maps = sorted(out.glob('*.jsonl.gz')), sorted(out.glob('*.map.npz'))
    whole = {path: path.read_bytes() for path in (frames[0], maps[1])}
    for path, data in whole.items():
        path.write_bytes(data[:len(data) // 2] + b'\xff\xff' + data[len(data) // 2 + 2:])

    report = create_infos(
        CreateOptions(tiny_world, version, out, lidar_sweeps=2, radar_sweeps=0), progress=False)
    assert len(report.made) == 2 and not report.unfinished
    assert {path: path.read_bytes() for path in whole} == whole


def test_names_from_tables_cannot_lead_elsewhere(tiny_world, tmp_path) -> None:
    version = next(path.parent.name for path in tiny_world.glob('*/scene.json'))
    root = Path(shutil.copytree(tiny_world, tmp_path / 'root', copy_function=os.link))
    path = root / version / 'scene.json'
    scenes = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps([{**scenes[0], 'name': '../../escaped'}, *scenes[1:]]))
    with pytest.raises(ValueError, match="scene.json: name: found '../../escaped', expected a name"):
        create_infos(CreateOptions(root, version), progress=False)
    assert not list(tmp_path.rglob('escaped*'))


def test_other_arguments_make_scenes_again(real_frames, tmp_path) -> None:
    make(real_frames, tmp_path)
    report = make(real_frames, tmp_path, lidar_sweeps=2)
    assert len(report.made) == 3 and report.index['lidar_sweeps'] == 2


def test_changed_tables_make_scenes_again(copied_root, tmp_path) -> None:
    make(copied_root, tmp_path / 'out')
    path = copied_root / VERSION / 'ego_pose.json'
    path.write_text(path.read_text() + '\n')
    assert len(make(copied_root, tmp_path / 'out').made) == 3


def test_workers_write_the_same_bytes(real_frames, tmp_path) -> None:
    make(real_frames, tmp_path / 'one')
    make(real_frames, tmp_path / 'two', workers=2)
    names = sorted(p.name for p in (tmp_path / 'one').iterdir())
    assert names == sorted(p.name for p in (tmp_path / 'two').iterdir())
    for name in names:
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()


def test_shards_together_make_the_whole(real_frames, tmp_path) -> None:
    first = make(real_frames, tmp_path / 'shards', shard=(0, 2))
    assert first.made == ('scene-0061', 'scene-0916') and first.unfinished == ('scene-0103',)
    assert len(first.index['splits']['mini_val']) == 41
    second = make(real_frames, tmp_path / 'shards', shard=(1, 2))
    assert second.made == ('scene-0103',) and not second.unfinished
    make(real_frames, tmp_path / 'whole')
    assert read_index(tmp_path / 'shards') == read_index(tmp_path / 'whole')


def test_only_some_splits(real_frames, tmp_path) -> None:
    assert make(real_frames, tmp_path, splits=('mini_train',)).made == ('scene-0061',)
    with pytest.raises(ValueError, match='found train; v1.0-mini has mini_train, mini_val'):
        make(real_frames, tmp_path, splits=('train',))


@pytest.mark.parametrize('options', [{'shard': (2, 2)}, {'workers': 0}, {'lidar_sweeps': -1}])
def test_senseless_options_are_refused(tmp_path, options) -> None:
    with pytest.raises(ValueError, match='|'.join(options)):
        CreateOptions(tmp_path, VERSION, **options)


def test_what_is_absent_is_counted_once_per_file(real_frames, tmp_path, nuscenes_files) -> None:
    index = make(real_frames, tmp_path).index
    cameras = [name for name, is_camera in nuscenes_files.items() if is_camera]
    absent = sum(not (real_frames / name).exists() for name in cameras)
    assert index['left_out']['file missing: camera, key frame'] == absent > 400
    assert index['left_out']['no map expansion'] == 82


@pytest.fixture()
def nuscenes_files(real_frames) -> dict[str, bool]:
    rows = json.loads((real_frames / VERSION / 'sample_data.json').read_text())
    return {row['filename']: '/CAM_' in row['filename'] for row in rows}


def test_a_root_without_annotations(copied_root, tmp_path) -> None:
    for name in ('sample_annotation', 'instance'):
        (copied_root / VERSION / f'{name}.json').write_text('[]')
    report = make(copied_root, tmp_path / 'out')
    assert report.index['left_out']['no annotations'] == 82
    assert not any(report.index['class_counts'].values())
    assert read_scene_header(scene_path(tmp_path / 'out', 'scene-0103'))['annotated'] is False


def test_custom_splits_are_read(copied_root, tmp_path) -> None:
    (copied_root / VERSION / 'splits.json').write_text(
        json.dumps({'mine': ['scene-0916'], 'empty': ['scene-0001']})
    )
    index = make(copied_root, tmp_path / 'out').index
    assert set(index['splits']) == {'mini_train', 'mini_val', 'mine'}
    assert len(index['splits']['mine']) == 41


def test_a_root_the_devkit_refuses_is_named(copied_root, tmp_path) -> None:
    (copied_root / 'maps').unlink()
    with pytest.raises(ValueError, match='v1.0-mini.*map mask .*png does not exist'):
        make(copied_root, tmp_path / 'out')


def test_a_scene_with_a_broken_row_is_named(copied_root, tmp_path) -> None:
    path = copied_root / VERSION / 'ego_pose.json'
    rows = json.loads(path.read_text())
    for row in rows:
        row['rotation'] = [0.0, 0.0, 0.0, 0.0]
    path.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r'scene-\d+: .*not all zero'):
        make(copied_root, tmp_path / 'out')
    assert list((tmp_path / 'out').iterdir()) == []


def test_the_report_is_words_and_numbers(real_frames, tmp_path) -> None:
    text = describe(make(real_frames, tmp_path))
    assert '3 scenes, 82 frames' in text and 'mini_val: 81 frames' in text and 'no map expansion' in text


def test_the_command_line(real_frames, tmp_path) -> None:
    done = call('create-data', 'nuscenes', '--root', real_frames, '--version', VERSION, '--out', tmp_path,
                '--splits', 'mini_train')
    assert done.status == 0, done.err
    assert '1 scenes, 1 frames' in done.out
    wrong = call('create-data', 'nuscenes', '--root', real_frames, '--version', 'v9')
    assert wrong.status == 2 and 'v1.0-mini' in wrong.err
