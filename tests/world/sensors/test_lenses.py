"""Pictures through lenses that are no pinholes: every pixel shows what its own ray meets."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception.core.lens import Distortion
from perception.core.lens.projection import image_rays, lens_project
from perception.core.lens.views import views_of
from perception.core.rig.sensors import CameraSensor, SensorRig
from perception.world.labels.occupancy import label_occupancy
from perception.world.scene.materials import MATERIALS
from perception.world.sensors.camera import SKY_MATERIAL, render_camera
from perception.world.sensors.lidar import scan_lidar
from tests.world.sensor_scene import GEOMETRY, RIG, SNAPSHOT, points_in_ego

SIZE = (150, 200)
FISHEYE = Distortion('kannala_brandt', (0.02, -0.004, 0.0, 0.0))
BROWN = Distortion('brown_conrady', (-0.25, 0.06, 1e-3, -2e-3))


def camera_with(lens: Distortion | None, focal_px: float) -> CameraSensor:
    """The front camera with another lens, SIZE at its native size."""
    K = np.array([[focal_px, 0, 99.5], [0, focal_px, 74.5], [0, 0, 1]])
    return replace(RIG.cameras['CAM_FRONT'], size_hw=SIZE, K_33=K, distortion=lens)


CAMERAS = {'fisheye': camera_with(FISHEYE, 62.0), 'brown': camera_with(BROWN, 130.0)}


@pytest.fixture(scope='module')
def frames() -> dict:
    return {
        name: render_camera(SNAPSHOT, 1.0, camera, SIZE, np.random.default_rng(0))
        for name, camera in CAMERAS.items()}


def test_views_hold_every_pixel_once_and_where_its_ray_goes() -> None:
    for lens, focal_px, count in ((FISHEYE, 62.0, 5), (BROWN, 130.0, 1)):
        camera = camera_with(lens, focal_px)
        views = views_of(camera.K_33, SIZE, lens)
        filled = np.sort(np.concatenate([view.pixel_P for view in views]))
        assert len(views) == count and views is views_of(camera.K_33, SIZE, lens)
        np.testing.assert_array_equal(filled, np.arange(SIZE[0] * SIZE[1]))

        for view in views:
            rays = np.c_[view.place_P2, np.ones(len(view.pixel_P))] @ np.linalg.inv(view.K_33).T
            pixels, _ = lens_project(camera.K_33, rays @ view.cam_R_view.T, lens)
            np.testing.assert_allclose(pixels, np.c_[view.pixel_P % 200, view.pixel_P // 200], atol=1e-6)
            assert view.weight_HW.sum() == len(view.pixel_P)

            # a picture of places is read at the places
            v, u = np.mgrid[:view.size_hw[0], :view.size_hw[1]].astype(float)
            np.testing.assert_allclose(view.resample(np.stack([u, v], -1)), view.place_P2, atol=1e-9)


def test_pixels_without_a_ray_are_black() -> None:
    lens = Distortion('kannala_brandt', (-0.15, 0, 0, 0))  # sees 85 degrees to each side
    frame = render_camera(SNAPSHOT, 1.0, camera_with(lens, 45.0), SIZE, np.random.default_rng(0))
    corner = frame.image_HW3[:20, :20]
    assert corner.max() < 12 and (frame.material_HW[:20, :20] == SKY_MATERIAL).all()
    assert frame.image_HW3[65:85, 90:110].mean() > 40


@pytest.mark.parametrize('name', CAMERAS)
def test_ground_pixels_show_the_ground_that_their_rays_meet(frames, name: str) -> None:
    camera, frame = CAMERAS[name], frames[name]
    global_T_cam = SNAPSHOT.global_T_ego @ camera.ego_T_cam
    rays = image_rays(camera.K_33, SIZE, camera.distortion) @ global_T_cam[:3, :3].T
    depth = -global_T_cam[2, 3] / np.minimum(rays[..., 2], -1e-6)

    occupancy = np.array([m.occupancy for m in MATERIALS] + [99] * (256 - len(MATERIALS)))
    ground = (frame.track_id_HW < 0) & (occupancy[frame.material_HW] < 15) & (depth < 12)
    assert ground.sum() > 2000
    # depth is that of the nearest pixel of the view
    assert np.median(np.abs(frame.depth_HW[ground] / depth[ground] - 1)) < 5e-3
    points = global_T_cam[:2, 3] + rays[..., :2] * depth[..., None]
    expected = GEOMETRY.scene.ground.material_at(points[ground])
    assert (frame.material_HW[ground] == expected).mean() > 0.95


@pytest.mark.parametrize('name', CAMERAS)
def test_points_of_the_lidar_fall_on_pixels_of_the_same_object(frames, name: str) -> None:
    scan = scan_lidar(SNAPSHOT, 1.0, RIG, np.random.default_rng(1))
    camera, frame = CAMERAS[name], frames[name]
    ego = points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar)
    points = (ego - camera.ego_T_cam[:3, 3]) @ camera.ego_T_cam[:3, :3]
    pixels, depth = lens_project(camera.K_33, points, camera.distortion)
    inside = (depth > 0.5) & ((pixels > 0) & (pixels < [199, 149])).all(1)
    u, v = np.round(pixels[inside]).astype(int).T
    track, depth = scan.track_id_P[inside], depth[inside]

    car = (track == 0) & (frame.track_id_HW[v, u] == 0)
    assert car.sum() > 20 and np.percentile(np.abs(frame.depth_HW[v, u][car] - depth[car]), 90) < 0.15
    open_view = (frame.depth_HW[v, u] == 0) | (frame.depth_HW[v, u] > depth - 0.5)
    around = np.stack([frame.track_id_HW[(v + dv).clip(0, 149), (u + du).clip(0, 199)]
                       for dv in (-1, 0, 1) for du in (-1, 0, 1)])
    objects = open_view & (track >= 0)
    assert objects.sum() > 20 and (around == track).any(0)[objects].mean() > 0.97


def test_shown_and_alone_are_counted_in_the_same_pixels(frames) -> None:
    for frame in frames.values():
        shown = np.bincount(frame.track_id_HW.ravel() + 1, minlength=len(frame.alone_px_M) + 1)[1:]
        assert (shown <= frame.alone_px_M).all() and shown[0] > 0.97 * frame.alone_px_M[0] > 80


def test_a_lens_that_hardly_bends_draws_what_a_pinhole_draws() -> None:
    images = [
        render_camera(SNAPSHOT, 1.0, camera_with(lens, 90.0), SIZE, np.random.default_rng(0))
        for lens in (None, Distortion('brown_conrady', (1e-9, 0, 0, 0)))]
    straight, bent = images
    assert (straight.track_id_HW == bent.track_id_HW).mean() > 0.99
    assert (straight.material_HW == bent.material_HW).mean() > 0.98
    assert np.abs(straight.image_HW3.astype(int) - bent.image_HW3).mean() < 2


def test_a_fisheye_observes_voxels_beside_the_car() -> None:
    masks = []
    for camera in (camera_with(None, 62.0), CAMERAS['fisheye']):
        labels = label_occupancy(SNAPSHOT, 1.0, SensorRig({'CAM_FRONT': camera}, RIG.lidars, {}))
        masks.append(labels.mask_camera)
    pinhole, fisheye = masks
    left = (slice(102, 110), slice(125, 150), slice(5, 12))  # 0.8 to 4 m ahead, 10 to 20 m to the left
    assert fisheye[left].mean() > 0.5 > pinhole[left].mean()
    assert fisheye.sum() > 1.3 * pinhole.sum()
