"""What the publications say of their weights, worked by hand and as identities over all balancers."""
from __future__ import annotations

import math

import pytest
import torch

from perception.registry import BALANCERS
from perception.training.balancing import build_balancer
from perception.training.balancing.base import StepPlace
from tests.training.toy_tasks import TASKS, OneStep, ToyTasks, started, take, weights_of

FROM_LOSSES = (
    'FixedWeights', 'Curriculum', 'UncertaintyWeighting', 'IMTLL', 'GeometricMean', 'DynamicWeightAverage',
    'ImprovableGap', 'LossRatio', 'FAMO')
TORCHJD = (
    'PCGrad', 'MGDA', 'CAGrad', 'IMTLG', 'AlignedMTL', 'UPGrad', 'DualProj', 'FairGrad', 'NashMTL')
OWN = ('GradNorm', 'MGN', 'ConFIG')
GRAMIAN = (*TORCHJD, *OWN)
CONFLICT = [[1.0, 0.0, 0.0], [-0.5, 1.0, 0.0], [0.2, -0.4, 2.0]]


def make(kind: str, tasks: int = 3, **options: object):
    """A started balancer, or a visible skip where its solver is not installed."""
    if kind == 'LossRatio':
        options = {'leader': 'a', **options}
    try:
        return started(build_balancer(dict(type=kind, **options)), tasks)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


# -------------------------------------------------------------------- all of them

@pytest.mark.parametrize('kind', [*FROM_LOSSES, *GRAMIAN])
def test_the_gradient_is_the_weighted_sum_and_weights_are_logged(kind: str) -> None:
    step = take(make(kind), [1.0, 2.0, 3.0], CONFLICT)
    weights = torch.tensor(weights_of(step))
    assert torch.allclose(step.gradient, weights @ torch.tensor(CONFLICT), atol=1e-5)
    if kind in GRAMIAN and kind != 'MGN':
        assert step.log['norm/b'] == pytest.approx(math.sqrt(1.25))
        assert step.log['cosine/a-b'] == pytest.approx(-0.5 / math.sqrt(1.25))


@pytest.mark.parametrize('kind', [*FROM_LOSSES, *GRAMIAN])
def test_the_order_of_the_tasks_does_not_matter(kind: str) -> None:
    """But for LossRatio's leader, who leads by name, and PCGrad's random order."""
    if kind in ('LossRatio', 'PCGrad'):
        pytest.skip('depends on the order or a name on purpose')
    losses, order = torch.tensor([1.0, 2.0, 3.0]), [2, 0, 1]
    one = weights_of(take(make(kind), losses, CONFLICT))
    two = weights_of(take(make(kind), losses[order], torch.tensor(CONFLICT)[order]))
    assert two == pytest.approx([one[i] for i in order], rel=2e-3, abs=2e-3)


@pytest.mark.parametrize('kind', GRAMIAN)
def test_a_task_without_labels_takes_no_part(kind: str) -> None:
    two = weights_of(take(make(kind, 2), [1.0, 3.0], [CONFLICT[0], CONFLICT[2]]))
    three = weights_of(take(make(kind), [1.0, 0.0, 3.0], [CONFLICT[0], [0.0, 0, 0], CONFLICT[2]]))
    assert three == pytest.approx([two[0], 1.0, two[1]], abs=1e-6)


@pytest.mark.parametrize('kind', GRAMIAN)
def test_one_task_with_labels_keeps_its_gradient(kind: str) -> None:
    step = take(make(kind), [2.0, 0.0, 0.0], [CONFLICT[1], [0.0, 0, 0], [0.0, 0, 0]])
    assert step.gradient.tolist() == CONFLICT[1]


@pytest.mark.parametrize('kind', [k for k in FROM_LOSSES if k not in ('FixedWeights', 'Curriculum')])
def test_a_loss_of_zero_moves_no_state_of_its_task(kind: str) -> None:
    balancer = make(kind)
    step = take(balancer, [1.0, 0.0, 3.0])
    assert weights_of(step)[1] == 1.0 and all(math.isfinite(weight) for weight in weights_of(step))
    again = weights_of(take(balancer, [1.0, 2.0, 3.0]))
    assert all(math.isfinite(weight) and weight > 0 for weight in again)


