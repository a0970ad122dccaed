"""Balancers that change whole gradients, regularisers, alternation and sparse training."""
from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from perception.core.checkpoint import read_checkpoint
from perception.training.balancing import BalancedTraining, build_balancer
from perception.training.balancing.base import StepPlace
from perception.training.balancing.rep_mtl import saliency_contrast, saliency_entropy
from perception.training.balancing.sparse import largest_inputs
from perception.training.balancing.whole import magnitude_similarity, yielded
from perception.training.optim import GuardedOptimWrapper
from tests.training.test_balanced_steps import state_of
from tests.training.toy import equal, toy_runner
from tests.training.toy_tasks import TASKS, OneStep, ToyTasks, started

BATCH = {'inputs': torch.linspace(-1, 1, 12).view(3, 4)}
WHOLE = [
    dict(type='GradDrop'), dict(type='GradDrop', where='parameters'), dict(type='SAMGS'),
    dict(type='GCond'), dict(type='FlatMinima'), dict(type='FlatMinima', base=dict(type='ConFIG')),
    dict(type='Alternating', base=dict(type='GradNorm')), dict(type='RepMTL'),
    dict(type='RepMTL', base=dict(type='UncertaintyWeighting'))]


def ids(config: dict) -> str:
    return '-'.join(str(value['type'] if isinstance(value, dict) else value) for value in config.values())


def step_of(balancer: dict, model: ToyTasks | None = None, place: StepPlace = StepPlace(),  # noqa: B008
            ) -> tuple[dict[str, torch.Tensor], BalancedTraining]:
    """What a step of gradient descent at rate 1 takes from every parameter."""
    model = model or ToyTasks(noise=False)
    training = BalancedTraining(build_balancer(balancer), model)
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training.train_step(model, BATCH, wrapper, place)
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}, training


