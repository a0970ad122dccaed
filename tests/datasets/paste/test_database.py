"""The database of objects: whole, the same however it was made, and refused where it does not fit."""
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perception.core.geometry import points_in_boxes
from perception.core.reading import BadFile
from perception.datasets.paste.database import PasteDatabase, paste_facts
from perception.datasets.paste.making import (
    PasteMaking,
    is_made,
    make_database,
    plan_objects,
    points_of_object,
)
from perception.datasets.paste.objects import (
    pack_object_points,
    read_table,
    unpack_object_points,
    write_objects,
)
from perception.doctor.dataset import check_root
from tests.datasets.paste.conftest import dataset_of


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != '.lock'}


def test_points_keep_their_millimetre() -> None:
    rows = np.array([[1.2345, -7.0004, 0.5, 201, 31, 0.4502], [0, 0, 0, 0, -1, 0], [33, 0, 0, 1, 1, 0]])
    kept = unpack_object_points(pack_object_points(rows.astype(np.float32)).tobytes())
    np.testing.assert_allclose(
        kept, [[1.234, -7.0, 0.5, 201, 31, 0.4502], [0, 0, 0, 0, -1, 0]], atol=6e-4)


def test_earlier_sweeps_belong_to_where_the_object_was() -> None:
    """At 10 m/s forward it was 2 m back 0.2 s ago; a point there now is another's."""
    box = np.array([10.0, 0, 1, 4, 2, 2, 0, 10, 0])
    rows = np.zeros((3, 6), np.float32)
    rows[:, 0], rows[:, 2], rows[:, 5] = [7.5, 7.5, 11.5], 1.0, [0.2, 0.0, 0.2]
    assert points_of_object(rows, box, 5, 0.1)[:, 0].tolist() == [-2.5]
    box[7:] = np.nan
    assert points_of_object(rows, box, 5, 0.1)[:, 0].tolist() == [1.5]


def test_every_object_has_its_points_its_labels_and_its_pictures(tiny_world, tiny_database) -> None:
    database, dataset = PasteDatabase(tiny_database), dataset_of(tiny_world)
    assert len(database) == sum(counts['stored'] for counts in database.index['classes'].values()) > 50
    assert database.index['classes']['barrier']['annotated'] == dataset.class_counts()[:, 9].sum()
    for number in range(0, len(database), 7):
        words, box = database.words(number), database.box(number)
        record = dataset.record(words['sample']).boxes
        row = record.tokens.index(words['token'])
        np.testing.assert_allclose(record.boxes_M9[row], box, atol=1e-4)
        assert database.classes.label(record.categories[row]) == database.labels_N[number]
        assert database.numbers(number)['num_lidar_points'] == record.num_lidar_points_M[row] >= 3

        points = database.points(number)
        key = points[points[:, 5] == 0]
        assert points_in_boxes(key.astype(float), box[None], 0.102).all() and len(key) >= 3
        for place in database.views(number).values():
            view, patch = database.view(number, place)
            assert patch.shape == (*view.size_hw, 3) and view.visible >= 0.7


