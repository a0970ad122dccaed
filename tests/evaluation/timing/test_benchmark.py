"""The timing program at a size where only the existence of its results and its made truth matter."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perception.evaluation.suite import MetricSuite
from perception.evaluation.timing.benchmark import time_big_file, time_grids
from perception.evaluation.timing.made_samples import make_sample

EVALUATE = [sys.executable, str(Path(__file__).resolve().parents[3] / 'tools' / 'evaluate.py')]


def test_a_made_file_is_evaluated_in_its_own_process(tmp_path):
    found = time_big_file(150, 40, tmp_path, EVALUATE)
    assert found['samples'] == 150
    assert found['boxes'] == 6000
    assert found['evaluation s (process start to scores)'] > 0
    assert 0 < found['NDS of the made file'] < 1


def test_grids_are_extrapolated():
    found = time_grids(2, 120)
    for task in ('map_segmentation', 'occupancy', 'lanes'):
        assert found[f'{task}: 120 samples min'] == pytest.approx(found[f'{task}: 2 samples s'])


def test_a_made_sample_has_predictions_and_truth_of_three_tasks():
    suite = MetricSuite(('map_segmentation', 'occupancy', 'lanes'), {'occupancy': {'rays': False}})
    metrics = suite.report([suite.summarise(*make_sample(3))]).metrics
    assert 0 < metrics['map/mIoU'] < 1 and metrics['occupancy/mIoU_all'] > 0.3 and metrics['lanes/mAP'] >= 0
