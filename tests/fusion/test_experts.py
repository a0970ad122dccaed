"""Mixtures of experts: sparse equals dense, the formula token by token, gates per task, balance, usage,
export."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from perception.deployment.export.operators import walk
from perception.fusion.experts import HardExperts, HardFFN, PlainFFN, RoutedExperts, RoutedFFN, TwoLayerMLP
from perception.training.hooks import ExpertUsageHook
from tests.export_check import export, open_session
from tests.helpers import make_batch, make_model


def make(**options):
    torch.manual_seed(0)
    return RoutedExperts(6, 10, **{'experts': 4, 'top': 2, **options})


def token_by_token(network, x, task=None):
    """The paper's sum, one token and one expert at a time."""
    gate = network.gates[0 if task is None else network.tasks.index(task)]
    out = []
    for token in x.reshape(-1, x.shape[-1]):
        total = 0
        probabilities = gate(token).softmax(-1)
        chosen = sorted(range(len(probabilities)), key=lambda e: -probabilities[e].item())[:network.top]
        scale = sum(probabilities[e] for e in chosen) if network.renormalise else 1
        for e in chosen:
            hidden = nn.functional.gelu(token @ network.weight_in[e] + network.bias_in[e])
            out_e = hidden @ network.weight_out[e] + network.bias_out[e]
            total = total + probabilities[e] / scale * out_e
        out.append(total)
    return torch.stack(out).view(x.shape)


