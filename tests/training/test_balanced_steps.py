"""Balancers in whole trainings: nothing changes by default, resumed is equal, two processes are as one."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from perception.core.checkpoint import read_checkpoint
from perception.training.optim import GuardedOptimWrapper
from tests.ranks import run_ranks
from tests.training.toy import equal, toy_runner
from tests.training.toy_tasks import TASKS, ToyTasks, started, take, weights_of

BALANCERS = {
    'uncertainty': dict(type='UncertaintyWeighting'), 'dwa': dict(type='DynamicWeightAverage'),
    'famo': dict(type='FAMO'), 'gradnorm': dict(type='GradNorm'), 'mgn': dict(type='MGN'),
    'config': dict(type='ConFIG', where='parameters'), 'pcgrad': dict(type='PCGrad')}


def train(folder: Path, balancer: dict | None = None, model: Any = None, **changes: Any):
    """Two passes of five steps over the toy's data."""
    if balancer is not None and balancer['type'] == 'PCGrad':
        pytest.importorskip('torchjd', reason='torchjd of the extra [balance] is not installed')
    runner = toy_runner(folder, model=model or ToyTasks(), custom_hooks=[], balancer=balancer, **changes)
    runner.train()
    return runner


def state_of(path: Path) -> dict[str, Any]:
    """All that a training without EMA goes on with, and the balancer's state."""
    checkpoint = read_checkpoint(path)
    return {name: checkpoint[name] for name in ('state_dict', 'optimizer')} | {
        name: checkpoint['meta'].get(name) for name in ('balancer', 'generators', 'progress')}


def scalars(folder: Path) -> list[dict[str, float]]:
    """What every step logged."""
    log, = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_fixed_weights_of_one_are_no_balancer_to_the_bit(tmp_path: Path) -> None:
    plain = train(tmp_path / 'none', dict(type='FixedWeights'))
    train(tmp_path / 'fixed', dict(type='FixedWeights', weights=dict.fromkeys(TASKS, 1.0)))
    assert plain.balanced is None
    none, fixed = (state_of(tmp_path / name / 'iter_10.pth') for name in ('none', 'fixed'))
    assert none['balancer'] is None and fixed['balancer']['type'] == 'FixedWeights'
    assert equal(none['state_dict'], fixed['state_dict']) and equal(none['optimizer'], fixed['optimizer'])


@pytest.mark.parametrize('kind', BALANCERS)
def test_a_resumed_training_is_equal_to_the_bit(tmp_path: Path, kind: str) -> None:
    train(tmp_path / 'whole', BALANCERS[kind])
    train(tmp_path / 'again', BALANCERS[kind], resume=tmp_path / 'whole' / 'iter_7.pth')
    whole, again = (state_of(tmp_path / name / 'iter_10.pth') for name in ('whole', 'again'))
    assert equal(whole, again)
    assert not equal(whole['state_dict'], state_of(tmp_path / 'whole' / 'iter_7.pth')['state_dict'])


def test_losses_are_logged_unweighted_beside_weights_norms_and_cosines(tmp_path: Path) -> None:
    train(tmp_path / 'run', dict(type='GradNorm'))
    names = set(scalars(tmp_path / 'run')[0])
    for task in TASKS:
        assert {f'loss/{task}/first', f'balance/weight/{task}', f'balance/norm/{task}'} <= names
    assert {'balance/cosine/a-b', 'balance/cosine/a-c', 'balance/cosine/b-c'} <= names


def trained(balancer: dict, model: ToyTasks, batches: list[torch.Tensor], wrapped: Any = None,
            accumulate: int = 1, lr: float = 0.05) -> list[torch.Tensor]:
    """The parameters after steps of gradient descent."""
    from perception.training.balancing import BalancedTraining, build_balancer
    from perception.training.balancing.base import StepPlace

    training = BalancedTraining(build_balancer(balancer), model)
    wrapper = GuardedOptimWrapper(
        torch.optim.SGD(model.parameters(), lr=lr), accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, 0, len(batches))
    for number, batch in enumerate(batches):
        training.train_step(
            model if wrapped is None else wrapped, {'inputs': batch}, wrapper, StepPlace(number, number))
    return [parameter.detach() for parameter in model.parameters()]


def still(model: ToyTasks) -> ToyTasks:
    """The norm normalises by what it has seen, which is nothing: results do not depend on the batch."""
    model.trunk[1].eval()
    return model