@pytest.mark.parametrize('kind', GRAMIAN)
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_gradient_that_is_not_finite_gives_weights_of_one_and_moves_nothing(kind: str, bad: float) -> None:
    balancer = make(kind)
    before = balancer.state_dict()
    weights = weights_of(take(balancer, [1.0, 2.0, 3.0], [CONFLICT[0], [bad, 0, 0], CONFLICT[2]]))
    assert weights == [1.0, 1.0, 1.0] and str(balancer.state_dict()) == str(before)


@pytest.mark.parametrize('kind', [*FROM_LOSSES, *GRAMIAN])
def test_the_state_goes_through_a_checkpoint(kind: str) -> None:
    """Two steps, or one, saved and read back, and the other: the same weights to the bit."""
    place = StepPlace(3, 1, ends_pass=True)
    one, two = make(kind), make(kind)
    for step in ((1.0, 2, 3), (2.0, 2, 1)):
        take(one, step, CONFLICT, place=place)
    take(two, (1.0, 2, 3), CONFLICT, place=place)
    fresh = make(kind)
    assert fresh.load_state_dict(two.state_dict()) == []
    take(fresh, (2.0, 2, 1), CONFLICT, place=place)
    last = [weights_of(take(b, (3.0, 1, 1), CONFLICT, place=place)) for b in (one, fresh)]
    assert last[0] == last[1]


def test_another_balancers_state_is_left_with_a_word() -> None:
    note, = make('IMTLL').load_state_dict(make('UncertaintyWeighting').state_dict())
    assert 'type UncertaintyWeighting in the checkpoint, IMTLL now' in note
    note, = make('IMTLL').load_state_dict(make('IMTLL', 2).state_dict())
    assert "tasks ['a', 'b'] in the checkpoint" in note
    assert 'none in the checkpoint' in make('IMTLL').load_state_dict(None)[0]
    assert make('PCGrad').load_state_dict(None) == []


@pytest.mark.parametrize('kind', GRAMIAN)
def test_half_precision_gradients_give_the_same_weights(kind: str) -> None:
    one = OneStep([1.0, 2.0, 3.0], CONFLICT)
    two = OneStep([1.0, 2.0, 3.0], CONFLICT)
    # as under autocast: the map is bfloat16, and so are the gradients that arrive at it
    shared = torch.zeros(3, dtype=torch.bfloat16, requires_grad=True)
    two.losses.shared_map = shared
    two.losses.terms = {
        f'loss/{task}/x': (torch.tensor(row).bfloat16() * shared).sum() + loss
        for task, row, loss in zip('abc', CONFLICT, (1.0, 2.0, 3.0), strict=True)}
    for step in (one, two):
        make(kind).train(step)
    assert weights_of(two) == pytest.approx(weights_of(one), abs=0.02)


@pytest.mark.parametrize('kind', [k for k in GRAMIAN if k not in ('GradNorm', 'MGN')])
def test_weights_can_be_made_to_sum_to_the_number_of_tasks(kind: str) -> None:
    assert sum(weights_of(take(make(kind, scale='tasks'), [1.0, 2, 3], CONFLICT))) == pytest.approx(3)


# -------------------------------------------------------------------- sums, as stated

@pytest.mark.parametrize(('kind', 'total'), [
    ('PCGrad', 3), ('MGDA', 1), ('IMTLG', 1), ('UPGrad', 1), ('DualProj', 1), ('GradNorm', 3), ('MGN', 3),
    ('DynamicWeightAverage', 3)])
def test_weights_sum_as_stated_without_conflict(kind: str, total: float) -> None:
    step = take(make(kind), [1.0, 2.0, 3.0], torch.diag(torch.tensor([1.0, 2.0, 3.0])))
    assert sum(weights_of(step)) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize('kind', ['GradNorm', 'MGN', 'DynamicWeightAverage'])
