"""Predictions looked up by frame: our folder of results and a nuScenes file say the same."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import DetectionClasses, Frame, TaskOutput
from perception.core.geometry import rotation_z
from perception.evaluation.detection.metric import results_file
from perception.evaluation.errors import ResultError
from perception.evaluation.storage.predictions import StoredPredictions
from perception.evaluation.storage.results import ResultStore
from tests.visualization.frames import make_output


def sloping_frame(token: str = 'token') -> Frame:
    """A car far from the origin, turned, on a slope."""
    slope = np.eye(4)
    slope[:3, :3] = np.array([[np.cos(0.1), 0, np.sin(0.1)], [0, 1, 0], [-np.sin(0.1), 0, np.cos(0.1)]])
    pose = rotation_z(0.7) @ slope
    pose[:3, 3] = 600, 1600, 3
    return Frame(token, 5, pose, 'scene-1')


@pytest.fixture
def stored(tmp_path):
    """Results of one frame, the worse box first in nothing, with a velocity."""
    boxes = make_output().detection
    moving = boxes.boxes_M9.copy()
    moving[:, 6:] = [[0.3, 5, -2], [-2.5, 0, 1]]
    store = ResultStore(tmp_path / 'results')
    output = TaskOutput(sloping_frame(), detection=replace(boxes, boxes_M9=moving))
    store.write(output)
    return store.folder, output, store.merge({})


def test_a_folder_and_a_file_give_the_same_boxes(stored):
    folder, output, files = stored
    work_dir = folder.parent  # what a user of tools/test.py named
    assert results_file(work_dir) == results_file(folder) == files['detection']
    for path in (folder, work_dir, files['detection']):
        found = StoredPredictions(path)(output.frame)
        np.testing.assert_allclose(found.detection.boxes_M9, output.detection.boxes_M9, atol=2e-4)
        np.testing.assert_allclose(found.detection.scores_M, [0.9, 0.2], atol=1e-6)
        assert found.detection.labels_M.tolist() == [0, 5] and found.frame.token == 'token'


def test_boxes_of_own_classes_keep_what_their_labels_mean(tmp_path):
    """From the file as from the folder: nothing may take label 1 for a truck."""
    classes = DetectionClasses.of({
        'cart': {'categories': ['vehicle.cart']}, 'tractor': {'categories': ['vehicle.tractor']}})
    boxes = replace(make_output().detection, labels_M=np.array([1, 0]), classes=classes)
    store = ResultStore(tmp_path / 'results')
    store.write(TaskOutput(sloping_frame(), detection=boxes))
    for path in (store.folder, store.merge({})['detection']):
        found = StoredPredictions(path)(sloping_frame()).detection
        assert [found.classes.names[label] for label in found.labels_M] == ['tractor', 'cart'], path


def test_a_frame_that_is_not_there_is_an_error_that_names_it(stored):
    folder, _, files = stored
    for path in (folder, files['detection']):
        with pytest.raises(ResultError, match='other has no result'):
            StoredPredictions(path)(sloping_frame('other'))


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(ResultError, match='found none'):
        StoredPredictions(tmp_path)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ResultError, match='absent.json'):
        StoredPredictions(tmp_path / 'absent.json')