def test_workers_make_the_same_bytes_and_a_cut_run_goes_on(
    tiny_world, tiny_database, tmp_path, monkeypatch
) -> None:
    dataset = dataset_of(tiny_world, split='all', reading=dict(image_reduce=1))
    one, other = tmp_path / 'one', tmp_path / 'other'
    make_database(dataset, PasteMaking(one, workers=2, per_class=2), progress=False)

    # cut in the second scene, before its table is written
    written: list[str] = []

    def cut(folder: Path, scene: str, *rest: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(scene)
        write_objects(folder, scene, *rest)

    monkeypatch.setattr('perception.datasets.paste.making.write_objects', cut)
    with pytest.raises(KeyboardInterrupt):
        make_database(dataset, PasteMaking(other, per_class=2), progress=False)
    with pytest.raises(BadFile, match='unfinished: found 2 scenes'):
        PasteDatabase(other)

    # the finished scene is not made again
    before = {path: path.stat().st_mtime_ns for path in other.glob('*.npz')}
    made: list[str] = []
    monkeypatch.setattr(
        'perception.datasets.paste.making.write_objects',
        lambda folder, scene, *rest: (made.append(scene), write_objects(folder, scene, *rest)))
    make_database(dataset, PasteMaking(other, per_class=2), progress=False)
    assert len(before) == 1 and {path: path.stat().st_mtime_ns for path in before} == before
    assert len(made) == 1 and contents(one) == contents(other)
    assert max(counts.get('stored', 0) for counts in PasteDatabase(one).index['classes'].values()) == 2


def test_the_choice_depends_on_tokens_alone(tiny_world) -> None:
    dataset = dataset_of(tiny_world)
    few = plan_objects(dataset, PasteMaking(Path('x'), per_class=2), progress=False)
    more = plan_objects(dataset, PasteMaking(Path('x'), per_class=4), progress=False)
    assert sum(map(len, few.chosen.values())) < sum(map(len, more.chosen.values()))
    assert all(set(rows) <= set(more.chosen[token]) for token, rows in few.chosen.items())


def test_labels_that_are_taken_away_are_no_objects(tiny_world) -> None:
    missing = dict(share=dict(detection=0.5), seed=1)
    dataset = dataset_of(tiny_world, reading=dict(missing_labels=missing))
    chosen = set(plan_objects(dataset, PasteMaking(Path('x')), progress=False).chosen)
    lacking = dataset.reading.missing_labels.frames_of(dataset.tokens, 'detection')
    assert lacking and chosen and not chosen & lacking
    assert set(plan_objects(dataset_of(tiny_world), PasteMaking(Path('x')), progress=False).chosen) & lacking


# -------------------------------------------------------------------- refusals

def edited(folder: Path, to: Path, **changes: object) -> Path:
    """A copy of a database with other words in its index."""
    shutil.copytree(folder, to)
    index = json.loads((to / 'index.json').read_text(encoding='utf-8'))
    for name, value in changes.items():
        (index['facts'] if name in index['facts'] else index)[name] = value
    (to / 'index.json').write_text(json.dumps(index), encoding='utf-8')
    return to


@pytest.mark.parametrize(('changes', 'options', 'message'), [
    (dict(frames='0', root='/elsewhere'), {}, 'root: found objects of /elsewhere.* expected those of'),
    ({}, dict(split='val'), "split: found 'train', expected 'val'"),
    ({}, dict(split='all'), "split: found 'train', expected 'all'"),
    ({}, dict(reading=dict(lidar_sweeps=1)), 'lidar_sweeps: found 2, expected 1'),
    ({}, dict(reading=dict(missing_labels=dict(share=0.5))), 'missing_labels: found None, expected .*0.5'),
    (dict(version='v2'), {}, "version: found 'v2', expected 'v1.0-trainval'"),
    ({}, dict(reading=dict(classes=dict(thing=dict(categories=('vehicle.car',))))), 'classes: found'),
    (dict(cameras=['CAM_FRONT']), {}, 'cameras: found CAM_FRONT, expected .*CAM_BACK'),
    (dict(min_points=9), {}, 'min_points: found 9, expected at most 5')])
def test_a_database_of_other_data_is_refused(
    changes, options, message, tiny_world, tiny_database, tmp_path
) -> None:
    folder = edited(tiny_database, tmp_path / 'd', **changes)
    with pytest.raises(ValueError, match=message) as refused:
        dataset_of(tiny_world, pipeline=[dict(type='PasteObjects', database=folder)], **options)
    assert 'test_mode' not in str(refused.value) and str(folder / 'index.json') in str(refused.value)


def test_sensors_that_are_not_read_do_not_matter(tiny_world, tiny_database, tmp_path) -> None:
    folder = edited(tiny_database, tmp_path / 'd', radar_sweeps=None, cameras=[])
    dataset_of(tiny_world, sensors=('lidar',), pipeline=[dict(type='PasteObjects', database=folder)])
    with pytest.raises(ValueError, match='radar_sweeps: found None, expected 0'):
        dataset_of(tiny_world, pipeline=[dict(type='PasteObjects', database=folder)])


def test_an_object_of_a_frame_of_another_split_is_refused(tiny_world, tiny_database) -> None:
    dataset = dataset_of(tiny_world)
    database = PasteDatabase(tiny_database)
    dataset.tokens = dataset.tokens[1:]
    database.index['facts'] = paste_facts(dataset)
    with pytest.raises(ValueError, match="samples: found .*, expected frames of the split 'train' alone"):
        database.check_dataset(dataset)


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda f: (f / 'index.json').unlink(), 'found no such file, expected the index of a database'),
    (lambda f: (f / 'index.json').write_text('{}', encoding='utf-8'), "schema: expected 'perception.paste'"),
    (lambda f: (f / 'scene-0001.bin').write_bytes(b'x'), 'scene-0001.bin: found 1 bytes, expected'),
    (lambda f: (f / 'scene-0001.bin').write_bytes(bytes((f / 'scene-0001.bin').stat().st_size)),
     'scene-0001.bin: found a file of SHA-256 .*, expected .* as scene-0001.npz says'),
    (lambda f: (f / 'scene-0001.npz').write_bytes(b'x' * 40), 'cannot be read as an archive of arrays'),
    (lambda f: write_objects(f, 'scene-0001', [], ''), 'found 0 objects, expected')])