def test_weights_go_on_summing_to_the_number_of_tasks(kind: str) -> None:
    balancer = make(kind)
    for passes in range(6):
        place = StepPlace(passes, passes, ends_pass=True)
        step = take(balancer, [1.0, 2.0 + passes, 3.0], CONFLICT, place=place)
    assert sum(weights_of(step)) == pytest.approx(3) and weights_of(step) != pytest.approx([1, 1, 1])


# -------------------------------------------------------------------- each publication's own words

@pytest.mark.parametrize('rows', [[[1.0, 0], [-0.5, 1]], [[3.0, 1], [-1, 0.1]], [[1.0, 2], [2, 1]]])
def test_pcgrad_conflicts_with_neither_of_two_tasks(rows: list[list[float]]) -> None:
    gradient = take(make('PCGrad', 2), [1.0, 1.0], rows).gradient
    assert bool((torch.tensor(rows) @ gradient > -1e-6).all())


def test_pcgrad_by_hand() -> None:
    """g1 = (1, 0), g2 = (-1, 1): g1 becomes g1 + g2 / 2, g2 becomes g2 + g1; weights 2 and 3 / 2."""
    assert weights_of(take(make('PCGrad', 2), [1.0, 1.0], [[1.0, 0], [-1, 1]])) == pytest.approx([2, 1.5])


def test_mgda_is_the_point_of_least_norm() -> None:
    rows = torch.tensor(CONFLICT)
    step = take(make('MGDA'), [1.0, 1, 1], rows)
    # nearest to the origin: every gradient reaches at least as far in its direction
    assert float((rows @ step.gradient).min()) >= float(step.gradient.square().sum()) - 2e-2
    assert min(weights_of(step)) >= 0

    two = take(make('MGDA', 2), [1.0, 1], [[1.0, 0], [0, 2]])  # weights 4 : 1
    assert weights_of(two) == pytest.approx([0.8, 0.2], abs=1e-3)


def test_imtlg_projects_alike_on_every_task() -> None:
    rows = torch.tensor(CONFLICT)
    step = take(make('IMTLG'), [1.0, 1, 1], rows)
    projections = (rows / rows.norm(dim=1, keepdim=True)) @ step.gradient
    assert torch.allclose(projections, projections[:1].expand(3), atol=1e-5)


def test_aligned_gradients_have_a_condition_number_of_one() -> None:
    """Balanced rows are orthogonal, all of the length of the least singular value."""
    from torchjd.aggregation import AlignedMTLWeighting
    rows = torch.tensor(CONFLICT, dtype=torch.float64)
    balance = torch.stack([
        AlignedMTLWeighting(torch.eye(3, dtype=torch.float64)[i])(rows @ rows.T) for i in range(3)])
    singular = torch.linalg.svdvals(balance @ rows)
    assert float(singular.max() / singular.min()) == pytest.approx(1, abs=1e-6)
    # and ours are their sum
    assert weights_of(take(make('AlignedMTL'), [1.0, 1, 1], CONFLICT)) == pytest.approx(
        balance.sum(0).tolist(), rel=1e-4)


@pytest.mark.parametrize('kind', ['UPGrad', 'DualProj'])
def test_no_task_gets_worse(kind: str) -> None:
    rows = torch.tensor(CONFLICT)
    assert float((rows @ take(make(kind), [1.0, 1, 1], rows).gradient).min()) >= -1e-4


def test_upgrad_by_hand() -> None:
    """Each of g1 = (1, 0), g2 = (-1, 1) is projected off the other, as PCGrad's, and the mean taken."""
    assert weights_of(take(make('UPGrad', 2), [1.0, 1], [[1.0, 0], [-1, 1]])) == pytest.approx(
        [1, 0.75], abs=1e-3)


def test_fairgrad_and_nash_solve_their_equations() -> None:
    rows = torch.tensor(CONFLICT, dtype=torch.float64)
    fair = torch.tensor(weights_of(take(make('FairGrad', alpha=2.0), [1.0, 1, 1], CONFLICT))).double()
    assert torch.allclose(rows @ rows.T @ fair, fair ** -0.5, atol=1e-3)

    gramian = rows @ rows.T / (rows @ rows.T).norm()
    nash = weights_of(take(make('NashMTL', max_norm=None), [1.0, 1, 1], CONFLICT))
    assert torch.allclose(gramian @ torch.tensor(nash).double() * torch.tensor(nash).double(),
                          torch.ones(3, dtype=torch.float64), atol=1e-3)


