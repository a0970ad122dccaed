"""Depth bins by numbers, supervision by points one can place by hand."""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.bev.depth import DepthNet, calibration_numbers, depth_loss, lidar_depth_map
from perception.bev.ops.depth_map import nearest_depth, nearest_depth_reference
from perception.bev.ops.rays import camera_rays
from perception.bev.records import DepthBins
from tests.helpers import BINS, make_batch, make_camera, make_cloud


@pytest.mark.parametrize('spacing', ['uniform', 'increasing'])
def test_coordinate_and_depth_are_inverse(spacing):
    bins = DepthBins(2.0, 58.0, 40, spacing)
    depth_m = torch.linspace(2.0, 57.99, 200, dtype=torch.float64)
    torch.testing.assert_close(bins.depth_m(bins.coordinate(depth_m)), depth_m)
    assert bins.coordinate(torch.tensor([1.9])).item() < 0
    assert bins.coordinate(torch.tensor([58.1])).item() > 40
    assert (np.diff(bins.centres_m()) > 0).all()


def test_spacing_by_hand():
    assert DepthBins(0, 10, 5).centres_m().tolist() == [1, 3, 5, 7, 9]
    edges = DepthBins(0, 6, 3, 'increasing').depth_m(torch.arange(4.0))       # 1 + 2 + 3 m long
    assert edges.tolist() == pytest.approx([0, 1, 3, 6])


@pytest.mark.parametrize(
    'wrong', [dict(low_m=5, high_m=5), dict(low_m=-1), dict(count=1), dict(spacing='log')]
)
def test_bins_refuse_nonsense(wrong):
    with pytest.raises(ValueError, match='DepthBins'):
        DepthBins(**wrong)


def cloud(*xyz_lag):
    return torch.tensor([[x, y, z, 0, 0, lag] for x, y, z, lag in xyz_lag])


def test_the_nearest_key_frame_point_is_a_cells_depth():
    """Camera 0 looks along +x from z = 1.5 m; points just below its axis fall in row 4, column 5 (left) or 6
    (right)."""
    points = cloud(
        (8, 0.1, 1.4, 0), (6, 0.1, 1.4, 0), (3, 0.05, 1.45, 0.05), (5, -0.1, 1.4, 0), (math.nan, 0, 1.4, 0),
        (-9, 0, 1.4, 0))
    depth = lidar_depth_map(replace(make_batch(1), lidar_points=(points,)), (8, 12))[0]
    assert depth[0, 4, 5] == pytest.approx(6) and depth[0, 4, 6] == pytest.approx(5)
    assert depth[0].isfinite().sum() == 2
    # camera 3 looks back
    assert depth[3, 4].isfinite().sum() == 1 and depth[3, 4].min() == pytest.approx(9)


@pytest.mark.parametrize('points', [0, 1, 4000])
def test_numba_and_torch_find_the_same_nearest_points(points):
    batch = make_batch(1)
    cameras = [part[0] for part in camera_rays(batch.K_BN33, batch.ego_T_cam_BN44)]
    cloud = make_cloud(points)[:, :3]
    fast, slow = (
        find(cloud, *cameras, (64, 96), (8, 12)) for find in (nearest_depth, nearest_depth_reference)
    )
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=0)
    assert fast.isfinite().any() == (points > 0)


def test_depth_is_unknown_without_lidar_or_camera():
    batch = make_batch(2)
    batch.lidar_present_B[0] = False
    batch.camera_present_BN[1, 0] = False
    depth = lidar_depth_map(batch, (8, 12))
    assert depth[0].isinf().all() and depth[1, 0].isinf().all() and depth[1, 1].isfinite().any()


def test_depth_follows_the_bird_s_eye_augmentation():
    """Scaling points and cameras together leaves pixel and depth alone."""
    batch = make_batch(1)
    scale = torch.diag(torch.tensor([1.1, -1.1, 1.1, 1.0]))                # enlarged and mirrored
    points = batch.lidar_points[0].clone()
    points[:, :3] = points[:, :3] * scale.diagonal()[:3]
    moved = replace(batch, lidar_points=(points,), ego_T_cam_BN44=scale @ batch.ego_T_cam_BN44)
    before, after = lidar_depth_map(batch, (8, 12)), lidar_depth_map(moved, (8, 12))
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['cross_entropy', 'binary'])
def test_loss_is_small_for_the_truth_and_large_for_another_depth(kind):
    depth = torch.full((1, 1, 2, 2), torch.inf)
    depth[0, 0, 0, 1] = 5.5                                                # bin 4
    right, wrong = torch.zeros(1, 1, 16, 2, 2), torch.zeros(1, 1, 16, 2, 2)
    right[0, 0, 4], wrong[0, 0, 9] = 20, 20
    assert depth_loss(right, depth, BINS, kind) < 1e-3 < 5 < depth_loss(wrong, depth, BINS, kind)
    flat = depth_loss(torch.zeros(1, 1, 16, 2, 2), depth, BINS, kind).item()
    expected = math.log(16) if kind == 'cross_entropy' else math.log(16) - 15 * math.log(15 / 16)
    assert flat == pytest.approx(expected, rel=1e-4)


def test_loss_without_any_point_is_zero_and_keeps_the_graph():
    logits = torch.randn(1, 1, 16, 2, 2, requires_grad=True)
    loss = depth_loss(logits, torch.full((1, 1, 2, 2), torch.inf), BINS)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()
    with pytest.raises(ValueError, match='kind'):
        depth_loss(logits, torch.full((1, 1, 2, 2), 5.0), BINS, 'squared')


def test_encoder_leaves_the_loss_out_where_there_is_no_lidar(batch):
    encoder = make_camera()
    feature = encoder(**encoder.prepare(batch))
    assert encoder.loss(feature, replace(batch, lidar_points=None, lidar_present_B=None)) == {}
    assert make_camera(depth={'loss_weight': 0}).loss(feature, batch) == {}
    one, two = (
        make_camera(depth={'loss_weight': weight}).loss(feature, batch)['depth'].item()
        for weight in (1.0, 2.0)
    )
    assert two == pytest.approx(2 * one)


def test_depth_net_speaks_float32_under_autocast():
    net = DepthNet(8, 4, BINS)
    with torch.autocast('cpu', torch.bfloat16):
        context, logits = net(torch.randn(2, 8, 4, 6))
    assert context.shape == (2, 4, 4, 6) and logits.shape == (2, 16, 4, 6) and logits.dtype == torch.float32


def test_calibration_numbers_by_hand():
    numbers = calibration_numbers(make_batch(1))[0, 0]
    focal = 48 / math.tan(math.radians(35))
    K = [focal / 96, 0, 47.5 / 96, 0, focal / 64, 31.5 / 64]
    assert numbers.tolist() == pytest.approx([*K, 0, 0, 1, 0, -1, 0, 0, 0, 0, -1, 0, 1.5], abs=1e-6)


def test_a_camera_aware_encoder_tells_focal_lengths_apart_and_trains_its_gate(batch):
    torch.manual_seed(0)
    encoder = make_camera(depth={'camera_aware': True})
    inputs = encoder.prepare(batch)
    encoder.loss(encoder(**inputs), batch)['depth'].backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.depth_net.gate.parameters())
    encoder.eval()
    calibration = inputs['calibration'].clone()
    calibration[..., 0] *= 2
    with torch.no_grad():
        here, there = (encoder(**{**inputs, 'calibration': c}) for c in (inputs['calibration'], calibration))
    assert not torch.allclose(here.bev_BCYX, there.bev_BCYX)
    assert set(make_camera().prepare(batch)) == set(inputs) - {'calibration'}
