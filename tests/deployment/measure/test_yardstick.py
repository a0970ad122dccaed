"""The public yardstick: BEVFormer-tiny's shape, counted, run and reported."""
from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perception.deployment.measure import benchmark, yardstick
from perception.deployment.measure.timing import latency_of
from perception.deployment.measure.yardstick import YardstickNetwork, YardstickShape

SMALL = YardstickShape(
    (32, 64), cameras=2, depth=18, cells=4, width=16, feedforward=16, objects=5, layers=(1, 1))


def forward(changes: dict[str, np.ndarray] | None = None) -> list[torch.Tensor]:
    """Outputs of the small network with some inputs changed."""
    torch.manual_seed(0)
    network = YardstickNetwork(SMALL).eval()
    inputs = {**yardstick.yardstick_inputs(SMALL), **(changes or {})}
    with torch.no_grad():
        return list(network(*map(torch.from_numpy, inputs.values())))


def test_it_has_the_published_size():
    """33.5 million weights are published of BEVFormer-tiny; ResNet-50 has 23.5 of them."""
    with torch.device('meta'):
        network = YardstickNetwork(YardstickShape())
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(33.5e6, rel=0.01)


def test_operations_are_counted_without_values():
    """By hand: the stem's 7x7 convolution alone, of two images of 32x64, width 64, stride 2."""
    counted = yardstick.yardstick_gflop(SMALL)
    stem = 2 * 2 * 64 * 3 * 49 * 16 * 32 / 1e9
    assert stem < counted < 20 * stem


def test_every_input_is_read_and_what_no_camera_sees_is_not():
    inputs = yardstick.yardstick_inputs(SMALL)
    bev, classes, boxes = forward()
    assert bev.shape == (1, 16, 16) and classes.shape == boxes.shape == (1, 5, 10)
    for name in ('images', 'places', 'seen', 'earlier'):
        changed = forward({name: 1 - inputs[name]})
        assert not torch.allclose(changed[1], classes, atol=1e-5), name

    blind = {'seen': np.zeros_like(inputs['seen'])}
    expected = forward(blind)[1]
    assert torch.equal(forward({**blind, 'images': 1 - inputs['images']})[1], expected)


def test_it_stands_in_the_report():
    latency = latency_of(1.0, [0.5, 0.4, 0.6])
    row = benchmark.yardstick_row(SimpleNamespace(gflop=403.0, parameters=33_247_104), latency)
    line, = benchmark.format_yardstick({'yardstick': row, 'engines': [{'network_ms_p50': 250.0}]})
    assert '403 GFLOP, 33.2 million' in line and '500.0 ms p50, 600.0 p99.9' in line
    assert line.endswith('2.00 times as fast')
    assert benchmark.format_yardstick({'engines': []}) == []


def test_the_exported_network_is_the_same(tmp_path):
    if not os.environ.get('PERCEPTION_EXPORT_ALL'):
        pytest.skip('exporting takes seconds: set PERCEPTION_EXPORT_ALL=1')
    made = yardstick.make_yardstick(tmp_path, threads=1, shape=SMALL)
    for found, expected in zip(made.call(), forward(), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert not list(tmp_path.glob('*.data'))
