"""A training that was broken off goes on as if it never had been, or says what it cannot keep."""
from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from perception.core.checkpoint import read_checkpoint
from tests.training.toy import SAMPLES, ToyData, equal, loader_of, plain_state, toy_runner


@pytest.fixture(autouse=True)
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine asks compilers for their versions at every start."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of ten steps without a break."""
    folder = tmp_path_factory.mktemp('whole')
    toy_runner(folder).train()
    return folder


def said(runner: Any) -> list[str]:
    """Collect what a runner warns of from now on."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    runner.logger.addHandler(Listener(logging.WARNING))
    return lines


def rate(runner: Any) -> float:
    return runner.optim_wrapper.param_groups[0]['lr']


@pytest.mark.parametrize('step', [1, 3, 5, 8])
def test_a_resumed_training_equals_an_unbroken_one(whole: Path, tmp_path: Path, step: int) -> None:
    """Inside an epoch, at its end, in the next one: weights, averages, optimiser, schedule, generators."""
    runner = toy_runner(tmp_path, resume=whole / f'iter_{step}.pth')
    lines = said(runner)
    runner.train()
    assert [line for line in lines if line.startswith('resume')] == []
    assert len(runner.train_dataloader.dataset.drawn) == 2 * SAMPLES - 2 * step
    for later in (step + 1, 10):
        assert equal(plain_state(tmp_path / f'iter_{later}.pth'), plain_state(whole / f'iter_{later}.pth'))


def test_equality_is_not_for_nothing(whole: Path) -> None:
    """Every part that is compared moves from step to step."""
    one, two = (plain_state(whole / f'iter_{step}.pth') for step in (4, 5))
    assert [name for name in one if name != 'epoch' and equal(one[name], two[name])] == []


@pytest.mark.parametrize('kind', [
    'groups', 'by_epoch', 'steps', 'infinite', 'foreign', 'workers', 'workers, end of a pass',
    'workers, start of a pass', 'workers, foreign, start of a pass'])
def test_other_ways_to_train_resume_equal_too(tmp_path: Path, kind: str) -> None:
    loader, changes = loader_of(), {}
    if kind == 'groups':  # of several kinds, under two schedules that follow each other
        settings = dict(norm_decay_mult=0.0, custom_keys={'layers.3': dict(lr_mult=0.1)})
        changes['optim_wrapper'] = dict(
            type='GuardedOptimWrapper', paramwise_cfg=settings,
            optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.01))
        changes['param_scheduler'] = [
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=4, T_max=6)]
    if kind == 'by_epoch' or 'start of a pass' in kind:  # a schedule of epochs, checkpoints of epochs
        changes['param_scheduler'] = [dict(type='MultiStepLR', milestones=[1], gamma=0.5)]
        changes['default_hooks'] = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    if kind in ('steps', 'infinite'):
        changes['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=10)
    if kind == 'infinite':
        loader['sampler'] = dict(type='InfiniteSampler')
    if 'foreign' in kind:
        loader['sampler'] = dict(type='DefaultSampler', shuffle=True)
    if 'workers' in kind:
        loader |= dict(num_workers=1, persistent_workers=True)

    first, second = tmp_path / 'first', tmp_path / 'second'
    toy_runner(first, train_dataloader=loader, **changes).train()
    name, last = ('iter_5.pth' if 'end of a pass' in kind else 'iter_7.pth'), 'iter_10.pth'
    if 'default_hooks' in changes:
        name, last = 'epoch_1.pth', 'epoch_2.pth'
    again = loader | dict(dataset=ToyData())
    toy_runner(second, resume=first / name, train_dataloader=again, **changes).train()
    assert equal(plain_state(first / last), plain_state(second / last))


def test_validation_does_not_move_the_training(whole: Path, tmp_path: Path) -> None:
    class Nothing:
        def __init__(self) -> None:
            self.dataset_meta = None

        def process(self, *args: Any, **words: Any) -> None:
            torch.rand(3)

        def evaluate(self, size: int) -> dict:
            return {'score': 1.0}

    from mmengine.evaluator import Evaluator
    evaluator = Evaluator([])
    evaluator.process, evaluator.evaluate = Nothing().process, Nothing().evaluate
    sampler = dict(type='DefaultSampler', shuffle=False)
    toy_runner(
        tmp_path, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1),
        val_dataloader=loader_of(sampler=sampler), val_cfg=dict(type='ValLoop'), val_evaluator=evaluator,
    ).train()
    assert equal(plain_state(tmp_path / 'iter_10.pth'), plain_state(whole / 'iter_10.pth'))


@pytest.mark.parametrize(('batch', 'step'), [(4, 4), (3, 6), (5, 4)])
def test_another_batch_size_trains_every_sample_once(whole: Path, tmp_path: Path, batch: int,
                                                     step: int) -> None:
    """From 3 of 5 steps of two samples: four samples are left of the epoch; the rate ends where it should."""
    cosine = dict(
        type='CosineAnnealingLR', by_epoch=True, T_max=2, eta_min=2e-6, convert_to_iter_based=True)
    runner = toy_runner(
        tmp_path, resume=whole / 'iter_3.pth', train_dataloader=loader_of(batch_size=batch, drop_last=True),
        param_scheduler=[cosine])
    lines = said(runner)
    runner.train()

    data = runner.train_dataloader.dataset
    last = 2e-6 + 1.98e-4 / 2 * (1 + math.cos(math.pi * (step - 1) / step))  # as of a run without a break
    assert runner.iter == step == runner.max_iters and rate(runner) == pytest.approx(last, rel=1e-6)
    epochs = Counter(index for _, index in data.drawn)
    assert max(epochs.values()) <= 2 and len(data.drawn) >= SAMPLES
    first = read_checkpoint(whole / 'iter_3.pth')['meta']['progress']['samples']
    assert first == 6 and any(f'batch size: 2 in the checkpoint, {batch} now' in line for line in lines)


def test_a_longer_training_stands_where_its_own_schedule_does(whole: Path, tmp_path: Path) -> None:
    """Step 10 of 20 of a cosine from 2e-4 to almost nothing is 1e-4; the old schedule stood at its end."""
    runner = toy_runner(
        tmp_path, resume=whole / 'iter_10.pth', train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=4),
        param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=False, T_max=20, eta_min=0.0)])
    rates: list[float] = []
    call_hook = runner.call_hook

    def listen(name: str, **words: Any) -> None:
        if name == 'before_train_iter':
            rates.append(rate(runner))
        call_hook(name, **words)

    lines, runner.call_hook = said(runner), listen
    runner.train()
    expected = [1e-4 * (1 + math.cos(math.pi * step / 20)) for step in range(10, 20)]
    assert rates == pytest.approx(expected, rel=1e-6) and runner.iter == 20
    assert any(line.startswith('resume: epochs: 2 in the checkpoint, 4 now') for line in lines)
    assert any(line.startswith('resume: schedule: ') for line in lines)


def test_rates_of_the_configuration_win_and_both_are_said(whole: Path, tmp_path: Path) -> None:
    wrapper = dict(type='GuardedOptimWrapper', optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.5))
    runner = toy_runner(tmp_path, resume=whole / 'iter_5.pth', optim_wrapper=wrapper)
    lines = said(runner)
    runner.train()
    assert runner.optim_wrapper.param_groups[0]['initial_lr'] == 4e-4
    assert any("lr: 0.0002 in the checkpoint, 0.0004 now: the configuration's" in line for line in lines)
    assert any('weight_decay: 0.01 in the checkpoint, 0.5 now' in line for line in lines)


def test_another_seed_another_data_set_another_optimiser_are_said(whole: Path, tmp_path: Path) -> None:
    runner = toy_runner(
        tmp_path, resume=whole / 'iter_3.pth', randomness=dict(seed=5),
        train_dataloader=loader_of(dataset=ToyData(14)),
        optim_wrapper=dict(type='GuardedOptimWrapper', optimizer=dict(type='SGD', lr=1e-3)))
    collected = said(runner)
    runner.train()
    lines = ' '.join(collected)
    assert runner.seed == 0 == runner.train_dataloader.sampler.seed
    for text in ('seed: 0 in the checkpoint, 5 now', 'samples of a pass: 10 in the checkpoint, 14 now',
                 '6 samples of the pass were trained on already: they come again',
                 'optimiser: AdamW in the checkpoint, SGD now'):
        assert text in lines, text


def test_gradients_of_an_open_accumulation_go_on(tmp_path: Path) -> None:
    wrapper = dict(
        type='GuardedOptimWrapper', accumulative_counts=3, optimizer=dict(type='AdamW', lr=2e-4))
    first, second = tmp_path / 'first', tmp_path / 'second'
    toy_runner(first, optim_wrapper=dict(wrapper)).train()
    toy_runner(second, resume=first / 'iter_4.pth', optim_wrapper=dict(wrapper)).train()
    assert equal(plain_state(first / 'iter_10.pth'), plain_state(second / 'iter_10.pth'))


def test_nothing_left_to_train_is_said(whole: Path, tmp_path: Path) -> None:
    runner = toy_runner(tmp_path, resume=whole / 'iter_10.pth')
    lines = said(runner)
    runner.train()
    assert 'resume: nothing is left to train' in lines and runner.iter == 10


def test_weights_alone_are_not_a_training(tmp_path: Path) -> None:
    file = tmp_path / 'weights.pth'
    torch.save({'state_dict': toy_runner(tmp_path).model.state_dict(), 'meta': {}}, file)
    with pytest.raises(ValueError, match='weights.pth: expected meta.epoch and meta.iter'):
        toy_runner(tmp_path, resume=file).train()