def test_nash_is_torchjds_own_solution() -> None:
    pytest.importorskip('cvxpy', reason='cvxpy of the extra [balance] is not installed')
    pytest.importorskip('ecos', reason='ecos, for the comparison, is not installed')
    from torchjd.aggregation import NashMTL
    expected = NashMTL(3).weighting(torch.tensor(CONFLICT, dtype=torch.float64))
    step = take(make('NashMTL'), [1.0, 1, 1], CONFLICT)
    assert weights_of(step) == pytest.approx(expected.tolist(), abs=2e-3)
    assert float(step.gradient.norm()) <= 1 + 1e-6


def test_cagrad_keeps_within_c_of_the_mean() -> None:
    rows = torch.tensor(CONFLICT)
    mean = rows.mean(0)
    step = take(make('CAGrad', c=0.4), [1.0, 1, 1], rows)
    assert float((step.gradient - mean).norm()) == pytest.approx(0.4 * float(mean.norm()), rel=1e-2)
    assert float((rows @ step.gradient).min()) > float((rows @ mean).min())
    assert weights_of(take(make('CAGrad', c=0.0), [1.0, 1, 1], rows)) == pytest.approx([1 / 3] * 3)


def test_config_has_the_same_angle_to_every_task_and_their_projections_length() -> None:
    """ConFIG (arXiv 2408.11104), eq. 4."""
    rows = torch.tensor(CONFLICT)
    gradient = take(make('ConFIG'), [1.0, 1, 1], rows).gradient
    angles = (rows / rows.norm(dim=1, keepdim=True)) @ gradient / gradient.norm()
    assert torch.allclose(angles, angles[:1].expand(3), atol=1e-5) and float(angles[0]) > 0
    assert float(gradient.norm()) == pytest.approx(float((rows @ gradient).sum() / gradient.norm()), rel=1e-5)


def test_gradnorm_by_hand() -> None:
    """Norms 1 and 3, mean 2, equal pace: the small one's weight grows, the large one's shrinks."""
    balancer = make('GradNorm', 2, lr=0.1)
    rows = [[1.0, 0], [0, 3.0]]
    assert weights_of(take(balancer, [1.0, 1], rows)) == [1, 1]
    # Adam's first step is lr long whatever the slope
    assert weights_of(take(balancer, [1.0, 1], rows)) == pytest.approx([1.1, 0.9], abs=1e-6)
    for _ in range(30):
        step = take(balancer, [1.0, 1], rows)
    assert weights_of(step) == pytest.approx([1.5, 0.5], abs=0.2)


def test_gradnorm_helps_the_task_that_is_slow() -> None:
    balancer = make('GradNorm', 2)
    for losses in ([1.0, 1.0], [1.0, 0.5], [1.0, 0.5]):
        step = take(balancer, losses, [[1.0, 0], [0, 1.0]])
    assert weights_of(step)[0] > 1 > weights_of(step)[1]


def test_mgn_moves_on_the_last_batch_of_a_pass_alone() -> None:
    """Norms 1 and 3: targets 2 ** 1.5 = 2.83; slopes -1 and 3; weights 1.01, 0.97, made to sum to 2."""
    balancer = make('MGN', 2, lr=0.01)
    rows = [[1.0, 0], [0, 3.0]]
    for _ in range(3):
        step = take(balancer, [1.0, 1], rows)
        assert weights_of(step) == [1, 1] and 'norm/a' not in step.log
    take(balancer, [1.0, 1], rows, place=StepPlace(3, 0, ends_pass=True))
    assert weights_of(take(balancer, [1.0, 1], rows)) == pytest.approx([2 * 1.01 / 1.98, 2 * 0.97 / 1.98])


