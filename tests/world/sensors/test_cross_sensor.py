"""What one sensor sees is where another sees it: the numbers of the world's consistency."""
from __future__ import annotations

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
from perception.world.labels.occupancy import FREE, label_occupancy
from perception.world.sensors.camera import render_camera
from perception.world.sensors.lidar import scan_lidar
from tests.world.sensor_scene import RIG, SNAPSHOT, points_in_ego

SIZE = (450, 800)


@pytest.fixture(scope='module')
def scan():
    return scan_lidar(SNAPSHOT, 1.0, RIG, np.random.default_rng(1))


def project(points_ego: np.ndarray, camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(inside, row, column, depth) of ego points in `camera` drawn at SIZE."""
    cam = (points_ego - camera.ego_T_cam[:3, 3]) @ camera.ego_T_cam[:3, :3]
    K = camera.intrinsics_for(SIZE)
    with np.errstate(divide='ignore', invalid='ignore'):
        pixel = cam[:, :2] / cam[:, 2:] * [K[0, 0], K[1, 1]] + [K[0, 2], K[1, 2]]
    inside = (cam[:, 2] > 0.5) & np.all((pixel > 0) & (pixel < [SIZE[1] - 1, SIZE[0] - 1]), axis=1)
    return inside, np.round(np.where(inside[:, None], pixel, 0)).astype(int), cam[:, 2]


def test_points_fall_on_pixels_of_the_same_movable(scan):
    """More than 99 % of points with nothing nearer in their pixel carry the pixel's object (a pixel of slack
    at edges)."""
    ego = points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar)
    agree, objects = [], 0
    for camera in RIG.cameras.values():
        frame = render_camera(SNAPSHOT, 1.0, camera, SIZE, np.random.default_rng(0))
        inside, pixel, depth = project(ego, camera)
        u, v, track = pixel[inside, 0], pixel[inside, 1], scan.track_id_P[inside]
        unoccluded = (frame.depth_HW[v, u] == 0) | (frame.depth_HW[v, u] > depth[inside] - 0.3)
        near = np.zeros(len(u), bool)
        for dv in (-1, 0, 1):
            for du in (-1, 0, 1):
                near |= (
                    frame.track_id_HW[(v + dv).clip(0, SIZE[0] - 1), (u + du).clip(0, SIZE[1] - 1)] == track
                )
        agree.append(near[unoccluded])
        objects += int((track[unoccluded] >= 0).sum())
        on_object = unoccluded & (track >= 0)
        if on_object.sum() > 20:
            assert near[on_object].mean() > 0.99
    assert np.concatenate(agree).mean() > 0.99 and objects > 50


def test_pixel_depth_equals_point_depth(scan):
    ego = points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar)
    camera = RIG.cameras['CAM_FRONT']
    frame = render_camera(SNAPSHOT, 1.0, camera, SIZE, np.random.default_rng(0))
    inside, pixel, depth = project(ego, camera)
    car = inside & (scan.track_id_P == 0)
    difference = np.abs(frame.depth_HW[pixel[car, 1], pixel[car, 0]] - depth[car])
    assert np.percentile(difference, 90) < 0.1


def test_occupancy_agrees_with_the_points(scan):
    labels = label_occupancy(SNAPSHOT, 1.0, RIG)
    ego = points_in_ego(scan.points_P5, RIG.lidar.ego_T_lidar)
    cell = np.floor((ego - LOW_M) / VOXEL_M).astype(int)
    inside = np.all((cell >= 0) & (cell < SHAPE_XYZ), axis=1)
    at_points = labels.semantics[tuple(cell[inside].T)]
    assert (at_points != FREE).mean() > 0.98
    assert labels.mask_lidar[tuple(cell[inside].T)].mean() > 0.98
    # the cabin's back stands 2 cm from a voxel's side, so range noise (1.2 cm) carries a few points over it
    assert (at_points[scan.track_id_P[inside] == 0] == 4).mean() > 0.95