@pytest.mark.parametrize('balancer', [
    dict(type='ConFIG'), dict(type='ConFIG', where='parameters'), dict(type='GradDrop')], ids=str)
def test_accumulated_batches_are_their_mean(balancer: dict) -> None:
    """Three times the same batch, accumulated, is one step of it."""
    batch = torch.linspace(-1, 1, 12).view(3, 4)
    start = [parameter.detach().clone() for parameter in ToyTasks().parameters()]
    if balancer['type'] == 'GradDrop':  # draws by the step's number: let all of both signs pass
        balancer = balancer | {'leak': dict.fromkeys(TASKS, 1.0)}
    one = trained(balancer, still(ToyTasks(noise=False)), [batch])
    three = trained(balancer, still(ToyTasks(noise=False)), [batch] * 3, accumulate=3)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one, three, strict=True))
    assert max(float((a - b).abs().max()) for a, b in zip(one, start, strict=True)) > 1e-3


def test_famo_learns_nothing_from_an_update_that_was_left_out() -> None:
    from perception.training.balancing import BalancedTraining, build_balancer
    from perception.training.balancing.base import StepPlace

    model, factor = ToyTasks(noise=False), [1.0]
    next(model.trunk.parameters()).register_hook(lambda gradient: gradient * factor[0])
    training = BalancedTraining(build_balancer(dict(type='FAMO')), model)
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    seen = []
    for number, factor[0] in enumerate((1.0, float('inf'), 1.0)):
        batch = {'inputs': torch.linspace(-1, 1, 12).view(3, 4)}
        training.train_step(model, batch, wrapper, StepPlace(number))
        seen.append((wrapper.skipped, training.balancer.state['xi']['steps']))
    assert seen == [(0, 1), (1, 1), (1, 2)]


def test_the_parameters_way_gives_heads_their_own_gradient_and_shared_layers_the_weighted_sum() -> None:
    from perception.training.balancing import BalancedTraining, build_balancer
    from perception.training.balancing.base import StepPlace

    # a norm that learns from three samples leaves gradients that cancel to rounding
    def step(balancer: dict) -> tuple[ToyTasks, dict[str, torch.Tensor], dict]:
        model = still(ToyTasks(noise=False))
        training = BalancedTraining(build_balancer(balancer), model)
        wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        training.train_step(model, batch, wrapper, StepPlace())
        return model, {name: before[name] - p.detach() for name, p in model.named_parameters()}, training

    batch = {'inputs': torch.linspace(-1, 1, 12).view(3, 4)}
    _, plain, _ = step(dict(type='FixedWeights'))
    _, moved, _ = step(dict(type='ConFIG', where='parameters'))
    heads = [name for name in plain if name.startswith('heads.')]
    assert all(torch.allclose(plain[name], moved[name], atol=1e-5) for name in heads)

    # by hand: gradients of every task in the trunk, and the direction of equal angles
    model = still(ToyTasks(noise=False))
    losses = model(**batch)
    shared = list(model.trunk.parameters())
    rows = []
    for task in TASKS:
        grads = torch.autograd.grad(
            losses[f'loss/{task}/first'] + losses[f'loss/{task}/second'], shared, retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    rest = torch.cat([g.flatten() for g in torch.autograd.grad(losses['loss/network/decay'], shared)])
    rows = torch.stack(rows).double()
    units = rows / rows.norm(dim=1, keepdim=True)
    direction = torch.linalg.pinv(units).sum(1)
    direction /= direction.norm()
    expected = (rows @ direction).sum() * direction + rest
    found = torch.cat([moved[f'trunk.{name}'].flatten() for name, _ in model.trunk.named_parameters()])
    assert torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('kind', ['gradnorm', 'config', 'uncertainty'])
def test_a_task_without_labels_trains_the_others(tmp_path: Path, kind: str) -> None:
    runner = train(tmp_path / 'run', BALANCERS[kind], ToyTasks(masked='b'))
    assert runner.iter == 10
    assert all(row['balance/weight/b'] == 1.0 for row in scalars(tmp_path / 'run'))


ON_RANKS = [
    dict(type='GradNorm', lr=0.1), dict(type='ConFIG', where='parameters'), dict(type='FAMO', lr=0.1),
    dict(type='GradDrop'), dict(type='SAMGS', gamma=0.9), dict(type='GCond'),
    dict(type='FlatMinima', base=dict(type='ConFIG'))]


def train_on_ranks(folder: str, processes: int) -> None:
    """Three steps of a global batch of four with every balancer; the weights go to a file."""
    from torch.nn.parallel import DistributedDataParallel

    from perception.training.runner import init_processes
    if processes > 1:
        init_processes('pytorch')
    rank = torch.distributed.get_rank() if processes > 1 else 0
    size = 4 // processes
    draws = torch.Generator().manual_seed(7)
    batches = [torch.randn(4, 4, generator=draws)[rank * size:][:size] for _ in range(3)]

    weights = []
    for balancer in ON_RANKS:
        model = still(ToyTasks(noise=False))
        wrapped = DistributedDataParallel(model) if processes > 1 else None
        weights.append(trained(balancer, model, batches, wrapped, lr=5e-4))
    torch.save(weights, Path(folder) / f'{processes}_{rank}.pth')


def test_two_processes_are_as_one_and_equal(tmp_path: Path) -> None:
    train_on_ranks(str(tmp_path), 1)
    run_ranks(train_on_ranks, str(tmp_path), 2)
    one, first, second = (
        torch.load(tmp_path / f'{name}.pth', weights_only=True) for name in ('1_0', '2_0', '2_1'))
    start = list(ToyTasks().parameters())
    for balancer, alone, a, b in zip(ON_RANKS, one, first, second, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True)), balancer
        same = [torch.allclose(p, q, rtol=1e-4, atol=1e-6) for p, q in zip(a, alone, strict=True)]
        assert all(same), balancer
        assert max(float((p - q).abs().max()) for p, q in zip(alone, start, strict=True)) > 1e-4


