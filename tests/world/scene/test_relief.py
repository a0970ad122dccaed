"""Hills: the triangles are the height field, bodies stand on it, and every sensor meets the same ground."""
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from perception.world.labels.occupancy import FREE, label_occupancy
from perception.world.scene.mesh import pose_matrix
from perception.world.scene.relief import HeightField, Relief, draw_relief
from perception.world.sensors.beams import ray_table
from perception.world.sensors.camera import render_camera
from perception.world.sensors.ground import ground_lookup, height_of_ground
from perception.world.sensors.lidar import cast_scan
from perception.world.sensors.triangles import SceneGeometry
from perception.world.toy import toy_scene
from perception.world.traffic.actors import make_track, standing_actor
from perception.world.traffic.ego import ego_trajectory
from tests.world.sensor_scene import RIG

RELIEF = draw_relief(np.random.default_rng(5))


@pytest.fixture(scope='module')
def snapshot():
    """The toy street on hills: the ego, a car and a person stand on them."""
    scene, rng = toy_scene(), np.random.default_rng(0)
    times, xy = scene.ego.times_s, scene.ego.xyz_T3[:, :2]
    height, slope = RELIEF.plane_at(xy, scene.ego.yaw_T, (0.0, 2.6), 0.75)
    ego = replace(scene.ego, xyz_T3=np.column_stack([xy, height]), slope_T2=slope)
    actors = [standing_actor('vehicle.car', (25.0, -3.0), 0.4, len(times), rng),
              standing_actor('human.pedestrian.adult', (20.0, 6.0), 1.0, len(times), rng, 'standing')]
    tracks = tuple(make_track(index, actor, times, RELIEF) for index, actor in enumerate(actors))
    field = RELIEF.field_around([-180.0, -180.0], [350.0, 180.0])
    return SceneGeometry.of(replace(scene, ego=ego, tracks=tracks, height=field)).at(1.0)


def test_streets_bend_as_real_ones_do():
    """25 m ahead the ground lies up to 1.1 m beside the plane below the car, 0.3 m by the root of squares."""
    rng = np.random.default_rng(0)
    off = []
    for seed in range(6):
        relief = draw_relief(np.random.default_rng(seed))
        xy, yaw = rng.uniform(0, 800, (500, 2)), rng.uniform(-np.pi, np.pi, 500)
        height, slope = relief.plane_at(xy, yaw, (0.0, 2.6), 0.75)
        ahead = 25.0 * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        off.append(relief.height_at(xy + ahead) - height - np.sum(slope * ahead, axis=1))
    off = np.abs(np.concatenate(off))
    assert 0.2 < np.sqrt(np.mean(off ** 2)) < 0.4 and np.percentile(off, 99) < 1.1


def test_triangles_are_the_height_field():
    field, rng = RELIEF.field_around([-30.0, -20.0], [40.0, 50.0]), np.random.default_rng(1)
    triangles = field.triangles_around(np.array([3.0, 8.0]), 18.0, np.zeros(3)).astype(np.float64)
    weight = rng.dirichlet(np.ones(3), len(triangles))
    points = np.einsum('fc,fcx->fx', weight, triangles)
    inner = np.abs(points[:, :2] - [3.0, 8.0]).max(axis=1) < 18.0
    assert inner.sum() > 60
    np.testing.assert_allclose(points[inner, 2], field.height_at(points[inner, :2]), atol=1e-5)
    assert np.abs(field.height_at(points[inner, :2]) - RELIEF.height_at(points[inner, :2])).max() < 0.03

    flat = HeightField().triangles_around(np.zeros(2), 100.0, np.zeros(3))
    assert len(flat) <= 8 and not flat[..., 2].any()


def test_compiled_height_is_the_field(snapshot):
    lookup, origin = ground_lookup(snapshot.geometry), snapshot.geometry.origin_m
    points = np.random.default_rng(2).uniform((-250.0, -250.0), (400.0, 250.0), (300, 2))
    found = [height_of_ground(lookup, *(point - origin[:2])) for point in points]
    np.testing.assert_allclose(found, snapshot.scene.height.height_at(points), atol=1e-9)


def test_slope_turns_about_the_heading():
    pose = pose_matrix((0.0, 0.0, 0.0), 0.7, (0.1, -0.05))
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose) == pytest.approx(1.0)
    assert np.arctan2(pose[1, 0], pose[0, 0]) == pytest.approx(0.7)
    np.testing.assert_allclose(pose[:2, 2] / pose[2, 2], [-0.1, 0.05])


