"""MAFI: both attentions count, a new one equals concatenation, the absent are never read."""
from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from perception.deployment.export.operators import walk
from perception.fusion.concat import ConcatFuser
from perception.fusion.mafi import MAFI
from tests.export_check import export, open_session

CHANNELS = {'camera': 3, 'lidar': 5, 'radar': 2}
SETS = [('camera', 'lidar'), ('camera', 'lidar', 'radar')]


def make(sensors, opened=True, batch=2):
    torch.manual_seed(0)
    fuser = MAFI({sensor: CHANNELS[sensor] for sensor in sensors}, 7)
    if opened:
        for layer in fuser.attention.values():
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    bevs = {sensor: torch.randn(batch, CHANNELS[sensor], 4, 6) for sensor in sensors}
    return fuser, bevs, {sensor: torch.ones(batch, dtype=torch.bool) for sensor in sensors}


@pytest.mark.parametrize('sensors', SETS)
def test_a_new_one_equals_concatenation(sensors):
    fuser, bevs, present = make(sensors, opened=False)
    concat = ConcatFuser({sensor: CHANNELS[sensor] for sensor in sensors}, 7)
    concat.load_state_dict(
        {name: value for name, value in fuser.state_dict().items() if name in concat.state_dict()}
    )
    torch.testing.assert_close(fuser(bevs, present), concat(bevs, present))


@pytest.mark.parametrize('sensors', SETS)
def test_the_formula(sensors):
    fuser, bevs, present = make(sensors)
    fuser.eval()
    joint = fuser.mix(torch.cat(list(bevs.values()), 1))
    expected = 0
    for sensor in sensors:
        mean = fuser.features[sensor](bevs[sensor]).mean((2, 3))
        layer = fuser.attention[sensor]
        expected = (
            expected + joint * torch.sigmoid(mean @ layer.weight[:, :, 0, 0].T + layer.bias)[:, :, None, None]
        )
    torch.testing.assert_close(fuser(bevs, present), expected)


@pytest.mark.parametrize('sensors', SETS)
def test_each_attention_is_used_once(sensors):
    """All attentions shut but one: only that sensor's says what passes."""
    for open_one in sensors:
        fuser, bevs, present = make(sensors)
        fuser.eval()
        for sensor in sensors:
            nn.init.zeros_(fuser.attention[sensor].weight)
            nn.init.constant_(fuser.attention[sensor].bias, -math.inf)
        fuser.attention[open_one].bias.data[2] = 0.0
        out, joint = fuser(bevs, present), fuser.mix(torch.cat(list(bevs.values()), 1))
        torch.testing.assert_close(out[:, 2], joint[:, 2] * 0.5)
        assert (out[:, [0, 1, 3, 4, 5, 6]] == 0).all()


@pytest.mark.parametrize('sensors', SETS)
def test_the_absent_are_never_read(sensors):
    fuser, bevs, present = make(sensors)
    present[sensors[0]][0] = present[sensors[1]][1] = False
    clean = fuser(bevs, present)
    bevs = {sensor: bev.clone() for sensor, bev in bevs.items()}
    bevs[sensors[0]][0] = bevs[sensors[1]][1] = torch.nan
    for bev in bevs.values():
        bev.requires_grad_()
    out = fuser(bevs, present)
    assert torch.equal(out, clean) and out.isfinite().all()
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in fuser.named_parameters():
        if not name.startswith('absent.radar'):
            assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
    assert (bevs[sensors[0]].grad[0] == 0).all() and bevs[sensors[0]].grad[1].abs().sum() > 0


def test_one_sensor_keeps_the_scale_and_none_is_finite():
    fuser, bevs, present = make(SETS[0], opened=False)
    fuser.eval()
    both = fuser(bevs, present)
    present['camera'][:] = False
    bevs['camera'] = torch.zeros_like(bevs['camera'])
    alone = fuser(bevs, present)
    present['camera'][:] = True
    torch.testing.assert_close(alone, fuser(bevs, present))
    assert not torch.equal(alone, both)
    blind = fuser(
        {name: torch.full_like(b, torch.nan) for name, b in bevs.items()}, {n: ~p for n, p in present.items()}
    )
    assert blind.isfinite().all()


def test_bf16():
    fuser, bevs, present = make(SETS[1])
    with torch.autocast('cpu', torch.bfloat16):
        half = fuser(bevs, present)
    torch.testing.assert_close(half.float(), fuser(bevs, present), rtol=0.1, atol=0.1)


class Graph(nn.Module):
    def __init__(self, fuser):
        super().__init__()
        self.fuser = fuser

    def forward(self, camera, lidar, camera_present, lidar_present):
        return self.fuser(
            {'camera': camera, 'lidar': lidar}, {'camera': camera_present, 'lidar': lidar_present}
        )


@torch.no_grad()
def test_exports(tmp_path):
    pytest.importorskip('onnxruntime')
    fuser, bevs, _ = make(SETS[0], batch=1)
    graph, path = Graph(fuser).eval(), tmp_path / 'mafi.onnx'
    names = ['camera', 'lidar', 'camera_present', 'lidar_present']
    there = torch.tensor([True])
    export(graph, dict(zip(names, (*bevs.values(), there, there), strict=True)), path)
    assert walk(path) == []
    session = open_session(path)
    for camera, lidar in ((True, True), (True, False), (False, False)):
        inputs = (*bevs.values(), torch.tensor([camera]), torch.tensor([lidar]))
        output = session.run(
            None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        )[0]
        torch.testing.assert_close(torch.from_numpy(output), graph(*inputs), rtol=1e-4, atol=1e-5)
