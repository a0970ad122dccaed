"""LiDAR depths as an input of the depth network: by hand, through lenses, without LiDAR, in a graph."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perception.bev.depth import lidar_depth_images, lidar_depth_map
from perception.bev.records import DepthOptions
from perception.core.contracts import Batch
from perception.core.geometry import transform_points
from perception.core.lens import Distortion, lens_rows
from perception.core.lens.projection import lens_unproject
from perception.deployment.export.graph import graph_inputs
from perception.model import MultiTaskPerception
from tests.export_check import assert_exports
from tests.helpers import make_batch, make_camera, make_cloud, make_model

READS = {'lidar_strides': (4, 2)}
FISHEYE = Distortion('kannala_brandt', (0.03, -0.01, 0.002, -2e-4))


def at(batch: Batch, camera: int, pixel: tuple[float, float], depth_m: float, lens: Distortion | None = None
       ) -> np.ndarray:
    """Point `(1, 3)` in ego that a camera of the first sample sees in a pixel, through its lens."""
    K = batch.K_BN33[0, camera].double().numpy()
    point = lens_unproject(K, np.array([pixel]), np.full(1, depth_m), lens)
    return transform_points(batch.ego_T_cam_BN44[0, camera].double().numpy(), point)


def cloud(*points: np.ndarray, lags: tuple[float, ...] = ()) -> Tensor:
    rows = np.pad(np.concatenate(points), ((0, 0), (0, 3)))
    rows[:len(lags), 5] = lags
    return torch.from_numpy(rows).float()


# -------------------------------------------------------------------- images

def test_every_sweeps_nearest_point_stands_in_its_pixel():
    batch = make_batch(1)
    points = cloud(
        at(batch, 2, (20, 36), 9.0), at(batch, 2, (20, 36), 6.0), at(batch, 2, (70, 10), 14.0),
        lags=(0, 0, 0.4))
    depth = lidar_depth_images(replace(batch, lidar_points=(points,)))
    assert depth.shape == (1, 6, 64, 96)
    assert depth[0, 2, 36, 20].item() == pytest.approx(6, rel=1e-5)
    assert depth[0, 2, 10, 70].item() == pytest.approx(14, rel=1e-5)  # supervision would leave it out
    assert (depth[0, 2] > 0).sum() == 2 and depth.isfinite().all()


@pytest.mark.parametrize('lens', [Distortion('brown_conrady', (-0.3, 0.1, 2e-3, -3e-3, -0.01)), FISHEYE])
def test_a_lens_puts_the_point_where_the_camera_sees_it(lens):
    batch = make_batch(1)
    batch.K_BN33[..., 0, 0] = batch.K_BN33[..., 1, 1] = 25.0
    rows = torch.from_numpy(lens_rows([lens] * 6, (64, 96))).float()[None]
    seen = replace(batch, lens_BN10=rows, lidar_points=(cloud(at(batch, 1, (80, 50), 7.0, lens)),))
    depth = lidar_depth_images(seen)
    assert depth[0, 1, 50, 80].item() == pytest.approx(7, rel=1e-5)
    assert lidar_depth_images(replace(seen, lens_BN10=None))[0, 1, 50, 80] == 0


def test_what_is_absent_has_no_depth():
    batch = make_batch(2)
    batch.lidar_present_B[0] = False
    batch.camera_present_BN[1, 3] = False
    depth = lidar_depth_images(batch)
    assert (depth[0] == 0).all() and (depth[1, 3] == 0).all() and (depth[1, 2] > 0).any()
    without = replace(batch, lidar_points=None, lidar_present_B=None)
    assert (lidar_depth_images(without) == 0).all()


# -------------------------------------------------------------------- network

def test_the_depth_network_reads_it_and_learns_to(batch):
    torch.manual_seed(0)
    encoder = make_camera(depth=READS | {'layers': 2})
    inputs = encoder.prepare(batch)
    encoder(**inputs).bev_BCYX.square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.depth_net.lidar.parameters() if p.ndim > 1)

    encoder.eval()
    moved = replace(batch, lidar_points=tuple(p * 0.5 for p in batch.lidar_points))
    with torch.no_grad():
        here, there = (encoder(**inputs | {'lidar_depth': lidar_depth_images(b)}) for b in (batch, moved))
    assert not torch.allclose(here.bev_BCYX, there.bev_BCYX)
    assert set(make_camera().prepare(batch)) == set(inputs) - {'lidar_depth'}
    assert make_camera(depth={'layers': 2}).depth_net.shared[3].in_channels == 16
    assert len(make_camera().depth_net.shared) == 3  # weights of earlier models keep their names


def test_a_batch_without_lidar_teaches_its_layers_no_statistics(batch):
    """One sample's LiDAR is enough to learn from; with none the zeros are no measurement."""
    encoder = make_camera(depth=READS).train()
    norm = encoder.depth_net.lidar[1]
    without = replace(batch, lidar_present_B=torch.zeros(2, dtype=torch.bool))
    before = norm.running_mean.clone()
    feature = encoder(**encoder.prepare(without))
    assert torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 0
    assert encoder.loss(feature, without)['depth'] == 0 and feature.bev_BCYX.isfinite().all()

    one = replace(batch, lidar_present_B=torch.tensor([True, False]))
    encoder(**encoder.prepare(one))
    assert not torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 1


