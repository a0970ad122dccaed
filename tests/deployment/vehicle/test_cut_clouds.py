"""A cloud that has no room in the exported network is cut: said once, counted where a driver looks."""
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger

from perception.deployment.export.graph import cut_clouds, describe_cuts, graph_inputs
from perception.deployment.vehicle.records import RuntimeOptions, SensorMeasurement
from perception.deployment.vehicle.runtime import Runtime, runtime_stages
from tests.helpers import make_batch, make_model

SMALL, LARGE = make_batch(1, points=200), make_batch(1, points=3000)


@pytest.fixture
def model():
    """With room for 600 points in 600 of 1024 pillars."""
    return make_model(('lidar',)).eval()


def test_the_monitor_counts_cut_clouds(model) -> None:
    graph_inputs(model, LARGE)  # before this drive
    stages = replace(
        runtime_stages(
            model, SimpleNamespace(infer=lambda inputs: inputs), lambda measurement: measurement.data,
            lambda request, values: values['LIDAR_TOP']),
        decode=lambda raw, batch: None, warm_up=None, masked=lambda output: ())
    runtime = Runtime(('LIDAR_TOP',), stages, lambda *frame: None, RuntimeOptions(deadline_s=60.0))

    counted = []
    for number, batch in enumerate((SMALL, LARGE, SMALL, LARGE)):
        runtime.offer(SensorMeasurement('LIDAR_TOP', number, batch))
        assert runtime.step()
        counted.append(runtime.monitor.left_out.get('cut clouds', 0))
    assert counted == [0, 1, 1, 2] and runtime.monitor.counts['answered'] == 4
    assert 'cut clouds 2' in runtime.monitor.report(0)


def test_the_first_cut_is_said_and_the_sum_described(model, monkeypatch) -> None:
    said = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'log', lambda level, line: said.append((level, line)))
    graph_inputs(model, SMALL)
    assert cut_clouds(model) == {} and describe_cuts(model) == [] and said == []

    for _ in range(3):
        graph_inputs(model, LARGE)
    (level, line), = said
    dropped = model.encoders['lidar'].dropped_pillars
    assert level == 30
    assert f'lidar: {dropped // 3} pillars of a cloud have no room in export_sizes (600' in line
    assert cut_clouds(model) == {'lidar': 3}
    summary, = describe_cuts(model)
    assert 'lidar: 3 clouds had more pillars' in summary and f'in all {dropped} pillars' in summary
