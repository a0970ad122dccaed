"""The trunk keeps the grid, sees far, and trains everything it has."""
from __future__ import annotations

import pytest
import torch

from perception.fusion.trunk import Trunk


@pytest.mark.parametrize(('strides', 'size'), [((1, 2), (16, 16)), ((1, 2, 2), (10, 14)), ((2, 2), (9, 15))])
def test_the_grid_stays(strides, size):
    trunk = Trunk(6, 12, (8,) * len(strides), (1,) * len(strides), strides)
    out = trunk(torch.randn(2, 6, *size))
    assert out.shape == (2, 12, *size) and trunk.out_channels == 12
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in trunk.parameters())


def test_a_blob_keeps_its_place():
    """With symmetric weights what a lit cell makes is strongest around that cell, not shifted by the
    upsampling."""
    trunk = Trunk(1, 4, (4, 4), (1, 1), (1, 2)).eval()
    with torch.no_grad():
        for p in trunk.parameters():
            if p.dim() == 4:
                p.fill_(1 / p[0].numel())
        dark, lit = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
        lit[0, 0, 12:14, 20:22] = 100
        change = (trunk(lit) - trunk(dark)).sum(1)[0]
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing='ij')
    assert abs((change * rows).sum() / change.sum() - 12.5) < 0.6
    assert abs((change * columns).sum() / change.sum() - 20.5) < 0.6


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match='Trunk.*one length'):
        Trunk(4, 4, channels=(4, 4), layers=(1,))


def test_what_passes_the_trunk_stands_behind_what_it_makes():
    torch.manual_seed(0)
    plain = Trunk(6, 12, (8, 8), (1, 1), (1, 2)).eval()
    passing = Trunk(6, 12, (8, 8), (1, 1), (1, 2), passed_channels=5).eval()
    passing.load_state_dict(plain.state_dict(), strict=False)
    maps = torch.randn(2, 6, 10, 14)
    with torch.no_grad():
        made, out = plain(maps), passing(maps)
        assert out.shape == (2, 17, 10, 14) and passing.out_channels == 17
        torch.testing.assert_close(out[:, :12], made)

        # of a cell and its neighbours alone: what goes in farther away changes nothing
        maps[:, :, :5] += 1
        assert torch.equal(passing(maps)[:, 12:, 6:], out[:, 12:, 6:])
        assert not torch.allclose(passing(maps)[:, 12:, :6], out[:, 12:, :6])
