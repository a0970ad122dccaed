from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from perception.world.bodies.make import make_body
from perception.world.scene.materials import MATERIAL_ID
from perception.world.scene.track import Track
from perception.world.sensors.beams import nearest_faces, nearest_faces_reference, ray_table
from perception.world.sensors.lidar import RawScan, beam_gains, return_probability, scan_lidar
from tests.world.sensor_scene import GEOMETRY, RIG, SNAPSHOT, points_in_ego, random_triangles


@pytest.fixture(scope='module')
def scan():
    return scan_lidar(SNAPSHOT, 1.0, RIG, np.random.default_rng(5))


@pytest.mark.parametrize('seed', range(6))
def test_window_walk_equals_every_ray_against_every_face(seed: int):
    triangles = random_triangles(80, 12.0, seed)
    elevations = np.deg2rad(np.linspace(-60.0, 60.0, 25))
    rays = ray_table(90, 0.013, elevations)
    inverse, face = np.zeros((90, 25)), np.full((90, 25), -1, np.int32)
    nearest_faces(
        triangles, np.eye(4), rays, 0.013, elevations[0], elevations[1] - elevations[0], 200.0, inverse, face
    )
    expected_inverse, expected_face = nearest_faces_reference(triangles, np.eye(4), rays)
    assert (expected_face >= 0).sum() > 80
    np.testing.assert_array_equal(face, expected_face)
    np.testing.assert_allclose(inverse, expected_inverse, rtol=1e-6, atol=1e-9)


def test_face_below_the_sensor_is_met_all_around():
    triangle = np.array([[[-40, -30, -2], [40, -30, -2], [0, 50, -2]]], np.float32)
    elevations = np.deg2rad(np.linspace(-60.0, -20.0, 9))
    rays = ray_table(36, 0.0, elevations)
    inverse, face = np.zeros((36, 9)), np.full((36, 9), -1, np.int32)
    nearest_faces(
        triangle, np.eye(4), rays, 0.0, elevations[0], elevations[1] - elevations[0], 200.0, inverse, face
    )
    assert (face == 0).all()
    np.testing.assert_allclose(inverse, np.broadcast_to(np.sin(-elevations) / 2.0, (36, 9)), rtol=1e-6)


def test_points_have_rings_intensities_and_height(scan):
    points = scan.points_P5
    assert points.dtype == np.float32 and 20_000 < len(points) < 32 * 1084
    assert set(np.unique(points[:, 4])) <= set(range(32))
    assert points[:, 3].min() >= 0 and points[:, 3].max() <= 255
    distance = np.linalg.norm(points[:, :3], axis=1)
    elevation = np.rad2deg(np.arcsin(points[:, 2] / distance))
    np.testing.assert_allclose(elevation, -30.67 + points[:, 4] * (41.34 / 31), atol=1e-2)


def test_sensor_frame_is_x_right_y_forward(scan):
    car = scan.points_P5[scan.track_id_P == 0]
    assert len(car) > 50
    # the car's tail is 15 - 2.3 m before the ego origin, the LiDAR 0.96 m before it
    assert abs(np.median(car[:, 1]) - (15.0 - 2.3 - 0.96)) < 1.0
    assert abs(car[:, 0]).max() < 0.95 + 0.05
    walker = scan.points_P5[scan.track_id_P == 1]
    assert len(walker) > 3 and walker[:, 0].min() > 6.0


def test_ground_points_lie_on_the_ground_and_paint_is_bright(scan):
    ego = points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar)
    ground = (scan.track_id_P < 0) & (scan.material_P != MATERIAL_ID['brick_wall'])
    assert np.abs(ego[ground, 2]).max() < 0.03
    paint = np.isin(scan.material_P, [MATERIAL_ID['paint_white'], MATERIAL_ID['paint_yellow']])
    road = scan.material_P == MATERIAL_ID['asphalt']
    assert paint.sum() > 50
    assert np.median(scan.points_P5[paint, 3]) > 2 * np.median(scan.points_P5[road, 3])


