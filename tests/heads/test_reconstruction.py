"""Reconstruction of what was hidden: targets and losses by hand, and that it learns."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from perception.core.contracts import Annotations, HiddenPoints
from perception.core.grid import BEVGrid
from perception.heads import ReconstructionHead
from perception.heads.reconstruction.loss import chamfer

GRID = BEVGrid((-8.0, 8.0), (-8.0, 8.0), 1.0)


def head(**options) -> ReconstructionHead:
    torch.manual_seed(0)
    return ReconstructionHead(GRID, 8, width=8, points=2, z_range_m=(0.0, 4.0), **options)


def labelled(points: list, hidden: list) -> Annotations:
    record = HiddenPoints(np.array(points, np.float32).reshape(-1, 3), np.array(hidden, bool))
    return Annotations('a', extra={'reconstruction': record})


def test_chamfer_by_hand() -> None:
    """Two predicted points, one true: 1 and 4 to it, 1 back; padding is never near."""
    predicted = torch.tensor([[[1.0, 0, 0], [0, 2, 0]]])
    true = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
    found = chamfer(predicted, true, torch.tensor([[True, False]]))
    assert found.tolist() == [pytest.approx((1 + 4) / 2 + 1)]
    both = chamfer(predicted, true, torch.tensor([[True, True]]))
    assert both.tolist() == [pytest.approx((0 + 4) / 2 + (1 + 0) / 2)]


def test_targets_and_losses_by_hand() -> None:
    """One hidden pillar with two points, one seen: as many empty cells as hidden ones are looked at."""
    made = head()
    targets = made.targets([
        Annotations('none'),
        labelled([[0.25, 1.5, 1.0], [0.75, 1.5, 3.0], [5.5, 5.5, 1.0], [0.5, 1.5, 9.0]], [1, 1, 0, 1])])
    assert targets.place_C3.tolist() == [[1, 9, 8]]
    assert targets.known_CN.tolist() == [[True, True, False, False]]
    np.testing.assert_allclose(targets.points_CN3[0, :2], [[0.25, 0.5, 0.25], [0.75, 0.5, 0.75]])
    assert targets.filled_CZ.tolist() == [[False, True, False, True]] and len(targets.empty_E3) == 1

    raw = {'points': torch.zeros(2, 6, 16, 16), 'occupancy': torch.zeros(2, 4, 16, 16)}
    raw['occupancy'][1, :, 9, 8] = torch.tensor([0.0, 2.0, 0.0, 0.0])
    losses = made.loss(raw, targets)
    # both predictions in the middle: 0.25 m and 1 m from each of the points
    assert losses['points'].item() == pytest.approx(2 * (0.25 ** 2 + 1))
    log2 = np.log(2)
    assert losses['occupancy'].item() == pytest.approx((7 * log2 + np.log1p(np.exp(-2))) / 8)


def test_without_anything_hidden_the_losses_are_zeros_with_a_gradient() -> None:
    made = head()
    losses = made.loss(made(torch.rand(1, 8, 16, 16)), made.targets([Annotations('none')]))
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0, 0]
    assert all(p.grad is not None and not p.grad.any() for p in made.parameters())


def test_a_few_steps_bring_the_points_near(overfit) -> None:
    made = head()
    targets = made.targets([labelled([[0.2, 0.3, 0.5], [0.3, 0.2, 0.6], [3.5, 3.5, 3.0]], [1, 1, 1])])
    losses = overfit(made, torch.rand(1, 8, 16, 16), targets, 40, 3e-2)
    assert losses[-1] < 0.3 * losses[0]
    found, = made.eval().decode({
        'points': torch.zeros(1, 6, 16, 16), 'occupancy': torch.full((1, 4, 16, 16), -9.0).index_fill(
            2, torch.tensor([9]), 9.0)})
    assert found.points_P3.shape == (32, 3) and (found.points_P3[:, 1] == 1.5).all()
    assert set(found.points_P3[:, 2].tolist()) == {2.0}
