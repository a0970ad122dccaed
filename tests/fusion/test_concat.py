"""The default fuser: absence is a learned vector, the absent map is never read."""
from __future__ import annotations

import torch

from perception.fusion.concat import ConcatFuser


def make():
    torch.manual_seed(0)
    fuser = ConcatFuser({'camera': 3, 'lidar': 5}, 7)
    with torch.no_grad():
        for vector in fuser.absent.values():
            vector.normal_()
    bevs = {'camera': torch.randn(2, 3, 4, 6), 'lidar': torch.randn(2, 5, 4, 6)}
    return fuser, bevs, {'camera': torch.tensor([True, True]), 'lidar': torch.tensor([True, False])}


def test_shape_and_order_of_keys():
    fuser, bevs, present = make()
    fuser.eval()
    out = fuser(bevs, present)
    assert out.shape == (2, 7, 4, 6) and fuser.out_channels == 7
    assert torch.equal(out, fuser(dict(reversed(bevs.items())), present))


def test_the_absent_map_is_never_read_in_values_or_gradients():
    fuser, bevs, present = make()
    clean = fuser(bevs, present)
    bevs['lidar'][1] = torch.nan
    bevs['lidar'].requires_grad_()
    out = fuser(bevs, present)
    assert torch.equal(out, clean)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in fuser.parameters())
    assert (bevs['lidar'].grad[1] == 0).all() and bevs['lidar'].grad[0].abs().sum() > 0


def test_absence_equals_a_map_filled_with_the_vector():
    fuser, bevs, present = make()
    fuser.eval()
    out = fuser(bevs, present)
    bevs['lidar'][1] = fuser.absent['lidar'].detach()[:, None, None]
    torch.testing.assert_close(
        out, fuser(bevs, {'camera': present['camera'], 'lidar': torch.tensor([True, True])})
    )


def test_every_parameter_learns_when_each_sensor_is_absent_once():
    fuser, bevs, _ = make()
    present = {'camera': torch.tensor([False, True]), 'lidar': torch.tensor([True, False])}
    (fuser(bevs, present) * torch.randn(2, 7, 4, 6)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in fuser.parameters())


def test_all_present_leaves_the_vectors_alone():
    fuser, bevs, _ = make()
    everyone = {name: torch.tensor([True, True]) for name in bevs}
    (fuser(bevs, everyone) * torch.randn(2, 7, 4, 6)).sum().backward()
    assert all((v.grad == 0).all() for v in fuser.absent.values())
    with torch.autocast('cpu', torch.bfloat16):
        assert fuser(bevs, everyone).isfinite().all()
