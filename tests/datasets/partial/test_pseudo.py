"""A teacher's labels: what of a prediction becomes one, files that come back, and folders that do not fit."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception.core.contracts import (
    NUSCENES_CLASSES,
    Boxes3D,
    DetectionClasses,
    LabelledArea,
    Lanes,
    MapSegmentation,
    Occupancy,
)
from perception.core.reading import BadFile
from perception.datasets.partial.files import HEADER, PseudoLabels, PseudoWriter, split_facts
from perception.datasets.partial.records import from_levels, to_levels
from perception.datasets.partial.turning import turn_boxes, turn_lanes, turn_map, turn_occupancy
from perception.datasets.reading.dataset import NuScenesDataset

AREA = LabelledArea((-10.0, 10.0), (-5.0, 5.0))
RANGES = {'area': [[-10.0, 10.0], [-5.0, 5.0]]}


def boxes() -> Boxes3D:
    """Of scores 0.9, 0.5, 0.25 and 0.1, and one without a size."""
    boxes_M9 = np.ones((5, 9), np.float32) * np.arange(1, 6)[:, None]
    boxes_M9[4, 4] = 0
    scores_M = np.array([0.9, 0.5, 0.25, 0.1, 0.8])
    return Boxes3D(boxes_M9, scores_M, np.array([0, 3, 5, 1, 1]), np.array([5, -1, 2, -1, 0]))


def predicted() -> dict[str, Any]:
    """Labels of all four tasks from predictions."""
    probabilities = np.full((6, 20, 41), 0.1, np.float32)
    probabilities[0, :, :30], probabilities[1] = 0.9, 0.6
    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[:100] = 4
    confidence = np.full(semantics.shape, 0.5, np.float16)
    confidence[:50] = 0.9
    ring = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0.3]], np.float32)
    lanes = Lanes(np.stack([ring, ring + 1]), np.array([0.7, 0.3]), np.array([1, 0]))
    return {
        'detection': turn_boxes(boxes(), 0.4, AREA),
        'map_segmentation': turn_map(MapSegmentation(probabilities, (-10.0, 10.0), (-5.0, 5.0)), 0.75, AREA),
        'occupancy': turn_occupancy(Occupancy(semantics, confidence), 0.75, AREA),
        'lanes': turn_lanes(lanes, 0.4, AREA)}


TASKS = {
    'detection': {'classes': list(NUSCENES_CLASSES.names), 'confidence': 0.4, **RANGES},
    'map_segmentation': {'classes': list('abcdef'), 'confidence': 0.75, **RANGES},
    'occupancy': {'classes': [], 'confidence': 0.75, **RANGES},
    'lanes': {'classes': [], 'confidence': 0.4, 'protocol': 'ours', **RANGES}}
FACTS = split_facts('v1.0-mini', 'train', ['a', 'b'], 'somewhere')
CARS = DetectionClasses.of({'car': {'categories': ['vehicle.car']}}, 'classes')
TEACHER = {'file': 'epoch_2.pth', 'sha256': '0' * 64}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frame 'a' with labels of all tasks, frame 'b' with boxes alone."""
    writer = PseudoWriter(tmp_path, TEACHER, FACTS, TASKS)
    writer.write('a', predicted())
    writer.write('b', {'detection': predicted()['detection']})
    writer.finish({task: ['a', 'b'] if task == 'detection' else ['a'] for task in TASKS})
    return tmp_path


def test_what_becomes_a_label_and_how_much_it_counts() -> None:
    labels = predicted()
    np.testing.assert_allclose(labels['detection'].weights_M, [0.9, 0.5, 0.0])  # the third is doubtful
    assert labels['detection'].labels_M.tolist() == [0, 3, 5] and labels['detection'].area == AREA

    cells = labels['map_segmentation']
    assert cells.masks_KYX[0, :, :30].all() and not cells.masks_KYX[0, :, 30:].any()
    np.testing.assert_allclose(cells.weights_KYX[0], 0.9)
    assert not cells.weights_KYX[1].any()  # 0.6 is no confidence, neither that it is there nor that not

    voxels = labels['occupancy']
    assert (voxels.semantics_XYZ[:50] == 4).all() and (voxels.semantics_XYZ[50:] == 255).all()
    assert voxels.mask_camera_XYZ[:50].all() and not voxels.mask_camera_XYZ[50:].any()

    lanes = labels['lanes']
    np.testing.assert_allclose(lanes.weights_L, [0.7, 0.0])
    assert lanes.closed_L.all() and lanes.labels_L.tolist() == [1, 0]


def test_levels_keep_one_and_nothing() -> None:
    weights = np.array([0, 1e-4, 0.5, 0.98, 1])
    assert to_levels(weights).tolist() == [0, 1, 8, 15, 15]
    assert from_levels(to_levels(np.ones(1)))[0] == 1


