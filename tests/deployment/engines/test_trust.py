"""What goes into an engine and what comes out of it: another network, numbers out of range, no numbers."""
from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.core.contracts.finite import NotFiniteError
from perception.deployment.deployed import DeployedModel
from perception.deployment.engines import Engine, open_network
from perception.deployment.errors import EngineInputError
from perception.deployment.export.graph import TensorSpec, check_inputs, graph_inputs
from perception.model import MultiTaskPerception
from tests.deployment.conftest import sidecar_of_small, small_model, synthetic


@pytest.mark.parametrize('name', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize(
    ('field', 'spec', 'expected'),
    [
        ('inputs', ('x', (1, 3, 8, 13), 'float32'), r'x: expected shape \(1, 3, 8, 13\), found'),
        ('inputs', ('x', (1, 3, 8, 12), 'int64'), 'x: expected int64, found float32'),
        ('outputs', ('z', (1, 2, 8, 12), 'float32'), r"other tensors .*missing \['z'\].*\['y'\]"),
        ('outputs', ('y', (1, 2, 12, 8), 'float32'), r'y: expected shape \(1, 2, 12, 8\)')])
def test_a_sidecar_of_other_tensors_is_refused_when_the_network_is_opened(
    small, name: str, field: str, spec: tuple, expected: str
):
    network: Path = small[0]
    sidecar = replace(sidecar_of_small(network), **{field: (TensorSpec(*spec),)})
    with pytest.raises(ValueError, match=f'network.onnx: {field}: .*{expected}'):
        open_network(name, network, sidecar, 'fp32', threads=1)


def test_inputs_beyond_any_sensor_are_refused():
    spec = TensorSpec('lidar.points', (4,), 'float32')
    fine = {'lidar.points': np.array([0, -1e6, 1e6, 3], np.float32)}
    assert check_inputs((spec,), fine) == fine
    for value, words in ((1e38, 'expected values from -1e'), (-2e6, 'found -2e'), (np.nan, 'holds NaN')):
        with pytest.raises(EngineInputError, match=f'engine input lidar.points: .*{words}'):
            check_inputs((spec,), {'lidar.points': np.array([0, 1, value, 3], np.float32)})


class Broken(Engine):
    """Computes one output of one task as NaN or infinity."""

    name = 'broken'

    def __init__(self, model: MultiTaskPerception, output: str, value: float) -> None:
        super().__init__((), (), 'fp32')
        self.model, self.output, self.value = model, output, value

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._run(dict(inputs))

    @torch.no_grad()
    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raw = self.model({name: torch.from_numpy(value) for name, value in inputs.items()}, mode='tensor')
        arrays = {name: value.float().numpy().copy() for name, value in raw.items()}
        arrays[self.output].flat[5] = self.value
        return arrays


@pytest.fixture(scope='module')
def model() -> MultiTaskPerception:
    """The smallest configuration, random weights."""
    return small_model('debug.py')[0].eval()


@pytest.mark.parametrize(('output', 'value'), [('detection.heatmap', np.nan), ('lanes.points', np.inf)])
def test_a_task_that_is_not_finite_is_refused_or_masked(
    model: MultiTaskPerception, output: str, value: float
):
    deployed, batch = DeployedModel(model, Broken(model, output, value)), synthetic()
    with pytest.raises(NotFiniteError, match=f'network outputs are not finite: {output}; samples: sample-0'):
        deployed(batch)

    task = output.split('.')[0]
    found = deployed.decode(deployed.engine.infer(graph_inputs(model, batch)), batch, mask=True)
    assert found.masked == (task,) and found.get(task) is None
    assert set(found.predictions()) == {'detection', 'map_segmentation', 'occupancy', 'lanes'} - {task}


def test_absurd_rows_change_no_prediction(model: MultiTaskPerception):
    """An intensity or time lag of 1e38, a camera at 1e300 m: as if that row or that camera were absent."""
    batch = synthetic()
    absurd = batch.lidar_points[0][:2].clone()
    absurd[0, 3], absurd[1, 5] = 1e38, 1e38
    spoilt = replace(batch, lidar_points=(torch.cat([batch.lidar_points[0], absurd]),))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found, expected = graph_inputs(model, spoilt), graph_inputs(model, batch)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert DeployedModel(model, Broken(model, 'lanes.points', 0)).left_out()['lidar points out of range'] >= 2

    place = batch.ego_T_cam_BN44.double()
    place[0, 1, 2, 3] = 1e300
    with pytest.warns(UserWarning, match='cameras with a calibration out of range'):
        found = graph_inputs(model, replace(batch, ego_T_cam_BN44=place.float()))
    expected = graph_inputs(model, synthetic(blind=1))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


