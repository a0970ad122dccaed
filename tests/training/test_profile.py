"""The profile of a step: every stage is named, no time is lost, and the model is as before afterwards."""
from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perception.cli import run_verb
from perception.core.contracts import Annotations
from perception.core.grid import BEVGrid
from perception.heads.queried import QueriedMap
from perception.training.precision import autocast_dtype
from perception.training.profile import (
    ProfileClock,
    forward_flops,
    inference,
    marked,
    model_stages,
    training_step,
)
from tests.helpers import make_batch, make_model


def load() -> dict:
    return {'inputs': make_batch(), 'data_samples': [Annotations('a'), Annotations('bbb')]}


def test_a_clock_gives_time_to_the_stage_that_runs() -> None:
    clock = ProfileClock()
    for stage, pause_s in (('first', 0.02), ('second', 0.05), ('first', 0.02)):
        clock.mark('forward', stage)
        time.sleep(pause_s)
    clock.stop()
    assert 0.039 < clock.wall_s['forward', 'first'] < 1
    assert 0.049 < clock.wall_s['forward', 'second'] < 1
    assert sum(clock.cpu_s.values()) < 0.03 and set(clock.wall_s) == set(clock.cpu_s)


def test_a_step_is_divided_into_all_its_stages() -> None:
    model, clock = make_model().train(), ProfileClock()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    began = time.perf_counter()
    training_step(model, load, optimiser, clock, nullcontext)
    whole_s = time.perf_counter() - began
    assert sum(clock.wall_s.values()) == pytest.approx(whole_s, rel=0.1)
    stages = set(model_stages(model))
    assert stages >= {
        'camera.backbone', 'camera.depth_net', 'lidar.stages', 'fuser', 'trunk', 'heads.map_segmentation'}
    for phase in ('forward', 'backward'):
        assert {stage for found, stage in clock.wall_s if found == phase} >= stages
    assert {('forward', 'camera.lift'), ('forward', 'lidar.prepare'), ('forward', 'map_segmentation.loss'),
            ('load', 'targets'), ('update', 'optimiser')} <= set(clock.wall_s)
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_stage_that_gives_a_record_is_timed_on_the_way_back() -> None:
    """A bridge that hands queries to its heads."""
    class Bridge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> dict[str, QueriedMap]:
            return {'detection': QueriedMap(x * self.scale, x[:, :, 0], BEVGrid((-1, 1), (-1, 1), 1.0))}

    model, clock = make_model().train(), ProfileClock()
    model.bridge = Bridge()
    with marked(model, clock):
        model.bridge(torch.ones(1, 3, 2, 2))['detection'].map_BCYX.sum().backward()
    clock.stop()
    assert {('forward', 'bridge'), ('backward', 'bridge')} == set(clock.wall_s)


def test_nothing_stays_behind_on_the_model() -> None:
    model, clock = make_model().eval(), ProfileClock()
    inference(model, load, clock, nullcontext)
    known = dict(clock.wall_s)
    assert ('forward', 'map_segmentation.decode') in known and not any(
        phase == 'backward' for phase, _ in known
    )
    model(**model.data_preprocessor(load()), mode='predict')
    assert dict(clock.wall_s) == known
    assert not any('prepare' in vars(encoder) for encoder in model.encoders.values())


def test_operations_are_counted_by_stage() -> None:
    model = make_model().eval()
    flops = forward_flops(model, load())
    # one 1x1 convolution from 16 to 6 channels on 2 samples of 16 x 16 cells, a multiply-add counted twice
    assert flops['heads.map_segmentation'] == 2 * 2 * 16 * 16 * 16 * 6
    assert flops['camera.backbone'] > flops['camera.depth_net'] > 0
    assert all(p.requires_grad for p in model.parameters())


def test_the_command_profiles_in_the_precision_that_the_machine_computes(tiny_world, tmp_path) -> None:
    """`dtype='auto'`, which the configurations of the world have, is looked up as training looks it up."""
    options = {f'{name}_dataloader.dataset.root': str(tiny_world) for name in ('train', 'test')}
    options |= {'train_dataloader.batch_size': 1, 'optim_wrapper.dtype': 'auto'}
    words = [f'{name}={value}' for name, value in options.items()]
    out = tmp_path / 'times.json'
    debug = Path(__file__).resolve().parents[2] / 'configs' / 'debug.py'
    assert run_verb('profile-step', [str(debug), '--steps', '1', '--threads', '1', '--out', str(out),
                                     '--cfg-options', *words]) == 0
    report = json.loads(out.read_text())
    assert {row['phase'] for row in report['training step']} == {'load', 'forward', 'backward', 'update'}
    assert {row['phase'] for row in report['inference']} == {'load', 'forward'}


@pytest.mark.parametrize(('dtype', 'device', 'computed', 'expected'), [
    ('float32', 'cpu', True, None), ('bfloat16', 'cpu', False, torch.bfloat16),
    ('float16', 'cuda', True, torch.float16), ('auto', 'cpu', True, torch.bfloat16),
    ('auto', 'cpu', False, None), ('auto', 'cuda', False, torch.float16)])
def test_what_autocast_casts_to(monkeypatch, dtype, device, computed, expected) -> None:
    monkeypatch.setattr('perception.training.precision.computes_bfloat16', lambda device_type: computed)
    assert autocast_dtype(dtype, device) is expected


@pytest.mark.parametrize(('dtype', 'message'), [('float16', 'needs a GPU'), ('half', 'expected one of')])
def test_a_dtype_that_cannot_be_is_refused(dtype, message) -> None:
    with pytest.raises(ValueError, match=message):
        autocast_dtype(dtype, 'cpu')
