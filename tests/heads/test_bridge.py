"""The cross-task attention bridge: nothing before training, the exchange that was asked for afterwards."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from perception.core.grid import BEVGrid
from perception.heads.bridge import CrossTaskBridge, exchange_plan
from perception.heads.map_segmentation import MapSegmentationHead
from perception.registry import MODELS
from tests.export_check import Named, assert_exports

GRID = BEVGrid((-12.8, 12.8), (-6.4, 6.4), 1.6)
TASKS = ('detection', 'map_segmentation', 'occupancy')


def make(**options: object) -> CrossTaskBridge:
    torch.manual_seed(0)
    return CrossTaskBridge(GRID, 16, **{'tasks': TASKS, 'heads': 4, 'points': 2, **options})


def branches(batch: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {t: torch.randn(batch, 16, *GRID.shape_YX, generator=generator) for t in (*TASKS, 'lanes')}


def open_gates(bridge: CrossTaskBridge) -> CrossTaskBridge:
    """As after some training: gates that let through."""
    for exchange in bridge.exchanges.values():
        nn.init.constant_(exchange.gate_C, 0.5)
        nn.init.constant_(exchange.feedforward_gate_C, 0.5)
        nn.init.normal_(exchange.attention.sampler.offsets.weight, std=0.05)
        nn.init.normal_(exchange.attention.sampler.logits.weight, std=0.5)
    return bridge


@pytest.mark.parametrize('exchange', ['both', {'map_segmentation': ['detection']}])
@pytest.mark.parametrize('training', [True, False])
def test_step_0_is_the_joint_baseline_bit_by_bit(exchange, training) -> None:
    bridge, baseline, maps = (
        make(exchange=exchange).train(training), make(exchange='off').train(training), branches())
    assert not baseline.load_state_dict(bridge.state_dict(), strict=False).missing_keys
    found, expected = bridge(maps), baseline(maps)
    assert found.keys() == expected.keys() == maps.keys()
    assert all(torch.equal(found[t], expected[t]) for t in maps)


def test_without_adapters_it_starts_as_no_bridge() -> None:
    maps = branches()
    found = make(adapters=False)(maps)
    assert all(torch.equal(found[t], maps[t]) for t in maps)


def test_tasks_it_does_not_know_pass_untouched() -> None:
    maps = branches()
    assert open_gates(make())(maps)['lanes'] is maps['lanes']


def reads_from(bridge: CrossTaskBridge, target: str) -> set[str]:
    """The tasks whose maps change the map of `target`."""
    maps = {t: m.requires_grad_() for t, m in branches().items()}
    open_gates(bridge).eval()(maps)[target].square().sum().backward()
    return {t for t, m in maps.items() if m.grad is not None and bool(m.grad.any())}


@pytest.mark.parametrize(
    ('exchange', 'target', 'expected'),
    [
        ('both', 'detection', set(TASKS)), ('both', 'map_segmentation', set(TASKS)),
        ('off', 'detection', {'detection'}),
        ({'map_segmentation': ['detection']}, 'map_segmentation', {'map_segmentation', 'detection'}),
        ({'map_segmentation': ['detection']}, 'detection', {'detection'})],
)
def test_each_task_reads_what_was_asked_for(exchange, target, expected) -> None:
    assert reads_from(make(exchange=exchange), target) == expected


def test_both_directions_read_what_was_there_before() -> None:
    """Simultaneous: one direction's result does not depend on whether the other direction is there."""
    maps, tasks = branches(), TASKS[:2]
    both = open_gates(make(tasks=tasks)).eval()
    one = make(tasks=tasks, exchange={'map_segmentation': ['detection']}).eval()
    one.load_state_dict(both.state_dict(), strict=False)
    assert torch.equal(one(maps)['map_segmentation'], both(maps)['map_segmentation'])
    assert not torch.equal(one(maps)['detection'], both(maps)['detection'])


def test_a_cell_reads_its_own_place() -> None:
    """With all offsets at zero and one level, a constant weight reads the other branch's map cell by cell."""
    bridge = make(tasks=TASKS[:2], adapters=False, levels=1).eval()
    exchange = bridge.exchanges['detection']
    nn.init.zeros_(exchange.attention.sampler.offsets.bias)
    nn.init.constant_(exchange.gate_C, 1)
    for layer in (exchange.attention.value, exchange.attention.out):
        layer.weight.data = torch.eye(16).view_as(layer.weight)
        nn.init.zeros_(layer.bias)
    maps = branches()
    torch.testing.assert_close(
        bridge(maps)['detection'], maps['detection'] + maps['map_segmentation'], atol=1e-5, rtol=1e-5
    )


