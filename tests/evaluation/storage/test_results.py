"""Results on disk: round trips, official files, resuming, and malformed files named for what they are."""
from __future__ import annotations

import copy
import gzip
import json

import numpy as np
import pytest

from perception.core.contracts import (
    CENTRE,
    SIZE,
    YAW,
    Boxes3D,
    Frame,
    Lanes,
    MapSegmentation,
    Occupancy,
    TaskOutput,
)
from perception.core.geometry import make_transform, rotation_z
from perception.evaluation.detection.file import detection_results_from, read_detection_results
from perception.evaluation.detection.protocol import score_detection
from perception.evaluation.detection.samples import align
from perception.evaluation.detection.storage import global_boxes, nuscenes_records
from perception.evaluation.detection.tables import stream_records
from perception.evaluation.detection.truth import GroundTruth
from perception.evaluation.errors import ResultError
from perception.evaluation.storage.results import ResultStore

META = {'use_camera': True}


def answer(token: str = 'one', boxes: int = 3, seed: int = 0, time: int = 5) -> TaskOutput:
    rng = np.random.default_rng(seed)
    pose = make_transform(rotation_z(np.pi / 2)[:3, :3], np.array([100.0, 200, 0]))
    found = rng.normal(size=(boxes, 9)).astype(np.float32)
    found[:, SIZE] = 1 + np.abs(found[:, SIZE])
    return TaskOutput(
        Frame(token, time, pose, 'scene-1', 'boston-seaport'),
        Boxes3D(
            found, np.linspace(0.9, 0.1, boxes).astype(np.float32), np.arange(boxes) % 10,
            np.arange(boxes) % 9 - 1),
        MapSegmentation(rng.random((6, 20, 20)).astype(np.float32), (-50.0, 50.0), (-50.0, 50.0)),
        Occupancy(rng.integers(0, 18, (8, 8, 4)).astype(np.uint8), rng.random((8, 8, 4)).astype(np.float16)),
        Lanes(
            rng.normal(size=(2, 20, 2)).astype(np.float32), np.array([0.8, 0.3], np.float32), np.array([0, 2])
        ),
    )


def test_what_is_written_is_read(tmp_path):
    store, output = ResultStore(tmp_path), answer()
    store.write(output)
    again = store.read('one')
    for task, fields in {
        'detection': ('boxes_M9', 'scores_M', 'labels_M', 'attributes_M'), 'occupancy': ('semantics_XYZ',),
        'map_segmentation': ('probabilities_6YX',), 'lanes': ('points_LP2', 'scores_L', 'labels_L')}.items():
        for field in fields:
            np.testing.assert_array_equal(
                getattr(getattr(again, task), field), getattr(getattr(output, task), field)
            )
    np.testing.assert_allclose(again.occupancy.confidence_XYZ, output.occupancy.confidence_XYZ, atol=3e-3)
    assert (again.frame.scene, again.frame.timestamp_ns, again.frame.location) == (
        'scene-1', 5, 'boston-seaport')
    np.testing.assert_array_equal(again.frame.global_T_ego, output.frame.global_T_ego)


def test_a_task_without_answer_stays_without(tmp_path):
    store, output = ResultStore(tmp_path), answer()
    store.write(TaskOutput(output.frame, detection=output.detection))
    again = store.read('one')
    assert again.lanes is None and again.occupancy is None and again.map_segmentation is None
    assert len(again.detection.scores_M) == 3


def test_a_run_goes_on_where_it_stopped(tmp_path):
    store = ResultStore(tmp_path)
    store.write(answer('b'))
    (tmp_path / 'samples' / '.c.npz.17.tmp').write_bytes(b'half')
    assert store.missing(['a', 'b', 'c']) == ['a', 'c'] and store.tokens() == ['b'] and store.has('b')