def task_gradients(model: ToyTasks) -> torch.Tensor:
    """Gradients of the tasks in the trunk `(T, P)`."""
    losses, shared = model(**BATCH), list(model.trunk.parameters())
    rows = [
        torch.autograd.grad(losses[f'loss/{task}/first'] + losses[f'loss/{task}/second'], shared,
                            retain_graph=True) for task in TASKS]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def trunk_of(moves: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([move.flatten() for name, move in moves.items() if name.startswith('trunk.')])


def merge(balancer: object, rows: list[list[float]], step: int = 0) -> torch.Tensor:
    rows = torch.tensor(rows)
    losses = OneStep(torch.ones(len(rows)), rows, place=StepPlace(step))
    return balancer.merge(rows, rows.norm(dim=1) > 0, losses)


@pytest.mark.parametrize('balancer', WHOLE, ids=ids)
def test_resumed_is_equal_to_the_bit_and_the_training_moves(tmp_path: Path, balancer: dict) -> None:
    for name, resume in (('whole', False), ('again', tmp_path / 'whole' / 'iter_7.pth')):
        toy_runner(tmp_path / name, resume, model=ToyTasks(), custom_hooks=[], balancer=balancer).train()
    whole, again = (state_of(tmp_path / name / 'iter_10.pth') for name in ('whole', 'again'))
    assert equal(whole, again)


@pytest.mark.parametrize('balancer', WHOLE[:6], ids=ids)
def test_heads_keep_their_own_gradient_and_unlabelled_tasks_change_nothing(balancer: dict) -> None:
    """With labels of one task alone the step is the plain one (FlatMinima's but for sharpness)."""
    if balancer['type'] == 'FlatMinima':
        balancer = balancer | {'rho': 1e-6}
    model = ToyTasks(('a', 'b'), masked='a', noise=False)
    plain, _ = step_of(dict(type='FixedWeights'), ToyTasks(('a', 'b'), masked='a', noise=False))
    found, _ = step_of(balancer, model)
    for name in plain:
        assert torch.allclose(found[name], plain[name], rtol=1e-3, atol=1e-3), name


def test_graddrop_lets_one_sign_through() -> None:
    balancer = started(build_balancer(dict(type='GradDrop', where='parameters')), 2)
    rows = [[1.0, -2.0, 3.0, 0.5], [2.0, -1.0, -1.0, 0.0]]
    merged = [merge(balancer, rows, step) for step in range(200)]
    # pure entries always pass; a mixed one is 3 with probability 3 / 4, else -1
    assert all(m[:2].tolist() == [3.0, -3.0] and float(m[3]) == 0.5 for m in merged)
    third = torch.stack([m[2] for m in merged])
    assert set(third.tolist()) == {3.0, -1.0}
    assert float((third > 0).float().mean()) == pytest.approx(0.75, abs=0.1)

    leaking = started(build_balancer(dict(type='GradDrop', where='parameters', leak={'a': 1.0, 'b': 1.0})), 2)
    assert torch.equal(merge(leaking, rows), torch.tensor(rows).sum(0))


def test_graddrop_at_the_map_sums_the_samples_by_the_maps_sign() -> None:
    """Task a pulls both samples outwards, b inwards with half the force: purity 3 / 4 for a's sign."""
    balancer = build_balancer(dict(type='GradDrop'))
    balancer.start(('a', 'b'), ToyTasks())
    shared = torch.tensor([[1.0], [-1.0]])
    rows = torch.tensor([[2.0, -2.0], [-1.0, 1.0]])  # at (sample 1, sample 2)
    seen = set()
    for number in range(40):
        step = OneStep([1.0, 1.0], rows)
        wide = shared.clone().requires_grad_()
        step.losses.shared_map, step.losses.place = wide, StepPlace(number)
        step.losses.terms = {
            f'loss/{task}/x': (row.view(2, 1) * wide).sum() for task, row in zip('ab', rows, strict=True)}
        balancer.train(step)
        seen.add(tuple(wide.grad.flatten().tolist()))
    # either a's whole gradient or b's: both samples alike
    assert seen == {(2.0, -2.0), (-1.0, 1.0)}


def test_samgs_by_hand() -> None:
    assert magnitude_similarity(torch.tensor([1.0, 3.0])) == pytest.approx(0.6)
    balancer = started(build_balancer(dict(type='SAMGS', gamma=0.7)), 2)
    balancer.state['m'] = torch.zeros(2, 2)
    # similarity 0.6 below 0.7: both as long as the mean, 2
    assert torch.allclose(merge(balancer, [[1.0, 0.0], [0.0, 3.0]]), torch.tensor([2.0, 2.0]))

    balancer = started(build_balancer(dict(type='SAMGS', gamma=0.1)), 2)
    balancer.state['m'] = torch.zeros(2, 2)
    # m corrected is the gradient itself at first; v corrected: 0.16 + 1e-6
    expected = torch.tensor([1.0, 9.0]) / math.sqrt(0.16 + 1e-6)
    assert torch.allclose(merge(balancer, [[1.0, 0.0], [0.0, 3.0]]), expected, rtol=1e-5)


def test_gcond_arbitrates_by_its_zones() -> None:
    balancer = started(build_balancer(dict(type='GCond', window=0)), 2)
    assert balancer.angle(0.0) == 0 and balancer.angle(-0.5) == pytest.approx(math.pi / 2)
    assert balancer.angle(-0.65) == pytest.approx(0.75 * math.pi)
    assert balancer.angle(-0.8) == balancer.angle(-1.0) == math.pi

    # at pi / 2 both are projected off each other; at pi the loser alone
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    both = yielded(a, b, math.pi / 2)
    assert torch.allclose(both[0], torch.tensor([0.5, 0.5]))
    assert torch.allclose(both[1], torch.tensor([0, 1.0]))
    winner, loser = yielded(a, b, math.pi)
    assert torch.allclose(winner, a, atol=1e-6) and torch.allclose(loser, torch.tensor([0, 1.0]))

    # no conflict: the sum, whose momentum is corrected for its start
    size = sum(p.numel() for p in balancer.parameters)
    rows = torch.zeros(2, size)
    rows[0, 0], rows[1, 1] = 2.0, 3.0
    assert torch.allclose(merge(balancer, rows.tolist()), rows.sum(0), atol=1e-6)
    # then none at all: 0.85 * 0.15 / (1 - 0.85 ** 2) of it are left
    left = balancer.merge(torch.zeros(2, size), torch.ones(2, dtype=torch.bool), OneStep([1.0, 1.0]))
    assert torch.allclose(left, rows.sum(0) * 0.85 * 0.15 / (1 - 0.85 ** 2), atol=1e-6)


def gcond(window: int, **state: object):
    """Two tasks in two parameters, with a history."""
    balancer = started(build_balancer(dict(type='GCond', window=window)), 2)
    balancer.state |= {'before': torch.zeros(2, 2), 'merged': torch.zeros(2), **state}
    return balancer


def test_gcond_lets_the_stabler_and_then_the_stronger_win() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.1]])
    # nothing before: strength decides, here of norms over running norms
    assert gcond(0, norms=torch.tensor([10.0, 1.0])).winner_first(rows, (0, 1)) == (1, 0)
    assert gcond(0, norms=torch.tensor([1.0, 10.0])).winner_first(rows, (0, 1)) == (0, 1)
    stable = gcond(0, norms=torch.tensor([10.0, 1.0]), before=torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert stable.winner_first(rows, (0, 1)) == (0, 1)

    # in the critical zone the winner keeps its gradient, the loser what is left beside it
    merged = merge(gcond(0, norms=torch.tensor([1.0, 10.0])), rows.tolist())
    assert torch.allclose(merged, torch.tensor([1.0, 0.1]), atol=1e-5)


def test_gcond_makes_who_has_won_too_often_lose() -> None:
    balancer = gcond(2, norms=torch.tensor([1.0, 10.0]))
    for _ in range(3):
        balancer.arbitrate(torch.tensor([[1.0, 0.0], [-1.0, 0.1]]))
    assert balancer.state['winners'] == [0, 1]


def test_flat_minima_by_hand() -> None:
    """The sum of the gradients at the worst places nearby, each of its own task; weights are put back."""
    rho, model = 0.1, ToyTasks(noise=False)
    moves, _ = step_of(dict(type='FlatMinima', rho=rho))
    names = [name for name, _ in model.trunk.named_parameters()]
    total = torch.zeros_like(torch.cat([p.flatten() for p in model.trunk.parameters()]))
    for task in TASKS:
        model = ToyTasks(noise=False)
        own, shared = list(model.heads[task].parameters()), list(model.trunk.parameters())
        for group in (shared, own):
            losses = ToyTasks(noise=False)  # gradients at the start
            loss = losses(**BATCH)
            loss = loss[f'loss/{task}/first'] + loss[f'loss/{task}/second']
            at = list((losses.trunk if group is shared else losses.heads[task]).parameters())
            grads = torch.autograd.grad(loss, at)
            norm = torch.cat([g.flatten() for g in grads]).norm()
            with torch.no_grad():
                for parameter, gradient in zip(group, grads, strict=True):
                    parameter += rho * gradient / norm
        loss = model(**BATCH)
        loss = loss[f'loss/{task}/first'] + loss[f'loss/{task}/second']
        total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared)])
    fresh = ToyTasks(noise=False)
    rest = torch.autograd.grad(fresh(**BATCH)['loss/network/decay'], list(fresh.trunk.parameters()))
    expected = total + torch.cat([g.flatten() for g in rest])
    assert names and torch.allclose(trunk_of(moves), expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(trunk_of(moves), task_gradients(ToyTasks(noise=False)).sum(0), rtol=1e-3)


def test_statistics_move_once_though_the_batch_goes_forward_often() -> None:
    one, many = ToyTasks(noise=False), ToyTasks(noise=False)
    step_of(dict(type='FixedWeights'), one)
    step_of(dict(type='FlatMinima'), many)
    assert int(many.trunk[1].num_batches_tracked) == 1
    assert torch.equal(one.trunk[1].running_mean, many.trunk[1].running_mean)


def test_saliencies_entropy() -> None:
    """Two tasks with equal saliency everywhere: log 2; one task alone at every place: 0."""
    alike = torch.ones(2, 1, 3, 4)
    assert float(saliency_entropy(alike)) == pytest.approx(math.log(2))
    apart = torch.zeros(2, 1, 3, 4)
    apart[0, ..., :2], apart[1, ..., 2:] = 1.0, 1.0
    assert float(saliency_entropy(apart)) == pytest.approx(0, abs=1e-6)


def test_saliencies_contrast_is_cross_entropy_of_the_right_sample() -> None:
    torch.manual_seed(0)
    rows = torch.randn(2, 3, 4, 5)
    found = float(saliency_contrast(rows, 0.5))
    total = 0.0
    for b in range(3):
        anchors = [F.normalize((m @ m.T).flatten(), dim=0)
                   for m in (rows[:, k].mean(-1).T for k in range(3))]
        for t in range(2):
            s = rows[t, b]
            positive = torch.dot(anchors[b], F.normalize((s @ s.T).flatten(), dim=0)) / 0.5
            negatives = [torch.dot(anchors[b], anchors[k]) / 0.5 for k in range(3) if k != b]
            total += float(F.cross_entropy(torch.stack([positive, *negatives])[None], torch.tensor([0])))
    assert found == pytest.approx(total / 6, rel=1e-5)


def test_rep_mtl_moves_the_shared_layers_by_its_regularisers() -> None:
    plain, _ = step_of(dict(type='FixedWeights'))
    none, _ = step_of(dict(type='RepMTL', tsr=0.0, csa=0.0))
    with_both, _ = step_of(dict(type='RepMTL'))
    assert torch.allclose(trunk_of(none), trunk_of(plain), atol=1e-5)
    assert not torch.allclose(trunk_of(with_both), trunk_of(plain), rtol=1e-3)


def test_every_second_step_is_the_bases() -> None:
    alternating = dict(type='Alternating', base=dict(type='ConFIG', where='parameters'), every=2)
    for number, like in ((0, dict(type='FixedWeights')), (1, alternating['base'])):
        found, _ = step_of(alternating, place=StepPlace(number))
        expected, _ = step_of(like, place=StepPlace(number))
        assert torch.allclose(trunk_of(found), trunk_of(expected))


@pytest.mark.parametrize('outer', ['Alternating', 'RepMTL'])
def test_another_base_starts_from_nothing_with_a_word(outer: str) -> None:
    saved = started(build_balancer(dict(type=outer, base=dict(type='GradNorm')))).state_dict()
    saved['base']['state']['weights']['steps'] = 7
    again = started(build_balancer(dict(type=outer, base=dict(type='GradNorm'))))
    assert again.load_state_dict(saved) == [] and again.base.state['weights']['steps'] == 7

    other = started(build_balancer(dict(type=outer, base=dict(type='FAMO'))))
    note, = other.load_state_dict(saved)
    assert 'type GradNorm in the checkpoint, FAMO now: it starts from nothing' in note
    assert set(other.base.state) == {'xi'}
    note, = other.load_state_dict(None)
    assert 'none in the checkpoint, FAMO now' in note


def test_mgn_in_the_parameters_costs_one_backward_between_the_ends_of_passes() -> None:
    """Shared layers get the weighted sum, heads their own gradient, and nothing learns."""
    weights = torch.tensor([0.5, 2.0, 0.5], dtype=torch.float64)
    model = ToyTasks(noise=False)
    training = BalancedTraining(build_balancer(dict(type='MGN', where='parameters')), model)
    training.balancer.state['weights']['value'] = weights.clone()
    wrapper = GuardedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step, _ = training.forward(model, BATCH, wrapper, StepPlace(0))
    training.balancer.train(step)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert torch.equal(training.balancer.state['weights']['value'], weights) and 'norm/a' not in step.log
    step.update()

    given = dict(zip(TASKS, weights.tolist(), strict=True))
    weighted, _ = step_of(dict(type='FixedWeights', weights=given))
    plain, _ = step_of(dict(type='FixedWeights'))
    for name, gradient in found.items():
        expected = (plain if name.startswith('heads.') else weighted)[name]
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-4), name
        assert torch.allclose(before[name] - gradient, model.get_parameter(name), atol=1e-5), name

    training.train_step(model, BATCH, wrapper, StepPlace(1, ends_pass=True))
    assert not torch.equal(training.balancer.state['weights']['value'], weights)


