from __future__ import annotations

import numpy as np
import pytest

from perception.world.sensors.rasterise import rasterise_faces, rasterise_faces_reference, stamp_faces
from tests.world.sensor_scene import random_triangles

K = np.array([[40.0, 0.0, 31.0], [0.0, 42.0, 23.0], [0.0, 0.0, 1.0]])
SIZE = (48, 64)


def draw(triangles: np.ndarray, cam_T_local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse, face = np.zeros(SIZE, np.float32), np.full(SIZE, -1, np.int32)
    rasterise_faces(triangles, cam_T_local, K[0, 0], K[1, 1], K[0, 2], K[1, 2], inverse, face)
    return inverse, face


def square(depth_m: float, half_m: float) -> np.ndarray:
    """Two faces that look at the camera, filling [-half, half]^2 at `depth_m`."""
    a, b, c, d = ([x * half_m, y * half_m, depth_m] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
    return np.array([[a, c, b], [a, d, c]], np.float32)


def test_square_covers_the_pixels_one_can_count():
    inverse, face = draw(np.ascontiguousarray(square(4.0, 0.99)), np.eye(4))
    covered = face >= 0
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    # fx * 0.99 / 4 = 9.9 pixels and fy * 0.99 / 4 = 10.4 pixels to each side of the principal point
    assert (columns[0], columns[-1]) == (22, 40)
    assert (rows[0], rows[-1]) == (13, 33)
    assert covered.sum() == 19 * 21
    np.testing.assert_allclose(1.0 / inverse[covered], 4.0, rtol=1e-6)


def test_seen_from_behind_is_culled():
    _, face = draw(np.ascontiguousarray(square(4.0, 0.99)[:, ::-1]), np.eye(4))
    assert (face == -1).all()


@pytest.mark.parametrize('seed', range(6))
def test_equals_ray_by_ray_reference(seed: int):
    triangles = random_triangles(60, 8.0, seed)
    depth, owner = rasterise_faces_reference(triangles, np.eye(4), K, SIZE)
    inverse, face = draw(triangles, np.eye(4))
    same = face == owner
    assert same.mean() > 0.998
    both = same & (face >= 0)
    assert both.sum() > 300
    np.testing.assert_allclose(1.0 / inverse[both], depth[both], rtol=2e-5)


def test_face_reaching_behind_the_camera_is_clipped_not_lost():
    floor = np.array(
        [
            [[-50, 1.5, -50], [50, 1.5, 100], [-50, 1.5, 100]],
            [[-50, 1.5, -50], [50, 1.5, -50], [50, 1.5, 100]]],
        np.float32,
    )[:, ::-1]
    floor = np.ascontiguousarray(floor)
    if (draw(floor, np.eye(4))[1] < 0).all():
        floor = np.ascontiguousarray(floor[:, ::-1])
    inverse, face = draw(floor, np.eye(4))
    assert (face[25:] >= 0).all() and (face[:23] == -1).all()
    rows = np.arange(26, 48)
    np.testing.assert_allclose(1.0 / inverse[26:, 30], 1.5 * K[1, 1] / (rows - K[1, 2]), rtol=1e-5)


def test_shared_edges_leave_no_hole():
    rng = np.random.default_rng(3)
    heights = rng.uniform(4.0, 6.0, (9, 9))
    grid = [[(x - 4.0, y - 4.0, heights[y, x]) for x in range(9)] for y in range(9)]
    faces = [
        tri
        for y in range(8)
        for x in range(8)
        for tri in (
            (grid[y][x], grid[y + 1][x], grid[y + 1][x + 1]),
            (grid[y][x], grid[y + 1][x + 1], grid[y][x + 1]))
    ]
    triangles = np.array(faces, np.float32)
    triangles = np.concatenate([triangles, triangles[:, ::-1]])
    _, face = draw(triangles, np.eye(4))
    assert (face[8:40, 12:52] >= 0).all()


def test_stamp_counts_each_owner_as_if_alone():
    near, far = square(2.0, 0.2), square(4.0, 0.99)
    triangles = np.ascontiguousarray(np.concatenate([near, far]))
    count, stamp = np.zeros(2, np.int64), np.full(SIZE, -1, np.int32)
    weight = np.ones(SIZE, np.int64)
    camera = (np.eye(4), K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    stamp_faces(triangles, np.array([0, 0, 1, 1]), *camera, weight, stamp, count)
    _, alone = draw(np.ascontiguousarray(near), np.eye(4))
    assert count[0] == (alone >= 0).sum() > 0
    assert count[1] == 19 * 21

    stamp[:] = -1
    stamp_faces(triangles, np.array([0, 0, 1, 1]), *camera, 3 * weight, stamp, count)
    assert count[1] == 4 * 19 * 21
