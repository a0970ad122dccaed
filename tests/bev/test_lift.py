"""The lift: tables by hand and against their reference, gather against scatter, values and gradients."""
from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.bev.lift import LiftTableCache, LiftTables, lift_tables, voxel_points
from perception.bev.ops.gather import (
    depth_weights,
    gather_sum,
    gather_sum_bag,
    gather_sum_reference,
    layer_weights,
)
from perception.bev.ops.lift_index import index_voxels, index_voxels_reference
from perception.bev.ops.rays import camera_rays
from perception.bev.ops.splat import splat
from perception.bev.records import DepthBins, LiftGeometry
from perception.core.geometry import invert
from perception.core.grid import BEVGrid
from tests.helpers import BINS, VOXEL_GRID, make_batch, make_camera

GEOMETRY = LiftGeometry(VOXEL_GRID, BINS, (64, 96), (8, 12))
NO_PIXEL = 6 * 8 * 12
TABLES = ('pixel_index', 'depth_index', 'far_weight', 'pixel_weight')


def tables_of(batch, geometry=GEOMETRY):
    return lift_tables(batch.K_BN33, batch.ego_T_cam_BN44, batch.camera_present_BN, geometry)


def random_inputs(samples=2, channels=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(samples, NO_PIXEL, channels, generator=generator)
    probabilities = torch.rand(samples, NO_PIXEL, BINS.count, generator=generator).softmax(-1)
    return context, probabilities


@pytest.mark.parametrize('spacing', ['uniform', 'increasing'])
@pytest.mark.parametrize('read', ['nearest', 'bilinear'])
@pytest.mark.parametrize(('slots', 'interpolate'), [(1, True), (2, False), (8, True)])
def test_numba_and_torch_write_the_same_tables(spacing, read, slots, interpolate):
    batch = make_batch(1)
    geometry = replace(
        GEOMETRY, bins=DepthBins(1, 17, 16, spacing), slots=slots, read=read, interpolate=interpolate)
    points = voxel_points(VOXEL_GRID)
    # off the borders of pixels, where rounding decides
    points = points + torch.tensor([0.013, 0.007, 0.011], dtype=points.dtype)
    cameras = [part[0] for part in camera_rays(batch.K_BN33, batch.ego_T_cam_BN44)]
    present = torch.tensor([True, True, False, True, True, True])
    for fast, slow in zip(index_voxels(points, *cameras, present, geometry),
                          index_voxels_reference(points, *cameras, present, geometry), strict=True):
        pixels = slots * (4 if read == 'bilinear' else 1)
        assert fast.shape == slow.shape == (len(points), pixels) and fast.dtype == slow.dtype
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-6)


def test_a_voxel_straight_ahead_by_hand():
    """Camera 0 looks along +x at z = 1.5 m; the voxel centred at (8.8, 0.8, 1.5) lies at 8.8 m, 0.8 m to the
    left."""
    tables = tables_of(make_batch(1))
    column, row, level = int((8.8 + 12.8) / 1.6), int((0.8 + 12.8) / 1.6), 2
    v = (row * 16 + column) * 4 + level
    focal = 48 / np.tan(np.radians(35))
    u = 47.5 - focal * 0.8 / 8.8
    # the horizon is on the border of rows 3 and 4 of 8
    pixel = 4 * 12 + int((u + 0.5) / 8)
    assert tables.pixel_index[0, v].tolist() == [pixel, NO_PIXEL]
    # bin centres 1.5, 2.5, ...: 8.5 is number 7
    assert tables.depth_index[0, v].tolist() == [pixel * 16 + 7, NO_PIXEL * 16]
    assert tables.far_weight[0, v].tolist() == pytest.approx([0.3, 0.0], abs=1e-5)


def test_where_two_cameras_overlap_the_more_central_comes_first():
    batch = make_batch(1)
    tables = tables_of(batch)
    both = (tables.pixel_index[0] < NO_PIXEL).all(1)
    assert both.sum() > 20
    cameras = tables.pixel_index[0][both] // 96
    assert (cameras[:, 0] != cameras[:, 1]).all()
    columns = (tables.pixel_index[0][both] % 12).float()
    off_centre = (columns - 5.5).abs()
    assert (off_centre[:, 0] <= off_centre[:, 1] + 1).all()


