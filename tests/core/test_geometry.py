"""Geometry by numbers one can check in the head, by round trips, and by agreement of numpy and torch."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from perception.core.contracts import CENTRE, SIZE, VELOCITY, YAW
from perception.core.geometry import (
    box_corners,
    invert,
    make_transform,
    points_in_boxes,
    project,
    quaternion_to_matrix,
    rotation_z,
    transform_boxes,
    transform_from_record,
    transform_points,
    unproject,
    wrap_yaw,
    yaw_of,
)

HALF_TURN, QUARTER_TURN = math.pi, math.pi / 2
K = np.array([[100.0, 0, 50], [0, 200, 30], [0, 0, 1]])
CAR = np.array([[10.0, 2, 1, 4, 2, 1.5, 0, 3, 0]])


def random_pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return make_transform(quaternion_to_matrix(rng.normal(size=4)), rng.uniform(-10, 10, 3))


def random_boxes(seed: int, count: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-20, 20, (count, 3)), rng.uniform(0.5, 6, (count, 3)),
                           rng.uniform(-HALF_TURN, HALF_TURN, (count, 1)), rng.normal(size=(count, 2))], 1)


@pytest.mark.parametrize(
    ('wxyz', 'axis', 'image'),
    [
        ((1, 0, 0, 0), (1, 2, 3), (1, 2, 3)), ((0, 0, 0, 1), (1, 2, 3), (-1, -2, 3)),
        ((0, 1, 0, 0), (1, 2, 3), (1, -2, -3)), ((1, 0, 0, 1), (1, 0, 0), (0, 1, 0)),
        ((1, 1, 0, 0), (0, 1, 0), (0, 0, 1)), ((1, 0, 1, 0), (0, 0, 1), (1, 0, 0))],
)
def test_quaternion_values(wxyz: tuple, axis: tuple, image: tuple) -> None:
    np.testing.assert_allclose(quaternion_to_matrix(wxyz) @ axis, image, atol=1e-12)


@pytest.mark.parametrize('seed', range(5))
def test_quaternion_makes_a_rotation_of_any_length(seed: int) -> None:
    q = np.random.default_rng(seed).normal(size=4)
    rotation = quaternion_to_matrix(q)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(quaternion_to_matrix(-3.7 * q), rotation, atol=1e-12)


def test_quaternion_equals_the_devkits() -> None:
    quaternion = pytest.importorskip('pyquaternion')
    for seed in range(5):
        q = np.random.default_rng(seed).normal(size=4)
        np.testing.assert_allclose(
            quaternion_to_matrix(q), quaternion.Quaternion(q).rotation_matrix, atol=1e-12
        )


@pytest.mark.parametrize(
    'bad', [(0, 0, 0, 0), (1, 0, 0), (np.nan, 0, 0, 1), (np.inf, 0, 0, 1), (1, 0, 0, 0, 0)]
)
def test_bad_quaternions(bad: tuple) -> None:
    with pytest.raises(ValueError, match='a rotation needs four finite numbers'):
        quaternion_to_matrix(bad)


def test_transform_of_a_record() -> None:
    ego_T_sensor = transform_from_record({'rotation': [0, 0, 0, 1], 'translation': [1, 2, 3]})
    np.testing.assert_allclose(
        transform_points(ego_T_sensor, np.array([[1.0, 0, 0]])), [[0, 2, 3]], atol=1e-12
    )


def test_rotation_z_is_counter_clockwise() -> None:
    np.testing.assert_allclose(
        transform_points(rotation_z(QUARTER_TURN), np.array([[1.0, 0, 5]])), [[0, 1, 5]], atol=1e-12
    )


@pytest.mark.parametrize('seed', range(4))
def test_there_and_back(seed: int) -> None:
    a_T_b, points = random_pose(seed), np.random.default_rng(seed).normal(size=(20, 3))
    np.testing.assert_allclose(
        transform_points(invert(a_T_b), transform_points(a_T_b, points)), points, atol=1e-12
    )


def test_inner_names_meet() -> None:
    a_T_b, b_T_c, points = random_pose(0), random_pose(1), np.random.default_rng(2).normal(size=(7, 3))
    np.testing.assert_allclose(
        transform_points(a_T_b @ b_T_c, points), transform_points(a_T_b, transform_points(b_T_c, points)),
        atol=1e-12)


def test_invert_of_a_mirrored_and_scaled_transform() -> None:
    a_T_b = make_transform(np.diag([-2.0, 2, 2]), np.array([1.0, 2, 3])) @ rotation_z(0.4)
    np.testing.assert_allclose(invert(a_T_b) @ a_T_b, np.eye(4), atol=1e-12)


def test_batched_and_in_torch() -> None:
    a_T_b = np.stack([random_pose(s) for s in range(3)])
    points = np.random.default_rng(0).normal(size=(3, 5, 3))
    one_by_one = np.stack([transform_points(t, p) for t, p in zip(a_T_b, points, strict=True)])
    np.testing.assert_allclose(transform_points(a_T_b, points), one_by_one, atol=1e-12)
    in_torch = transform_points(torch.from_numpy(a_T_b), torch.from_numpy(points))
    np.testing.assert_allclose(in_torch.numpy(), one_by_one, atol=1e-12)
    np.testing.assert_allclose(invert(torch.from_numpy(a_T_b)).numpy(), invert(a_T_b), atol=1e-12)


@pytest.mark.parametrize(
    ('point', 'pixel'),
    [((0, 0, 5), (50, 30)), ((1, 0, 2), (100, 30)), ((0, 1, 4), (50, 80)), ((-1, -1, 10), (40, 10))])
def test_projection_values(point: tuple, pixel: tuple) -> None:
    pixels, depth_m = project(K, np.array([point], dtype=float))
    np.testing.assert_allclose(pixels[0], pixel)
    assert depth_m[0] == point[2]


def test_projection_round_trip_even_with_a_rotated_mirrored_image() -> None:
    image_change = np.array([[-0.5, 0.1, 80], [0.1, 0.5, -3], [0, 0, 1]])
    points = np.random.default_rng(0).uniform([-5, -5, 0.5], [5, 5, 40], (50, 3))
    for matrix in (K, image_change @ K):
        np.testing.assert_allclose(unproject(matrix, *project(matrix, points)), points, atol=1e-9)
        pixels, depth = project(torch.from_numpy(matrix), torch.from_numpy(points))
        np.testing.assert_allclose(
            unproject(torch.from_numpy(matrix), pixels, depth).numpy(), points, atol=1e-9
        )


def test_an_image_change_can_be_in_K_or_after_it() -> None:
    image_change = np.array([[0.5, 0.1, 8], [-0.1, 0.5, -3], [0, 0, 1]])
    points = np.random.default_rng(0).uniform([-5, -5, 1], [5, 5, 40], (50, 3))
    after = project(K, points)[0] @ image_change[:2, :2].T + image_change[:2, 2]
    np.testing.assert_allclose(project(image_change @ K, points)[0], after, atol=1e-9)


@pytest.mark.parametrize('make', [np.asarray, torch.as_tensor])
def test_projection_at_and_behind_the_camera_is_finite_and_marked_by_depth(make) -> None:
    pixels, depth_m = project(make(K), make(np.array([[1.0, 1, 0], [1, 1, -2], [0, 0, 1e-9]])))
    assert bool((abs(pixels) < np.inf).all()) and depth_m.tolist() == [0, -2, 1e-9]


def test_projection_has_gradients() -> None:
    points = torch.tensor([[1.0, 2, 3], [0.5, 0, 0]], requires_grad=True)
    project(torch.from_numpy(K).float(), points)[0].sum().backward()
    assert torch.isfinite(points.grad).all() and points.grad[0].abs().sum() > 0


@pytest.mark.parametrize(
    ('angle', 'wrapped'),
    [
        (0, 0), (3 * HALF_TURN, -HALF_TURN), (HALF_TURN, -HALF_TURN), (-HALF_TURN, -HALF_TURN),
        (4, 4 - 2 * HALF_TURN), (-4, 2 * HALF_TURN - 4)],
)
def test_wrap_yaw(angle: float, wrapped: float) -> None:
    assert wrap_yaw(np.array([angle]))[0] == pytest.approx(wrapped)
    assert wrap_yaw(torch.tensor([angle], dtype=torch.float64)).item() == pytest.approx(wrapped)


@pytest.mark.parametrize('yaw', [-3.0, -1.0, 0.0, 0.5, 3.1])
def test_yaw_of_inverts_rotation_z(yaw: float) -> None:
    assert yaw_of(rotation_z(yaw)) == pytest.approx(yaw)


@pytest.mark.parametrize(('a_T_b', 'expected'), [
    (np.eye(4), (10, 2, 1, 4, 2, 1.5, 0, 3, 0)),
    (make_transform(np.eye(3), np.array([1, 2, 3])), (11, 4, 4, 4, 2, 1.5, 0, 3, 0)),
    (rotation_z(QUARTER_TURN), (-2, 10, 1, 4, 2, 1.5, QUARTER_TURN, 0, 3)),
    (np.diag([1.0, -1, 1, 1]), (10, -2, 1, 4, 2, 1.5, 0, 3, 0)),
    (np.diag([-1.0, 1, 1, 1]), (-10, 2, 1, 4, 2, 1.5, HALF_TURN, -3, 0)),
    (np.diag([2.0, 2, 2, 1]), (20, 4, 2, 8, 4, 3, 0, 6, 0))])
def test_where_a_box_goes(a_T_b: np.ndarray, expected: tuple) -> None:
    np.testing.assert_allclose(transform_boxes(a_T_b, CAR)[0], expected, atol=1e-12)


@pytest.mark.parametrize('seed', range(3))
def test_corners_move_like_points(seed: int) -> None:
    a_T_b, boxes = (
        rotation_z(seed + 0.3) @ make_transform(np.eye(3) * 1.2, np.array([1.0, 2, 3])), random_boxes(seed))
    moved_corners = transform_points(a_T_b, box_corners(boxes).reshape(-1, 3)).reshape(-1, 8, 3)
    np.testing.assert_allclose(box_corners(transform_boxes(a_T_b, boxes)), moved_corners, atol=1e-9)


def test_mirrored_corners_are_the_same_eight_places() -> None:
    boxes, mirror = random_boxes(0), np.diag([1.0, -1, 1, 1])
    moved = transform_points(mirror, box_corners(boxes).reshape(-1, 3)).reshape(-1, 8, 3)
    found = box_corners(transform_boxes(mirror, boxes))
    for a, b in zip(moved, found, strict=True):
        np.testing.assert_allclose(a[np.lexsort(a.round(6).T)], b[np.lexsort(b.round(6).T)], atol=1e-9)


def test_boxes_there_and_back_with_unknown_velocity_and_dtype() -> None:
    boxes = random_boxes(3).astype(np.float32)
    boxes[0, VELOCITY] = np.nan
    a_T_b = rotation_z(1.0) @ make_transform(np.eye(3), np.array([5.0, 6, 7]))
    back = transform_boxes(invert(a_T_b), transform_boxes(a_T_b, boxes))
    assert back.dtype == np.float32 and np.isnan(back[0, 7:]).all()
    np.testing.assert_allclose(back, boxes, atol=1e-5)


def test_no_boxes_and_whole_numbers() -> None:
    assert transform_boxes(np.eye(4), np.zeros((0, 9), np.float32)).shape == (0, 9)
    whole = np.array([[10, 2, 1, 4, 2, 1, 0, 3, 0]])
    np.testing.assert_allclose(
        transform_boxes(rotation_z(0.5), whole), transform_boxes(rotation_z(0.5), whole.astype(float))
    )
    np.testing.assert_allclose(box_corners(whole), box_corners(whole.astype(float)))


@pytest.mark.parametrize('shape', [(9,), (2, 7), (1, 2, 9)])
def test_boxes_of_another_shape(shape: tuple) -> None:
    with pytest.raises(ValueError, match=r'expected shape \(M, 9\), found'):
        transform_boxes(np.eye(4), np.zeros(shape))


def test_corners_are_where_the_drawing_says() -> None:
    corners = box_corners(CAR)[0]
    np.testing.assert_allclose(corners[0], [12, 3, 0.25])  # front left bottom
    np.testing.assert_allclose(corners[6], [8, 1, 1.75])  # back right top
    assert set(np.flatnonzero(corners[:, 0] > 10)) == {0, 1, 4, 5}
    assert set(np.flatnonzero(corners[:, 1] > 2)) == {0, 3, 4, 7}
    assert set(np.flatnonzero(corners[:, 2] > 1)) == {4, 5, 6, 7}


def test_corners_in_torch_and_batched() -> None:
    boxes = np.stack([random_boxes(0), random_boxes(1)])
    np.testing.assert_allclose(box_corners(torch.from_numpy(boxes)).numpy(), box_corners(boxes), atol=1e-12)
    assert box_corners(boxes).shape == (2, 6, 8, 3)


def test_corners_equal_the_devkits() -> None:
    devkit = pytest.importorskip('nuscenes.utils.data_classes')
    quaternion = pytest.importorskip('pyquaternion').Quaternion
    for x, y, z, length, width, height, yaw, *_ in random_boxes(5):
        theirs = (
            devkit.Box([x, y, z], [width, length, height], quaternion(axis=[0, 0, 1], radians=yaw))
            .corners()
            .T
        )
        ours = box_corners(np.array([[x, y, z, length, width, height, yaw]]))[0]
        np.testing.assert_allclose(
            ours[np.lexsort(ours.round(6).T)], theirs[np.lexsort(theirs.round(6).T)], atol=1e-9
        )


@pytest.mark.parametrize(
    ('point', 'inside'),
    [
        ((10, 2, 1), True), ((12, 3, 1.75), True), ((12.01, 2, 1), False), ((10, 3.01, 1), False),
        ((10, 2, 0.2), False)],
)
def test_points_in_one_box(point: tuple, inside: bool) -> None:
    assert points_in_boxes(np.array([point], dtype=float), CAR).item() is inside


def test_margin_widens_every_side() -> None:
    point = np.array([[12.4, 3.4, 2.1]])
    assert not points_in_boxes(point, CAR).item() and points_in_boxes(point, CAR, margin_m=0.5).item()


def test_points_in_boxes_numpy_torch_and_reference() -> None:
    boxes, points = random_boxes(1), np.random.default_rng(0).uniform(-22, 22, (4000, 3))
    fast = points_in_boxes(points, boxes)
    np.testing.assert_array_equal(
        points_in_boxes(torch.from_numpy(points), torch.from_numpy(boxes)).numpy(), fast
    )
    for m, box in enumerate(boxes):
        local = transform_points(invert(make_transform(rotation_z(box[YAW])[:3, :3], box[CENTRE])), points)
        np.testing.assert_array_equal((np.abs(local) <= box[SIZE] / 2).all(1), fast[:, m])
    assert fast.any()


def test_points_in_boxes_ignores_further_columns_and_empties() -> None:
    assert points_in_boxes(np.zeros((0, 6)), CAR).shape == (0, 1)
    assert points_in_boxes(np.zeros((4, 5)), np.zeros((0, 9))).shape == (4, 0)
