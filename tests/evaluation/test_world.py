"""The synthetic world's labels as predictions: perfect in all four tasks; noisy ones equal the devkit's
scores."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception.core.contracts import Boxes3D, Lanes, MapSegmentation, Occupancy, TaskOutput
from perception.core.raster import resample_polyline
from perception.evaluation.evaluate import Split, evaluate, evaluate_official
from perception.evaluation.lanes.protocol import cut_truth
from perception.evaluation.map_segmentation.protocol import draw_truth
from perception.evaluation.metrics import MultiTaskMetric

VERSION = 'v1.0-trainval'


def prediction(sample, truth, noise: float, rng: np.random.Generator) -> TaskOutput:
    """The labels as a model would give them."""
    seen = truth.boxes.select(truth.boxes.num_lidar_points_M + truth.boxes.num_radar_points_M > 0)
    boxes = seen.boxes_M9 + noise * rng.normal(size=seen.boxes_M9.shape) * [1, 1, 1, 0, 0, 0, 1, 1, 1]
    lines, labels = cut_truth(truth.lanes)
    points = np.array([resample_polyline(line, 20) for line in lines], np.float32).reshape(-1, 20, 2)
    semantics = np.where(truth.occupancy.semantics_XYZ > 17, 17, truth.occupancy.semantics_XYZ).astype(
        np.uint8
    )
    scores = rng.random(len(boxes)).astype(np.float32)
    return TaskOutput(
        sample.frame, Boxes3D(boxes.astype(np.float32), scores, seen.labels_M, seen.attributes_M),
        MapSegmentation(draw_truth(truth.map_layers).astype(np.float32), (-50.0, 50.0), (-50.0, 50.0)),
        Occupancy(semantics), Lanes(points, np.full(len(points), 0.9, np.float32), labels))


def evaluated(world: Path, out: Path, noise: float) -> dict[str, float]:
    from perception.datasets.reading.dataset import NuScenesDataset
    dataset = NuScenesDataset(world, VERSION, 'val', sensors=(), test_mode=True)
    metric, rng = (
        MultiTaskMetric(results_dir=out, root=world, version=VERSION, split='val'), np.random.default_rng(0))
    for i in range(len(dataset)):
        sample, truth = dataset.load(i)
        metric.process({'data_samples': [truth]}, [prediction(sample, truth, noise, rng)])
    return metric.evaluate(len(dataset))


def test_truth_is_perfect_in_four_tasks(tiny_world, tmp_path):
    scores = evaluated(tiny_world, tmp_path, 0.0)
    for name in (
        'detection/mAP_present_classes', 'occupancy/mIoU_camera', 'occupancy/mIoU_lidar',
        'occupancy/mIoU_all', 'occupancy/RayIoU', 'lanes/mAP'):
        assert scores[name] == pytest.approx(1.0, abs=1e-6), name
    drawn = [scores[f'map/IoU_{name}'] for name in ('drivable_area', 'walkway', 'divider')]
    assert drawn == pytest.approx([1.0] * 3, abs=1e-5)


@pytest.mark.parametrize('split', ['val', 'world_val'])
def test_noisy_boxes_equal_devkit(tiny_world, tmp_path, split):
    evaluated(tiny_world, tmp_path, 0.4)
    where = Split(tiny_world, VERSION, split)
    ours, theirs = evaluate(tmp_path / 'results_nusc.json', where).metrics, evaluate_official(tmp_path, where)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-9)
    assert 0 < ours['detection/mAP'] < 1