def test_absent_cameras_are_never_indexed():
    batch = make_batch(2)
    batch.camera_present_BN[0, 1] = False
    batch.camera_present_BN[1] = False
    tables = tables_of(batch)
    assert not (tables.pixel_index[0] // 96 == 1).any()
    assert (tables.pixel_index[1] == NO_PIXEL).all() and (tables.depth_index[1] == NO_PIXEL * 16).all()
    context, probabilities = random_inputs()
    context[0, 96:192], probabilities[0, 96:192] = torch.nan, torch.nan
    context[1], probabilities[1] = torch.nan, torch.nan
    weights = depth_weights(probabilities, tables.depth_index, tables.far_weight)
    lifted = gather_sum(context, tables.pixel_index, weights)
    assert lifted.isfinite().all() and (lifted[1] == 0).all() and (lifted[0] != 0).any()


@pytest.mark.parametrize('samples', [1, 3])
def test_fused_and_plain_gather_agree_in_values_and_gradients(samples):
    tables = tables_of(make_batch(samples))
    outputs = []
    for gather in (gather_sum, gather_sum_bag, gather_sum_reference):
        context, probabilities = (x.requires_grad_() for x in random_inputs(samples))
        weights = depth_weights(probabilities, tables.depth_index, tables.far_weight)
        lifted = gather(context, tables.pixel_index, weights)
        (lifted * torch.linspace(-1, 1, lifted.numel()).view_as(lifted)).sum().backward()
        outputs.append((lifted.detach(), context.grad, probabilities.grad))
    assert outputs[0][1].abs().sum() > 0 and outputs[0][2].abs().sum() > 0
    for loop, bag, plain in zip(*outputs, strict=True):
        torch.testing.assert_close(loop, plain, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(bag, plain, rtol=1e-4, atol=1e-5)


def lift_by_loop(context, probabilities, tables):
    """Voxel by voxel, slot by slot, in words of the docstring."""
    lifted = torch.zeros(*tables.pixel_index.shape[:2], context.shape[-1])
    for b in range(len(context)):
        flat = probabilities[b].flatten()
        for v, s in (tables.pixel_index[b] < NO_PIXEL).nonzero().tolist():
            near, share = tables.depth_index[b, v, s], tables.far_weight[b, v, s]
            weight = flat[near] * (1 - share) + flat[near + 1] * share
            lifted[b, v] += weight * context[b, tables.pixel_index[b, v, s]]
    return lifted


def test_gather_is_what_its_docstring_says():
    tables = tables_of(make_batch(2))
    context, probabilities = random_inputs()
    weights = depth_weights(probabilities, tables.depth_index, tables.far_weight)
    torch.testing.assert_close(
        gather_sum(context, tables.pixel_index, weights), lift_by_loop(context, probabilities, tables)
    )


@pytest.mark.parametrize('camera', [0, 2, 5])
def test_one_lit_pixel_at_a_known_depth_lands_in_one_place_by_gather_and_by_scatter(camera):
    """One pixel near the middle of one camera, sure of 8.5 m: both ways put it at the same metres."""
    grid = BEVGrid((-12.8, 12.8), (-12.8, 12.8), 0.4, (-1.0, 3.0), 1.0)
    batch, geometry = make_batch(1), LiftGeometry(grid, BINS, (64, 96), (8, 12), interpolate=False)
    context, depth = torch.zeros(6, 1, 8, 12), torch.zeros(6, 16, 8, 12)
    context[camera, 0, 4, 6], depth[camera, 7] = 1.0, 1.0
    tables = tables_of(batch, geometry)
    weights = depth_weights(
        depth.permute(0, 2, 3, 1).reshape(1, -1, 16), tables.depth_index, tables.far_weight
    )
    gathered = gather_sum(context.permute(0, 2, 3, 1).reshape(1, -1, 1), tables.pixel_index, weights)
    gathered = gathered.view(grid.y_size, grid.x_size, grid.z_size).permute(2, 0, 1)
    calibration = (batch.K_BN33[0], batch.ego_T_cam_BN44[0], batch.camera_present_BN[0])
    scattered = splat(context, depth, *calibration, (64, 96), grid, BINS)[0]
    # pixel centre 4 px right of the middle
    yaw, offset = np.pi / 3 * camera, -8.5 * 4.0 / (48 / np.tan(np.radians(35)))
    expected = np.array([8.5 * np.cos(yaw) - offset * np.sin(yaw), 8.5 * np.sin(yaw) + offset * np.cos(yaw)])
    centres = torch.as_tensor(grid.centres_m())
    for volume in (gathered, scattered):
        assert volume.sum() > 0
        found = (volume.sum(0)[..., None] * centres).sum((0, 1)) / volume.sum()
        np.testing.assert_allclose(found.numpy(), expected, atol=0.45)
    cell = np.floor((expected + 12.8) / 0.4).astype(int)
    assert scattered.sum() == 1 and scattered.sum(0)[cell[1], cell[0]] == 1
    assert gathered.sum(0)[cell[1], cell[0]] > 0


def test_linear_depth_reads_between_two_bins():
    """A pixel equally sure of all depths gives every voxel it sees 1 / D, whatever lies between bin
    centres."""
    tables = tables_of(make_batch(1))
    weights = depth_weights(torch.full((1, NO_PIXEL, 16), 1 / 16), tables.depth_index, tables.far_weight)
    seen = tables.pixel_index < NO_PIXEL
    torch.testing.assert_close(weights, torch.where(seen, 1 / 16, 0.0))
    ramp = torch.arange(16.0).expand(1, NO_PIXEL, 16)
    read = depth_weights(ramp, tables.depth_index, tables.far_weight)[0, :, 0][seen[0, :, 0]]
    batch = make_batch(1)
    points = voxel_points(VOXEL_GRID)[seen[0, :, 0]]
    cam_T_ego = invert(batch.ego_T_cam_BN44[0].double())
    camera = tables.pixel_index[0, :, 0][seen[0, :, 0]].long() // 96
    depth_m = (cam_T_ego[camera, 2, :3] * points).sum(1) + cam_T_ego[camera, 2, 3]
    torch.testing.assert_close(read.double(), (depth_m - 1.5).clamp(0, 15), rtol=0, atol=1e-4)


def test_tables_are_made_once_for_one_calibration():
    batch, cache = make_batch(2), LiftTableCache(2)
    first = cache(batch.K_BN33, batch.ego_T_cam_BN44, batch.camera_present_BN, GEOMETRY)
    assert (cache.hits, cache.misses) == (1, 1)                      # both samples have one calibration
    for name, tensor in tables_of(batch).tensors().items():
        assert torch.equal(getattr(first, name), tensor)
    present = batch.camera_present_BN.clone()
    present[0, 0] = False
    other = cache(batch.K_BN33, batch.ego_T_cam_BN44, present, GEOMETRY)
    assert (cache.hits, cache.misses) == (2, 2) and not torch.equal(
        other.pixel_index[0], first.pixel_index[0]
    )
    moved = batch.ego_T_cam_BN44.clone()
    moved[..., 2, 3] += 0.2
    cache(batch.K_BN33, moved, present, GEOMETRY)
    assert len(cache._known) == 2


def test_tables_of_a_full_grid_are_quick():
    """100,000 voxels, six cameras: well under a second even on a busy core (about 30 ms on a free one)."""
    grid = BEVGrid((-51.2, 51.2), (-51.2, 51.2), 0.8, (-1, 5), 1.0)
    batch, geometry = make_batch(1, image_hw=(128, 352)), LiftGeometry(grid, BINS, (128, 352), (8, 22))
    tables_of(batch, geometry)
    start = time.process_time()
    tables_of(batch, geometry)
    assert time.process_time() - start < 0.5


def test_encoder_lifts_what_the_loop_lifts(batch):
    encoder = make_camera().eval()
    inputs = encoder.prepare(batch)
    with torch.no_grad():
        context, logits = encoder.context_and_places(inputs['images'])
        feature = encoder(**inputs)
    tables = tables_of(batch, replace(GEOMETRY, feature_hw=(8, 12)))
    expected = lift_by_loop(
        context.permute(0, 1, 3, 4, 2).flatten(1, 3), logits.permute(0, 1, 3, 4, 2).softmax(-1).flatten(1, 3),
        tables)
    voxels = feature.voxels_BCZYX.permute(0, 3, 4, 2, 1).flatten(1, 3)
    torch.testing.assert_close(voxels, expected, rtol=1e-4, atol=1e-5)
    assert feature.bev_BCYX.shape == (2, 12, 16, 16) and feature.voxels_BCZYX.shape == (2, 8, 4, 16, 16)


@torch.no_grad()
@pytest.mark.parametrize('axis', ['row', 'column'])
def test_pixels_between_pixels_are_read_linearly(batch, axis):
    """Features that say which row or column they are: every voxel reads its own, whatever the depth."""
    encoder = make_camera(lift={'slots': 1, 'read': 'bilinear'}).eval()
    inputs = encoder.prepare(batch)
    tables = LiftTables(*(inputs[name] for name in TABLES))
    size = 8 if axis == 'row' else 12
    context = torch.arange(float(size)).view((-1, 1) if axis == 'row' else (1, -1)).expand(8, 12)
    voxels = encoder.read(context.expand(2, 6, 1, 8, 12), [torch.zeros(2, 6, 16, 8, 12)], tables)
    read = voxels[0, 0].permute(1, 2, 0).flatten() * 16  # of 16 equally likely depths

    points, pixels_T_ego = (
        voxel_points(VOXEL_GRID), batch.K_BN33[0].double() @ invert(batch.ego_T_cam_BN44[0].double())[:, :3])
    seen = tables.pixel_index[0, :, 0] < NO_PIXEL
    camera = (tables.pixel_index[0, :, 0] // 96).clamp(max=5)
    place = torch.einsum(
        'vij,vj->vi', pixels_T_ego[camera], torch.cat([points, torch.ones(len(points), 1)], 1)
    )
    pixel = place[:, 1 if axis == 'row' else 0] / place[:, 2]
    expected = ((pixel + 0.5) / 8 - 0.5).clamp(0, size - 1)
    assert seen.sum() > 200 and (read[~seen] == 0).all()
    torch.testing.assert_close(read[seen], expected[seen].float(), rtol=0, atol=1e-4)


def layer_weights_by_loop(probabilities, pixel_index, heights):
    expected = torch.zeros(pixel_index.shape)
    for b, v, s in (pixel_index < NO_PIXEL).nonzero().tolist():
        expected[b, v, s] = probabilities[b, pixel_index[b, v, s], v % heights]
    return expected


def test_a_voxel_is_read_by_depth_or_by_height():
    """Sure of the height, pixels fill every voxel of it that they see, whatever depth they believe; sure of
    none, depth alone counts."""
    tables = tables_of(make_batch(2), replace(GEOMETRY, slots=1, read='bilinear'))
    probabilities = torch.rand(2, NO_PIXEL, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    torch.testing.assert_close(
        layer_weights(probabilities, tables.pixel_index),
        layer_weights_by_loop(probabilities, tables.pixel_index, 4))

    encoder = make_camera(lift={'slots': 1, 'read': 'bilinear', 'heights': True}).eval()
    context, depth = torch.ones(2, 6, 1, 8, 12), torch.zeros(2, 6, 16, 8, 12)
    seen = (tables.pixel_index[:, :, 0] < NO_PIXEL).view(2, 16, 16, 4).float()
    height = torch.full((2, 6, 5, 8, 12), -50.0)
    height[:, :, 1] = 50.0
    voxels = encoder.read(context, [depth, height], tables)[:, 0].permute(0, 2, 3, 1)
    expected = torch.tensor([1 / 16, 1, 1 / 16, 1 / 16]) * seen
    torch.testing.assert_close(voxels, expected, rtol=1e-4, atol=1e-5)

    # none of the heights
    height[:, :, 1], height[:, :, 4] = -50.0, 50.0
    voxels = encoder.read(context, [depth, height], tables)[:, 0].permute(0, 2, 3, 1)
    torch.testing.assert_close(voxels, seen / 16, rtol=1e-4, atol=1e-5)


def test_encoder_refuses_what_it_cannot_use(batch):
    with pytest.raises(ValueError, match='height_cell_m'):
        encoder = make_camera()
        type(encoder)(encoder.backbone, encoder.neck, BEVGrid((0, 8), (0, 8), 1.0), BINS, 16)
    with pytest.raises(ValueError, match='slots'):
        make_camera(lift={'slots': 0})
    with pytest.raises(ValueError, match='read'):
        make_camera(lift={'read': 'cubic'})
    blind = replace(batch, images_BN3HW=None, K_BN33=None, ego_T_cam_BN44=None, camera_present_BN=None)
    with pytest.raises(ValueError, match='has no images'):
        make_camera().prepare(blind)
