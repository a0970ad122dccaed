"""Widths that are chosen after training: full width changes nothing, a narrow one is a smaller model."""
from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from perception.cli import run_verb
from perception.core.checkpoint import load_weights
from perception.core.config import read_config
from perception.core.contracts import Annotations
from perception.model import MultiTaskPerception
from perception.preprocessor import BatchPreprocessor
from perception.registry import MODELS
from perception.slimmable import SlimmablePerception
from perception.slimmable.layers import SlimConv, SlimNorm, running_channels
from perception.training.pruning.slim import narrow_model
from tests.helpers import make_batch

DEBUG = Path(__file__).resolve().parents[2] / 'configs' / 'debug.py'
SLIM = dict(type='SlimmablePerception', slim=dict(ratios=(0.75, 0.5)))
WIDTHS = (0.5, dict(detection=0.75, lanes=0.5))


@pytest.fixture(scope='module')
def batch():
    return BatchPreprocessor()({'inputs': make_batch(1, cameras=2, points=300)})['inputs']


@pytest.fixture(scope='module')
def pair() -> tuple[MultiTaskPerception, SlimmablePerception]:
    """The debug model and a slimmable one with its weights; every norm and ratio has seen something else."""
    torch.manual_seed(0)
    config = read_config(DEBUG).model.to_dict()
    plain, slim = MODELS.build(config).eval(), MODELS.build(config | SLIM).eval()
    with torch.no_grad():
        for name, buffer in slim.named_buffers():
            if 'mean' in name and buffer.is_floating_point() and buffer.dim() == 1:
                buffer.uniform_(-0.3, 0.3)
            elif '_var' in name or 'var_at' in name:
                buffer.uniform_(0.5, 2)
    plain.load_state_dict({name: slim.state_dict()[name] for name in plain.state_dict()})
    return plain, slim


def raw(model: MultiTaskPerception, batch) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(batch, mode='tensor')


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-4 * float(value.abs().max())), name


def test_full_width_is_the_plain_model_to_the_bit(pair: tuple, batch) -> None:
    plain, slim = pair
    expected, found = raw(plain, batch), raw(slim, batch)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with slim.at(*WIDTHS):
        narrow = raw(slim, batch)
    assert not torch.equal(narrow['detection.heatmap'], expected['detection.heatmap'])


def test_a_narrow_model_is_the_masked_run_and_a_smaller_one(pair: tuple, batch) -> None:
    """Its answers are those of the whole network whose other inner channels are silent, and those of a plain
    model built as narrow."""
    plain, slim = pair
    masked = copy.deepcopy(plain)
    with slim.at(*WIDTHS):
        expected = raw(slim, batch)
        values, narrow = narrow_model(read_config(DEBUG).model.to_dict() | SLIM, slim)
        for name, layer in slim.named_modules():
            if isinstance(layer, SlimConv):
                masked.get_submodule(name).weight.data[:, layer.running_widths()[1]:] = 0
            elif isinstance(layer, SlimNorm):
                mean, var, _ = layer.statistics()
                norm = masked.get_submodule(name)
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(var)

    assert_close(raw(masked, batch), expected)
    assert_close(raw(narrow, batch), expected)
    assert values['type'] == 'MultiTaskPerception' and 'slim' not in values
    # every part with a plain stack has slim channels, and a half of them makes it smaller
    for part in ('encoders.camera', 'encoders.lidar', 'trunk', 'heads.detection'):
        whole, left = (sum(p.numel() for p in m.get_submodule(part).parameters()) for m in (plain, narrow))
        assert left < whole, part
    assert [running_channels(48, ratio) for ratio in (1.0, 0.75, 0.5)] == [48, 36, 24]


def test_a_step_learns_at_both_widths(pair: tuple, batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full losses and narrow ones; the distillation is zero where the drawn width changes nothing, and does
    not reach the full map; the statistics of the ratios that ran move, others stay."""
    slim = copy.deepcopy(pair[1]).train()
    labels = [Annotations(frame.token) for frame in batch.frames]
    monkeypatch.setattr(slim, 'draw', lambda: (0.5, dict.fromkeys(slim.heads, 1.0)))
    before = {name: value.clone() for name, value in slim.named_buffers()}
    losses = slim.loss(batch, labels)
    full = {name for name in losses if not name.endswith('_narrow')} - {'loss/network/invariance'}
    assert full and {f'{name}_narrow' for name in full} < set(losses)
    assert bool(losses['loss/network/invariance'] > 0)

    moved = {name for name, value in slim.named_buffers() if not torch.equal(value, before[name])}
    assert 'trunk.stages.0.0.bn1.mean_at_50' in moved and 'trunk.stages.0.0.bn1.running_mean' in moved
    assert not any('_at_75' in name for name in moved)
    assert not any('_at_50' in name for name in moved if name.startswith('heads.'))
    losses['loss/network/invariance'].backward()
    conv = slim.trunk.stages[0][0].conv1
    half = running_channels(conv.out_channels, 0.5)
    assert bool(conv.weight.grad[:half].any()) and not bool(conv.weight.grad[half:].any())

    monkeypatch.setattr(slim, 'draw', lambda: (1.0, dict.fromkeys(slim.heads, 1.0)))
    assert float(slim.loss(batch, labels)['loss/network/invariance']) == pytest.approx(0, abs=1e-6)
    assert slim.trunk.stages[0][0].bn1.ratio == 1.0


@pytest.mark.parametrize(('slim', 'message'), [
    (dict(ratios=(2.0,)), 'slim.ratios: expected numbers between 0 and 1'),
    (dict(encoder=0.6), r'slim: encoder: expected one of \(1.0, 0.75, 0.5\), found 0.6'),
    (dict(heads=dict(signs=0.5)), "slim.heads: expected tasks of the model .*found 'signs'"),
    (dict(width=0.5), "slim: unknown option 'width'")], ids=str)
def test_widths_that_are_not_there_are_refused(slim: dict, message: str) -> None:
    config = read_config(DEBUG, {'tasks': ('map_segmentation',)}).model.to_dict()
    with pytest.raises(ValueError, match=message):
        MODELS.build(config | SLIM | dict(slim=slim))


def test_the_command_writes_a_plain_narrow_model(pair: tuple, batch, tmp_path: Path, capsys) -> None:
    slim = pair[1]
    config, weights = tmp_path / 'wide.py', tmp_path / 'wide.pth'
    config.write_text(f"_base_ = ['{DEBUG}']\nmodel = {SLIM!r}\n")
    torch.save({'state_dict': slim.state_dict(), 'meta': {}}, weights)
    words = f'{config} {weights} --encoder 0.5 --heads detection=0.75 lanes=0.5 --out {tmp_path / "out"}'
    assert run_verb('slim-model', words.split()) == 0

    written = read_config(tmp_path / 'out' / 'wide_narrow.py')
    model = MODELS.build(written.model.to_dict()).eval()
    load_weights(model, written.load_from)
    with slim.at(*WIDTHS):
        assert_close(raw(model, batch), raw(slim, batch))
    assert run_verb('slim-model', f'{DEBUG} {weights} --out {tmp_path / "x"}'.split()) != 0
    assert 'expected SlimmablePerception, found MultiTaskPerception' in capsys.readouterr().err