def test_every_beam_has_its_own_brightness_on_the_same_asphalt(scan):
    road = scan.points_P5[scan.material_P == MATERIAL_ID['asphalt']]
    # at 4 to 5 m, all by the same incidence
    reading = {ring: np.mean(road[road[:, 4] == ring, 3]) for ring in range(2, 8)}
    gains = beam_gains(32)
    ratios = np.array([reading[ring] / gains[ring] for ring in reading])
    assert ratios.max() / ratios.min() < 1.35 and max(reading.values()) > 1.4 * min(reading.values())
    np.testing.assert_array_equal(gains, beam_gains(32))


@pytest.mark.parametrize(
    'material, kept', [('car_white', 0.55), ('vehicle_window', 0.15), ('brick_wall', 1.0)]
)
def test_gloss_and_glass_lose_their_share_of_beams_at_any_distance(material: str, kept: float):
    face, paint = np.zeros((4, 32), np.int32), np.full((4, 32), MATERIAL_ID[material], np.uint8)
    cosine = np.ones_like(face, np.float32)
    near, far = (RawScan(np.full_like(face, range_m, np.float32), face, paint, cosine) for range_m in (5, 20))
    chance = [return_probability(raw, 100.0, rain_rate=0.0, wetness=0.0) for raw in (near, far)]
    np.testing.assert_allclose(chance, kept * 0.988, rtol=2e-3)


def test_car_points_lie_on_its_surface_and_inside_its_box(scan):
    track = GEOMETRY.scene.tracks[0]
    ego = points_in_ego(scan.points_P5[scan.track_id_P == 0], RIG.lidar.ego_T_lidar)
    world = np.c_[ego, np.ones(len(ego))] @ SNAPSHOT.global_T_ego.T
    local = (world @ np.linalg.inv(track.matrix_at(1.0)).T)[:, :3]
    assert (np.abs(local) < track.size_lwh_m / 2 + 0.05).all()
    normals = track.mesh.normals_F3
    corners = track.mesh.triangles_F33.astype(float)
    distance = np.abs(np.einsum('pfk,fk->pf', local[:, None] - corners[None, :, 0], normals)).min(axis=1)
    assert np.percentile(distance, 99) < 0.05


def test_same_seed_same_scan_and_rain_loses_points(scan):
    again = scan_lidar(GEOMETRY, 1.0, RIG, np.random.default_rng(5))
    np.testing.assert_array_equal(scan.points_P5, again.points_P5)
    np.testing.assert_array_equal(scan.track_id_P, again.track_id_P)


def scan_of_parked_car(seed: int, distance_m: float, yaw_rad: float) -> np.ndarray:
    """(P, 4) points of one car 1.6 m high beside the way: ego x, y, z relative to its centre, intensity."""
    size = np.array([4.6, 1.9, 1.6])
    times = GEOMETRY.scene.tracks[0].times_s
    here = SNAPSHOT.global_T_ego[:3, 3] + [distance_m, -2.5, 0.8]
    body = make_body('vehicle.car', size, np.random.default_rng(seed))
    car = Track(0, 'vehicle.car', size, times, np.tile(here, (len(times), 1)),
                np.full(len(times), yaw_rad), [''] * len(times), body)

    scene = dataclasses.replace(GEOMETRY.scene, tracks=(car,))
    made = scan_lidar(scene, 1.0, RIG, np.random.default_rng(seed))
    points = made.points_P5[made.track_id_P == 0]
    return np.c_[points_in_ego(points, RIG.lidar.ego_T_lidar) - [distance_m, -2.5, 0.8], points[:, 3]]


@pytest.mark.parametrize('distance_m', [10.0, 15.0, 20.0])
def test_a_parked_cars_rear_and_front_differ_in_intensity_and_height(distance_m: float):
    # which half is turned to the sensor: that of the tail, of the nose
    tails, noses = ([scan_of_parked_car(seed, distance_m, yaw) for seed in range(6)] for yaw in (0.0, np.pi))
    bright = [np.mean([(points[:, 3] > 100).sum() for points in cars]) for cars in (tails, noses)]
    assert bright[0] > 5 and bright[1] < 2

    # the nose is low, the tail carries the cabin or the boot
    height = [np.mean([points[points[:, 0] < -1.4, 2].max() for points in cars]) for cars in (tails, noses)]
    assert height[0] > height[1] + 0.15