def test_a_damaged_database_is_refused(spoil, message, tiny_database, tmp_path) -> None:
    shutil.copytree(tiny_database, tmp_path / 'd')
    spoil(tmp_path / 'd')
    with pytest.raises(BadFile, match=message):
        PasteDatabase(tmp_path / 'd')


def test_an_older_database_without_digests_says_so(tiny_database, tmp_path) -> None:
    """It is read, and made anew where the command is given again."""
    shutil.copytree(tiny_database, tmp_path / 'd')
    edited_table(tmp_path / 'd', lambda arrays: arrays.pop('bin_sha256'))
    made_from = str(read_table(tmp_path / 'd', 'scene-0001').made_from)
    with pytest.warns(UserWarning, match='scene-0001.bin: its table has no digest of it'):
        assert len(PasteDatabase(tmp_path / 'd')) == len(PasteDatabase(tiny_database))
    assert is_made(tiny_database, 'scene-0001', made_from)
    assert not is_made(tmp_path / 'd', 'scene-0001', made_from)


def edited_table(folder: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the arrays of the first scene."""
    path = folder / 'scene-0001.npz'
    with np.load(path) as archive:
        arrays = dict(archive)
    edit(arrays)
    np.savez_compressed(path, **arrays)


def test_rows_beyond_the_file_are_refused(tiny_database, tmp_path) -> None:
    shutil.copytree(tiny_database, tmp_path / 'd')
    edited_table(tmp_path / 'd', lambda arrays: arrays['lidar_M2'].__setitem__((-1, 1), 10**9))
    with pytest.raises(BadFile, match='lidar_M2: found rows beyond the'):
        read_table(tmp_path / 'd', 'scene-0001')


def test_another_database_is_not_written_over(tiny_world, tiny_database, tmp_path) -> None:
    shutil.copytree(tiny_database, tmp_path / 'd')
    before = contents(tmp_path / 'd')
    dataset = dataset_of(tiny_world, split='val')
    with pytest.raises(ValueError, match="split: found 'train', expected 'val': another database lies there"):
        make_database(dataset, PasteMaking(tmp_path / 'd'), progress=False)
    assert contents(tmp_path / 'd') == before


def test_the_doctor_says_whether_a_database_is_whole(tiny_world, tiny_database, tmp_path) -> None:
    for path in tiny_world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    folder = tmp_path / 'paste' / 'v1.0-trainval' / 'train'
    shutil.copytree(tiny_database, folder)

    def finding() -> tuple[str, str]:
        found, = (f for f in check_root(tmp_path) if f.name == 'objects of train')
        return found.state, found.detail

    assert finding() == ('ok', f'{len(PasteDatabase(folder))} objects of 1 scenes')
    (folder / 'scene-0001.bin').unlink()
    assert finding()[0] == 'partly' and '1 scenes are not there' in finding()[1]
    (folder / 'index.json').write_text('[]', encoding='utf-8')
    assert finding()[0] == 'broken'