def test_files_come_back(folder: Path) -> None:
    read = PseudoLabels(folder, FACTS, NUSCENES_CLASSES).read('a', list(TASKS))
    made = predicted()
    np.testing.assert_array_equal(read['boxes'].boxes_M9, made['detection'].boxes_M9)
    np.testing.assert_allclose(read['boxes'].weights_M, made['detection'].weights_M, atol=1e-7)
    assert (read['boxes'].num_lidar_points_M < 0).all() and read['boxes'].area.x_range_m == (-10.0, 10.0)

    cells = read['map_layers']
    np.testing.assert_array_equal(cells.masks_KYX, made['map_segmentation'].masks_KYX)
    np.testing.assert_allclose(cells.weights_KYX, made['map_segmentation'].weights_KYX, atol=1 / 30)
    np.testing.assert_array_equal(read['occupancy'].semantics_XYZ, made['occupancy'].semantics_XYZ)
    np.testing.assert_allclose(
        read['occupancy'].weights_XYZ, made['occupancy'].weights_XYZ, atol=1 / 30)
    for found, expected in zip(read['lanes'].points, made['lanes'].points, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert sum(file.stat().st_size for file in folder.rglob('*.npz')) < 40_000


def test_a_frame_has_what_the_header_says(folder: Path) -> None:
    labels = PseudoLabels(folder, FACTS, NUSCENES_CLASSES)
    assert set(labels.read('b', list(TASKS))) == {'boxes'} and labels.read('c', list(TASKS)) == {}
    assert labels.has('a', 'lanes') and not labels.has('b', 'lanes')


def test_a_folder_is_gone_on_with_only_alike(folder: Path) -> None:
    writer = PseudoWriter(folder, TEACHER, {**FACTS, 'root': 'moved'}, TASKS)
    assert writer.has('a', list(TASKS)) and writer.has('b', ['detection']) and not writer.has('b', ['lanes'])
    (folder / 'frames' / 'a.npz').write_bytes(b'PK cut short')
    assert not writer.has('a', ['detection'])
    with pytest.raises(ValueError, match='teacher: found labels of .* expected .*; take another folder'):
        PseudoWriter(folder, {**TEACHER, 'sha256': '1'}, FACTS, TASKS)
    with pytest.raises(ValueError, match='tasks: found labels of'):
        PseudoWriter(folder, TEACHER, FACTS, {'detection': TASKS['detection']})
    (folder / HEADER).unlink()
    with pytest.raises(ValueError, match='pseudo.json: found no such file beside .*frames.*npz, expected it'):
        PseudoWriter(folder, TEACHER, FACTS, TASKS)
    assert not (folder / HEADER).exists()


@pytest.mark.parametrize(('facts', 'classes', 'protocol', 'message'), [
    ({'split': 'val'}, NUSCENES_CLASSES, 'ours', "split: found train, expected val: .* other frames"),
    ({'version': 'v2'}, NUSCENES_CLASSES, 'ours', 'version: found v1.0-mini, expected v2'),
    ({'tokens': 'x'}, NUSCENES_CLASSES, 'ours', r'tokens of the split \(a digest\): found'),
    ({}, NUSCENES_CLASSES, 'maptr', "tasks.lanes.protocol: found 'ours', expected 'maptr'"),
    ({}, CARS, 'ours', r"tasks.detection.classes: .* expected \['car'\]"),
])
def test_labels_of_something_else(folder, facts, classes, protocol, message) -> None:
    with pytest.raises(ValueError, match=message):
        PseudoLabels(folder, {**FACTS, **facts}, classes, protocol)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda header: header.pop('tasks'), "damaged: ValueError: found no field 'tasks'"),
    (lambda header: header.update(schema='other'), "expected schema 'perception.pseudo_labels'"),
    (lambda header: header.update(schema_version=9), 'schema_version: expected 1, found 9'),
    (lambda header: header.update(frames=None), 'not whole; run tools/pseudo_label.py again'),
    (lambda header: header['tasks']['lanes'].pop('area'), 'damaged: KeyError'),
    (lambda header: header['data'].update(split=3), 'data.split: expected text, found 3'),
])
def test_damaged_headers(folder: Path, change, message: str) -> None:
    path = folder / HEADER
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))
    with pytest.raises(ValueError, match=message):
        PseudoLabels(folder, FACTS, NUSCENES_CLASSES)


@pytest.mark.parametrize(('name', 'array', 'message'), [
    ('detection.labels', np.array([0, 3, 77]), 'labels: found values from 0 to 77, expected 0 to 9'),
    ('detection.weights', np.array([0.5, 2, 0]), 'weights: found values from 0.0 to 2.0'),
    ('detection.weights', None, "found no array 'weights'"),
    ('lanes.lengths', np.array([5, 9]), 'lanes.lengths: found 14 points, expected 10'),
    ('map_segmentation.masks', np.zeros((6, 20, 5), np.uint8), r'masks: found shape \(6, 20, 5\)'),
    ('occupancy.levels', np.full((200, 200, 16), 15, np.uint8), 'semantics: expected 0 to 17 where a weight'),
])
def test_damaged_frames(folder: Path, name: str, array: np.ndarray | None, message: str) -> None:
    path = folder / 'frames' / 'a.npz'
    with np.load(path) as file:
        arrays = {**file, name: array}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(BadFile, match=message):
        PseudoLabels(folder, FACTS, NUSCENES_CLASSES).read('a', list(TASKS))


def test_a_dataset_reads_them_where_its_own_are_missing(tiny_world: Path, tmp_path: Path) -> None:
    reading = dict(lidar_sweeps=0, radar_sweeps=0, missing_labels=dict(share=1 / 3))
    options = dict(root=tiny_world, split='train', sensors=('lidar',), tasks=('detection', 'lanes'))
    bare = NuScenesDataset(**options, reading=reading)
    facts = split_facts(bare.metainfo['version'], 'train', bare.tokens, tiny_world)
    writer = PseudoWriter(tmp_path, TEACHER, facts, {'detection': TASKS['detection']})
    for token in bare.tokens:
        writer.write(token, {'detection': predicted()['detection']})
    writer.finish({'detection': bare.tokens})

    dataset = NuScenesDataset(**options, reading={**reading, 'pseudo_labels': tmp_path})
    assert dataset.label_table().sum(0).tolist() == [3, 2] and dataset.has_labels()
    for token, (has_own, _) in zip(bare.tokens, bare.label_table(), strict=True):
        assert (dataset.annotations_of(token).boxes.weights_M is None) == has_own