def test_uncertainty_settles_where_the_variance_is_the_loss() -> None:
    """d/ds (exp(-s) L / 2 + s / 2) = 0 at exp(s) = L: weights 1 / (2 L)."""
    balancer = make('UncertaintyWeighting', lr=0.1)
    assert weights_of(take(balancer, [1.0, 2, 4])) == [0.5, 0.5, 0.5]
    for _ in range(120):
        step = take(balancer, [1.0, 2, 4])
    assert weights_of(step) == pytest.approx([0.5, 0.25, 0.125], rel=5e-2)


def test_imtll_pulls_every_weighted_loss_to_one() -> None:
    balancer = make('IMTLL', lr=0.1)
    assert weights_of(take(balancer, [1.0, 2, 4])) == [1, 1, 1]
    for _ in range(120):
        step = take(balancer, [1.0, 2, 4])
    assert weights_of(step) == pytest.approx([1, 0.5, 0.25], rel=5e-2)


def test_the_geometric_mean_is_one_by_autograd_and_knows_no_scale() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    losses.prod().pow(1 / 3).backward()
    weights = weights_of(take(make('GeometricMean'), [1.0, 2, 4]))
    assert weights == pytest.approx(losses.grad.tolist())
    scaled = weights_of(take(make('GeometricMean'), [1.0, 2, 400]))
    assert scaled[2] * 400 / scaled[0] == pytest.approx(weights[2] * 4 / weights[0])


