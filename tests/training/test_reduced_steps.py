"""Every nuScenes configuration trains a step on real values: its loaders, its schedule, its optimiser.

Widths, depths, losses, heads and fusers are the configurations' own. Cells are longer and images smaller, so
that a CPU takes a step in seconds; the data is the tiny world.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from perception.core.config import config_name, inner_datasets, read_config
from perception.registry import DATASETS, FUNCTIONS, MODELS
from perception.training.runner import PerceptionRunner

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs' / 'nuscenes').rglob('*.py'))
EVERY = bool(os.environ.get('PERCEPTION_FULL_SIZE'))
COARSER = {51.2: 8, 54.0: 9, 50.0: 4, 40.0: 5}
"""Half of a grid's width in metres -> how much longer its cells are: 16 x 16 or 20 x 20 of the trunk."""

each_configuration = pytest.mark.parametrize('path', CONFIGS, ids=config_name)


class OneStep(Hook):
    """Stops a training after its first step."""

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Stop."""
        raise StopIteration


def skip_unless_asked(path: Path, always: tuple[str, ...]) -> None:
    if not EVERY and path.stem not in always:
        pytest.skip('PERCEPTION_FULL_SIZE=1 runs every configuration; it takes minutes')


def coarsen(node: Any, further: int, done: set[int]) -> None:
    """Cells of every grid of a model's configuration become longer; grids may be shared."""
    for value in node.values():
        if isinstance(value, dict):
            if value.get('type') == 'BEVGrid' and id(value) not in done:
                low, high = value['x_range_m']
                value['cell_m'] *= COARSER[(high - low) / 2] * (further if high - low != 100 else 2)
                done.add(id(value))
            coarsen(value, further, done)


def reduced(path: Path, root: Path, further: int = 1) -> Any:
    """The configuration, coarser, on the tiny world, without published weights or an earlier stage's."""
    config, image_hw = read_config(path), (64 // further, 176 // further)
    coarsen(config.model, further, set())
    heads = config.model.heads
    if heads.occupancy is not None and heads.occupancy.type == 'OccupancyHead':
        heads.occupancy.work_cell_m = 1.6 * further  # labels have 0.4 m
    if heads.lanes is not None:
        heads.lanes.features.cell_m = 1.0 + further
    if config.model.get('bridge') and 'queries' in config.model.bridge:
        config.model.bridge.queries.occupancy_stride = 5  # a divisor of 20 and 10
        config.model.bridge.queries.voxels = 200  # of 1600 and 400
    if config.model.encoders.get('camera') is not None:
        config.model.encoders.camera.backbone.pretrained = None

    for loader in (config.train_dataloader, config.test_dataloader):
        loader.update(batch_size=1, num_workers=0, persistent_workers=False)
        loader.collate_fn.image_size_hw = image_hw
        for dataset in inner_datasets(loader.dataset):
            dataset.update(root=str(root), split='train')
            dataset.reading.update(lidar_sweeps=2, radar_sweeps=0)
            dataset.pipeline.image.size_hw = image_hw
            dataset.pipeline.paste = None  # needs a database: tests/datasets/paste
    config.merge_from_dict(dict(
        val_dataloader=None, val_cfg=None, val_evaluator=None, visualizer=None, start_weights=None))
    config.default_hooks.checkpoint = None
    return config


@each_configuration
def test_a_step_moves_every_part(
    path: Path, tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_asked(path, ('realtime_small',))
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    config = reduced(path, tiny_world)
    config.work_dir, config.launcher = str(tmp_path), 'none'
    runner = PerceptionRunner.from_cfg(config)
    runner.register_hook(OneStep())
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    with pytest.raises(StopIteration):
        runner.train()

    assert runner.optim_wrapper.skipped == 0
    parts = {name: '.'.join(name.split('.')[:2 if name.startswith(('encoders', 'heads')) else 1])
             for name in before}
    moved = {parts[name] for name, p in runner.model.named_parameters() if not torch.equal(p, before[name])}
    # a drawn switch takes cameras or LiDAR away from the whole batch
    may_rest = {part for part in parts.values() if part.startswith('encoders') and 'switched' in path.stem}
    # what a fuser of one sensor has stands for that sensor where it is absent
    may_rest |= {'fuser'} if config.model.fuser.type == 'OneSensor' else set()
    # the first frame of a drive has no past to learn from
    may_rest |= {'memory'} if config.model.get('memory') else set()
    assert moved >= set(parts.values()) - may_rest and any(part.startswith('encoders') for part in moved)
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())
    assert runner.optim_wrapper.optimizer.param_groups[0]['lr'] > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=['bfloat16', 'float16'])
@each_configuration
def test_losses_in_half_precision_are_finite_and_float32(
    path: Path, dtype: torch.dtype, tiny_world: Path
) -> None:
    """Autocast on the CPU meets the same types as on a GPU.

    On 8 x 8 or 10 x 10 cells: most CPUs have no arithmetic of half precision.
    """
    skip_unless_asked(path, ('realtime_small',) if dtype == torch.bfloat16 else ())
    torch.manual_seed(0)
    config = reduced(path, tiny_world, further=2)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    options = dict(config.train_dataloader.collate_fn)
    batch = FUNCTIONS.get(options.pop('type'))([dataset[0]], **options)
    model = MODELS.build(config.model.to_dict()).train()
    with torch.autocast('cpu', dtype):
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
    assert {term.dtype for term in losses.values()} == {torch.float32}

    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 0.95 * len(list(model.parameters()))
    assert all(gradient.dtype == torch.float32 and torch.isfinite(gradient).all() for gradient in gradients)
