"""Features in units: the same function and file, another pace."""
from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from perception.bev.ops.widths import cut_layer, layer_widths
from perception.bev.point_linear import PointLinear
from perception.training.merging.adaptive import parameters_of

UNITS = (16, 1, 0.25)


def make(units: tuple[float, ...] | None = UNITS) -> PointLinear:
    torch.manual_seed(0)
    return PointLinear(3, 5, units)


def test_files_hold_the_weight_of_features_as_they_come() -> None:
    """Bit by bit, from units to none and back: powers of two round nothing."""
    layer, plain, points = make(), nn.Linear(3, 5, bias=False), torch.randn(7, 3)
    state = layer.state_dict()
    assert list(state) == ['weight'] and torch.equal(state['weight'], layer.weight / torch.tensor(UNITS))

    plain.load_state_dict(state)
    assert torch.equal(plain(points), layer(points))
    again = make()
    again.load_state_dict(plain.state_dict())
    assert torch.equal(again.weight, layer.weight) and torch.equal(again(points), layer(points))

    # half a file's precision is no other scale
    again.load_state_dict({'weight': state['weight'].half()})
    torch.testing.assert_close(again(points), layer(points), rtol=2e-3, atol=2e-3)


def test_loading_leaves_the_files_tensors_alone() -> None:
    state = nn.Sequential(make(None)).state_dict()
    before = state['0.weight'].clone()
    nn.Sequential(make()).load_state_dict(state)
    assert torch.equal(state['0.weight'], before)


def test_every_feature_learns_at_its_unit() -> None:
    """A step of the parameter moves the weight by one over the unit: by little where features are large."""
    layer = make()
    before = layer.state_dict()['weight']
    with torch.no_grad():
        layer.weight += 1
    moved = layer.state_dict()['weight'] - before
    torch.testing.assert_close(moved, (1 / torch.tensor(UNITS)).expand(5, 3))


def test_a_call_with_other_weights_knows_the_units() -> None:
    model, points = nn.Sequential(make(), nn.ReLU()), torch.randn(7, 3)
    state = {'0.weight': torch.randn(5, 3, requires_grad=True)}
    out = functional_call(model, parameters_of(model, state), (points,))
    torch.testing.assert_close(out, (points @ state['0.weight'].mT).relu())
    out.sum().backward()
    assert state['0.weight'].grad.abs().sum() > 0


def test_it_can_be_cut_on_both_sides() -> None:
    layer, points = make(), torch.randn(7, 3)
    kept, read = torch.tensor([0, 3]), torch.tensor([0, 2])
    weight = layer.state_dict()['weight'][kept][:, read]
    cut_layer(layer, kept, read)
    assert layer_widths(layer) == (2, 2) and torch.equal(layer.state_dict()['weight'], weight)
    torch.testing.assert_close(layer(points[:, read]), points[:, read] @ weight.mT)


def test_bad_units_are_named() -> None:
    with pytest.raises(ValueError, match='one of each of 3 features, found 2'):
        make((1, 2))
    with pytest.raises(ValueError, match='powers of two, found 3, -1, 0'):
        PointLinear(4, 5, (3, -1, 0, 2))


def test_a_plain_layer_is_as_before() -> None:
    layer, points = make(None), torch.randn(7, 3)
    torch.manual_seed(0)
    plain = nn.Linear(3, 5, bias=False)
    assert torch.equal(layer.weight, plain.weight) and torch.equal(layer(points), plain(points))