def test_dwa_by_hand() -> None:
    """Two passes, losses (1, 1) then (1, 0.5): ratios 1 and 0.5 at temperature 2."""
    balancer = make('DynamicWeightAverage', 2)
    for number, losses in enumerate([(2.0, 1.0), (0.0, 1.0), (1.0, 0.5), (1.0, 0.5)]):
        assert weights_of(take(balancer, losses, place=StepPlace(number, number // 2))) == [1, 1]
    e1, e2 = math.exp(1 / 4), math.exp(0.5 / 2)  # a's mean skips the step without labels: 1 / 2
    step = take(balancer, [1.0, 1], place=StepPlace(4, 2))
    assert weights_of(step) == pytest.approx([2 * e1 / (e1 + e2), 2 * e2 / (e1 + e2)])


def test_igb_by_hand() -> None:
    balancer = make('ImprovableGap', 2)
    assert weights_of(take(balancer, [1.0, 4])) == [1, 0.25]  # of the logarithms
    assert weights_of(take(balancer, [3.0, 4])) == pytest.approx([1 / 3, 0.25])
    e1, e2 = math.exp(1), math.exp(0.5)  # bases 2 and 4
    step = take(balancer, [2.0, 2], place=StepPlace(2, 1))
    assert weights_of(step) == pytest.approx([e1 / (e1 + e2), e2 / (e1 + e2)])


def test_the_ratio_makes_losses_as_large_as_the_leaders() -> None:
    balancer = make('LossRatio', leader='b', weights={'c': 0.1})
    assert weights_of(take(balancer, [1.0, 2, 4])) == pytest.approx([2, 1, 0.05])
    # without the leader's labels the last ratios stay
    assert weights_of(take(balancer, [1.0, 0, 4])) == pytest.approx([2, 1, 0.05])


def test_famo_gives_weight_to_what_falls_slowly() -> None:
    """The first step: z = 1/2, c = 1 / (1/2 + 1/8), weights c z / L = 0.8 and 0.2."""
    balancer = make('FAMO', 2)
    step = OneStep([1.0, 4.0])
    step.after = torch.tensor([0.5, 4.0])
    balancer.train(step)
    assert weights_of(step) == pytest.approx([0.8, 0.2], abs=1e-6)
    xi = balancer.state['xi']['value']
    assert float(xi[0]) < 0 < float(xi[1])


# -------------------------------------------------------------------- bad input

@pytest.mark.parametrize('kind', [*GRAMIAN, 'LossRatio', 'FAMO'])
def test_one_task_where_two_are_needed(kind: str) -> None:
    with pytest.raises(ValueError, match=rf'balancer {kind}: expected at least 2 tasks, found 1 \(a\)'):
        make(kind, 1)


def test_a_model_without_a_shared_map() -> None:
    model = ToyTasks()
    del model.trunk
    with pytest.raises(ValueError, match='needs a model whose tasks share the output of `trunk`'):
        build_balancer(dict(type='GradNorm')).start(TASKS, model)


def test_frozen_shared_layers() -> None:
    step = OneStep([1.0, 2.0])
    step.losses.shared_map = torch.zeros(2)
    with pytest.raises(ValueError, match='no gradient reaches the shared map: encoders, fuser and trunk'):
        make('GradNorm', 2).train(step)

    model = ToyTasks()
    model.trunk.requires_grad_(False)
    with pytest.raises(ValueError, match='balancer GradNorm: no gradient reaches the shared map'):
        build_balancer(dict(type='GradNorm')).start(TASKS, model)
    with pytest.raises(ValueError, match='the tasks share no trained parameter'):
        build_balancer(dict(type='GradNorm', where='parameters')).start(TASKS, model)


@pytest.mark.parametrize(('config', 'message'), [
    (dict(type='PCGard'), "balancer.type: expected one of .*PCGrad.*, found 'PCGard'"),
    ('PCGrad', r"balancer: expected dict\(type=...\), found 'PCGrad'"),
    (dict(type='FixedWeights', weights={'a': -1}), r"FixedWeights.weights\['a'\]: expected a number from 0"),
    (dict(type='GradNorm', alhpa=1), "balancer GradNorm: .*unexpected keyword argument 'alhpa'"),
    (dict(type='PCGrad', where='head'), "PCGrad.where: expected one of map, parameters, found 'head'"),
    (dict(type='PCGrad', scale='one'), 'PCGrad.scale: expected one of published, tasks'),
    (dict(type='AlignedMTL', length='max'), "AlignedMTL.length: expected 'min'"),
    (dict(type='FairGrad', alpha=-1), 'FairGrad.alpha: expected a number from 0'),
    (dict(type='GradNorm', alpha='much'), "GradNorm.alpha: expected a number from 0 to inf, found 'much'")])
def test_options_that_mean_nothing(config: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_balancer(config)


def test_names_that_are_no_tasks() -> None:
    with pytest.raises(ValueError, match=r"FixedWeights.weights: expected tasks .*\(a, b\), found 'x'"):
        make('FixedWeights', 2, weights={'x': 1})
    with pytest.raises(ValueError, match="LossRatio.leader: expected tasks .* found 'detection'"):
        make('LossRatio', 2, leader='detection')


def test_without_torchjd_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'torchjd.aggregation', None)
    with pytest.raises(ModuleNotFoundError, match=r"PCGrad: needs the package 'torchjd.*extra \[balance\]"):
        build_balancer(dict(type='PCGrad'))


def test_every_balancer_is_tried() -> None:
    """Here, or with whole gradients in test_balancing_whole.py, or on sensors in test_balanced_model.py."""
    elsewhere = {'FULLER', 'GradDrop', 'SAMGS', 'GCond', 'FlatMinima', 'RepMTL', 'Alternating'}
    assert set(BALANCERS.module_dict) == {*FROM_LOSSES, *GRAMIAN} | elsewhere


def test_a_curriculum_lets_tasks_join_at_their_step() -> None:
    curriculum = make('Curriculum', begin={'b': 2, 'c': 5}, weights={'b': 3.0})
    places = [StepPlace(step) for step in (0, 2, 5)]
    seen = [weights_of(take(curriculum, [1.0, 1.0, 1.0], CONFLICT, place=place)) for place in places]
    assert seen == [[1.0, 0.0, 0.0], [1.0, 3.0, 0.0], [1.0, 3.0, 1.0]]
    assert make('Curriculum').plain and not curriculum.plain
    with pytest.raises(ValueError, match='begin: expected a task that is there from step 0, found none'):
        make('Curriculum', 2, begin={'a': 1, 'b': 1})
    with pytest.raises(ValueError, match=r"Curriculum.begin: expected tasks .*, found 'x'"):
        make('Curriculum', 2, begin={'x': 1})
