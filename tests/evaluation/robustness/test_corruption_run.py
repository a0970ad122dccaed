"""The whole line with failing sensors: the test command's rows on the tiny world, with a model of random
weights."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from perception.evaluation.storage.resume import describe_run
from perception.training.runner import PerceptionRunner

ROOT = Path(__file__).resolve().parents[3]
TWO_TASKS = {'model.heads.occupancy': None, 'model.heads.lanes': None}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the debug configuration."""
    from perception.core.config import read_config
    from perception.registry import MODELS
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    model = MODELS.build(read_config(ROOT / 'configs' / 'debug.py', TWO_TASKS).model)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return path


Ran = dict[tuple[str, float], dict[str, bool]]


class Stopped(Exception):
    """Somebody pulled the plug."""


def stop(runner: PerceptionRunner, after: int) -> None:
    """Let the model fail after so many samples."""
    original, seen = runner.model.test_step, []

    def stopped_step(batch: dict) -> list:
        if len(seen) == after:
            raise Stopped
        seen.append(batch)
        return original(batch)
    runner.model.test_step = stopped_step


def run(
    tiny_world: Path,
    checkpoint: Path,
    work_dir: Path,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    overwrite: bool = False,
    stop_after: int | None = None,
) -> Ran:
    """`tools/test.py --corruption words --limit 2` in this process; the rows that the model really ran, and
    its sensors."""
    from perception.cli.evaluation.corruption_rows import test_corruptions
    from perception.evaluation.robustness.suite import CorruptedTest
    from perception.training.launch import build_runner
    ran, original = {}, CorruptedTest.__call__

    def counted(self: CorruptedTest, name: str, severity: float) -> dict[str, float]:
        found = original(self, name, severity)
        data = self.runner.test_loop.dataloader.dataset
        ran[name, severity] = {**data[-1][0].present(), 'samples': len(data)}
        return found

    monkeypatch.setattr(CorruptedTest, '__call__', counted)
    options = TWO_TASKS | {
        'test_dataloader.dataset.root': str(tiny_world), 'custom_hooks': [],
        'test_evaluator.options': {'occupancy': {'rays': False}},
        'test_evaluator.tasks': ('detection', 'map_segmentation'),
        'visualizer.vis_backends': [{'type': 'LocalVisBackend'}]}
    args = argparse.Namespace(
        config=str(ROOT / 'configs' / 'debug.py'), checkpoint=str(checkpoint), engine='torch',
        precision='fp32', sensors=None, split=None, limit=2, cfg_options=options, corruption=words,
        baseline=None, out=None, overwrite=overwrite)
    runner = build_runner(args.config, work_dir=work_dir, checkpoint=args.checkpoint, options=options)
    if stop_after is not None:
        stop(runner, stop_after)
    try:
        test_corruptions(runner, args, work_dir, describe_run(runner.cfg, args.checkpoint))
    except Stopped:
        pass
    monkeypatch.undo()
    return ran


def test_rows_run_once_are_kept_and_summed_up(
    tiny_world: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    words = 'view_drop:6,beam_reduction:32,beam_reduction:1,missing_lidar,lidar_late:1,radar_dead'
    ran = run(tiny_world, checkpoint, tmp_path, words, monkeypatch)
    assert list(ran) == [
        ('clean', 0.0), ('view_drop', 6), ('beam_reduction', 1), ('missing_lidar', 1), ('lidar_late', 1)]
    assert (
        ran['clean', 0.0]
        == ran['beam_reduction', 1]
        == {'camera': True, 'lidar': True, 'radar': False, 'samples': 2}
    )
    assert not ran['view_drop', 6]['camera'] and not ran['missing_lidar', 1]['lidar']
    shown = capsys.readouterr().out
    assert 'left out, no such sensor in the model: radar_dead' in shown and 'metabev (part of it)' in shown
    kept = json.loads((tmp_path / 'corruptions.json').read_text())
    scores = {(row['corruption'], row['severity']): row['metrics'] for row in kept['rows']}
    assert scores['beam_reduction', 32] == scores['clean', 0]
    again = run(tiny_world, checkpoint, tmp_path, words + ',fog:1', monkeypatch)
    assert list(again) == [('fog', 1)]
    assert 'scores of 2 of 3 samples, spread evenly, of the split "val"' in capsys.readouterr().out


def test_a_row_goes_on_with_its_evaluated_samples(
    tiny_world: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    whole = run(tiny_world, checkpoint, tmp_path / 'whole', 'view_noise:2', monkeypatch)
    assert [found['samples'] for found in whole.values()] == [2, 2]
    assert run(tiny_world, checkpoint, tmp_path / 'parts', 'view_noise:2', monkeypatch, stop_after=3) == {
        ('clean', 0.0): whole['clean', 0.0]}
    part = tmp_path / 'parts' / 'corruptions' / 'view_noise_2.part'
    assert len(list((part / 'samples').glob('*.npz'))) == 1
    rest = run(tiny_world, checkpoint, tmp_path / 'parts', 'view_noise:2', monkeypatch)
    assert {row: found['samples'] for row, found in rest.items()} == {
        ('view_noise', 2): 1
    } and not part.exists()
    scores = [json.loads((tmp_path / name / 'corruptions.json').read_text()) for name in ('whole', 'parts')]
    assert json.dumps(scores[0]) == json.dumps(scores[1])
    again = run(tiny_world, checkpoint, tmp_path / 'parts', 'view_noise:2', monkeypatch, overwrite=True)
    assert list(again) == [('clean', 0.0), ('view_noise', 2)]
