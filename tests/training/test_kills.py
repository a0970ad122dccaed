"""Kill a small training at random moments, finish it, and compare it with one that was left alone.

Behind a switch, since it takes minutes: `PERCEPTION_KILLS=10 pytest tests/training/test_kills.py`.
"""
from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from perception.core.checkpoint import read_checkpoint
from tests.training.conftest import DEBUG
from tests.training.toy import equal

KILLS = int(os.environ.get('PERCEPTION_KILLS', 0))
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not KILLS, reason='PERCEPTION_KILLS says how many kills; it takes minutes')


CONFIG = """
_base_ = ['{debug}']
train_dataloader = dict(batch_size=1, num_workers=1, persistent_workers=True, dataset=dict(root='{root}'))
val_dataloader = val_cfg = val_evaluator = None
custom_hooks = [dict(type='EMAHook')]
train_cfg = dict(max_epochs={epochs})
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=2))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
"""
"""A checkpoint after every step, a worker, averages of weights, random voxels in the loss."""


def command(work_dir: Path, config: Path) -> list[str]:
    """Train, or go on training."""
    return [
        sys.executable, '-m', 'perception', 'train', str(config), '--work-dir', str(work_dir), '--resume']


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    file = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(child) for child in file.read_text().split()] if file.exists() else []


def wait_for_progress(process: subprocess.Popen, folder: Path, rng: random.Random) -> None:
    """Wait for the next checkpoint and a little more; one time in four, only for a moment of the start."""
    before = set(folder.glob('iter_*'))
    soon = time.monotonic() + rng.uniform(1, 10)
    early = rng.random() < 0.25

    while process.poll() is None and not set(folder.glob('iter_*')) - before:
        if early and time.monotonic() > soon:
            return
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 3))


def test_a_training_that_was_killed_is_finished_the_same(tiny_world: Path, tmp_path: Path) -> None:
    """Kills fall anywhere between start and end of what is left, half-written checkpoints included."""
    epochs, steps = 4, 12
    config = tmp_path / 'killed.py'
    config.write_text(CONFIG.format(debug=DEBUG, root=tiny_world, epochs=epochs))
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    whole = subprocess.run(
        command(tmp_path / 'whole', config), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr[-2000:]

    rng, killed, workers, reached = random.Random(0), 0, [], []
    folder = tmp_path / 'killed'
    while killed < KILLS:
        process = subprocess.Popen(
            command(folder, config), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        wait_for_progress(process, folder, rng)
        if process.poll() is None:
            workers += children(process.pid)
            process.kill()
            killed += 1
        process.wait()
        reached.append(sorted(path.name for path in folder.glob('iter_*')))
        if f'iter_{steps}.pth' in reached[-1]:  # it came to its end: begin again
            for path in [*folder.glob('*.pth*'), folder / 'last_checkpoint']:
                path.unlink()

    finished = subprocess.run(
        command(folder, config), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    print(json.dumps({'kills': killed, 'reached': reached}))

    a, b = (read_checkpoint(tmp_path / name / f'iter_{steps}.pth') for name in ('whole', 'killed'))
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert equal(a[part], b[part]), part
    assert equal(a['meta']['generators'], b['meta']['generators'])
    assert all(torch.isfinite(value).all() for value in a['state_dict'].values())
    assert not [pid for pid in workers if Path(f'/proc/{pid}').exists()]
    assert not list(folder.glob('*.partial'))
