"""Real labels, through the infos and back, score perfect under the official truth of the tables."""
from __future__ import annotations

import json

import numpy as np
import pytest

from perception.core.contracts import Boxes3D, TaskOutput
from perception.core.protocols import DETECTION_CLASSES
from perception.evaluation.evaluate import Split, evaluate
from perception.evaluation.metrics import MultiTaskMetric


@pytest.fixture(scope='module')
def dataset(real_frames, real_infos):
    """mini_val labels (no sensor is read)."""
    from perception.datasets.reading.dataset import NuScenesDataset
    return NuScenesDataset(real_frames, 'v1.0-mini', 'mini_val', infos=real_infos, sensors=(), test_mode=True)


def as_answer(sample, truth) -> TaskOutput:
    """Boxes that have a point, as a detector would give them."""
    seen = truth.boxes.select(truth.boxes.num_lidar_points_M + truth.boxes.num_radar_points_M > 0)
    return TaskOutput(
        sample.frame,
        Boxes3D(
            seen.boxes_M9, np.full(len(seen.labels_M), 0.9, np.float32), seen.labels_M, seen.attributes_M
        ),
    )


def test_real_boxes_score_perfect(dataset, real_frames, tmp_path):
    """Every class that occurs: AP 1, errors 0 (velocity of single sightings unknown), by our truth and by the
    tables'."""
    tables = MultiTaskMetric(
        ('detection',), results_dir=tmp_path, root=real_frames, version='v1.0-mini', split='mini_val'
    )
    infos = MultiTaskMetric(('detection',))
    for i in range(len(dataset)):
        sample, truth = dataset.load(i)
        for metric in (tables, infos):
            metric.process({'data_samples': [truth]}, [as_answer(sample, truth)])
    for metric in (tables, infos):
        reported, scores = metric.evaluate(len(dataset)), metric.report.totals['detection'].scores
        present = [c for c, name in enumerate(DETECTION_CLASSES) if scores.curves[name, 2.0].truths]
        assert len(present) >= 6
        assert scores.ap_CT[present].min() == pytest.approx(1.0)
        assert np.nanmax(scores.tp_error_CE[present, 0]) < 1e-3
        assert np.nanmax(scores.tp_error_CE[present, 1]) < 1e-5
        assert np.nanmax(scores.tp_error_CE[present, 2]) < 1e-4
        assert np.nanmax(scores.tp_error_CE[present, 3]) < 1e-3
    again = evaluate(tmp_path / 'results_nusc.json', Split(real_frames, 'v1.0-mini', 'mini_val')).metrics
    stored = json.loads((tmp_path / 'metrics.json').read_text())
    assert again == pytest.approx(stored, abs=1e-12) and len(reported) == len(stored)
