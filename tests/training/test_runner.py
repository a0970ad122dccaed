"""Training for real on the tiny world: losses fall, runs resume, bad numbers stop or are left out."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from perception.core.checkpoint import read_checkpoint


def _scalars(work_dir: Path) -> list[dict]:
    file, = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope='module')
def trained(world_options: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work dir after two epochs of three steps."""
    from perception.training.launch import build_runner
    from tests.training.conftest import DEBUG
    folder = tmp_path_factory.mktemp('trained')
    options = {**world_options, 'train_cfg.max_epochs': 2, 'default_hooks.logger.interval': 1}
    build_runner(DEBUG, work_dir=folder, options=options, seed=3).train()
    return folder


def test_each_task_logs_its_losses(trained: Path) -> None:
    first = next(row for row in _scalars(trained) if 'loss' in row)
    for task in ('detection', 'map_segmentation', 'occupancy', 'lanes'):
        terms = [value for name, value in first.items() if name.startswith(f'loss/{task}/')]
        assert terms and all(value == value for value in terms)
    assert first['loss'] == pytest.approx(sum(v for k, v in first.items() if k.startswith('loss/')), rel=1e-3)


def test_the_checkpoint_is_whole_and_safe(trained: Path) -> None:
    checkpoint = read_checkpoint(trained / 'epoch_2.pth')
    assert checkpoint['meta']['epoch'] == 2
    assert not list(trained.glob('*.partial'))


def test_the_same_seed_gives_the_same_losses(trained: Path, make_runner: Callable, tmp_path: Path) -> None:
    make_runner({'train_cfg.max_epochs': 2, 'default_hooks.logger.interval': 1}, seed=3).train()
    ours = [row['loss'] for row in _scalars(tmp_path / 'run') if 'loss' in row]
    assert ours == [row['loss'] for row in _scalars(trained) if 'loss' in row]


def test_a_run_resumes_where_it_stopped(trained: Path, make_runner: Callable) -> None:
    runner = make_runner({'train_cfg.max_epochs': 3}, resume=str(trained / 'epoch_2.pth'))
    runner.train()
    assert (runner.epoch, runner.iter) == (3, 9)
    weights = read_checkpoint(trained / 'epoch_2.pth')['state_dict']
    moved = [n for n, p in runner.model.named_parameters() if not torch.equal(p, weights[n])]
    assert len(moved) > len(weights) // 4


def test_resuming_with_another_model_is_an_error(trained: Path, make_runner: Callable) -> None:
    heads = {
        f'model.heads.{task}.in_channels': 48
        for task in ('detection', 'map_segmentation', 'occupancy', 'lanes')
    }
    runner = make_runner({'model.trunk.out_channels': 48, 'train_cfg.max_epochs': 3, **heads},
                         resume=str(trained / 'epoch_2.pth'))
    with pytest.raises(ValueError, match='another configuration.*trunk'):
        runner.train()


def test_a_loss_that_is_not_a_number_names_task_and_sample(make_runner: Callable) -> None:
    runner = make_runner()
    with torch.no_grad():
        next(runner.model.heads['lanes'].parameters()).fill_(float('nan'))
    with pytest.raises(FloatingPointError, match=r'loss/lanes/.*samples: \w+'):
        runner.train()


def test_a_bad_gradient_is_left_out_and_too_many_stop(make_runner: Callable) -> None:
    runner = make_runner({'optim_wrapper.max_skipped': 1})
    next(runner.model.trunk.parameters()).register_hook(lambda gradient: gradient * float('inf'))
    before = {n: p.clone() for n, p in runner.model.named_parameters()}
    with pytest.raises(FloatingPointError, match='2 updates in a row'):
        runner.train()
    assert all(torch.equal(p, before[n]) for n, p in runner.model.named_parameters())


