"""The table of engines: a process a row, rows kept at once, scores by the configuration's own metrics."""
from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perception.core.config import read_config
from perception.core.contracts import Occupancy, TaskOutput
from perception.deployment.errors import ExportError
from perception.deployment.export.network import plain
from perception.deployment.frames import Frames, data_frames
from perception.deployment.measure import scores
from perception.deployment.measure.scores import ScoreDrop, Scorer
from perception.deployment.measure.table import (
    fill_table,
    format_engine_table,
    make_job,
    measure_apart,
    measure_row,
)
from tests.deployment.conftest import CONFIGS, Exported

FAST = {'network_ms_p50': 5.0, 'network_ms_p90': 6.0, 'memory_mb': 300.0, 'file_mb': 2.0,
        'scores': {'detection': 0.25, 'lanes': None}}


@pytest.fixture(scope='module')
def job(exported: Exported, tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The debug configuration on the tiny world, with the session's export and its weights as a
    checkpoint."""
    checkpoint = tmp_path_factory.mktemp('weights') / 'weights.pth'
    torch.save(exported.model.state_dict(), checkpoint)
    config = read_config(CONFIGS / 'debug.py', {'test_dataloader.dataset.root': str(tiny_world)})
    return make_job(config, str(checkpoint), exported.folder, samples=1, runs=2, budget_s=0.1, threads=1) | {
        'model': exported.sidecar.model_config}


def test_rows_are_kept_at_once_and_not_measured_twice(job: dict, tmp_path: Path):
    out, asked, said = tmp_path / 'table.json', [], []

    def measure(one: dict) -> dict:
        asked.append((one['engine'], one['precision']))
        if one['engine'] == 'openvino':
            raise KeyboardInterrupt
        return {'reason': 'no GPU here'} if one['engine'] == 'tensorrt' else FAST

    rows = [('torch', 'fp32'), ('tensorrt', 'fp16'), ('openvino', 'bf16')]
    with pytest.raises(KeyboardInterrupt):
        fill_table(job, rows, out, said.append, measure)
    assert list(json.loads(out.read_text())['rows']) == ['torch fp32', 'tensorrt fp16']
    found = fill_table(job, rows[:2], out, said.append, measure)
    assert asked == [*rows, ('tensorrt', 'fp16')]  # what was not available is measured again
    assert said[-2:] == ['torch fp32: measured before', 'tensorrt fp16: no GPU here']
    assert found['torch fp32'] == FAST
    fill_table({**job, 'samples': 7}, rows[:1], out, said.append, measure)
    assert asked[-1] == ('torch', 'fp32')  # other samples, other scores
    out.write_text('[]')
    with pytest.raises(ValueError, match='table.json: not a table of engines'):
        fill_table(job, rows, out, said.append, measure)


def test_the_table_says_what_is_missing_and_why():
    rows = {'torch fp32': FAST, 'tensorrt fp16': {'reason': 'no NVIDIA GPU'}}
    text = format_engine_table(rows).splitlines()
    assert text[0].startswith('| engine | detection/NDS | map/mIoU |')
    assert text[1].count('|') == text[0].count('|')
    assert text[2] == '| torch fp32 | 0.2500 | - | - | - | 5.0 | 6.0 | - | - | 300.0 | 2.0 |'
    assert text[-1] == '* tensorrt fp16: no NVIDIA GPU'


def test_a_row_is_measured_and_scored(job: dict):
    row = measure_row({**job, 'engine': 'onnxruntime', 'precision': 'fp32'})
    times = ('network_ms_p50', 'network_ms_p90', 'frame_ms_p50', 'pipelined_ms_mean', 'warm_up_s')
    assert all(row[name] > 0 for name in times)
    file_mb = Path(job['export'], 'network.onnx').stat().st_size / 1e6
    assert row['memory_mb'] > 100 and row['file_mb'] == pytest.approx(file_mb)
    assert row['samples'] == 1
    assert set(row['scores']) == {'detection', 'map_segmentation', 'occupancy', 'lanes'}
    assert all(0 <= score <= 1 for score in row['scores'].values() if score == score)
    # scored, and the weights are random
    assert 0 <= row['scores']['occupancy'] < 0.5 and not row['scores']['lanes'] > 0.5


def test_what_is_not_available_says_why_from_its_own_process(
    job: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    row = measure_apart({**job, 'engine': 'openvino', 'precision': 'int8'})
    assert 'no quantised network here' in row['reason']
    broken = tmp_path / 'python'
    broken.write_text('#!/bin/sh\necho Traceback >&2\necho "ImportError: no module" >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setattr('sys.executable', str(broken))
    reason = measure_apart({'engine': 'openvino'})['reason']
    assert reason == 'its process ended with 1 and said: ImportError: no module'


class Oracle:
    """Stands for a model whose predictions are the labels; `wrong` spoils a fraction of the voxels."""

    heads = {'occupancy': None, 'lanes': None}
    memory = None

    def __init__(self, frames: Frames) -> None:
        self.frames, self.wrong, self.asked = frames, 0.0, -1

    def decode(self, raw: dict, batch: object) -> list[TaskOutput]:
        truth = next(
            labels
            for i in range(self.frames.count)
            for found, (labels,) in [self.frames.labelled(i)]
            if found.frames[0].token == batch.frames[0].token
        )
        voxels = truth.occupancy.semantics_XYZ.copy()
        spoilt = np.random.default_rng(0).random(voxels.shape) < float(raw['occupancy']['wrong'])
        voxels[spoilt] = 17
        return [TaskOutput(batch.frames[0], occupancy=Occupancy(voxels))]


@pytest.fixture
def scorer(tiny_world: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    config = read_config(CONFIGS / 'debug.py', {'test_dataloader.dataset.root': str(tiny_world)})
    frames = data_frames(plain(config.test_dataloader))
    monkeypatch.setattr(scores, 'graph_inputs', lambda model, batch: {})
    return Scorer(Oracle(frames), frames, plain(config.test_evaluator), samples=1)


def test_a_scorer_uses_the_configurations_metrics(scorer: Scorer):
    right = scorer(lambda inputs: {'occupancy.wrong': np.array(0.0)})
    assert right['occupancy'] == pytest.approx(1.0) and not right['lanes'] > 0
    assert list(right) == ['occupancy', 'lanes']
    assert 0.2 < scorer(lambda inputs: {'occupancy.wrong': np.array(0.5)})['occupancy'] < 0.8


def test_the_drop_is_that_of_the_worst_task(monkeypatch: pytest.MonkeyPatch):
    found = {
        'network.onnx': {'detection': 0.4, 'lanes': 0.2, 'occupancy': 0.0},
        'a.onnx': {'detection': 0.38, 'lanes': 0.25, 'occupancy': 0.0},
        'b.onnx': {'detection': math.nan, 'lanes': 0.2, 'occupancy': 0.0}}
    monkeypatch.setattr(ScoreDrop, '_scores', lambda self, path: found[path.name])
    drop = ScoreDrop(SimpleNamespace(indices=range(3)), 'network.onnx')
    assert drop(Path('a.onnx')) == pytest.approx(0.05) and drop(Path('network.onnx')) == 0
    assert drop.as_dict()['samples'] == 3 and drop(Path('b.onnx')) == math.inf
    found['network.onnx'] = {'detection': 0.0, 'lanes': math.nan}
    with pytest.raises(ExportError, match='no task scores above zero on 3 samples'):
        ScoreDrop(SimpleNamespace(indices=range(3)), 'network.onnx')
