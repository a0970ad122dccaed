"""A training step of the full-size configurations on a device without values; what is on the CPU raises."""
from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from perception.cli.training.step_costs import step_costs
from perception.cli.training.training_costs import format_training, training_costs
from perception.core.config import config_name, read_config
from perception.heads.bridge import sine_positions
from perception.training.full_size.step import StepCounter
from perception.training.full_size.values import ValuesAside, WrongDeviceError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs' / 'nuscenes').rglob('*.py'))
EVERY = bool(os.environ.get('PERCEPTION_FULL_SIZE'))


@pytest.mark.parametrize('path', CONFIGS, ids=config_name)
def test_a_step_at_full_size_needs_nothing_of_the_cpu(path: Path) -> None:
    """All with PERCEPTION_FULL_SIZE=1, which takes minutes; the smallest always."""
    if not EVERY and path.stem != 'realtime':
        pytest.skip('PERCEPTION_FULL_SIZE=1 runs every configuration; it takes minutes')
    config = read_config(path)
    row = step_costs(config, path.stem)
    owners = {name.split('/')[1] for name in row['losses']}
    assert owners >= {task for task, head in config.model.heads.items() if head is not None}
    assert row['backward_tflop'] > 1.6 * row['forward_tflop'] > 0.05
    assert 0.3 < row['peak_gib'] < 80


def test_hours_of_a_training_by_hand() -> None:
    """8 * 0.35 * 312 = 873.6 TFLOP/s: 2.5 TFLOP of 123,580 samples in 20 epochs are 1.96 hours."""
    config = dict(
        train_dataloader=dict(batch_size=4, sampler=dict(type='ClassBalancedSampler')),
        train_cfg=dict(max_epochs=20))
    row = training_costs(config, dict(forward_tflop=1.0, backward_tflop=1.5, peak_gib=3.0, state_gib=0.5))
    assert row['hours']['A100'] == pytest.approx(2.5 * 123_580 * 20 / 873.6 / 3600)
    assert row['hours']['A100'] / row['hours']['H100'] == pytest.approx(989 / 312) and row['gib'] == 12.5
    config['train_dataloader']['sampler']['type'] = 'StreamSampler'
    assert training_costs(config, dict(
        forward_tflop=1.0, backward_tflop=1.5, peak_gib=3.0, state_gib=0.5))['samples'] == 28_130
    assert format_training('a', row) == '| `a` | 20 | 123,580 | 2.0 | 0.6 | 12.5 |'


def test_a_tensor_made_on_the_cpu_raises() -> None:
    layer = nn.Linear(3, 3, device='meta')
    with ValuesAside():
        x = layer(torch.ones(2, 3).to('meta'))
        x * 2.0 + torch.tensor(1.0)  # a number of the CPU may meet any device
        with pytest.raises(WrongDeviceError, match=r'add.*\(2, 3\).*on the CPU|on the CPU \(\(2, 3\)'):
            x + torch.zeros(2, 3)


def test_positions_are_encoded_where_the_places_are() -> None:
    with ValuesAside():
        assert sine_positions(torch.rand(3, 2).to('meta'), 8).is_meta


def test_values_of_data_are_known_and_those_of_the_network_are_made_up() -> None:
    layer = nn.Linear(1, 1, device='meta')
    with ValuesAside():
        data = torch.tensor([3.0, -1.0, 2.0, 0.5]).to('meta')
        kept = data[data > 1]
        assert kept.tolist() == [3.0, 2.0] and (data > 1).nonzero().shape == (2, 1)
        assert int(data.argmin()) == 1 and data.unique().numel() == 4

        unknown = layer(data[:, None])[:, 0]
        assert unknown.cpu().tolist() == [0.0] * 4 and bool((unknown > 0).any())
        assert unknown[unknown > 0].shape == (1,) and unknown[data > 1].shape == (2,)
        chosen = torch.ones(7, dtype=torch.int64).to('meta') * unknown[0].long()
        assert torch.bincount(chosen, minlength=3).tolist() == [3, 2, 2]  # all of them, in even parts
        data.mul_(unknown.detach())  # no longer known
        assert data.cpu().tolist() == [0.0] * 4


def test_memory_and_operations_add_up() -> None:
    layer, counter = nn.Linear(256, 1024, bias=False, device='meta'), None
    counter = StepCounter(list(layer.parameters()))
    x = torch.empty(512, 256, device='meta')
    with ValuesAside(counter.seen):
        y = layer(x)
        assert counter.live == 512 * 1024 * 4 and counter.flop == 2 * 512 * 256 * 1024
        y.sum().backward()
        del y
    # the gradient of the weights stays, everything else has gone
    assert counter.live == 256 * 1024 * 4 and counter.flop == 4 * 512 * 256 * 1024
    assert counter.peak >= 512 * 1024 * 4 + 256 * 1024 * 4
