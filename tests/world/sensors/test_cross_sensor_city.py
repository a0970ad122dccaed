"""The same numbers of agreement as on the toy scene, on a full city scene with traffic."""
from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from perception.core.protocols import (
    OCCUPANCY_LOW_M as LOW_M,
)
from perception.core.protocols import (
    OCCUPANCY_SHAPE_XYZ as SHAPE_XYZ,
)
from perception.core.protocols import (
    OCCUPANCY_VOXEL_M as VOXEL_M,
)
from perception.world.city.city import make_city
from perception.world.labels.occupancy import FREE, label_occupancy, occupancy_class
from perception.world.sensors.camera import render_camera
from perception.world.sensors.lidar import scan_lidar
from perception.world.sensors.radar import scan_radar
from perception.world.sensors.triangles import SceneGeometry
from perception.world.traffic.make_scene import make_world_scene
from perception.world.traffic.surroundings import SceneParameters
from tests.world.sensor_scene import RIG, points_in_ego

T_S, SIZE = 3.0, (450, 800)


@pytest.fixture(scope='module')
def city():
    return make_city('singapore-onenorth', 0)


@pytest.fixture(scope='module')
def snapshot(city):
    scene = make_world_scene(city, 1, 0, SceneParameters(weather='day'))
    return SceneGeometry.of(scene).at(T_S)


@pytest.fixture(scope='module')
def scan(snapshot):
    return scan_lidar(snapshot, T_S, RIG, np.random.default_rng(0))


def in_object_frame(points_global: np.ndarray, track) -> np.ndarray:
    object_T_global = np.linalg.inv(track.matrix_at(T_S))
    return points_global @ object_T_global[:3, :3].T + object_T_global[:3, 3]


def to_global(points_ego: np.ndarray, snapshot) -> np.ndarray:
    return points_ego @ snapshot.global_T_ego[:3, :3].T + snapshot.global_T_ego[:3, 3]


def test_snapshot_has_the_poses_and_velocities_of_the_tracks(snapshot):
    geometry, tracks = snapshot.geometry, snapshot.scene.tracks
    velocities = geometry.velocities_at(T_S)
    assert len(tracks) > 20
    for track, pose, velocity in zip(tracks, snapshot.poses_M6, velocities, strict=True):
        xyz, yaw = track.pose_at(T_S)
        np.testing.assert_allclose(pose[:3] + geometry.origin_m, xyz, atol=1e-6)
        assert abs(np.angle(np.exp(1j * (pose[3] - yaw)))) < 1e-9
        np.testing.assert_allclose(velocity, track.velocity_at(T_S), atol=1e-6)


def test_points_of_objects_lie_on_their_surface_inside_their_box(snapshot, scan):
    world = to_global(points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar), snapshot)
    distances, hit = [], np.unique(scan.track_id_P[scan.track_id_P >= 0])
    assert len(hit) > 5
    for index in hit:
        track = snapshot.scene.tracks[index]
        local = in_object_frame(world[scan.track_id_P == index], track)
        assert (np.abs(local) < track.size_lwh_m / 2 + 0.05).all()
        corners = track.mesh.triangles_F33.astype(float)
        planes = np.abs(np.einsum('pfk,fk->pf', local[:, None] - corners[None, :, 0], track.mesh.normals_F3))
        distances.append(planes.min(axis=1))
    assert np.percentile(np.concatenate(distances), 99.5) < 0.05


def test_points_fall_on_pixels_of_the_same_movable(snapshot, scan):
    ego = points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar)
    agree_objects, agree_all = [], []
    for camera in RIG.cameras.values():
        frame = render_camera(snapshot, T_S, camera, SIZE, np.random.default_rng(0))
        cam = (ego - camera.ego_T_cam[:3, 3]) @ camera.ego_T_cam[:3, :3]
        K = camera.intrinsics_for(SIZE)
        ahead = cam[:, 2] > 0.5
        pixel = cam[ahead, :2] / cam[ahead, 2:] * [K[0, 0], K[1, 1]] + [K[0, 2], K[1, 2]]
        inside = np.all((pixel > 1) & (pixel < [SIZE[1] - 2, SIZE[0] - 2]), axis=1)
        u, v = np.round(pixel[inside]).astype(int).T
        track, depth = scan.track_id_P[ahead][inside], cam[ahead, 2][inside]
        unoccluded = (frame.depth_HW[v, u] == 0) | (frame.depth_HW[v, u] > depth - 0.3)
        same = np.any(
            [frame.track_id_HW[v + dv, u + du] == track for dv in (-1, 0, 1) for du in (-1, 0, 1)], axis=0
        )
        agree_all.append(same[unoccluded])
        agree_objects.append(same[unoccluded & (track >= 0)])
    assert np.concatenate(agree_all).mean() > 0.99
    assert len(np.concatenate(agree_objects)) > 200 and np.concatenate(agree_objects).mean() > 0.99