def test_bodies_in_the_snapshot_stand_on_the_ground(snapshot):
    for place, track in enumerate(snapshot.scene.tracks):
        rows = slice(snapshot.first_face_M1[place], snapshot.first_face_M1[place + 1])
        corners = snapshot.triangles_F33[rows] + snapshot.geometry.origin_m
        np.testing.assert_allclose(corners, track.mesh_at(1.0).triangles_F33, atol=1e-4)

        points = corners.reshape(-1, 3)
        above = points[:, 2] - snapshot.scene.height.height_at(points[:, :2])
        assert abs(above.min()) < 0.06
    car, walker = snapshot.scene.tracks
    assert car.matrix_at(1.0)[2, 2] < 1.0 and walker.matrix_at(1.0)[2, 2] == 1.0


def test_beams_pixels_and_voxels_meet_the_same_ground(snapshot):
    field, rays = snapshot.scene.height, ray_table(360, 0.0, RIG.lidar.elevations_rad)
    local_T_lidar = snapshot.local_T_ego @ RIG.lidar.ego_T_lidar
    raw = cast_scan(snapshot, local_T_lidar, rays, 0.0, RIG.lidar.elevations_rad, 100.0)
    met = (raw.face_AE < 0) & (raw.range_AE < 100.0)
    ends = (rays[met] * raw.range_AE[met][:, None]) @ local_T_lidar[:3, :3].T + local_T_lidar[:3, 3]
    ends += snapshot.geometry.origin_m
    assert met.sum() > 3000
    np.testing.assert_allclose(ends[:, 2], field.height_at(ends[:, :2]), atol=2e-3)

    camera = RIG.cameras['CAM_FRONT']
    frame = render_camera(snapshot, 1.0, camera, (90, 160), np.random.default_rng(0))
    v, u = np.nonzero((frame.depth_HW > 0) & (frame.track_id_HW < 0) & (frame.depth_HW < 60.0)
                      & (np.arange(90) > 50)[:, None] & (frame.material_HW < 12))
    pixels = np.stack([u, v, np.ones(len(u))], -1) @ np.linalg.inv(camera.intrinsics_for((90, 160))).T
    global_T_cam = snapshot.global_T_ego @ camera.ego_T_cam
    seen = (pixels * frame.depth_HW[v, u][:, None]) @ global_T_cam[:3, :3].T + global_T_cam[:3, 3]
    assert len(seen) > 1000
    np.testing.assert_allclose(seen[:, 2], field.height_at(seen[:, :2]), atol=1e-2)

    # a noiseless beam ends in an occupied voxel
    labels = label_occupancy(snapshot, 1.0, RIG)
    ego_T_global = np.linalg.inv(snapshot.global_T_ego)
    cell = np.floor((ends @ ego_T_global[:3, :3].T + ego_T_global[:3, 3] - [-40, -40, -1]) / 0.4).astype(int)
    cell = cell[np.all((cell >= 0) & (cell < [200, 200, 16]), axis=1)]
    assert len(np.unique(cell[:, 2])) > 2
    assert (labels.semantics[tuple(cell.T)] != FREE).mean() > 0.995
    assert labels.mask_lidar[tuple(cell.T)].mean() > 0.98


def test_nothing_is_labelled_below_the_ground(snapshot):
    """The toy street's walls begin at z = 0, where hills rise above it."""
    semantics = label_occupancy(snapshot, 1.0, RIG).semantics
    cells = np.stack(np.meshgrid(*map(np.arange, semantics.shape), indexing='ij'), axis=-1)
    centres = (cells + 0.5) * 0.4 + [-40.0, -40.0, -1.0]
    points = centres @ snapshot.global_T_ego[:3, :3].T + snapshot.global_T_ego[:3, 3]
    depth = snapshot.scene.height.height_at(points[..., :2]) - points[..., 2]
    assert (depth > 0.5).sum() > 10_000
    assert (semantics[depth > 0.5] == FREE).all() and (semantics[np.abs(depth) < 0.1] != FREE).mean() > 0.9


def test_the_cars_speed_is_that_along_the_slope():
    times = np.arange(0.0, 4.1, 0.5)
    route = SimpleNamespace(curve=SimpleNamespace(
        at=lambda s: (np.column_stack([s, np.zeros_like(s)]), np.zeros_like(s))))
    slope = SimpleNamespace(plane_at=lambda xy, *_: (0.1 * xy[:, 0], np.tile([0.1, 0.0], (len(xy), 1))))
    ego = ego_trajectory(route, SimpleNamespace(times_s=times, s_DT=8.0 * times[None]), slope)
    travelled = np.linalg.norm(np.diff(ego.xyz_T3, axis=0), axis=1) / np.diff(ego.times_s)
    np.testing.assert_allclose(ego.speed_T[:-1], travelled, rtol=1e-6)
    assert ego.speed_T[0] == pytest.approx(8.0 * np.hypot(1.0, 0.1))


def test_flat_relief_is_the_plane():
    height, slope = Relief().plane_at(np.ones((4, 2)), np.zeros(4), (-1.0, 1.0), 0.5)
    assert not height.any() and not slope.any()
