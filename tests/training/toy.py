"""A training of milliseconds: ten samples, a linear layer with a norm, noise from the global generators."""
from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import Dataset

from perception.core.checkpoint import read_checkpoint
from perception.core.selection import split_draw
from perception.training.runner import PerceptionRunner

SAMPLES = 10


class ToyData(Dataset):
    """Numbers from (draw, index); `drawn` lists what was asked for in this process."""

    accepts_draws = True
    metainfo = {'root': 'toy', 'split': 'train'}

    def __init__(self, samples: int = SAMPLES) -> None:
        self.samples = samples
        self.drawn: list[tuple[int | None, int]] = []

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        draw, index = split_draw(number, len(self))
        self.drawn.append((draw, index))
        rng = np.random.default_rng([draw or 0, index])
        return {'inputs': torch.from_numpy(rng.normal(size=4)).float()}


class ToyModel(BaseModel):
    """Loss of a linear layer, a batch norm, dropout and noise of three generators."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 1))

    def forward(self, inputs: Tensor, mode: str = 'loss') -> Any:
        if mode != 'loss':
            return self.layers(inputs)
        noise = torch.rand(()) + random.random() + np.random.rand()
        return {'loss/toy': (self.layers(inputs) - noise).square().mean()}


def toy_config(work_dir: Path, **changes: Any) -> dict[str, Any]:
    """Two epochs of five steps, a checkpoint after every step, EMA, warm-up and cosine."""
    cosine = dict(type='CosineAnnealingLR', by_epoch=False, T_max=10, eta_min=2e-6)
    return {
        'model': ToyModel(), 'work_dir': str(work_dir), 'default_scope': 'perception',
        'experiment_name': work_dir.name,
        'train_dataloader': dict(
            dataset=ToyData(), batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'),
            sampler=dict(type='SeededSampler')),
        'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=2),
        'optim_wrapper': dict(type='GuardedOptimWrapper', optimizer=dict(type='AdamW', lr=2e-4)),
        'param_scheduler': [cosine],
        'default_hooks': dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
            logger=dict(type='LoggerHook', interval=1)),
        'custom_hooks': [dict(type='EMAHook')],
        'randomness': dict(seed=0),
        'visualizer': dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
    } | changes


def toy_runner(work_dir: Path, resume: Path | bool = False, **changes: Any) -> PerceptionRunner:
    """A runner; `resume` is a checkpoint, or True for the newest of the work dir."""
    config = toy_config(work_dir, **changes)
    balancer = config.pop('balancer', None)
    parts = {name: config.pop(name) for name in ('model', 'train_dataloader')}
    if resume:
        config |= {'resume': True, 'load_from': None if resume is True else str(resume)}
    plain = {name: value for name, value in config.items() if not isinstance(value, (str, Evaluator))}
    plain.pop('val_dataloader', None)
    return PerceptionRunner(**config, **parts, cfg=Config({**plain, 'balancer': balancer}))


def loader_of(**changes: Any) -> dict[str, Any]:
    """The toy's loader with other options."""
    return toy_config(Path('toy'))['train_dataloader'] | changes


def plain_state(path: Path) -> dict[str, Any]:
    """All of a checkpoint that a training goes on with, without times and logs."""
    checkpoint = read_checkpoint(path)
    meta = checkpoint['meta']
    names = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
    kept = {name: checkpoint[name] for name in names}
    return kept | {name: meta[name] for name in ('epoch', 'iter', 'progress', 'generators')}


def equal(a: Any, b: Any) -> bool:
    """Whether two nested values are the same to the bit."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b