@pytest.mark.parametrize(('config', 'message'), [
    (dict(type='GCond', zones=(-0.5, -0.8, 0)), 'GCond.zones: expected three rising cosines'),
    (dict(type='FlatMinima', base=dict(type='FAMO')), 'FlatMinima.base: expected one from the products'),
    (dict(type='FlatMinima', base=dict(type='GradNorm')), 'expected one without a state, found GradNorm'),
    (dict(type='FlatMinima', rho=0), 'FlatMinima.rho: expected a number from'),
    (dict(type='RepMTL', base=dict(type='GCond')), 'RepMTL.base: expected one that weights the losses'),
    (dict(type='GradDrop', where='heads'), 'GradDrop.where: expected one of map, parameters'),
    (dict(type='Alternating', every=0), 'Alternating.every: expected a number from 1')])
def test_options_that_mean_nothing(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        started(build_balancer(config))


def test_the_memory_is_said_before_training(capsys: pytest.CaptureFixture) -> None:
    from mmengine.logging import MMLogger
    MMLogger.get_instance('memory', logger_name='memory')
    started(build_balancer(dict(type='GCond')))
    size = 4 * 7 * sum(p.numel() for p in ToyTasks().trunk.parameters()) / 2**20
    said = capsys.readouterr()
    assert f'balancer GCond: 7 gradients of the shared parameters: {size:.0f} MiB' in said.out + said.err


# -------------------------------------------------------------------- sparse training

def sparse(folder: Path, resume: Path | bool = False) -> ToyTasks:
    hooks = [dict(type='SparseTrainingHook', top_k=2, parts=['trunk.'])]
    wrapper = dict(type='GuardedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1))
    model = ToyTasks()
    toy_runner(folder, resume, model=model, custom_hooks=hooks, optim_wrapper=wrapper).train()
    return model


def test_masked_weights_never_move_and_resume_is_equal(tmp_path: Path) -> None:
    start, model = ToyTasks(), sparse(tmp_path / 'whole')
    for name, weight in model.trunk.named_parameters():
        first = dict(start.trunk.named_parameters())[name]
        moved = weight != first
        learns = largest_inputs(first, 2) if weight.dim() > 1 else torch.ones_like(first, dtype=torch.bool)
        assert torch.equal(moved, learns), name
    assert all(bool((p != dict(start.named_parameters())[name]).all())
               for name, p in model.named_parameters() if name.startswith('heads.'))

    sparse(tmp_path / 'again', tmp_path / 'whole' / 'iter_7.pth')
    whole, again = (read_checkpoint(tmp_path / name / 'iter_10.pth') for name in ('whole', 'again'))
    assert equal(whole['state_dict'], again['state_dict']) and equal(whole['optimizer'], again['optimizer'])


def test_largest_inputs_of_each_neuron() -> None:
    weight = torch.tensor([[3.0, -4.0, 1.0], [0.1, 0.2, -0.3]])
    assert largest_inputs(weight, 1).tolist() == [[False, True, False], [False, False, True]]
    assert bool(largest_inputs(weight, 9).all())


def test_sparse_options_that_mean_nothing(tmp_path: Path) -> None:
    from perception.training.balancing.sparse import SparseTrainingHook, shared_weights
    with pytest.raises(ValueError, match='top_k: expected a whole number from 1, found 0'):
        SparseTrainingHook(top_k=0)
    with pytest.raises(ValueError, match="no trained weight of the model starts with 'encoders.'"):
        shared_weights(ToyTasks(), ['encoders.'])