def test_boxes_move_to_global_once():
    """The car stands at (100, 200) looking along +y: 10 m ahead is (100, 210), a heading of 0 becomes 90
    degrees."""
    pose = make_transform(rotation_z(np.pi / 2)[:3, :3], np.array([100.0, 200, 0]))
    boxes = Boxes3D(
        np.array([[10, 0, 1, 4, 2, 1.5, 0, 3, 0]], np.float32), np.array([0.5]), np.array([0]), np.array([5])
    )
    record, = nuscenes_records(global_boxes(boxes, Frame('t', 0, pose)), 't')
    assert record['translation'] == pytest.approx([100, 210, 1]) and record['size'] == pytest.approx(
        [2, 4, 1.5]
    )
    assert record['rotation'] == pytest.approx([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    assert record['velocity'] == pytest.approx([0, 3]) and record['attribute_name'] == 'vehicle.moving'
    assert record['detection_name'] == 'car' and record['detection_score'] == 0.5


def test_boxes_on_a_slope_come_back_the_same():
    """A car that is tilted by 6 degrees: labels carried to ego and back keep place, size, yaw and
    velocity."""
    from perception.core.geometry import invert, quaternion_to_matrix, transform_boxes
    from perception.evaluation.detection.boxes import ego_to_global
    rng = np.random.default_rng(0)
    pose = make_transform(quaternion_to_matrix([0.9, 0.05, -0.04, 0.4]), np.array([600.0, 1600, 3]))
    labels = rng.normal(size=(50, 9)) * [30, 30, 1, 1, 1, 1, 1, 5, 5]
    labels[:, SIZE] = 1 + np.abs(labels[:, SIZE])
    back = ego_to_global(pose, transform_boxes(invert(pose), labels))
    turned = (back[:, YAW] - labels[:, YAW] + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(turned, 0, atol=1e-9)
    np.testing.assert_allclose(np.delete(back, YAW, 1), np.delete(labels, YAW, 1), atol=1e-9)


def test_merged_file_is_official_and_keeps_the_best_500(tmp_path):
    store = ResultStore(tmp_path)
    store.write(answer('late', 600, time=9))
    store.write(answer('early', 2, time=1))
    files = store.merge(META, ['late', 'early'])
    content = json.loads(files['detection'].read_text())
    assert list(content['results']) == ['early', 'late'] and len(content['results']['late']) == 500
    flags = ('use_camera', 'use_lidar', 'use_radar', 'use_map', 'use_external')
    assert content['meta'] == {flag: flag == 'use_camera' for flag in flags}
    assert min(b['detection_score'] for b in content['results']['late']) > 0.2
    assert json.loads(files['lanes'].read_text())['results'][0]['vectors'][1]['cls_name'] == 'boundary'
    with np.load(files['occupancy'] / 'late.npz') as file:
        assert file['semantics'].shape == (8, 8, 4)
    assert (files['map_segmentation'] / 'early.npz').is_file()
    assert not list(tmp_path.rglob('*.tmp'))


def test_merged_file_is_read_back_the_same(tmp_path):
    store, output = ResultStore(tmp_path), answer(boxes=5)
    store.write(output)
    again = read_detection_results(store.merge(META)['detection']).boxes
    own = global_boxes(output.detection, output.frame)
    np.testing.assert_allclose(again.yaw_M, own.yaw_M, atol=1e-12)
    for name in ('centre_M3', 'size_M3', 'velocity_M2', 'label_M', 'attribute_M', 'score_M'):
        np.testing.assert_array_equal(getattr(again, name), getattr(own, name))


def test_devkit_reads_the_merged_file(tmp_path, small_truth, small_root, official):
    store = ResultStore(tmp_path / 'store')
    for s, token in enumerate(small_truth.tokens):
        rows = small_truth.boxes.select((small_truth.boxes.sample_M == s) & (small_truth.boxes.points_M != 0))
        boxes = np.concatenate(
            [rows.centre_M3, rows.size_M3[:, [1, 0, 2]], rows.yaw_M[:, None], rows.velocity_M2], 1
        )
        boxes[:, CENTRE] -= small_truth.ego_S3[s]
        pose = make_transform(np.eye(3), small_truth.ego_S3[s])
        found = Boxes3D(
            boxes.astype(np.float32), np.full(len(rows), 0.9, np.float32), rows.label_M.astype(int),
            rows.attribute_M.astype(int))
        store.write(TaskOutput(Frame(token, s, pose, token[:10]), found))
    path = store.merge(META, small_truth.tokens)['detection']
    theirs = official(small_root, path, tmp_path / 'out')
    ours = score_detection(read_detection_results(path), small_truth)
    assert abs(theirs['nd_score'] - ours.nds) < 1e-9 and ours.mean_ap > 0.6


# -------------------------------------------------------------------- malformed files

def good() -> dict:
    return {
        'meta': {},
        'results': {'a': nuscenes_records(global_boxes(answer().detection, answer().frame), 'a'), 'b': []}}


def broken(path, value):
    content = copy.deepcopy(good())
    target = content
    for key in path[:-1]:
        target = target[key]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (
            ('results', 'a', 1, 'detection_score'), float('nan'),
            r'results\["a"\]\[1\]: field "detection_score" may not be NaN'),
        (
            ('results', 'a', 2, 'translation', 0), float('nan'),
            r'results\["a"\]\[2\]: field "translation" may not be NaN'),
        (('results', 'a', 1, 'detection_score'), float('inf'), 'field "detection_score" may not be infinite'),
        (('results', 'a', 1, 'velocity', 0), float('-inf'), 'field "velocity" may not be infinite'),
        (('results', 'a', 1, 'detection_score'), 10 ** 400, 'field "detection_score": expected a number'),
        (('results', 'a', 1, 'detection_name'), ['car'], r"expected one of 'car'.*found \['car'\]"),
        (('results', 'a', 1, 'attribute_name'), {}, r'"attribute_name": expected one of .*found \{\}'),
        (('results', 'a', 1), 0, r'results\["a"\]\[1\]: expected a box \(an object\), found 0'),
        (('results', 'a', 1), True, r'expected a box \(an object\), found True'),
        (('results', 'a', 1, 'size', 2), float('nan'), r'\[1\]: field "size" may not be NaN'),
        (('results', 'a', 1, 'rotation', 3), float('nan'), r'\[1\]: field "rotation" may not be NaN'),
        (('results', 'a', 0, 'velocity'), KeyError, r'results\["a"\]\[0\]: field "velocity" is missing'),
        (
            ('results', 'a', 0, 'translation'), [1.0, 2.0],
            r'field "translation": expected 3 numbers, found \[1.0, 2.0\]'),
        (('results', 'a', 0, 'rotation'), 'north', r'field "rotation": expected 4 numbers'),
        (('results', 'a', 0, 'velocity'), [None, None], r'field "velocity": expected 2 numbers'),
        (
            ('results', 'a', 0, 'detection_name'), 'tram',
            r"field \"detection_name\": expected one of 'car'.*found 'tram'"),
        (('results', 'a', 0, 'attribute_name'), 'vehicle.flying', r"found 'vehicle.flying'"),
        (('results', 'a', 0, 'detection_score'), 'high', r'field "detection_score": expected a number'),
        (
            ('results', 'a', 0, 'sample_token'), 'b',
            r'results\["a"\]\[0\].sample_token: expected "a", found "b"'),
        (('results', 'a', 0), 7.5, r'results\["a"\]\[0\]: expected a box'),
        (('results', 'a'), None, r'results\["a"\]: expected a list of boxes, found NoneType'),
        (('results',), KeyError, r'expected a JSON object with a field "results"'),
        (('meta',), KeyError, r'expected a field "meta"'),
    ],
)
def test_malformed_entries_are_named(path, value, message, tmp_path):
    file = tmp_path / 'bad.json'
    file.write_text(json.dumps(broken(path, value)))
    with pytest.raises(ResultError, match=message) as error:
        read_detection_results(file)
    assert str(file) in str(error.value)


def test_truncated_and_absent_files_are_named(tmp_path):
    file = tmp_path / 'cut.json'
    file.write_text(json.dumps(good())[:-30])
    with pytest.raises(ResultError, match='cut.json: (truncated|damaged) JSON at line 1'):
        read_detection_results(file)
    with pytest.raises(ResultError, match='no such file'):
        read_detection_results(tmp_path / 'none.json')
    (tmp_path / 'bad.json.gz').write_bytes(gzip.compress(b'{}')[:-4])
    with pytest.raises(ResultError, match='cannot be read'):
        read_detection_results(tmp_path / 'bad.json.gz')


def test_depth_and_numbers_without_end_are_named(tmp_path):
    for text, words in (('[' * 100_000, 'RecursionError'), ('{"a": ' + '9' * 5000 + '}', 'ValueError')):
        (tmp_path / 'bad.json').write_text(text)
        with pytest.raises(ResultError, match=f'bad.json: cannot be read as JSON: {words}'):
            read_detection_results(tmp_path / 'bad.json')


def test_large_finite_numbers_are_read(tmp_path):
    file = tmp_path / 'large.json'
    file.write_text(json.dumps(broken(('results', 'a', 0, 'rotation'), [1e308, 0, 0, 1e308])))
    assert read_detection_results(file).boxes.yaw_M[0] == pytest.approx(np.pi / 2)


@pytest.mark.parametrize(('name', 'value', 'words'), [
    ('detection.labels', np.array([40, 0, 1]), r'detection\[0\].label is 40, expected 0 to 9'),
    ('detection.boxes', np.full((3, 9), np.inf), 'is inf, expected a finite number'),
    ('detection.scores', np.array(['a'] * 3), 'detection: '),
    ('occupancy.semantics', np.full((2, 2, 2), 300), 'occupancy.semantics: expected classes 0 to 17'),
    ('lanes.labels', np.array([4, 0]), 'lanes: labels must be 0..3'),
    ('frame.global_T_ego', np.full((4, 4), np.nan), 'frame.global_T_ego: found values from nan'),
    ('frame.timestamp_ns', np.array(1.5), 'frame.timestamp_ns: found elements of type float64')])
def test_stored_numbers_that_no_model_gives_are_named(tmp_path, name, value, words):
    path = ResultStore(tmp_path).write(answer())
    with np.load(path) as file:
        np.savez(path, **{**dict(file), name: value})
    with pytest.raises(ResultError, match=f'one.npz: sample one: .*{words}'):
        ResultStore(tmp_path).read('one')


def test_missing_and_unknown_samples_are_named():
    truth = GroundTruth.from_frames([])
    results = detection_results_from(good())
    with pytest.raises(ResultError, match='2 sample tokens are not in this split, the first is "a"'):
        align(results, truth)
    truth = GroundTruth(('a', 'b', 'c'), np.zeros((3, 3)), truth.boxes)
    with pytest.raises(ResultError, match='1 of 3 samples are missing, the first is "c"'):
        align(results, truth)


def test_damaged_store_files_are_named(tmp_path):
    store = ResultStore(tmp_path)
    path = store.write(answer())
    with pytest.raises(ResultError, match='sample two has no result'):
        store.read('two')
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{k: v for k, v in arrays.items() if k != 'detection.scores'})
    with pytest.raises(ResultError, match='field "detection.scores" is missing'):
        store.read('one')
    np.savez(path, **{**arrays, 'lanes.labels': np.zeros(5)})
    with pytest.raises(ResultError, match='one.npz: sample one: Lanes.labels_L'):
        store.read('one')
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ResultError, match='damaged or truncated file of sample one'):
        store.read('one')
    np.savez(path, **{**arrays, 'detection.boxes': np.array([{}], dtype=object)})
    with pytest.raises(ResultError, match='damaged'):
        store.read('one')


