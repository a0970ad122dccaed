import cv2
import numpy as np
import pytest
import torch

from perception.core.geometry import project
from perception.core.lens import Distortion, batch_rows, lens_rows
from perception.core.lens.formulas import bend
from perception.core.lens.loops import bend_ray
from perception.core.lens.projection import image_rays, lens_project, lens_unproject

K = np.array([[1200.0, 3.0, 950], [0, 1150, 600], [0, 0, 1]])
FISHEYE_K = np.array([[320.0, 0, 639.5], [0, 322, 479.5], [0, 0, 1]])
BROWN = {
    4: (-0.35, 0.12, 4e-4, -7e-4),
    5: (-0.35, 0.15, -3e-4, 5e-4, -0.03),
    8: (1.2, 0.4, -2e-4, 3e-4, 0.02, 1.55, 0.75, 0.09)}
BROWNS = [Distortion('brown_conrady', numbers) for numbers in BROWN.values()]
FISHEYE = Distortion('kannala_brandt', (0.05, -0.012, 0.003, -4e-4))
LENSES = [*BROWNS, FISHEYE]
MIRROR = np.array([[-1, 0, 1919.0], [0, 1, 0], [0, 0, 1]])


def points_in_view(count: int = 200, widest_deg: float = 35) -> np.ndarray:
    """Points at 1 to 60 m within a cone about the axis."""
    rng = np.random.default_rng(3)
    theta, phi = np.radians(widest_deg) * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
    rays = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], 1)
    return rays * rng.uniform(1, 60, (count, 1))


def name(lens: Distortion) -> str:
    return f'{lens.model}-{len(lens.coefficients)}'


# -------------------------------------------------------------------- against OpenCV

@pytest.mark.parametrize('lens', BROWNS, ids=name)
def test_brown_conrady_equals_opencvs_projection(lens: Distortion) -> None:
    points = points_in_view()
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.array(
        [[K[0, 0], 0, K[0, 2]], [0, K[1, 1], K[1, 2]], [0, 0, 1]]), np.array(lens.coefficients))
    ours, depth_m = lens_project(np.array(K * [[1, 0, 1], [1, 1, 1], [1, 1, 1]]), points, lens)
    np.testing.assert_allclose(ours, theirs[:, 0], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(depth_m, points[:, 2])


def test_fisheye_equals_opencvs_projection() -> None:
    points = points_in_view(widest_deg=89)
    theirs, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), FISHEYE_K, np.array(FISHEYE.coefficients))
    ours, depth_m = lens_project(FISHEYE_K, points, FISHEYE)
    np.testing.assert_allclose(ours, theirs[:, 0], atol=1e-6, rtol=0)
    np.testing.assert_allclose(depth_m, np.linalg.norm(points, axis=1), rtol=1e-12)


@pytest.mark.parametrize('lens', LENSES, ids=name)
def test_undistorted_points_equal_opencvs(lens: Distortion) -> None:
    rays = points_in_view(widest_deg=25)
    places = lens.distort(rays[:, :2] / rays[:, 2:])
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    camera = (places[:, None], np.eye(3), np.array(lens.coefficients))
    if lens.by_distance:
        theirs = cv2.fisheye.undistortPoints(*camera, criteria=criteria)[:, 0]
    else:
        theirs = cv2.undistortPointsIter(*camera, None, None, criteria)[:, 0]
    np.testing.assert_allclose(lens.undistort(places), theirs, atol=1e-9)


# -------------------------------------------------------------------- there and back

@pytest.mark.parametrize('lens', LENSES, ids=name)
@pytest.mark.parametrize('change', [np.eye(3), MIRROR], ids=['as it is', 'mirrored'])
def test_points_come_back_through_pixels_and_depth(lens: Distortion, change: np.ndarray) -> None:
    points = points_in_view(widest_deg=36)
    pixels, depth_m = lens_project(change @ K, points, lens)
    assert (depth_m > 0).all()
    np.testing.assert_allclose(lens_unproject(change @ K, pixels, depth_m, lens), points, atol=1e-8)


def test_a_fisheye_sees_behind_the_camera() -> None:
    half_circle = np.radians(np.linspace(-110, 110, 23))
    points = 5 * np.stack([np.sin(half_circle), 0 * half_circle, np.cos(half_circle)], 1)
    pixels, depth_m = lens_project(FISHEYE_K, points, FISHEYE)

    assert points[0, 2] < -1 and (np.diff(pixels[:, 0]) > 5).all()
    np.testing.assert_allclose(depth_m, 5)
    np.testing.assert_allclose(lens_unproject(FISHEYE_K, pixels, depth_m, FISHEYE), points, atol=1e-9)


def test_a_fisheye_without_coefficients_is_equidistant() -> None:
    lens = Distortion('kannala_brandt', (0, 0, 0, 0))
    pixels, _ = lens_project(FISHEYE_K, np.array([[1.0, 0, 0], [0, 2, 2], [0, 0, 7]]), lens)
    expected = [[639.5 + 320 * np.pi / 2, 479.5], [639.5, 479.5 + 322 * np.pi / 4], [639.5, 479.5]]
    np.testing.assert_allclose(pixels, expected, atol=1e-9)
    assert lens.field_rad > np.radians(179.9) and not lens.is_pinhole


def test_zero_coefficients_of_brown_conrady_are_a_pinhole() -> None:
    lens, points = Distortion('brown_conrady', [0.0] * 5), points_in_view()
    assert lens.is_pinhole and batch_rows([(lens,), None], 1) is None
    np.testing.assert_array_equal(lens_project(K, points, lens)[0], project(K, points)[0])


