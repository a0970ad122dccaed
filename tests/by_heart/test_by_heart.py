"""The program that learns the real frames by heart: which frames, which ground, what it computes once."""
from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import torch

from perception.registry import MODELS
from tests.by_heart.by_heart import by_heart_config, fit_schedule, remembered, write_infos

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'nuscenes'


@pytest.mark.parametrize(('name', 'frames'), [('camera_lidar', 2), ('camera', 4)])
def test_frames_with_every_sensor_are_learned(
    name: str, frames: int, real_frames: Path, real_infos: Path, tmp_path: Path
) -> None:
    args = argparse.Namespace(
        config=CONFIGS / f'{name}.py', frames_root=real_frames, work_dir=tmp_path, radius_m=32.0, steps=10,
        lr=1e-3, start=None, version='v1.0-mini', frames=None, batch_size=1,
        dtype='float32')
    config = by_heart_config(args, tmp_path / 'infos')
    shutil.copytree(real_infos, tmp_path / 'infos')
    tokens = write_infos(args, tmp_path / 'infos', config.test_dataloader.dataset)
    assert len(tokens) == frames and '3e8750f331d7499e9b5123e9eb70f2e2' in tokens

    fit_schedule(config, args, frames)
    assert config.train_cfg.max_epochs * frames >= 10
    with torch.device('meta'):
        model = MODELS.build(config.model.to_dict())
    assert list(model.heads) == ['detection'] and model.heads['detection'].grid.shape_YX == (80, 80)


def test_some_frames_of_a_world_are_learned_in_batches(tiny_world: Path, tmp_path: Path) -> None:
    """By its own optimiser; without cameras nothing is frozen."""
    args = argparse.Namespace(
        config=CONFIGS.parent / 'world' / 'lidar.py', frames_root=tiny_world, work_dir=tmp_path,
        radius_m=32.0, steps=7, lr=1e-3, start=None, version='v1.0-trainval', frames=3, batch_size=2,
        dtype='float32')
    config = by_heart_config(args, tmp_path / 'infos')
    tokens = write_infos(args, tmp_path / 'infos', config.test_dataloader.dataset)
    fit_schedule(config, args, len(tokens))
    assert len(set(tokens)) == 3 and config.train_dataloader.batch_size == 2
    assert config.train_cfg.max_epochs == 4  # of two steps
    assert config.optim_wrapper.optimizer.type == 'MuonAdamW' and not config.get('freeze')


def test_a_still_backbone_is_computed_once() -> None:
    calls = []
    once = remembered(lambda backbone, images: calls.append(1) or (images * 2,))
    first, second = torch.rand(2, 1, 3, 16, 16)
    for images in (first, second, first):
        assert torch.equal(once(None, images)[0], images * 2)
    assert len(calls) == 2


def test_a_still_backbones_maps_serve_the_test_after_steps_in_half_precision() -> None:
    once = remembered(lambda backbone, images: (images.bfloat16(),))
    images = torch.rand(1, 3, 16, 16)
    assert once(None, images)[0].dtype == torch.float32
    assert torch.equal(once(None, images)[0], images.bfloat16().float())
