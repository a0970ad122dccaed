"""Shared losses against numbers worked by hand."""
from __future__ import annotations

import math

import pytest
import torch

from perception.heads.losses import gaussian_focal_loss, sigmoid_focal_loss


def test_focal_loss_by_hand() -> None:
    found = sigmoid_focal_loss(torch.tensor([0.0, 0.0, math.log(3.0)]), torch.tensor([1.0, 0.0, 1.0]))
    expected = [0.25 * math.log(2), 0.25 * math.log(2), 0.0625 * math.log(4 / 3)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_focal_alpha_weighs_positives() -> None:
    found = sigmoid_focal_loss(torch.zeros(2), torch.tensor([1.0, 0.0]), alpha=0.25)
    torch.testing.assert_close(found, torch.tensor([0.25, 0.75]) * 0.25 * math.log(2))


def test_focal_gamma_zero_is_cross_entropy() -> None:
    logits, targets = torch.randn(20), (torch.rand(20) > 0.5).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, gamma=0), expected)


def test_gaussian_focal_by_hand() -> None:
    found = gaussian_focal_loss(torch.zeros(3), torch.tensor([1.0, 0.5, 0.0]))
    expected = [0.25 * math.log(2), 0.25 * math.log(2) / 16, 0.25 * math.log(2)]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize('loss', [sigmoid_focal_loss, gaussian_focal_loss])
def test_extreme_logits_stay_finite_and_half_precision_is_lifted(loss) -> None:
    logits = torch.tensor([-200.0, 200.0, 200.0, -200.0], dtype=torch.bfloat16, requires_grad=True)
    found = loss(logits, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    found.sum().backward()
    assert found.dtype == torch.float32 and torch.isfinite(found).all() and torch.isfinite(logits.grad).all()
    assert found[:2].max() < 1e-6 and found[2:].min() > 100