# -------------------------------------------------------------------- the valid field

@pytest.mark.parametrize('lens', [*BROWNS[:2], FISHEYE, Distortion('kannala_brandt', (0.1, -0.2, 0, 0)),
                                  Distortion('brown_conrady', (0, 0, 0.03, -0.02))], ids=name)
def test_nothing_is_folded_back_into_the_picture(lens: Distortion) -> None:
    angles = np.linspace(0, np.pi * 0.999, 4000)
    for phi in np.linspace(0, 6, 9):
        across = np.sin(angles)
        rays = np.stack([across * np.cos(phi), across * np.sin(phi), np.cos(angles)], 1)
        plane, depth = bend(lens.row, rays)
        seen = depth > 0
        last = int(seen.argmin()) if not seen.all() else len(seen)

        # seen up to one angle and nowhere beyond it, outward all the way
        assert 200 < last and not seen[last:].any() and np.isnan(plane[last:]).all()
        direction = np.array([np.cos(phi), np.sin(phi)])
        assert (np.diff(plane[:last] @ direction) > 0).all()
        assert angles[last - 1] == pytest.approx(lens.field_rad, abs=2e-3)


def test_the_limit_of_a_cubic_by_hand() -> None:
    # r + k1 r^3 turns where 1 + 3 k1 r^2 = 0
    assert Distortion('brown_conrady', (-0.25, 0, 0, 0)).row[9] == pytest.approx(np.sqrt(4 / 3))
    assert Distortion('kannala_brandt', (-0.25, 0, 0, 0)).field_rad == pytest.approx(np.sqrt(4 / 3))
    assert Distortion('brown_conrady', (0.1, 0.1, 0, 0)).row[9] == np.inf


@pytest.mark.parametrize('lens', [BROWNS[1], FISHEYE], ids=name)
def test_pixels_without_a_ray_have_none(lens: Distortion) -> None:
    far = lens_unproject(FISHEYE_K, np.array([[5000.0, 479], [639.5, 479.5]]), np.ones(2), lens)
    assert np.isnan(far[0]).all()
    np.testing.assert_allclose(far[1], [0, 0, 1], atol=1e-12)


def test_every_pixel_of_an_image_comes_back() -> None:
    K_small = np.array([[40.0, 0, 39.5], [0, 40, 29.5], [0, 0, 1]])
    for lens in LENSES[2:]:
        rays = image_rays(K_small, (60, 80), lens)
        pixels, _ = lens_project(K_small, rays, lens)
        v, u = np.mgrid[:60, :80]
        np.testing.assert_allclose(pixels, np.stack([u, v], -1), atol=1e-6)


# -------------------------------------------------------------------- twins, records

@pytest.mark.parametrize('lens', LENSES, ids=name)
def test_torch_and_the_loop_equal_numpy(lens: Distortion) -> None:
    points = np.concatenate([points_in_view(widest_deg=170), [[0, 0, 3.0], [0, 0, -3], [0, 0, 0]]])
    plane, depth = bend(lens.row, points)
    twin, twin_depth = bend(lens.row, torch.from_numpy(points))
    np.testing.assert_allclose(twin.numpy(), plane, atol=1e-12)
    np.testing.assert_allclose(twin_depth.numpy(), depth, atol=1e-12)

    seen = depth > 0
    assert 10 < seen.sum() < len(points)
    loop = np.array([bend_ray(lens_rows([lens], 1)[0], *point) for point in points])
    np.testing.assert_allclose(loop[seen], np.column_stack([plane, depth])[seen], atol=1e-12)
    assert not loop[~seen, 2].any()

    back = lens_unproject(torch.from_numpy(K), torch.from_numpy(lens_project(K, points, lens)[0][seen]),
                          torch.from_numpy(depth[seen]), lens)
    np.testing.assert_allclose(back.numpy(), points[seen], atol=1e-7)


def test_records_travel_through_json() -> None:
    record = {'model': 'brown_conrady', 'coefficients': [-0.3, 0.1, 0, 0, 0.01]}
    lens = Distortion.from_record(record, 'rig.json: CAM_FRONT.distortion')
    assert lens.to_record() == record and lens == Distortion(**record)
    assert Distortion.from_record(None, 'x') is None
    assert hash(lens) == hash(Distortion('brown_conrady', (-0.3, 0.1, 0, 0, 0.01)))


@pytest.mark.parametrize(('record', 'message'), [
    ([1, 2], r'rig\.json: expected \{"model".*found \[1, 2\]'),
    ({'model': 'brown_conrady'}, 'expected .*coefficients'),
    ({'model': 'plumb_bob', 'coefficients': [0] * 5}, "'plumb_bob' is 'brown_conrady' here"),
    ({'model': ['x'], 'coefficients': [0] * 5}, 'expected a model of brown_conrady, kannala_brandt'),
    ({'model': 'brown_conrady', 'coefficients': [0] * 6}, '4 or 5 or 8 finite coefficients'),
    ({'model': 'kannala_brandt', 'coefficients': [0, 0, 0, float('nan')]}, '4 finite coefficients'),
    ({'model': 'kannala_brandt', 'coefficients': [0, 0, 0, True]}, '4 finite coefficients'),
    ({'model': 'kannala_brandt', 'coefficients': '0000'}, '4 finite coefficients'),
    ({'model': 'kannala_brandt', 'coefficients': [0] * 4, 'k': 1}, 'expected'),
])
def test_records_that_are_no_lens(record: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distortion.from_record(record, 'rig.json')
