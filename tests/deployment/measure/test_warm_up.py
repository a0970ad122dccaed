"""The first real frame finds everything compiled and allocated; frames that are invented look like frames."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from perception.core.protocols import RADARS
from perception.deployment.deployed import DeployedModel
from perception.deployment.engines import Engine
from perception.deployment.export.graph import check_inputs, graph_inputs
from perception.deployment.frames import Frames, blank_batch, random_frames
from perception.deployment.measure.timing import latency_of
from perception.deployment.vehicle.records import RuntimeOptions, SensorMeasurement, Stages
from perception.deployment.vehicle.runtime import Runtime, runtime_stages
from tests.deployment.conftest import Exported


def test_a_blank_frame_fits_the_graph_and_a_noisy_one_is_decoded(exported: Exported, engines, monkeypatch):
    engine, decoded, asked = engines['onnxruntime', 'fp32'], [], []
    deployed = DeployedModel(exported.model, engine)
    decode, infer = deployed.decode, engine.infer
    monkeypatch.setattr(deployed, 'decode', lambda raw, batch: decoded.append(decode(raw, batch)))
    monkeypatch.setattr(engine, 'infer', lambda inputs: asked.append(inputs) or infer(inputs))
    assert deployed.warm_up() > 0
    assert len(asked) == 1 and (asked[0]['camera.images'] < 0).all()  # black, normalised
    assert len(decoded) == 2 and len(decoded[1].detection.scores_M) > 50
    assert decoded[0].frame.token == 'warm-up'


def test_a_blank_frame_of_every_sensor():
    shapes = [type('Spec', (), {'name': 'camera.images', 'shape': (1, 5, 3, 32, 48)})]
    batch = blank_batch(('camera', 'lidar', 'radar'), shapes)
    assert batch.images_BN3HW.shape == (1, 5, 3, 32, 48) and batch.present().keys() == {
        'camera', 'lidar', 'radar'}
    assert batch.radar_present_BR.shape == (1, len(RADARS)) and len(batch.lidar_points[0]) == 64
    assert blank_batch(('lidar',), []).images_BN3HW is None


def test_a_runtime_warms_up_before_its_first_frame_and_once():
    order: list[str] = []
    stages = Stages(
        lambda r: r.data, lambda m, v: v, lambda b: b, lambda i: order.append('frame') or i,
        lambda raw, batch: raw, warm_up=lambda: order.append(f'warm on {torch.get_num_threads()}'))
    runtime = Runtime(('LIDAR_TOP',), stages, lambda *a: None, RuntimeOptions(deadline_s=9.0))
    runtime.warm_up()
    runtime.start()
    runtime.offer(SensorMeasurement('LIDAR_TOP', 1, 1.0))
    while 'frame' not in order:
        pass
    monitor = runtime.stop()
    assert order == ['warm on 1', 'frame'] and monitor.stages['warm_up'].total == 1


def test_a_model_whose_blank_frame_fails_does_not_start(exported: Exported):
    class Broken(Engine):
        name = 'broken'

        def _run(self, inputs):
            raise RuntimeError('the device is gone')

    broken = Broken(
        exported.sidecar.inputs, exported.sidecar.outputs, 'fp32', exported.sidecar.dropped_inputs
    )
    runtime = Runtime(('LIDAR_TOP',), runtime_stages(exported.model, broken, None, None), lambda *a: None)
    with pytest.raises(RuntimeError, match='the device is gone'):
        runtime.start()
    assert runtime._threads == []


def test_an_invented_frame_has_the_points_asked_for_and_fits(exported: Exported):
    batch = random_frames((64, 176), 2400).read(0)
    points = batch.lidar_points[0].numpy()
    assert points.shape == (2400, 6) and points.dtype == np.float32 and set(points[:, 4]) == set(range(32))
    reach_m = np.linalg.norm(points[:, :2], axis=1)
    assert 3 < reach_m.min() and reach_m.max() < 51 and points[:, 2].min() > -0.5
    check_inputs(
        exported.sidecar.inputs,
        {
            name: value
            for name, value in graph_inputs(exported.model, batch).items()
            if name not in exported.sidecar.dropped_inputs
        },
    )


def test_one_call_in_a_thousand_is_slower_than_p99_9():
    quick, slow = [0.001], [0.5]
    assert latency_of(1.0, quick * 1998 + slow * 2).p99_9_ms == 1.0
    assert latency_of(1.0, quick * 1997 + slow * 3).p99_9_ms == 500.0
    assert latency_of(1.0, quick * 20 + slow).p99_9_ms == 500.0  # too few to say more than their worst


def test_samples_are_spread_over_all_frames():
    frames = Frames(lambda i: None, 10)
    assert frames.spread(3) == [1, 5, 8] and list(frames.spread(None)) == list(frames.spread(99)) == list(
        range(10)
    )
    assert list(frames.spread(0)) == []
