"""Merging by entropy and with experts: identities, that the entropy falls, and the commands."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from perception.cli import run_verb
from perception.core.checkpoint import read_checkpoint
from perception.heads.base import TaskHead
from perception.heads.losses import binary_entropy, class_entropy
from perception.training.merging.adaptive import (
    AdaptiveOptions,
    Coefficients,
    merge_adaptively,
    task_entropies,
)
from perception.training.merging.arithmetic import MergeOptions, merge_models
from perception.training.merging.twin import expert_size, expert_state, make_experts
from tests.helpers import make_batch, make_model


class YesNo(nn.Module):
    """A head of one answer a row."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {'logits': self.last(x)}

    def entropy(self, raw: dict[str, Tensor]) -> Tensor:
        return binary_entropy(raw['logits'])


class TwoHeads(BaseModel):
    """A shared layer with a norm, and two heads."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        self.heads = nn.ModuleDict({'a': YesNo(), 'b': YesNo()})

    def prepare(self, batch: Tensor) -> Tensor:
        return batch

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        shared = self.trunk(inputs).relu()
        return {f'{task}.{name}': value for task, head in self.heads.items()
                for name, value in head(shared).items()}


def trained(task: str, seed: int) -> dict[str, Tensor]:
    """The start, moved some way; only its own head."""
    torch.manual_seed(seed)
    return {
        name: value + 0.3 * torch.randn_like(value) if value.is_floating_point() else value + 1
        for name, value in TwoHeads().state_dict().items()
        if not name.startswith('heads.') or name.startswith(f'heads.{task}.')}


@pytest.fixture
def parts() -> tuple[dict, dict]:
    """What both started from, and what they are."""
    state = TwoHeads().state_dict()
    return state, {'a': trained('a', 1), 'b': trained('b', 2)}


def load() -> dict:
    return {'inputs': torch.randn(16, 4, generator=torch.Generator().manual_seed(5))}


def test_a_coefficient_of_one_is_that_model(parts: tuple) -> None:
    start, models = parts
    for level, columns in (('task', 1), ('layer', 4)):
        coefficients = Coefficients(start, models, AdaptiveOptions(level, start=0))
        assert coefficients.lambdas_TL.shape == (2, columns)
        assert torch.equal(coefficients()['trunk.0.weight'], start['trunk.0.weight'])
        coefficients.lambdas_TL.data[1] = 1
        merged = coefficients()
        for name in ('trunk.0.weight', 'trunk.0.bias', 'trunk.1.weight', 'heads.b.last.weight'):
            torch.testing.assert_close(merged[name], models['b'][name])

    # equal coefficients are task arithmetic, statistics and heads included
    found = Coefficients(start, models, AdaptiveOptions(start=0.25))()
    expected, _ = merge_models(start, models, MergeOptions(strength=0.25))
    assert found.keys() == expected.keys() == start.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize(('level', 'share'), [('layer', 0.98), ('task', 1)])
def test_the_entropy_falls(level: str, share: float, parts: tuple) -> None:
    start, models = parts
    said = []
    options = AdaptiveOptions(level, lr=0.05, steps=12)
    merged, _, lambdas_TL = merge_adaptively(
        start, models, TwoHeads(), load, options, lambda step, entropies: said.append(entropies))
    assert sum(said[-1].values()) < share * sum(said[0].values()) and len(said) == 12
    assert ((lambdas_TL >= 0) & (lambdas_TL <= 1)).all() and not (lambdas_TL == 0.3).any()

    # what is written is what the coefficients say, in a network of its own
    network = TwoHeads().eval()
    network.load_state_dict(merged)
    with torch.no_grad():
        now = task_entropies(network, merged, load()['inputs'])
        plain = network.heads['a'].entropy({'logits': network(load()['inputs'], 'tensor')['a.logits']})
    assert float(now['a']) == pytest.approx(float(plain), rel=1e-5)


def test_other_weights_go_through_the_real_encoders() -> None:
    model = make_model().eval().requires_grad_(False)
    model.heads['map_segmentation'].entropy = lambda raw: binary_entropy(raw['logits'])
    batch = make_batch(1, cameras=1, image_hw=(32, 48), points=200)
    batch = model.data_preprocessor({'inputs': batch})['inputs']
    weights = {
        name: value.clone().requires_grad_(name.startswith('trunk.') and name.endswith('weight'))
        for name, value in model.state_dict().items()}
    entropy = task_entropies(model, weights, batch)['map_segmentation']
    entropy.backward()
    assert float(weights['trunk.output.0.weight'].grad.abs().sum()) > 0
    raw = model(batch, mode='tensor')
    torch.testing.assert_close(entropy.detach(), binary_entropy(raw['map_segmentation.logits']))


def test_what_cannot_be_merged_by_entropy(parts: tuple) -> None:
    start, models = parts
    network = TwoHeads()
    network.heads['c'] = network.heads.pop('b')
    with pytest.raises(ValueError, match='expected a configuration with the heads a, b, found a, c'):
        merge_adaptively(start, models, network, load, AdaptiveOptions())
    other = TwoHeads()
    other.trunk[0] = nn.Linear(5, 6)
    wrong = r'1 tensors .*trunk.0.weight: weights \(6, 4\), configuration \(6, 5\)'
    with pytest.raises(ValueError, match=wrong):
        merge_adaptively(start, models, other, load, AdaptiveOptions())
    with pytest.raises(NotImplementedError, match='TaskHead does not say the entropy'):
        TaskHead.entropy(type('TaskHead', (), {})(), {})
    for wrong in (dict(level='block'), dict(start=2), dict(lr=0), dict(steps=0)):
        with pytest.raises(ValueError, match=f'merge: {next(iter(wrong))}: expected'):
            AdaptiveOptions(**wrong)

    models['b'] = {**models['b'], 'trunk.0.weight': torch.ones(2, 2)}
    with pytest.raises(ValueError, match=r'b: trunk.0.weight: expected the shape \(6, 4\) of the start'):
        merge_adaptively(start, models, TwoHeads(), load, AdaptiveOptions())


def test_experts_of_full_rank_are_the_models(parts: tuple) -> None:
    start, models = parts
    shared, _ = merge_models(start, models, MergeOptions())
    experts = make_experts(shared, models, 1.0)
    for task, state in models.items():
        found = expert_state(shared, task, experts[task])
        assert not any(name.startswith('heads.') and not name.startswith(f'heads.{task}.') for name in found)
        for name in (name for name in found if 'num_batches' not in name):
            torch.testing.assert_close(found[name], state[name])

    # two of four directions: what is left of the change is what the other two hold
    experts = make_experts(shared, models, 0.5)
    change = models['a']['trunk.0.weight'] - shared['trunk.0.weight']
    left = models['a']['trunk.0.weight'] - expert_state(shared, 'a', experts['a'])['trunk.0.weight']
    values = torch.linalg.svdvals(change)
    assert float(left.norm()) == pytest.approx(float(values[2:].norm()), rel=1e-4)
    assert expert_size(experts['a']) < expert_size(make_experts(shared, models, 1.0)['a'])

    with pytest.raises(ValueError, match='rank: expected a share above 0, at most 1, found 0'):
        make_experts(shared, models, 0)
    for wrong in ([torch.ones(5, 2), torch.ones(2, 4)], [torch.ones(6, 2), torch.ones(3, 4)], [1, 2], None):
        experts['a']['trunk.0.weight'] = wrong
        with pytest.raises(ValueError, match=r'a: trunk.0.weight: expected a change of the shape \(6, 4\)'):
            expert_state(shared, 'a', experts['a'])


def test_entropies_by_hand() -> None:
    logits = torch.tensor([0.0, 100.0, -100.0, 2.0])
    p = torch.sigmoid(torch.tensor(2.0))
    expected = torch.stack([torch.tensor(2.0).log(), -(p * p.log() + (1 - p) * (1 - p).log())]).sum() / 4
    torch.testing.assert_close(binary_entropy(logits), expected)
    three = torch.tensor([[[1.0, 1.0, 1.0], [50.0, 0.0, 0.0]]])
    torch.testing.assert_close(class_entropy(three, 2), torch.tensor(3.0).log() / 2)
    assert F.softplus(logits).isfinite().all()


def test_the_command_gives_an_expert_back(
    parts: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Files of other classes are refused, and the classes go along."""
    start, models = parts
    data = {'meta': {'dataset_meta': {'classes': ['car', 'tram']}}}
    for name, state in (('start', start), *models.items()):
        torch.save({'state_dict': state, **data}, tmp_path / f'{name}.pth')
    words = ['--models', f'a={tmp_path / "a.pth"}', f'b={tmp_path / "b.pth"}']
    out, own = tmp_path / 'twin.pth', tmp_path / 'own.pth'
    assert run_verb('merge-models', [
        str(tmp_path / 'start.pth'), *words, '--method', 'twin', '--rank', '1', '--out', str(out)]) == 0
    assert 'a: an expert of' in capsys.readouterr().out
    assert read_checkpoint(out)['meta']['dataset_meta'] == {'classes': ['car', 'tram']}

    assert run_verb('merge-models', [str(out), '--expert', 'b', '--out', str(own)]) == 0
    found = read_checkpoint(own)
    torch.testing.assert_close(found['state_dict']['trunk.0.weight'], models['b']['trunk.0.weight'])
    assert found['meta']['dataset_meta'] == {'classes': ['car', 'tram']}

    other = {'meta': {'dataset_meta': {'classes': ['tram', 'car']}}}
    torch.save({'state_dict': models['b'], **other}, tmp_path / 'b.pth')
    for wrong, message in (
            ([str(tmp_path / 'start.pth'), *words], 'b.pth: was trained for boxes of the classes tram, '),
            ([str(out), '--expert', 'c'], 'experts: expected that of c, found a, b'),
            ([str(own), '--expert', 'b'], 'experts: expected that of b, found none')):
        assert run_verb('merge-models', [*wrong, '--out', str(tmp_path / 'none.pth')]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'none.pth').exists()
