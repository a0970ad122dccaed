"""The exported graph of encoders, fuser and trunk: ordinary operators, the same numbers in ONNX Runtime."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from perception.preprocessor import BatchPreprocessor
from tests.export_check import assert_exports, export, open_session
from tests.helpers import make_batch, make_camera, make_model

pytest.importorskip('onnxruntime')
onnx = pytest.importorskip('onnx')

ALLOWED = {
    'Add', 'BatchNormalization', 'Cast', 'Concat', 'Constant', 'Conv', 'Expand', 'Flatten', 'Gather', 'Gemm',
    'Identity', 'MatMul', 'MaxPool', 'Mul', 'Pad', 'ReduceMax', 'ReduceSum', 'Relu', 'Reshape', 'Resize',
    'Shape', 'Slice', 'Softmax', 'Split', 'Squeeze', 'Sub', 'Transpose', 'Unsqueeze', 'Where'}


class Graph(nn.Module):
    """The model's network with positional inputs, as an exporter wants it."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.model(dict(zip(self.names, tensors, strict=True)))['map_segmentation.logits']


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    model = make_model().eval()
    model.encoders['lidar'].static = True
    inputs = model.prepare(model.data_preprocessor({'inputs': make_batch(samples=1)})['inputs'])
    path = tmp_path_factory.mktemp('onnx') / 'graph.onnx'
    export(Graph(model, list(inputs)), inputs, path)
    model.eval()
    return model, onnx.load(path), open_session(path)


def run(session, inputs) -> np.ndarray:
    wanted = {i.name for i in session.get_inputs()}
    return session.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in wanted})[0]


def test_only_ordinary_operators(exported):
    _, graph, _ = exported
    found = {node.op_type for node in graph.graph.node} | {
        node.op_type for f in graph.functions for node in f.node
    }
    assert found <= ALLOWED


def test_all_shapes_are_fixed(exported):
    _, graph, _ = exported
    for value in [*graph.graph.input, *graph.graph.output]:
        assert all(d.HasField('dim_value') for d in value.type.tensor_type.shape.dim), value.name


@torch.no_grad()
@pytest.mark.parametrize(
    ('seed', 'points', 'blind', 'lidar'),
    [(0, 500, None, True), (3, 80, 2, True), (4, 500, 0, False), (5, 0, None, True)])
def test_one_graph_serves_other_calibrations_clouds_and_absences(exported, seed, points, blind, lidar):
    model, _, session = exported
    batch = make_batch(samples=1, points=points, seed=seed)
    batch.ego_T_cam_BN44[..., 2, 3] += 0.1 * seed
    batch.lidar_present_B[:] = lidar
    if blind is not None:
        batch.camera_present_BN[0, blind] = False
    batch = model.data_preprocessor({'inputs': batch})['inputs']
    output = run(session, model.prepare(batch))
    model.encoders['lidar'].static = False
    free = model(batch)['map_segmentation.logits'].numpy()
    model.encoders['lidar'].static = True
    np.testing.assert_allclose(output, free, rtol=1e-3, atol=1e-4)


def test_four_pixels_and_heights_export(tmp_path):
    """The lift that reads between pixels, by depth or height, in one graph for another calibration too."""
    encoder = make_camera(lift={'slots': 1, 'read': 'bilinear', 'heights': True}, refine_layers=1).eval()

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.encoder(**dict(zip(names, tensors, strict=True))).bev_BCYX

    batch = BatchPreprocessor()({'inputs': make_batch(samples=1)})['inputs']
    inputs = encoder.prepare(batch)
    names = list(inputs)
    assert names[1:] == ['pixel_index', 'depth_index', 'far_weight', 'pixel_weight']
    assert assert_exports(Encoder(), list(inputs.values()), tmp_path) <= ALLOWED
