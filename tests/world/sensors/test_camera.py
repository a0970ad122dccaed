from __future__ import annotations

import numpy as np
import pytest

from perception.world.scene.materials import MATERIAL_ID, MATERIALS
from perception.world.sensors.camera import SKY_MATERIAL, render_camera
from tests.world.sensor_scene import GEOMETRY, RIG, SNAPSHOT

SIZE = (225, 400)


@pytest.fixture(scope='module')
def front():
    return render_camera(SNAPSHOT, 1.0, RIG.cameras['CAM_FRONT'], SIZE, np.random.default_rng(0))


def test_car_ahead_is_in_the_middle_and_at_its_distance(front):
    car = front.track_id_HW == 0
    assert car.sum() > 500
    rows, columns = np.nonzero(car)
    K = RIG.cameras['CAM_FRONT'].intrinsics_for(SIZE)
    assert abs(columns.mean() - K[0, 2]) < 2.0
    # tail at 12.7 m, camera 1.7 m before the rear axle; the bottom of the car at camera height 1.51 m
    assert abs(np.percentile(front.depth_HW[car], 10) - 11.0) < 0.15
    assert abs(rows.max() - (K[1, 2] + K[1, 1] * (1.51 / 11.0 - np.tan(np.deg2rad(0.5))))) < 2.0


def test_picture_is_not_mirrored_or_upside_down(front):
    assert (front.material_HW[:40] == SKY_MATERIAL).mean() > 0.9
    road = np.isin(front.material_HW, [MATERIAL_ID['asphalt']])
    assert road[-20:].mean() > 0.7
    building = front.material_HW == MATERIAL_ID['brick_wall']
    assert building.any() and np.nonzero(building)[1].max() < 200, 'the building stands on the left'
    walker = front.track_id_HW == 1
    assert walker.any() and np.nonzero(walker)[1].min() > 210, 'the pedestrian stands on the right'


def test_ground_depth_and_material_equal_the_ray_plane_by_hand(front):
    camera = RIG.cameras['CAM_FRONT']
    K, global_T_cam = camera.intrinsics_for(SIZE), SNAPSHOT.global_T_ego @ camera.ego_T_cam
    v, u = np.mgrid[130:225:5, 0:400:7]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T @ global_T_cam[:3, :3].T
    depth = -global_T_cam[2, 3] / rays[..., 2]
    occupancy = np.array([m.occupancy for m in MATERIALS] + [99] * (256 - len(MATERIALS)))
    ground = (front.track_id_HW[v, u] < 0) & (occupancy[front.material_HW[v, u]] < 15)
    np.testing.assert_allclose(front.depth_HW[v, u][ground], depth[ground], rtol=1e-4)
    points = global_T_cam[:2, 3] + rays[..., :2] * depth[..., None]
    expected = GEOMETRY.scene.ground.material_at(points)
    assert (front.material_HW[v, u] == expected)[ground].mean() > 0.995


def test_drivable_pixels_agree_with_the_drivable_ground(front):
    """Pixels painted as road lie where the ground raster says road, and look unlike the walkway."""
    road, walk = front.material_HW == MATERIAL_ID['asphalt'], front.material_HW == MATERIAL_ID['sidewalk']
    assert road.sum() > 5000 and walk.sum() > 1000
    assert front.image_HW3[walk].mean() - front.image_HW3[road].mean() > 30


def test_same_seed_same_pixels_and_size_follows():
    camera = RIG.cameras['CAM_BACK']
    one = render_camera(GEOMETRY, 1.0, camera, (90, 160), np.random.default_rng(4))
    two = render_camera(SNAPSHOT, 1.0, camera, (90, 160), np.random.default_rng(4))
    np.testing.assert_array_equal(one.image_HW3, two.image_HW3)
    assert one.image_HW3.shape == (90, 160, 3) and one.image_HW3.dtype == np.uint8