def test_gradient_norms_of_tasks_leave_no_trace(trained: Path, make_runner: Callable, tmp_path: Path) -> None:
    """They come from the training's own forward: the same seed gives the same weights with and without."""
    hook = [{'type': 'TaskGradientNormHook', 'interval': 1}]
    one = {'train_cfg.max_epochs': 1, 'default_hooks.logger.interval': 1, 'custom_hooks': hook}
    # one epoch, on the way to the two of the training without the hook
    runner = make_runner(
        one | {'param_scheduler.0.T_max': 2, 'param_scheduler.0.end': 2}, seed=3)
    runner.train()
    for row in _scalars(tmp_path / 'run'):
        norms = {name: value for name, value in row.items() if name.startswith('gradient_at_trunk/')}
        assert len(norms) == len(runner.model.heads) and all(0 < value < 1e6 for value in norms.values())
        angles = [value for name, value in row.items() if name.startswith('gradient_cosine/')]
        assert len(angles) == 6 and all(-1 <= value <= 1 for value in angles) and any(angles)

    with_hook = read_checkpoint(tmp_path / 'run' / 'epoch_1.pth')['state_dict']
    without = read_checkpoint(trained / 'epoch_1.pth')['state_dict']
    assert all(torch.equal(value, without[name]) for name, value in with_hook.items())


def test_heads_only_leaves_the_gradient_norms_out(make_runner: Callable, tmp_path: Path) -> None:
    """And trains, in the training's precision: nothing before the heads has a gradient."""
    runner = make_runner({
        'freeze': ['encoders', 'fuser', 'trunk'], 'optim_wrapper.dtype': 'bfloat16',
        'custom_hooks': [{'type': 'TaskGradientNormHook', 'interval': 1}]})
    runner.train()
    assert runner.iter == 3
    log, = (tmp_path / 'run').glob('*/*.log')
    assert log.read_text().count('train/gradient_at_trunk is left out from now on: encoders, fuser') == 1


def test_mixed_precision_trains_on_a_cpu(make_runner: Callable) -> None:
    runner = make_runner({'optim_wrapper.dtype': 'bfloat16'})
    runner.train()
    assert runner.optim_wrapper.cast_to == torch.bfloat16
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())


@pytest.mark.parametrize(('computed', 'expected'), [(True, torch.bfloat16), (False, None)])
def test_amp_is_what_the_cpu_computes(make_runner: Callable, monkeypatch: pytest.MonkeyPatch, computed: bool,
                                      expected: torch.dtype | None) -> None:
    if torch.cuda.is_available():
        pytest.skip('a GPU is available')
    monkeypatch.setattr('perception.training.precision.computes_bfloat16', lambda device: computed)
    runner = make_runner(amp=True)
    assert runner.build_optim_wrapper(runner.optim_wrapper).cast_to == expected


def test_float16_needs_a_gpu(make_runner: Callable) -> None:
    if torch.cuda.is_available():
        pytest.skip('a GPU is available: float16 is fine')
    with pytest.raises(ValueError, match="'float16' needs a GPU"):
        make_runner({'optim_wrapper.dtype': 'float16'}).train()


def test_testing_prints_every_task(trained: Path, make_runner: Callable) -> None:
    metrics = make_runner(checkpoint=trained / 'epoch_2.pth').test()
    for name in ('detection/NDS', 'map/mIoU', 'occupancy/mIoU_camera', 'lanes/mAP'):
        assert 0 <= metrics[name] <= 1


def test_a_missing_checkpoint_is_reported_at_once(make_runner: Callable) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        make_runner(checkpoint='nowhere.pth')


def test_published_weights_are_needed_for_training_and_not_for_testing(
    trained: Path, make_runner: Callable
) -> None:
    absent = {'model.encoders.camera.backbone.pretrained': 'data/pretrained/nowhere.pth'}
    with pytest.raises(FileNotFoundError, match='pretrained: no file data/pretrained/nowhere.pth'):
        make_runner(absent)
    assert make_runner(absent, checkpoint=trained / 'epoch_2.pth').model.encoders['camera'] is not None


def test_runs_of_one_second_keep_their_own_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine names a run by the second, and keeps its loggers by that name."""
    import time
    from types import SimpleNamespace

    import mmengine.runner.runner as of_runner

    from perception.training.runner import PerceptionRunner
    from perception.training.state.writing import STAMP
    from tests.training.toy import toy_runner

    clock = SimpleNamespace(time=lambda: 1.8e9, strftime=time.strftime, localtime=time.localtime)
    monkeypatch.setattr(of_runner, 'time', clock)
    runners: list[PerceptionRunner] = []
    for name in ('one', 'two'):
        runners.append(toy_runner(tmp_path / name, custom_hooks=[]))
        runners[-1].train()
    assert all(len(_scalars(tmp_path / name)) >= 10 for name in ('one', 'two'))
    assert runners[0].message_hub is not runners[1].message_hub
    seconds = [time.mktime(time.strptime(runner.timestamp, STAMP)) for runner in runners]
    assert seconds[1] == seconds[0] + 1
