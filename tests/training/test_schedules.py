"""The one-cycle schedule of every configuration that has one: where it begins, its peak, and its end."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from perception.core.config import config_name, read_config
from tests.training.toy import ToyData, loader_of, toy_runner

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CYCLES = {
    'nuscenes/camera': (1e-4, 8, 20),
    'nuscenes/camera_lidar': (1e-4, 8, 20),
    'nuscenes/camera_lidar_swin': (1e-4, 8, 20),
    'nuscenes/centerpoint': (1e-4, 8, 20),
    'nuscenes/centerpoint_voxel': (1e-4, 8, 20),
    'nuscenes/cop': (1e-4, 8, 20),
    'nuscenes/ctab': (1e-4, 5, 12),
    'nuscenes/lidar': (1e-4, 8, 20),
    'nuscenes/lidar_sparse': (1e-4, 8, 20),
    'nuscenes/lidar_voxel': (1e-4, 8, 20),
    'nuscenes/m3net_mafi': (1e-4, 8, 20),
    'nuscenes/m3net_mamba': (8e-5, 6, 15),
    'nuscenes/m3net_queries': (8e-5, 6, 15),
    'nuscenes/m3net_transformer': (8e-5, 6, 15),
    'nuscenes/metabev': (1e-4, 8, 20),
    'nuscenes/metabev_moe_hard': (1e-4, 8, 20),
    'nuscenes/metabev_moe_routed': (1e-4, 8, 20),
    'nuscenes/metabev_switched': (1e-4, 3, 8),
    'nuscenes/realtime': (1e-4, 8, 20),
    'nuscenes/realtime_small': (1e-4, 8, 20),
    'nuscenes/realtime_tiny': (1e-4, 8, 20),
    'nuscenes/stages/lidar_paste': (1e-4, 8, 20),
    'nuscenes/stages/m3net_1_boxes': (8e-5, 2, 6),
    'nuscenes/stages/m3net_2_map': (8e-5, 5, 12),
    'nuscenes/stages/m3net_3_occupancy': (8e-5, 6, 15),
    'nuscenes/stages/metabev_1_boxes': (1e-4, 10, 26),
    'nuscenes/stages/metabev_2_hard': (1e-4, 4, 10),
    'nuscenes/stages/metabev_2_tasks': (1e-4, 4, 10),
    'nuscenes/stages/strong_1_lidar': (1e-4, 8, 20),
    'nuscenes/temporal': (1e-4, 8, 20),
}
"""Rate at the start, epochs to the peak, epochs in all: a rise by ten over two fifths of the run."""
OTHERS = {
    'nuscenes/stages/camera_lidar', 'nuscenes/stages/strong_2_joint', 'nuscenes/stages/strong_3_temporal'}
"""A warm-up and half a wave."""
STEADY_MOMENTUM = {'nuscenes/ctab'}
STEPS = 40
"""Of an epoch of the toy."""


def rates_and_momenta(path: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the optimiser uses at every step of a training by a configuration's schedule."""
    config = read_config(path)
    runner = toy_runner(
        folder, train_cfg=config.train_cfg.to_dict(), custom_hooks=[], default_hooks=dict(checkpoint=None),
        train_dataloader=loader_of(dataset=ToyData(2 * STEPS)))
    assert len(runner.train_loop.dataloader) == STEPS
    rate = config.optim_wrapper.optimizer.lr
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=rate)
    runner.optim_wrapper = runner.build_optim_wrapper(dict(type='GuardedOptimWrapper', optimizer=optimizer))
    schedules = runner.build_param_scheduler([part.to_dict() for part in config.param_scheduler])

    rates, momenta, group = [], [], optimizer.param_groups[0]
    for _ in range(config.train_cfg.max_epochs * STEPS):
        rates.append(group['lr'])
        momenta.append(group['betas'][0])
        optimizer.step()
        for schedule in schedules:
            assert not schedule.by_epoch
            schedule.step()
    return np.array(rates), np.array(momenta)


@pytest.mark.parametrize('path', sorted((CONFIGS / 'nuscenes').rglob('*.py')), ids=config_name)
def test_one_cycle(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    rates, momenta = rates_and_momenta(path, tmp_path)
    name = config_name(path)
    if name in OTHERS:
        assert rates.max() <= rates[0] * 3 and momenta.min() == momenta.max() == 0.9
        return
    first, rising, epochs = CYCLES[name]
    peak, last = rising * STEPS, epochs * STEPS
    assert len(rates) == last and abs(peak / last - 0.4) < 0.07

    # half waves: from the first rate to ten times it, and down to a hundred-thousandth of that
    rise, fall = np.arange(peak) / peak, np.arange(last - peak) / (last - peak)
    wave = np.concatenate([first + 9 * first * (1 - np.cos(np.pi * rise)) / 2,
                           first * (1e-5 + (10 - 1e-5) * (1 + np.cos(np.pi * fall)) / 2)])
    np.testing.assert_allclose(rates, wave, rtol=0.02, atol=1e-3 * first)
    assert 0 < rates[-1] < 0.2 * first

    low = 0.9 if name in STEADY_MOMENTUM else 0.9 * 0.85 / 0.95
    assert momenta[0] == momenta.max() == pytest.approx(0.9) and momenta[-1] == pytest.approx(0.9, rel=1e-3)
    assert momenta.min() == pytest.approx(low, rel=1e-3)
    if name not in STEADY_MOMENTUM:
        assert abs(int(momenta.argmin()) - peak) <= 1 and abs(int(rates.argmax()) - peak) <= 1
