"""Pasting ends before the training does, in the same pass after a resume, whatever the training counts."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook

from perception.cli import commands
from perception.core.config import config_name, read_config
from perception.datasets.paste.database import PasteDatabase
from perception.datasets.paste.transform import PasteObjects
from perception.datasets.reading.dataset import NuScenesDataset
from perception.datasets.transforms.image import Compose
from perception.training.hooks import PasteOffHook, transforms_of
from tests.training.toy import ToyData, loader_of, toy_runner

ROOT = Path(__file__).resolve().parents[2]


class PastingToy(ToyData):
    """The toy with the stage in its pipeline, inside another one; notes whether it was on."""

    def __init__(self) -> None:
        super().__init__()
        self.paste = PasteObjects('nowhere')
        self.pipeline = Compose([Compose([self.paste])])
        self.on: list[bool] = []

    def set_epoch(self, epoch: int) -> None:
        self.pipeline.set_epoch(epoch)

    def __getitem__(self, number: int) -> Any:
        self.on.append(self.paste.is_on)
        return super().__getitem__(number)


class Interrupt(Hook):
    """Ends the process's training after some steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.step:
            raise KeyboardInterrupt


def train(
    folder: Path, last: int, resume: bool = False, stop: int | None = None, **changes: Any
) -> list[bool]:
    """Whether each of the ten samples of each pass (of five steps) met the stage switched on."""
    runner = toy_runner(
        folder, resume=resume, train_dataloader=loader_of(dataset=PastingToy()),
        custom_hooks=[dict(type='PasteOffHook', last_epochs=last)],
        **{'default_hooks': dict(checkpoint=None), **changes})
    if stop is not None:
        runner.register_hook(Interrupt(stop), priority='LOWEST')
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    else:
        runner.train()
    return runner.train_loop.dataloader.dataset.on  # the Runner copies the data set


EPOCHS = dict(train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3))


def test_the_last_passes_are_without(tmp_path: Path) -> None:
    assert train(tmp_path, 1, **EPOCHS) == [True] * 20 + [False] * 10


def test_steps_are_counted_in_passes(tmp_path: Path) -> None:
    """Twelve steps are three passes of five; the third has two."""
    on = train(tmp_path, 1, train_cfg=dict(type='IterBasedTrainLoop', max_iters=12, val_interval=100))
    assert on == [True] * 20 + [False] * 4


def test_a_resumed_training_ends_pasting_in_the_same_pass(tmp_path: Path) -> None:
    """Cut in the second pass and in the third, which is without."""
    checkpoints = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)))
    assert train(tmp_path, 1, stop=7, **EPOCHS, **checkpoints) == [True] * 14
    assert train(tmp_path, 1, True, stop=12, **EPOCHS, **checkpoints) == [True] * 6 + [False] * 4
    assert train(tmp_path, 1, True, **EPOCHS, **checkpoints) == [False] * 6


def test_more_passes_than_there_are_mean_none(tmp_path: Path) -> None:
    assert train(tmp_path, 9, **EPOCHS) == [False] * 30
    with pytest.raises(ValueError, match='last_epochs: found -1'):
        PasteOffHook(-1)


def test_the_stage_is_found_in_data_sets_made_of_others() -> None:
    class Made:
        pass

    outer, parts = Made(), Made()
    outer.dataset, parts.parts = parts, [PastingToy(), PastingToy()]
    assert sum(isinstance(one, PasteObjects) for one in transforms_of(outer)) == 2


def test_every_recipe_that_pastes_ends_it_and_keeps_its_bases_hooks() -> None:
    """A list of hooks is replaced whole; the flagship's must come again."""
    pasting = {}
    for path in sorted((ROOT / 'configs').rglob('*.py')):
        text = path.read_text()
        if 'PasteObjects' in text and '_base_ =' in text:
            pasting[config_name(path)] = read_config(path)
    assert set(pasting) == {
        'nuscenes/stages/lidar_paste', 'nuscenes/stages/strong_1_lidar', 'world/paste'}

    for name, config in pasting.items():
        assert config.train_dataloader.dataset.pipeline.paste.type == 'PasteObjects'
        base = 'nuscenes/camera_lidar' if name.startswith('nuscenes') else 'world/camera_lidar'
        kept = [hook.to_dict() for hook in read_config(ROOT / 'configs' / f'{base}.py').custom_hooks]
        found = [hook.to_dict() for hook in config.custom_hooks]
        assert found[:-1] == kept and found[-1]['type'] == 'PasteOffHook'
        assert 0 < found[-1]['last_epochs'] < config.train_cfg.max_epochs


def linked(world: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a world's files, into which a database can be written."""
    root.mkdir()
    for path in world.iterdir():
        (root / path.name).symlink_to(path)
    monkeypatch.setenv('PERCEPTION_FOLLOW_LINKS', '1')
    return root


def test_the_command_makes_what_the_configuration_reads(tiny_world, tmp_path, monkeypatch, capsys) -> None:
    """`create-data paste` writes where the stage looks by itself, with the configuration's sensors."""
    monkeypatch.chdir(tmp_path)
    root = linked(tiny_world, tmp_path / 'world', monkeypatch)
    config = str(ROOT / 'configs' / 'world' / 'paste_lidar.py')
    lanes = 'train_dataloader.dataset.reading.missing_labels.share.lanes=0.5'   # says nothing of boxes
    command = ['create-data', 'paste', config, '--root', str(root), '--min-points', '3']
    assert commands.main([*command, '--cfg-options', lanes]) == 0
    printed = capsys.readouterr().out
    assert 'construction_vehicle' in printed and 'with points' in printed
    database = PasteDatabase(root / 'paste' / 'v1.0-trainval' / 'train')
    assert database.index['cameras'] == [] and f'{len(database)} objects of 1 scenes' in printed

    pipeline = [dict(type='PasteObjects')]
    reading = dict(lidar_sweeps=0, radar_sweeps=0)
    dataset = NuScenesDataset(root, split='train', sensors=('lidar',), reading=reading, pipeline=pipeline)
    assert dataset[0][0].lidar is not None


def test_a_training_of_several_data_sets_has_a_database_for_each(
    tiny_world, tmp_path, monkeypatch, capsys
) -> None:
    part = dict(type='NuScenesDataset', split='train', sensors=['lidar'], reading=dict(lidar_sweeps=0))
    config = tmp_path / 'two.py'
    roots = [linked(tiny_world, tmp_path / name, monkeypatch) for name in ('one', 'other')]
    config.write_text('train_dataloader = dict(dataset=dict(type="ConcatDataset", datasets=' + repr(
        [{**part, 'root': str(root)} for root in roots]) + '))\n')
    command = ['create-data', 'paste', str(config)]
    assert commands.main([*command, '--out', str(tmp_path / 'd')]) == 2
    assert 'found 2 data sets, expected one with --root or --out' in capsys.readouterr().err

    assert commands.main([*command, '--min-points', '500']) == 0
    assert capsys.readouterr().out.count(' objects of 1 scenes') == 2