def test_nothing_unreadable_is_written(tmp_path):
    store, output = ResultStore(tmp_path), answer()
    output.detection.scores_M[1] = np.nan
    with pytest.raises(ResultError, match=r'sample one: detection\[1\].score is nan'):
        store.write(output)
    assert not store.has('one')
    with pytest.raises(ResultError, match='sample token'):
        store.path('../escape')
    with pytest.raises(ResultError, match='unknown flags'):
        store.merge({'use_sonar': True})
    with pytest.raises(ResultError, match='1 of 1 samples have no result'):
        store.merge({}, ['zero'])


def test_tables_are_streamed_and_damage_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr('perception.evaluation.detection.tables._CHUNK_BYTES', 16)
    file = tmp_path / 'table.json'
    rows = [{'token': str(i), 'values': list(range(i))} for i in range(30)]
    file.write_text(json.dumps(rows, indent=0))
    assert list(stream_records(file)) == rows
    file.write_text('[]')
    assert list(stream_records(file)) == []
    for text, message in (
        (json.dumps(rows)[:-20], 'truncated'), ('{"a": 1}', 'a JSON list'), ('', 'a JSON list')):
        file.write_text(text)
        with pytest.raises(ResultError, match=message):
            list(stream_records(file))


def test_split_errors_list_what_is_known(small_root):
    with pytest.raises(ResultError, match='split "nowhere" is not known.*mini_val'):
        GroundTruth.from_tables(small_root, 'v1.0-mini', 'nowhere')
    with pytest.raises(ResultError, match='has no samples'):
        GroundTruth.from_tables(small_root, 'v1.0-mini', 'test')
    with pytest.raises(ResultError, match='no such folder'):
        GroundTruth.from_tables(small_root, 'v2', 'test')


def test_broken_references_in_tables_are_named(small_root, tmp_path):
    import shutil
    shutil.copytree(small_root, tmp_path / 'root')
    path = tmp_path / 'root' / 'v1.0-mini' / 'sample_annotation.json'
    rows = json.loads(path.read_text())
    for row in rows:
        row['prev'] = 'nowhere' if row['prev'] else ''
    path.write_text(json.dumps(rows))
    with pytest.raises(ResultError, match="v1.0-mini: .*'nowhere'"):
        GroundTruth.from_tables(tmp_path / 'root', 'v1.0-mini', 'mini_val')
