"""nuScenes' protocol over classes of one's own, on boxes whose scores one can work out in the head."""
from __future__ import annotations

import numpy as np
import pytest

from perception.core.contracts import Annotations, Boxes3D, BoxLabels, DetectionClasses, Frame, TaskOutput
from perception.evaluation.detection.metric import NuScenesDetection, join_truths
from perception.evaluation.detection.truth import GroundTruth

THINGS = DetectionClasses.of({
    'pole': dict(categories=['pole'], heading='none', moves=False, range_m=10),
    'bench': dict(categories=['bench'], heading='half', moves=False, range_m=60)})
FRAME = Frame('a', 0, np.eye(4), 'scene', 'nowhere')


def labels_at(distances_m: list[float], label: int, classes: DetectionClasses = THINGS) -> BoxLabels:
    m = len(distances_m)
    boxes = np.tile(np.float32([0, 0, 0, 2, 1, 1, 0, 0, 0]), (m, 1))
    boxes[:, 0] = distances_m
    ones = np.ones(m, np.int64)
    return BoxLabels(boxes, label * ones, -ones, ones, ones, ones, classes=classes)


def scores(labels: BoxLabels, yaw: float = 0.0) -> dict[str, float]:
    boxes = labels.boxes_M9.copy()
    boxes[:, 6] = yaw
    found = Boxes3D(boxes, np.ones(len(boxes)), labels.labels_M, labels.attributes_M, labels.classes)
    metric = NuScenesDetection()
    summary = metric.summarise(TaskOutput(FRAME, detection=found), Annotations('a', boxes=labels))
    return metric.scores(metric.accumulate([(FRAME, summary)]))


def test_errors_that_no_class_has_are_left_out_of_nds() -> None:
    """Benches turned by a quarter: errors of 0, 0 and pi/2, so NDS = (5 * 0.5 + 0.5 + 0.5 + 0) / 8."""
    found = scores(labels_at([5.0, 40.0], 1), yaw=np.pi / 2)
    assert found['detection/AP_bench'] == pytest.approx(1) and found['detection/AP_pole'] == 0
    assert np.isnan(found['detection/mAVE']) and np.isnan(found['detection/mAAE'])
    assert found['detection/mAOE'] == pytest.approx(np.pi / 2)
    assert found['detection/NDS'] == pytest.approx(3.5 / 8)


def test_a_heading_modulo_half_a_turn_is_the_class_own() -> None:
    assert scores(labels_at([5.0], 1), yaw=np.pi)['detection/mAOE'] == pytest.approx(0, abs=1e-6)


def test_ranges_are_the_class_own() -> None:
    """A pole counts to 10 m, a bench to 60 m, farther than any of the ten."""
    assert scores(labels_at([5.0], 0))['detection/AP_pole'] == pytest.approx(1)
    assert scores(labels_at([12.0], 0))['detection/AP_pole'] == 0
    assert scores(labels_at([55.0], 1))['detection/AP_bench'] == pytest.approx(1)


def test_truths_of_different_classes_are_not_joined() -> None:
    other = DetectionClasses.of({'pole': dict(categories=['pole']), 'bench': dict(categories=['bench'])})
    truths = [
        GroundTruth.from_frames([(Frame(name, 0, np.eye(4)), labels_at([5.0], 0, classes))])
        for name, classes in (('a', THINGS), ('b', other))]
    with pytest.raises(ValueError, match='pole, bench with other fields'):
        join_truths(truths)


def test_predictions_are_stored_with_their_classes() -> None:
    labels = labels_at([5.0], 1)
    boxes = Boxes3D(labels.boxes_M9, np.ones(1), labels.labels_M, labels.attributes_M, THINGS)
    metric = NuScenesDetection()
    assert metric.from_arrays(metric.to_arrays(boxes, FRAME)).classes == THINGS
    ten = Boxes3D(labels.boxes_M9, np.ones(1), labels.labels_M, labels.attributes_M)
    assert 'classes' not in metric.to_arrays(ten, FRAME)