def test_gates_alone_learn_at_step_0_and_everything_afterwards() -> None:
    bridge = make().train()
    sum(m.square().sum() for m in bridge(branches()).values()).backward()
    asleep = {n for n, p in bridge.named_parameters() if p.grad is None or not p.grad.any()}
    gates = {n for n, _ in bridge.named_parameters() if 'gate_C' in n}
    adapters = {n for n, _ in bridge.named_parameters() if n.startswith('adapters')}
    assert len(gates) == 6
    # all that stands behind a gate
    assert asleep == {n for n, _ in bridge.named_parameters()} - gates - adapters
    open_gates(bridge).zero_grad(set_to_none=True)
    sum((m * torch.randn_like(m)).sum() for m in bridge(branches()).values()).backward()
    assert [n for n, p in bridge.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize('stride', [1, 2])
def test_strides_keep_the_grid(stride) -> None:
    found = open_gates(make(stride=stride))(branches())
    assert all(m.shape == (2, 16, *GRID.shape_YX) for m in found.values())


def test_bfloat16_agrees() -> None:
    bridge, maps = open_gates(make()).eval(), branches()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        half = bridge(maps)
    with torch.no_grad():
        full = bridge(maps)
    for task in TASKS:
        error = (half[task].float() - full[task]).abs().mean() / full[task].abs().mean()
        assert error < 0.03, task


@pytest.mark.parametrize('stride', [1, 2])
def test_exports(stride, tmp_path) -> None:
    pair = TASKS[:2]
    maps = [branches()[task][:1] for task in pair]
    used = assert_exports(Named(open_gates(make(tasks=pair, stride=stride)), pair), maps, tmp_path)
    assert 'GridSample' in used


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tasks=('detection', 'detection')), 'different names'),
        (dict(exchange='sideways'), "'both', 'off'"), (dict(exchange={'lanes': ['detection']}), 'lanes'),
        (dict(exchange={'detection': ['detection']}), 'other tasks'),
        (dict(heads=5), 'divisor of the width 16'), (dict(stride=3), 'divisor of the')],
)
def test_errors_name_what_is_wrong(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_missing_branch_is_named() -> None:
    with pytest.raises(ValueError, match='no branch for occupancy'):
        make()({t: m for t, m in branches().items() if t != 'occupancy'})


def test_plan_of_one_task() -> None:
    assert exchange_plan(('detection',), 'both') == {}


# -------------------------------------------------------------------- the map head's published alternatives

@pytest.mark.parametrize('resample', ['features', 'logits'])
@pytest.mark.parametrize('upsample', [None, 'transposed', 'pixel_shuffle'])
@pytest.mark.parametrize('decoder', ['plain', 'instance_residual'])
def test_map_head_alternatives_keep_the_protocol(resample, upsample, decoder) -> None:
    head = MapSegmentationHead(GRID, 8, layers=1, resample=resample, upsample=upsample, decoder=decoder)
    found = head(torch.rand(2, 8, *GRID.shape_YX, requires_grad=True))['logits']
    assert found.shape == (2, 6, 200, 200)
    found.square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None] == []


def test_instance_norm_is_the_same_in_training_and_evaluation() -> None:
    head, bev = MapSegmentationHead(GRID, 8, decoder='instance_residual'), torch.rand(2, 8, *GRID.shape_YX)
    torch.testing.assert_close(head.train()(bev)['logits'], head.eval()(bev)['logits'])


@pytest.mark.parametrize('upsample', ['transposed', 'pixel_shuffle'])
def test_map_head_alternatives_export(upsample, tmp_path) -> None:
    torch.manual_seed(0)
    head = MapSegmentationHead(GRID, 8, layers=1, decoder='instance_residual', upsample=upsample)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, bev: torch.Tensor) -> torch.Tensor:
            return self.head(bev)['logits']

    # instance norm divides by small spreads
    assert_exports(Logits(), [torch.rand(1, 8, *GRID.shape_YX)], tmp_path, atol=2e-3)


@pytest.mark.parametrize('options', [dict(decoder='fancy'), dict(upsample='bicubic')])
def test_map_head_names_what_it_does_not_know(options) -> None:
    with pytest.raises(ValueError, match='expected'):
        MapSegmentationHead(GRID, 8, **options)


def test_is_registered() -> None:
    built = MODELS.build(dict(type='CrossTaskBridge', in_channels=16, heads=4, tasks=TASKS, grid=dict(
        type='BEVGrid', x_range_m=(-12.8, 12.8), y_range_m=(-6.4, 6.4), cell_m=1.6)))
    assert isinstance(built, CrossTaskBridge)