@pytest.mark.parametrize(
    ('options', 'task'),
    [
        ({}, None), ({'top': 1}, None), ({'top': 4}, None), ({'renormalise': True}, None),
        ({'tasks': ('a', 'b')}, 'a'), ({'tasks': ('a', 'b')}, 'b')],
)
def test_both_forms_equal_the_paper_in_values_and_gradients(options, task):
    outputs = []
    for read in ('sparse', 'dense', 'loops'):
        network = make(**options).train(read == 'sparse')
        x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
        out = token_by_token(network, x, task) if read == 'loops' else network(x, task)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        gradients = {
            n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in network.named_parameters()
        }
        outputs.append([out, x.grad, *gradients.values()])
    for sparse, dense, loops in zip(*outputs, strict=True):
        torch.testing.assert_close(sparse, loops, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(dense, loops, rtol=1e-4, atol=1e-5)


def test_one_expert_is_a_feed_forward_network():
    routed, plain = make(experts=1, top=1).eval(), TwoLayerMLP(6, 10).eval()
    plain.layers[0].weight.data, plain.layers[0].bias.data = (
        routed.weight_in.data[0].T, routed.bias_in.data[0])
    plain.layers[3].weight.data, plain.layers[3].bias.data = (
        routed.weight_out.data[0].T, routed.bias_out.data[0])
    x = torch.randn(2, 7, 6)
    torch.testing.assert_close(routed(x), plain(x))


def test_tasks_choose_by_their_own_gates():
    network = make(tasks=('a', 'b')).eval()
    x = torch.randn(4, 6)
    assert not torch.allclose(network(x, 'a'), network(x, 'b'))
    torch.testing.assert_close(make().eval()(x, 'anything'), make().eval()(x))
    for wrong in ('c', None):
        with pytest.raises(ValueError, match=f'task {wrong!r}'):
            network(x, wrong)
    with pytest.raises(ValueError, match='top=5'):
        make(top=5)


def test_balance_is_one_when_even_and_e_when_one_takes_all():
    network = make(top=1, balance=1.0)
    nn.init.zeros_(network.gates[0].weight)
    nn.init.zeros_(network.gates[0].bias)
    network(torch.randn(8, 6))
    # probabilities are even, whatever was chosen
    assert network.extra_losses()['load_balance'].item() == pytest.approx(1.0)
    network.gates[0].bias.data[2] = 50.0
    network(torch.randn(8, 6))
    assert network.extra_losses()['load_balance'].item() == pytest.approx(4.0)
    assert network.extra_losses() == {}
    network.eval()(torch.randn(8, 6))
    assert network.extra_losses() == {} and make().extra_losses() == {}


def test_balance_pulls_the_gate_towards_the_idle():
    network = make(top=1, balance=0.5)
    network.gates[0].bias.data[1] = 1.0
    x = torch.randn(64, 6)
    network(x)
    before = network.usage()
    optimizer = torch.optim.SGD(network.gates.parameters(), lr=0.5)
    for _ in range(60):
        network(x)
        optimizer.zero_grad()
        network.extra_losses()['load_balance'].backward()
        optimizer.step()
    network.usage()
    network(x)
    assert network.usage().max() < before.max() - 0.1


def test_usage_counts_choices():
    network = make(top=1)
    network.gates[0].bias.data[2] = 50.0
    network(torch.randn(3, 6))
    assert network.usage().tolist() == [0, 0, 1, 0] and network.usage().tolist() == [0, 0, 0, 0]


def test_hard_experts():
    torch.manual_seed(0)
    network = HardExperts(6, 10, ('a', 'b')).eval()
    x = torch.randn(2, 3, 6)
    together = torch.cat([network.experts['a'](x), network.experts['b'](x)], -1)
    torch.testing.assert_close(network(x), network.norm(network.projection(together)))
    torch.testing.assert_close(network(x, 'b'), network.experts['b'](x))
    with pytest.raises(ValueError, match="'c'"):
        network(x, 'c')
    with pytest.raises(ValueError, match='at least one task'):
        HardExperts(6, 10, ())


def test_a_hard_expert_is_alone_where_it_is_the_only_one_or_its_task_is_served() -> None:
    """Then nothing joins them: no weight is left that nothing would train."""
    x = torch.randn(3, 6)
    for network, task in ((HardFFN(('a',))(6), None), (HardFFN(('a', 'b'), task_layers=1)(6, True), 'a')):
        torch.testing.assert_close(network(x, task), network.experts['a'](x))
        assert {name.split('.')[0] for name, _ in network.named_parameters()} == {'experts'}
    with pytest.raises(ValueError, match='None'):
        network(x)


def test_gates_by_task_want_layers_by_task() -> None:
    for wrong in (dict(tasks=('a',)), dict(task_layers=2)):
        with pytest.raises(ValueError, match='expected tasks and task_layers, or neither'):
            RoutedFFN(**wrong)
    shared, own = RoutedFFN(tasks=('a', 'b'), task_layers=1), RoutedFFN(tasks=('a', 'b'), task_layers=1)
    assert len(shared(6).gates) == 1 and len(own(6, True).gates) == 2


KINDS = [
    PlainFFN(), RoutedFFN(experts=3, top=2), RoutedFFN(tasks=('a', 'b'), task_layers=1, balance=0.01),
    HardFFN(('a', 'b', 'c'))]


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_learns_everywhere_also_in_bf16(kind):
    torch.manual_seed(0)
    network = kind(8)
    x = torch.randn(2, 60, 8)
    whole = network(x)
    with torch.autocast('cpu', torch.bfloat16):
        half = network(x)
    torch.testing.assert_close(half.float(), whole, rtol=0.1, atol=0.1)
    (half.float() * torch.randn_like(whole)).sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_exports(kind, tmp_path):
    pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    network, path = kind(8).eval(), tmp_path / 'ffn.onnx'
    export(network, {'x': torch.randn(1, 12, 8)}, path)
    assert walk(path) == []
    x = torch.randn(1, 12, 8)
    output = open_session(path).run(None, {'x': x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(output), network(x), rtol=1e-4, atol=1e-5)


class WithExperts(nn.Module):
    """A trunk that looks through experts first."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.experts = trunk, RoutedExperts(16, 8, 4, 2, balance=0.1)

    def forward(self, bev):
        return self.trunk(bev + self.experts(bev.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_the_model_adds_the_term_and_the_hook_logs_the_use():
    model = make_model(('lidar',))
    model.trunk = WithExperts(model.trunk)
    batch = model.data_preprocessor({'inputs': make_batch()})['inputs']
    losses = model.loss(batch, [SimpleNamespace(token='four')] * 2)
    assert 0.1 <= float(losses['loss/network/load_balance']) < 0.4
    lines, scalars = [], {}
    runner = SimpleNamespace(model=model, logger=SimpleNamespace(info=lines.append),
                             message_hub=SimpleNamespace(update_scalar=scalars.__setitem__))
    hook = ExpertUsageHook()
    hook.after_train_epoch(runner)
    assert 1 <= scalars['train/experts/effective'] <= 4 and 0.25 <= scalars['train/experts/busiest'] <= 0.5
    assert lines[0].startswith('experts trunk.experts: ') and sum(
        map(float, lines[0].split()[2:])
    ) == pytest.approx(1, abs=2e-3)
    assert 'loss/network/load_balance' not in make_model(('lidar',)).loss(
        batch, [SimpleNamespace(token='four')] * 2
    )
