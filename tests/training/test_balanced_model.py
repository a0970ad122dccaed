"""Balancers on the real figure of the system: sensors, trunk, M3Net's exchange between tasks, heads."""
from __future__ import annotations

from typing import Any

import pytest
import torch

from perception.core.contracts import Annotations
from perception.fusion.concat import ConcatFuser
from perception.fusion.trunk import Trunk
from perception.heads.m3net import M3NetBridge
from perception.model import MultiTaskPerception
from perception.preprocessor import BatchPreprocessor
from perception.training.balancing import BalancedTraining, build_balancer
from perception.training.balancing.base import StepPlace, TaskLosses
from perception.training.balancing.gradients import BranchGradients, map_gradients
from perception.training.optim import GuardedOptimWrapper
from perception.training.runner import freeze_parameters
from tests.helpers import GRID, SquareHead, make_batch, make_camera, make_lidar

TASKS = ('detection', 'map_segmentation')


class Square(SquareHead):
    """`SquareHead` for any task, weighted."""

    def __init__(self, task: str, weight: float) -> None:
        super().__init__(16)
        self.task, self.weight = task, weight

    def loss(self, raw: dict[str, torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {'square': super().loss(raw, targets * self.weight)['square'] * self.weight}


def make_tasks(bridge: bool = False, sensors: tuple[str, ...] = ('camera', 'lidar')) -> MultiTaskPerception:
    torch.manual_seed(0)
    encoders = {name: {'camera': make_camera, 'lidar': make_lidar}[name]() for name in sensors}
    exchange = None
    if bridge:
        exchange = M3NetBridge(
            GRID, 16, TASKS, dict(layers=1, heads=4, points=2, feedforward=16, states=4),
            dict(detection=12, map_strips=4, occupancy_stride=4))
        # of its own predictions, for which these heads have no targets
        exchange.loss = lambda raw, targets: {}
    return MultiTaskPerception(
        encoders, ConcatFuser({name: encoder.out_channels for name, encoder in encoders.items()}, 16),
        Trunk(16, 16, channels=(16, 16), layers=(1, 1)),
        {task: Square(task, weight) for task, weight in zip(TASKS, (1.0, 5.0), strict=True)},
        bridge=exchange, data_preprocessor=BatchPreprocessor())


def make_data(sensors: tuple[str, ...] = ('camera', 'lidar')) -> dict[str, Any]:
    batch = make_batch(samples=1, points=200)
    return {'inputs': batch, 'data_samples': [Annotations(frame.token) for frame in batch.frames]}


def one_step(model: MultiTaskPerception, balancer: dict, **options: Any) -> BalancedTraining:
    training = BalancedTraining(build_balancer(balancer), model.train())
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3), **options)
    training.train_step(model, make_data(), wrapper, StepPlace(0, 0, ends_pass=True))
    return training


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_exchange_of_m3net_is_seen_through(dtype: str) -> None:
    """Through its gates and queries, in half precision, too: weights move, and so does everything shared."""
    model = make_tasks(bridge=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training = one_step(model, dict(type='GradNorm', lr=0.1), dtype=dtype)
    weights = training.balancer.state['weights']['value']
    assert float(weights.sum()) == pytest.approx(2) and float(weights[0]) > 1 > float(weights[1])
    for part in ('encoders.camera', 'encoders.lidar', 'trunk', 'bridge', 'heads.detection'):
        assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters()
                   if name.startswith(part)), part


def losses_of(model: MultiTaskPerception, scale: float = 1.0) -> TaskLosses:
    """One forward, its losses and its shared map, as a step has them."""
    kept = []
    handle = model.trunk.register_forward_hook(lambda trunk, inputs, output: kept.append(output))
    data = model.data_preprocessor(make_data(), True)
    terms = model.train()(**data, mode='loss')
    handle.remove()
    terms['loss/network/map'] = 0.1 * kept[0].square().mean()
    return TaskLosses(terms, TASKS, kept[0], scale=scale)


@pytest.mark.parametrize('kind', ['plain', 'scaled', 'bfloat16'])
def test_gradients_above_the_map_are_used_again(kind: str) -> None:
    """One backward of each head gives what the backward of the weighted sum gives, in every parameter."""
    weights, found = (0.5, -3.0), []
    for again in (False, True):
        model = make_tasks(sensors=('lidar',))
        with torch.autocast('cpu', torch.bfloat16, enabled=kind == 'bfloat16'):
            losses = losses_of(model, 1024.0 if kind == 'scaled' else 1.0)
        if again:
            branches = BranchGradients.of(losses)
            own = [{id(leaf) for leaf in leaves} for leaves, _ in branches.own]
            assert own == [{id(p) for p in model.heads[task].parameters()} for task in TASKS]
            losses_total = branches.weighted(losses, weights)
        else:
            losses_total = losses.weighted(weights)
        losses_total.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})

    assert found[0].keys() == found[1].keys() and {'trunk.output.0.weight'} <= found[0].keys()
    for name, gradient in found[0].items():
        if kind == 'bfloat16':  # what is rounded on the way differs
            assert float((gradient - found[1][name]).norm()) <= 0.05 * float(gradient.norm()), name
        else:
            size = float(gradient.abs().max())
            assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-4 * size), name


