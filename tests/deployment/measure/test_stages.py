"""The network in pieces gives what the whole gives, and the first piece that differs is named."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception.deployment.engines import EngineUnavailable
from perception.deployment.errors import ExportError
from perception.deployment.export.graph import graph_inputs
from perception.deployment.measure.compare import compare_stages, require_parity
from perception.deployment.measure.stages import export_stages, open_stage, read_stages, stage_values
from tests.deployment.conftest import enliven, synthetic
from tests.helpers import make_model


@pytest.fixture(scope='module')
def staged(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp('stages')
    batch = synthetic(points=500)
    model = enliven(make_model(), batch)
    return model, folder, export_stages(model, batch, folder)


def test_the_pieces_are_one_per_sensor_and_one_for_the_rest(staged: tuple):
    _, folder, stages = staged
    assert [stage.name for stage in stages] == ['camera', 'lidar', 'fusion']
    assert read_stages(folder) == stages
    assert [spec.name for spec in stages[2].inputs] == [
        'camera.bev', 'lidar.bev', 'camera.present', 'lidar.present']


def test_each_stage_agrees_with_torch(staged: tuple):
    model, folder, _ = staged
    samples = [
        graph_inputs(model, synthetic(seed=seed, points=400, blind=blind))
        for seed, blind in ((3, None), (4, 1))
    ]
    found = compare_stages(model, folder, samples, 'onnxruntime', threads=1)
    assert [d.name for d in found] == [
        'camera: camera.bev', 'lidar: lidar.bev', 'fusion: map_segmentation.logits']
    require_parity(found, 1e-4, 'onnxruntime')


def test_the_first_stage_that_differs_is_named(staged: tuple):
    model, folder, _ = staged
    weight = model.encoders['lidar'].output[0].weight
    before = weight.detach().clone()
    try:
        weight.data.mul_(1.1)
        found = compare_stages(
            model, folder, [graph_inputs(model, synthetic(points=400))], 'onnxruntime', threads=1
        )
        with pytest.raises(ExportError, match='output lidar: lidar.bev differs'):
            require_parity(found, 1e-3, 'onnxruntime')
    finally:
        weight.data.copy_(before)


def test_the_stages_one_after_the_other_are_the_whole(staged: tuple):
    model, folder, stages = staged
    inputs = graph_inputs(model, synthetic(seed=5, points=400))
    known = dict(inputs)
    for stage in stages:
        known |= open_stage(folder, stage, 'onnxruntime', threads=1).infer(
            {s.name: known[s.name] for s in stage.inputs}
        )
    expected = stage_values(model, inputs)['fusion'][1]['map_segmentation.logits']
    np.testing.assert_allclose(known['map_segmentation.logits'], expected, rtol=1e-3, atol=1e-3)


def test_files_that_do_not_belong_are_refused(staged: tuple, tmp_path: Path):
    _, folder, stages = staged
    with pytest.raises(FileNotFoundError, match='--stages writes them'):
        read_stages(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'lidar.onnx').write_bytes(b'short')
    with pytest.raises(ValueError, match='lidar.onnx: absent, truncated'):
        read_stages(tmp_path)
    (tmp_path / 'stages.json').write_text('[{"name": "camera"}]')
    with pytest.raises(ValueError, match='not a complete list of stages'):
        read_stages(tmp_path)
    with pytest.raises(EngineUnavailable, match="found 'tensorrt'"):
        open_stage(folder, stages[0], 'tensorrt')