def test_occupancy_agrees_with_points_and_boxes(snapshot, scan):
    labels = label_occupancy(snapshot, T_S, RIG)
    ego = points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar)
    cell = np.floor((ego - LOW_M) / VOXEL_M).astype(int)
    inside = np.all((cell >= 0) & (cell < SHAPE_XYZ), axis=1)
    cell, track = tuple(cell[inside].T), scan.track_id_P[inside]
    assert (labels.semantics[cell] != FREE).mean() > 0.99
    assert labels.mask_lidar[cell].mean() > 0.98
    objects = track >= 0
    expected = np.array([occupancy_class(snapshot.scene.tracks[index].category) for index in track[objects]])
    assert (labels.semantics[cell][objects] == expected).mean() > 0.97
    cars = np.argwhere(labels.semantics == 4)
    centres = to_global(np.array(LOW_M) + (cars + 0.5) * VOXEL_M, snapshot)
    covered = np.zeros(len(cars), bool)
    for track in snapshot.scene.tracks:
        if track.category == 'vehicle.car':
            covered |= np.all(np.abs(in_object_frame(centres, track)) < track.size_lwh_m / 2 + 0.5, axis=1)
    assert len(cars) > 50 and covered.all()


def test_radar_targets_lie_on_objects_and_measure_their_radial_speed(snapshot):
    on_object, speed_error = [], []
    for radar, seed in product(RIG.radars.values(), range(6)):
        scan = scan_radar(snapshot, T_S, radar, np.random.default_rng(seed))
        rows = np.flatnonzero(scan.track_id_P >= 0)
        global_T_radar = snapshot.global_T_ego @ radar.ego_T_radar
        world = scan.points_P3 @ global_T_radar[:3, :3].T + global_T_radar[:3, 3]
        for row in rows:
            track, target = snapshot.scene.tracks[scan.track_id_P[row]], scan.targets_P[row]
            local = in_object_frame(world[row], track)[:2]
            on_object.append(np.all(np.abs(local) < track.size_lwh_m[:2] / 2 + 0.4))
            vx, vy, yaw_rate = track.velocity_at(T_S)
            arm = world[row, :2] - track.pose_at(T_S)[0][:2]
            sight = world[row, :2] - global_T_radar[:2, 3]
            radial = np.dot([vx - yaw_rate * arm[1], vy + yaw_rate * arm[0]], sight) / np.linalg.norm(sight)
            measured = np.dot([target['vx_comp'], target['vy_comp']], [target['x'], target['y']])
            speed_error.append(measured / np.hypot(target['x'], target['y']) - radial)
    assert len(on_object) > 30 and np.mean(on_object) > 0.97
    assert np.percentile(np.abs(speed_error), 98) < 0.3


def test_drivable_pixels_agree_with_the_drivable_map(city, snapshot):
    """Road pixels, put back on the ground, lie on the map's drivable area, and the other way round."""
    from shapely import contains_xy
    from shapely.ops import unary_union

    from perception.world.scene.materials import MATERIALS

    area = unary_union(list(city.map.drivable))
    is_road = np.array(
        [material.occupancy == 11 for material in MATERIALS] + [False] * (256 - len(MATERIALS))
    )
    is_ground = np.array(
        [11 <= material.occupancy <= 14 for material in MATERIALS] + [False] * (256 - len(MATERIALS))
    )
    agree = []
    for camera in RIG.cameras.values():
        frame = render_camera(snapshot, T_S, camera, (112, 200), np.random.default_rng(0))
        global_T_cam = snapshot.global_T_ego @ camera.ego_T_cam
        v, u = np.nonzero(is_ground[frame.material_HW] & (frame.depth_HW < 40.0) & (frame.track_id_HW < 0))
        rays = np.stack([u, v, np.ones(len(u))], -1) @ np.linalg.inv(camera.intrinsics_for((112, 200))).T
        world = (rays * frame.depth_HW[v, u][:, None]) @ global_T_cam[:3, :3].T + global_T_cam[:3, 3]
        flat = np.abs(world[:, 2] - snapshot.scene.height.height_at(world[:, :2])) < 0.02
        inside = contains_xy(area, world[flat, 0], world[flat, 1])
        agree.append(inside == is_road[frame.material_HW[v, u]][flat])
    assert np.concatenate(agree).mean() > 0.97
