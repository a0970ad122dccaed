"""Kill make-world, create-data and test at random moments, run each again, and compare with one left alone.

Behind a switch, since it takes minutes: `PERCEPTION_KILLS=10 pytest -n0 -s tests/cli/test_kills.py`.
"""
from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from perception.core.config import read_config
from perception.registry import MODELS

KILLS = int(os.environ.get('PERCEPTION_KILLS', 0))
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not KILLS, reason='PERCEPTION_KILLS says how many kills; it takes minutes')


def start(words: list[object]) -> subprocess.Popen:
    """`perception WORDS` in a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, '-m', 'perception', *map(str, words)], cwd=ROOT, start_new_session=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(words: list[object]) -> float:
    """Run a command to its end; gives its seconds."""
    began, process = time.monotonic(), start(words)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    return time.monotonic() - began


def kill_often(words: list[object], lasts_s: float, target: Path) -> int:
    """Kill a command -9 at KILLS moments spread over its run, its workers left to notice.

    One that comes to its end is begun again from nothing. Gives how many kills found files.
    """
    rng, met = random.Random(0), 0
    for _ in range(KILLS):
        process = start(words)
        try:
            process.communicate(timeout=rng.uniform(0.2, 1.1) * lasts_s)
            shutil.rmtree(target)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            met += target.is_dir() and any(target.rglob('*'))
    return met


def contents(folder: Path) -> dict[str, bytes]:
    """{path: bytes} of all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob('*'))
        if path.is_file()}


def test_a_world(tmp_path: Path) -> None:
    def words(out: Path) -> list[object]:
        return [
            'make-world', '--out', out, '--scenes', 3, '--key-frames', 4, '--image-size', '112x200',
            '--seed', 3, '--workers', 2]

    lasts_s = finish(words(tmp_path / 'whole'))
    met = kill_often(words(tmp_path / 'killed'), lasts_s, tmp_path / 'killed')
    finish(words(tmp_path / 'killed'))

    print(f'\nmake-world: {lasts_s:.0f} s, {KILLS} kills, {met} met files')
    assert contents(tmp_path / 'killed') == contents(tmp_path / 'whole')


def test_infos(tiny_world: Path, tmp_path: Path) -> None:
    def words(out: Path) -> list[object]:
        return [
            'create-data', 'nuscenes', '--root', tiny_world, '--version', 'v1.0-trainval', '--out', out,
            '--lidar-sweeps', 2, '--radar-sweeps', 0, '--workers', 1]

    lasts_s = finish(words(tmp_path / 'whole'))
    met = kill_often(words(tmp_path / 'killed'), lasts_s, tmp_path / 'killed')
    finish(words(tmp_path / 'killed'))

    print(f'\ncreate-data: {lasts_s:.0f} s, {KILLS} kills, {met} met files')
    whole, killed = contents(tmp_path / 'whole'), contents(tmp_path / 'killed')
    assert list(killed) == list(whole)
    assert {name for name in whole if whole[name] != killed[name]} == set()


def test_a_test(tiny_world: Path, tmp_path: Path) -> None:
    config, checkpoint = ROOT / 'configs' / 'debug.py', tmp_path / 'weights.pth'
    torch.manual_seed(0)
    model = MODELS.build(read_config(config).model)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, checkpoint)

    def words(out: Path) -> list[object]:
        return [
            'test', config, checkpoint, '--work-dir', out, '--split', 'train', '--cfg-options',
            f'test_dataloader.dataset.root={tiny_world}', 'test_dataloader.batch_size=1']

    lasts_s = finish(words(tmp_path / 'whole'))
    met = kill_often(words(tmp_path / 'killed'), lasts_s, tmp_path / 'killed')
    finish(words(tmp_path / 'killed'))

    print(f'\ntest: {lasts_s:.0f} s, {KILLS} kills, {met} met files')
    whole, killed = contents(tmp_path / 'whole'), contents(tmp_path / 'killed')
    results = [name for name in whole if name.startswith('results/')]
    assert 'metrics.json' in whole and results
    for name in ['metrics.json', *results]:
        assert killed[name] == whole[name], name