def test_the_cost_is_measured_over_the_plain_sum_and_nothing_moves() -> None:
    from perception.training.balancing.cost import backward_times
    model = ToyTasks()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    rows = backward_times(
        model, lambda: {'inputs': torch.randn(3, 4)}, wrapper,
        {'angles': dict(type='ConFIG', where='parameters'), 'mgn': dict(type='MGN')}, 3)
    assert [row['balancer'] for row in rows] == ['FixedWeights', 'angles', 'mgn']
    assert rows[0]['times'] == 1.0 and rows[1]['times'] > 1.0 and all(row['ms'] > 0 for row in rows)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_a_task_without_labels_in_the_base_pass_gets_its_base_later() -> None:
    """From its first pass with labels; the others have theirs, and the weights of them, meanwhile."""
    from perception.training.balancing import build_balancer
    from perception.training.balancing.base import StepPlace

    balancer = started(build_balancer(dict(type='ImprovableGap')))
    steps = [(0, (1.0, 2.0, 0.0)), (1, (2.0, 2.0, 0.0)), (2, (2.0, 2.0, 5.0)), (2, (2.0, 2.0, 3.0))]
    found = [weights_of(take(balancer, losses, place=StepPlace(0, number))) for number, losses in steps]
    first, second = torch.softmax(torch.tensor([2.0, 1.0]), 0).tolist()  # bases 1 and 2
    assert found[0] == [1, 0.5, 1] and found[1] == pytest.approx([first, second, 1])
    assert found[2] == pytest.approx([first, second, 1 / 5])
    assert found[3] == pytest.approx([first, second, 1 / 3])

    last = weights_of(take(balancer, (2.0, 2.0, 4.0), place=StepPlace(0, 3)))
    three = torch.softmax(torch.tensor([2.0, 1.0, 1.0]), 0)  # c's base: 4
    assert last == pytest.approx((3 * three / torch.tensor([2.0, 2.0, 4.0])).tolist())


def test_losses_of_no_task_keep_their_weight() -> None:
    """Weights of 0 leave the loss that belongs to the network."""
    batch = torch.linspace(-1, 1, 12).view(3, 4)
    nothing = dict(type='FixedWeights', weights=dict.fromkeys(TASKS, 0.0))
    moved = trained(nothing, ToyTasks(noise=False), [batch])
    model = ToyTasks(noise=False)
    model(batch)['loss/network/decay'].backward()
    for name, after, parameter in zip(
            dict(model.named_parameters()), moved, model.parameters(), strict=True):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(after, parameter.detach() - 0.05 * gradient, atol=1e-7), name
