"""What the nuScenes recipes do over a whole training: rate and momentum, validations, the best checkpoint."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook

from perception.core.config import read_config
from tests.training.toy import toy_runner

FLAGSHIP = read_config(Path(__file__).resolve().parents[2] / 'configs' / 'nuscenes' / 'camera_lidar.py')


class Curves(Hook):
    """Rate and first momentum of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.momenta: list[float] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note what the step will use."""
        group = runner.optim_wrapper.optimizer.param_groups[0]
        self.rates.append(group['lr'])
        self.momenta.append(group['betas'][0])


class Validation:
    """Stands for the loop that validates; scores fall after the second time."""

    dataloader = (0,)

    def __init__(self, runner: Any) -> None:
        self.runner, self.epochs = runner, []

    def run(self) -> None:
        """Say a score."""
        self.epochs.append(self.runner.epoch)
        score = (0.1, 0.5, 0.3, 0.2, 0.1)[len(self.epochs) - 1]
        self.runner.call_hook('after_val_epoch', metrics={'detection/NDS': score, 'detection/mATE': 0.9})


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Curves, Validation, Path]:
    """The toy, 20 epochs of 5 steps by the flagship's schedule."""
    folder = tmp_path_factory.mktemp('recipe')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        checkpoint = dict(FLAGSHIP.default_hooks.checkpoint) | {'interval': 100}
        runner = toy_runner(
            folder, train_cfg=dict(FLAGSHIP.train_cfg), custom_hooks=[],
            param_scheduler=[dict(part) for part in FLAGSHIP.param_scheduler],
            optim_wrapper=dict(type='GuardedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-4)),
            default_hooks=dict(checkpoint=checkpoint))
        curves, validation = Curves(), Validation(runner)
        runner.register_hook(curves)
        patch.setattr(type(runner), 'val_loop', property(lambda _: validation))
        runner.train()
    return curves, validation, folder


def test_the_rate_rises_tenfold_over_two_fifths_and_falls_to_nothing(trained) -> None:
    rates, momenta = trained[0].rates, trained[0].momenta
    assert len(rates) == 100 and rates[0] == pytest.approx(1e-4) and momenta[0] == pytest.approx(0.9)
    # the last step of the rise is one short of its end: the peak is 39/40 of a half wave
    assert rates.index(max(rates)) in (39, 40) and momenta.index(min(momenta)) in (39, 40)
    assert max(rates) == pytest.approx(1e-3, rel=2e-3) and max(rates) < 1e-3
    assert min(momenta) == pytest.approx(0.9 * 0.85 / 0.95, rel=1e-3)
    assert rates[20] == pytest.approx((1e-4 + 1e-3) / 2) and rates[70] == pytest.approx(1e-3 / 2, rel=2e-3)
    assert 0 < rates[-1] < 2e-6 and momenta[-1] == pytest.approx(0.9, rel=1e-3)
    assert rates[:40] == sorted(rates[:40]) and rates[40:] == sorted(rates[40:], reverse=True)


def test_it_validates_after_the_first_epoch_and_keeps_the_best(trained) -> None:
    _, validation, folder = trained
    assert validation.epochs == [1, 5, 10, 15, 20]
    assert [path.name for path in folder.glob('best*')] == ['best_detection_NDS_epoch_5.pth']
