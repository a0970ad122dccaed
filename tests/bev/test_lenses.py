"""The lift and the supervision of depth through lenses that are no pinholes."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from perception.bev.depth import lidar_depth_map
from perception.bev.lift import LiftTableCache, lift_tables, voxel_points
from perception.bev.ops.depth_map import nearest_depth, nearest_depth_reference
from perception.bev.ops.gather import depth_weights, gather_sum
from perception.bev.ops.lift_index import index_voxels, index_voxels_reference
from perception.bev.ops.rays import camera_rays
from perception.bev.ops.splat import splat
from perception.bev.records import LiftGeometry
from perception.core.contracts import Batch
from perception.core.geometry import invert, transform_points
from perception.core.grid import BEVGrid
from perception.core.lens import Distortion, lens_rows
from perception.core.lens.projection import lens_unproject
from tests.helpers import BINS, VOXEL_GRID, make_batch, make_camera, make_cloud

GEOMETRY = LiftGeometry(VOXEL_GRID, BINS, (64, 96), (8, 12))
FINE = LiftGeometry(
    BEVGrid((-12.8, 12.8), (-12.8, 12.8), 0.4, (-1, 3), 1.0), BINS, (64, 96), (8, 12), interpolate=False)
BROWN = Distortion('brown_conrady', (-0.3, 0.1, 2e-3, -3e-3, -0.01))
FISHEYE = Distortion('kannala_brandt', (0.03, -0.01, 0.002, -2e-4))
PIXELS = 6 * 8 * 12
FIELDS = ('pixel_index', 'depth_index', 'far_weight')


def make_lens_batch(*lenses: Distortion | None, focal_px: float | None = None) -> Batch:
    """One sample whose six cameras have these lenses, the last one for the rest of them."""
    batch = make_batch(1)
    lenses = (*lenses, *[lenses[-1]] * (6 - len(lenses)))
    K = batch.K_BN33.clone()
    if focal_px:
        K[..., 0, 0] = K[..., 1, 1] = focal_px
    return replace(batch, K_BN33=K, lens_BN10=torch.from_numpy(lens_rows(lenses, 6)).float()[None])


def tables_of(batch: Batch, geometry: LiftGeometry = GEOMETRY):
    return lift_tables(
        batch.K_BN33, batch.ego_T_cam_BN44, batch.camera_present_BN, geometry, batch.lens_BN10)


@pytest.mark.parametrize('read', ['nearest', 'bilinear'])
@pytest.mark.parametrize('focal_px', [None, 25.0])
def test_numba_and_torch_write_the_same_tables(read: str, focal_px: float | None) -> None:
    batch = make_lens_batch(BROWN, None, FISHEYE, focal_px=focal_px)
    cameras = [part[0] for part in camera_rays(batch.K_BN33, batch.ego_T_cam_BN44, batch.lens_BN10)]
    points = voxel_points(VOXEL_GRID) + torch.tensor([0.013, 0.007, 0.011], dtype=torch.float64)
    present, geometry = torch.tensor([True] * 5 + [False]), replace(GEOMETRY, read=read)
    for fast, slow in zip(index_voxels(points, *cameras, present, geometry),
                          index_voxels_reference(points, *cameras, present, geometry), strict=True):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-6)


def test_zero_coefficients_and_no_lens_give_the_same_bits() -> None:
    # off the borders of pixels, where rounding decides
    poses = make_batch(1).ego_T_cam_BN44 + torch.tensor(
        [[0, 0, 0, 0.013], [0, 0, 0, 0.007], [0, 0, 0, 0.011], [0, 0, 0, 0]])
    batch, zero, nearly = (
        tables_of(replace(part, ego_T_cam_BN44=poses)) for part in (
            make_batch(1), make_lens_batch(Distortion('brown_conrady', [0] * 8)),
            make_lens_batch(Distortion('brown_conrady', [1e-12] * 4))))

    for name in FIELDS:
        expected = getattr(batch, name)
        assert torch.equal(getattr(zero, name), expected)
        torch.testing.assert_close(getattr(nearly, name), expected, rtol=0, atol=1e-6)


def test_a_fisheye_without_coefficients_reads_where_its_formula_says() -> None:
    """Equidistant: the radius on the image is focal length times angle; depth is the distance."""
    batch = make_lens_batch(Distortion('kannala_brandt', (0, 0, 0, 0)), focal_px=25.0)
    tables = tables_of(batch, replace(GEOMETRY, slots=6))
    cam = transform_points(invert(batch.ego_T_cam_BN44[0, 0].double()), voxel_points(VOXEL_GRID)).numpy()

    distance = np.linalg.norm(cam, axis=1)
    angle = np.arccos(cam[:, 2] / distance)
    across = np.hypot(cam[:, 0], cam[:, 1])
    u = 47.5 + 25 * angle * cam[:, 0] / across
    v = 31.5 + 25 * angle * cam[:, 1] / across
    bin_index = np.floor(np.clip(distance - 1.5, 0, 14)).astype(int)
    inside = (np.abs(u - 47.5) < 47.9) & (np.abs(v - 31.5) < 31.9) & (distance > 1.01) & (distance < 16.99)
    behind = inside & (cam[:, 2] < -0.5)

    pixel = ((v + 0.5) // 8 * 12 + (u + 0.5) // 8).astype(int)
    expected = pixel * 16 + bin_index
    found = (tables.depth_index[0].numpy() == expected[:, None]).any(1)
    assert behind.sum() > 20 and found[inside].mean() > 0.995 and found[behind].mean() > 0.99


@pytest.mark.parametrize(('lens', 'focal_px', 'row', 'column'), [
    (FISHEYE, 25.0, 4, 0), (FISHEYE, 25.0, 4, 10), (BROWN, 60.0, 5, 1), (BROWN, 60.0, 4, 11)])
def test_a_painted_pixel_comes_out_on_its_cell(
    lens: Distortion, focal_px: float, row: int, column: int
) -> None:
    batch = make_lens_batch(lens, focal_px=focal_px)
    present = torch.zeros(1, 6, dtype=torch.bool)
    present[0, 0] = True
    batch = replace(batch, camera_present_BN=present)
    context, depth = torch.zeros(6, 1, 8, 12), torch.zeros(6, 16, 8, 12)
    context[0, 0, row, column], depth[0, 7] = 1.0, 1.0

    tables = tables_of(batch, FINE)
    weights = depth_weights(
        depth.permute(0, 2, 3, 1).reshape(1, -1, 16), tables.depth_index, tables.far_weight)
    gathered = gather_sum(context.permute(0, 2, 3, 1).reshape(1, -1, 1), tables.pixel_index, weights)
    gathered = gathered.view(64, 64, 4).permute(2, 0, 1)
    scattered = splat(
        context, depth, batch.K_BN33[0], batch.ego_T_cam_BN44[0], present[0], (64, 96), FINE.grid, BINS,
        [lens] * 6)[0]

    # by the inverse alone: the middle of the pixel at 8.5 m
    K = batch.K_BN33[0, 0].double().numpy()
    middle = np.array([[column * 8 + 3.5, row * 8 + 3.5]])
    point = lens_unproject(K, middle, np.full(1, 8.5), lens)
    expected = transform_points(batch.ego_T_cam_BN44[0, 0].double().numpy(), point)[0, :2]
    cell = np.floor((expected + 12.8) / 0.4).astype(int)
    assert scattered.sum() == 1 and scattered.sum(0)[cell[1], cell[0]] == 1

    # a pixel of the fisheye is wide: its voxels lie around the place
    found = (gathered.sum(0)[..., None] * torch.as_tensor(FINE.grid.centres_m())).sum((0, 1)) / gathered.sum()
    assert gathered.sum(0)[cell[1], cell[0]] > 0
    np.testing.assert_allclose(found.numpy(), expected, atol=0.9)


@pytest.mark.parametrize('focal_px', [None, 25.0])
def test_points_of_the_lidar_come_to_their_pixels(focal_px: float | None) -> None:
    batch = make_lens_batch(BROWN, None, FISHEYE, focal_px=focal_px)
    cameras = [part[0] for part in camera_rays(batch.K_BN33, batch.ego_T_cam_BN44, batch.lens_BN10)]
    cloud = make_cloud(500)[:, :3]
    fast, slow = (
        find(cloud, *cameras, (64, 96), (8, 12)) for find in (nearest_depth, nearest_depth_reference))
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=0)

    # the supervision's depth is the one that the lens names: z, or a fisheye's distance
    for camera, lens in ((0, BROWN), (2, FISHEYE)):
        point = lens_unproject(
            batch.K_BN33[0, camera].double().numpy(), np.array([[20.0, 36.0]]), np.full(1, 6.0), lens)
        ego = transform_points(batch.ego_T_cam_BN44[0, camera].double().numpy(), point)
        seen = replace(batch, lidar_points=(torch.from_numpy(np.pad(ego, ((0, 0), (0, 3)))).float(),))
        depth = lidar_depth_map(seen, (8, 12))[0, camera]
        assert depth[4, 2].item() == pytest.approx(6, rel=1e-5) and depth.isfinite().sum() == 1


def test_the_graph_gets_the_same_inputs_and_other_tables() -> None:
    encoder = make_camera().eval()
    plain, bent = encoder.prepare(make_batch(1)), encoder.prepare(make_lens_batch(FISHEYE, focal_px=25.0))
    assert {name: part.shape for name, part in plain.items()} == {
        name: part.shape for name, part in bent.items()}
    assert not torch.equal(plain['pixel_index'], bent['pixel_index'])


def test_tables_are_kept_by_lens_too() -> None:
    batch, cache = make_lens_batch(BROWN), LiftTableCache(4)
    calibration = (batch.K_BN33, batch.ego_T_cam_BN44, batch.camera_present_BN, GEOMETRY)
    bent, plain = cache(*calibration, batch.lens_BN10), cache(*calibration)
    assert cache.misses == 2 and not torch.equal(bent.pixel_index, plain.pixel_index)
    assert cache(*calibration, batch.lens_BN10) is bent and cache.hits == 1