def test_what_is_logged_beside_the_losses_is_no_loss() -> None:
    """As mmengine counts them: by the word in the name."""
    found = []
    for logged in ({}, {'points/network/map': torch.tensor(7.0)}):
        losses = losses_of(make_tasks(sensors=('lidar',)))
        losses = TaskLosses({**losses.terms, **logged}, TASKS, losses.shared_map)
        found.append(float(BranchGradients.of(losses).weighted(losses, (1.0, 1.0))))
    assert found[0] == found[1] > 0


def test_tasks_that_share_parameters_above_the_map_go_backward_once_more() -> None:
    losses = losses_of(make_tasks(bridge=True, sensors=('lidar',)))
    branches = BranchGradients.of(losses)
    assert branches.own is None
    assert torch.equal(branches.rows_TP, map_gradients(losses))
    assert float(branches.weighted(losses, (1.0, 2.0))) == float(losses.weighted((1.0, 2.0)))


def test_rep_mtl_goes_backward_through_heads_and_exchange() -> None:
    model = make_tasks(bridge=True, sensors=('lidar',))
    before = [p.detach().clone() for p in model.trunk.parameters()]
    one_step(model, dict(type='RepMTL'))
    assert any(not torch.equal(p, q) for p, q in zip(model.trunk.parameters(), before, strict=True))


def test_nothing_shared_learns() -> None:
    model = make_tasks(sensors=('lidar',))
    freeze_parameters(model, ['encoders', 'fuser', 'trunk'])
    with pytest.raises(ValueError, match='no gradient reaches the shared map'):
        one_step(model, dict(type='GradNorm'))


def test_fuller_makes_the_sensors_gradients_alike() -> None:
    """Step by step at rate 0: the second step's gradient of a sensor is the first one's times its factor."""
    model = make_tasks()
    training = BalancedTraining(build_balancer(dict(type='FULLER', momentum=0.0)), model.train())
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    arrived = []
    for encoder in model.encoders.values():
        last = list(encoder.parameters())[-1]
        last.register_hook(lambda gradient: arrived.append(float(gradient.norm())))
    for number in range(2):
        training.train_step(model, make_data(), wrapper, StepPlace(number))

    norms, factors = training.balancer.state['sensors'], training.balancer.factors()
    assert set(norms) == {'camera', 'lidar'} and min(norms.values()) > 0
    alike = [factors[name] * norms[name] for name in norms]
    assert alike[0] == pytest.approx(alike[1]) and max(factors.values()) > 1 > min(factors.values())
    # the two sensors come in the same order both times
    ratios = [after / before for before, after in zip(arrived[:2], arrived[2:], strict=True)]
    assert sorted(ratios) == pytest.approx(sorted(factors.values()), rel=1e-3)


def test_fuller_leaves_the_sensors_alone_in_free_steps() -> None:
    """At rate 0: steps 0 and 2 are free and alike; step 3, of the base, is step 1 times the factors."""
    model = make_tasks()
    balancer = build_balancer(dict(type='Alternating', base=dict(type='FULLER', momentum=0.0)))
    training = BalancedTraining(balancer, model.train())
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    arrived = []
    for encoder in model.encoders.values():
        last = list(encoder.parameters())[-1]
        last.register_hook(lambda gradient: arrived.append(float(gradient.norm())))
    for number in range(4):
        training.train_step(model, make_data(), wrapper, StepPlace(number))

    free, base, later, scaled = (arrived[2 * number:][:2] for number in range(4))
    assert later == pytest.approx(free, rel=1e-3)
    ratios = [after / before for before, after in zip(base, scaled, strict=True)]
    factors = balancer.base.factors()
    assert sorted(ratios) == pytest.approx(sorted(factors.values()), rel=1e-3)
    assert max(ratios) > 1 > min(ratios)


def test_fuller_needs_the_map() -> None:
    with pytest.raises(ValueError, match="FULLER.where: expected 'map'"):
        build_balancer(dict(type='FULLER', where='parameters'))