def test_a_missing_lidar_looks_in_training_as_it_does_in_evaluation(batch):
    """Zeros have no statistics: by their own they would be a picture that evaluation never sees."""
    encoder = make_camera(depth=READS).train()
    for _ in range(3):
        encoder(**encoder.prepare(batch))
    seen = []
    encoder.depth_net.shared.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, :64]))
    without = encoder.prepare(replace(batch, lidar_points=None, lidar_present_B=None))
    for training in (True, False):
        encoder.train(training)(**without)
    torch.testing.assert_close(seen[0], seen[1])
    assert all(part.training for part in encoder.train().modules())


def test_a_sample_without_lidar_is_not_moved_by_its_neighbours(batch):
    """In evaluation: the same map with the LiDAR cut off as in a batch that has none."""
    encoder = make_camera(depth=READS).eval()
    mixed = replace(batch, lidar_present_B=torch.tensor([False, True]))
    alone = replace(batch, lidar_points=None, lidar_present_B=None)
    with torch.no_grad():
        a, b = (encoder(**encoder.prepare(x)).bev_BCYX[0] for x in (mixed, alone))
    torch.testing.assert_close(a, b)


def test_strides_that_do_not_fit_are_named(batch):
    encoder = make_camera(depth={'lidar_strides': (2, 2)})
    with pytest.raises(ValueError, match=r'strides: expected a map of \(8, 12\).*\(64, 96\).*\(16, 24\)'):
        encoder(**encoder.prepare(batch))
    for wrong in ((4,), (0, 2), 8, (4.0, 2), True):
        with pytest.raises(ValueError, match='lidar_strides: expected two whole strides'):
            DepthOptions(lidar_strides=wrong)
    with pytest.raises(ValueError, match='layers'):
        DepthOptions(layers=0)


def test_a_model_without_lidar_is_refused():
    """Nobody would load it: the depth network would learn from empty images."""
    model = make_model()
    parts = (model.fuser, model.trunk, dict(model.heads))
    with pytest.raises(ValueError, match=r"encoders\['camera'\].*reads the lidar.*found \('camera',\)"):
        MultiTaskPerception({'camera': make_camera(depth=READS)}, *parts)
    MultiTaskPerception({'camera': make_camera(depth=READS), 'lidar': model.encoders['lidar']}, *parts)


# -------------------------------------------------------------------- graph

def test_it_is_an_input_of_the_graph_that_serves_any_cloud(tmp_path):
    pytest.importorskip('onnxruntime')
    model = make_model().eval()
    torch.manual_seed(1)
    model.encoders['camera'] = make_camera(depth=READS | {'camera_aware': True}).eval()
    inputs = graph_inputs(model, make_batch(1))
    assert inputs['camera.lidar_depth'].shape == (1, 6, 64, 96)
    assert (inputs['camera.lidar_depth'] == lidar_depth_map(make_batch(1), (64, 96), torch.inf).nan_to_num(
        posinf=0).numpy()).all()
    absent = graph_inputs(model, replace(make_batch(1), lidar_present_B=torch.zeros(1, dtype=torch.bool)))
    assert (absent['camera.lidar_depth'] == 0).all()

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model.encoders['camera']

        def forward(self, *tensors: Tensor) -> Tensor:
            return self.encoder(**dict(zip(names, tensors, strict=True))).bev_BCYX

    prepared = {name.removeprefix('camera.'): torch.from_numpy(value)
                for name, value in inputs.items() if name.startswith('camera.') and 'present' not in name}
    names = list(prepared)
    assert not {'ScatterND', 'ScatterElements', 'NonZero'} & assert_exports(
        Encoder(), list(prepared.values()), tmp_path)

    # the written graph, another cloud and none
    import onnxruntime
    session = onnxruntime.InferenceSession(
        str(tmp_path / 'module.onnx'), providers=['CPUExecutionProvider'])
    for points in (make_cloud(50, seed=3), None):
        batch = replace(make_batch(1), lidar_points=None if points is None else (points,))
        prepared['lidar_depth'] = lidar_depth_images(batch)
        feed = {f'input_{i}': value.numpy() for i, value in enumerate(prepared.values())}
        found = session.run(None, feed)[0]
        with torch.no_grad():
            expected = Encoder()(*prepared.values()).numpy()
        np.testing.assert_allclose(found, expected, atol=2e-4, rtol=2e-3)
