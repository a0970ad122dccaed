"""The debug configuration on the tiny world."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

DEBUG = Path(__file__).resolve().parents[2] / 'configs' / 'debug.py'


@pytest.fixture(scope='session')
def world_options(tiny_world: Path) -> dict[str, object]:
    """What turns the debug configuration into a run of seconds on the tiny world, without validation."""
    return {
        f'{loader}.dataset.root': str(tiny_world) for loader in ('train_dataloader', 'test_dataloader')
    } | {
        'train_dataloader.batch_size': 1, 'train_cfg.max_epochs': 1, 'custom_hooks': [],
        'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None,
        'visualizer.vis_backends': [{'type': 'LocalVisBackend'}],
        'test_evaluator.options': {'occupancy': {'rays': False}}}


@pytest.fixture
def make_runner(world_options: dict[str, object], tmp_path: Path) -> Callable:
    """A runner of the debug configuration; keyword `options` change it further."""
    from perception.training.launch import build_runner

    def make(options: dict | None = None, work_dir: Path = tmp_path / 'run', **words: object):
        return build_runner(DEBUG, work_dir=work_dir, options={**world_options, **(options or {})}, **words)
    return make
