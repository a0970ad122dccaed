"""Pictures cut out and drawn in again: the same pixels where the camera is the same, depth in order."""
from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from perception.core.geometry import make_transform
from perception.core.lens import KANNALA_BRANDT, Distortion
from perception.datasets.paste.pictures import (
    Drawn,
    covered_part,
    cut_view,
    draw_pictures,
    fits,
    outline_of,
    outlines_of,
    touches_border,
)
from perception.datasets.reading.io import decode_image
from perception.datasets.transforms.view import Look

FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
SIZE_HW = (90, 160)


def camera(x: float = 0.0, focal: float = 100.0, distortion: Distortion | None = None) -> Look:
    K = np.array([[focal, 0, 79.5], [0, focal, 44.5], [0, 0, 1]])
    return Look(K, make_transform(FORWARD, np.array([x, 0, 1.5])), SIZE_HW, distortion)


def box(x: float, y: float = 0.0) -> np.ndarray:
    return np.array([x, y, 1.5, 2.0, 2.0, 2.0, 0, 0, 0])


def picture() -> np.ndarray:
    """A smooth picture, so that JPEG and interpolation change little."""
    v, u = np.mgrid[:90, :160]
    return np.stack([40 + u, 200 - v, 60 + u // 2 + v // 2], -1).astype(np.uint8)


def drawn_of(look: Look, at: np.ndarray, image: np.ndarray, now: Look | None = None) -> Drawn:
    view = cut_view('CAM', image, look, outline_of(look, at), [])
    patch = decode_image('patch', view.jpeg, size_hw=view.size_hw)
    return Drawn(outline_of(now or look, at), view, patch, np.zeros(3), at[:3])


def test_an_outline_by_hand() -> None:
    """The near face of a cube at 10 m is 9 m away: 2 m are 100 * 2 / 9 pixels."""
    outline = outline_of(camera(), box(10))
    low, high = outline.polygon_K2.min(0), outline.polygon_K2.max(0)
    np.testing.assert_allclose(high - low, [200 / 9, 200 / 9], rtol=1e-5)
    np.testing.assert_allclose((low + high) / 2, [79.5, 44.5], atol=1e-3)
    assert outline.depth_m == pytest.approx(10)
    assert outline.area_px == pytest.approx((200 / 9) ** 2 * (400 / 160) ** 2, rel=1e-4)


def test_boxes_behind_and_beside_a_camera_have_none() -> None:
    boxes = np.stack([box(-10), box(10, 30), box(10), box(0.5)])
    assert [one is not None for one in outlines_of(camera(), boxes)] == [False, False, True, False]
    assert touches_border(camera(), np.array([1.0, 0, 1.5, 3, 0.2, 0.2, 0, 0, 0]))
    assert not touches_border(camera(), box(-10))


@pytest.mark.parametrize('lens', [None, Distortion(KANNALA_BRANDT, (-0.02, 0.001, 0.0, 0.0))])
def test_the_same_camera_gets_the_same_pixels(lens: Distortion | None) -> None:
    look, image = camera(distortion=lens), picture()
    black = np.zeros_like(image)
    result = draw_pictures(black, look, [drawn_of(look, box(8), image)])

    polygon = np.rint(outline_of(look, box(8)).polygon_K2).astype(np.int32)
    inside = cv2.erode(cv2.fillConvexPoly(np.zeros(SIZE_HW, np.uint8), polygon, 1), np.ones((3, 3))) > 0
    assert inside.sum() > 300
    assert np.abs(result[inside].astype(int) - image[inside]).max() <= 6
    outside = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7))) == 0
    assert (result[outside] == 0).all() and (black == 0).all()


def test_another_focal_length_and_place_are_followed() -> None:
    """A marked point of the plane through the box's centre comes to where the other camera sees it."""
    then, now, image = camera(), camera(x=0.6, focal=120.0), picture()
    place = np.array([8.0, 0.5, 1.8])
    u, v = 79.5 - 100 * 0.5 / 8, 44.5 - 100 * 0.3 / 8
    cv2.circle(image, (round(u), round(v)), 2, (255, 0, 0), -1)
    result = draw_pictures(np.zeros_like(image), now, [drawn_of(then, box(8), image, now)])

    red = (result[..., 0].astype(int) - result[..., 1] > 120).nonzero()
    found = np.mean(red[1]), np.mean(red[0])
    expected = 79.5 - 120 * place[1] / 7.4, 44.5 - 120 * 0.3 / 7.4
    np.testing.assert_allclose(found, expected, atol=0.8)


def test_the_near_ones_are_drawn_last_and_what_stands_before_stays() -> None:
    look = camera()
    white, grey, dark = (np.full((90, 160, 3), level, np.uint8) for level in (250, 120, 60))
    near, far = drawn_of(look, box(6, 1.2), white), drawn_of(look, box(14), dark)
    there = Drawn(outline_of(look, box(9)))

    # the far one reaches from column 72 to 87, the near one to 76, what is there from 67 to 92
    result = draw_pictures(grey, look, [near, far, there])
    assert result[44, [60, 74, 84, 90, 150], 0].tolist() == [250, 250, 120, 120, 120]
    result = draw_pictures(grey, look, [near, far])
    assert result[44, [60, 74, 84, 90], 0].tolist() == [250, 250, 60, 120]
    assert draw_pictures(grey, look, [far, near]).tobytes() == result.tobytes()


def test_what_stands_before_an_object_is_not_in_its_picture() -> None:
    look = camera()
    far, near = outline_of(look, box(10)), outline_of(look, box(5, 1.0))
    assert cut_view('CAM', picture(), look, far, []).visible == 1.0
    visible = cut_view('CAM', picture(), look, far, [near]).visible
    assert 0.4 < visible < 0.6                      # its left half: the near one reaches to the middle


def test_a_large_picture_is_stored_smaller_and_its_intrinsics_follow() -> None:
    K = np.array([[1000.0, 0, 799.5], [0, 1000, 449.5], [0, 0, 1]])
    look = Look(K, make_transform(FORWARD, np.array([0, 0, 1.5])), (900, 1600))
    view = cut_view('CAM', np.zeros((900, 1600, 3), np.uint8), look, outline_of(look, box(3)), [])
    assert max(view.size_hw) == 512
    centre = view.K_33 @ [0, 0, 1]
    np.testing.assert_allclose(centre[:2], (np.array(view.size_hw[::-1]) - 1) / 2, atol=0.6)


def test_pictures_from_another_side_or_distance_do_not_fit() -> None:
    view = drawn_of(camera(), box(10), picture()).view
    assert fits(view, np.array([10.0, 0, 1.5]), camera(), np.array([10.0, 0, 1.5]))
    assert fits(view, np.array([10.0, 0, 1.5]), camera(x=1.9), np.array([10.0, 0, 1.5]))
    assert not fits(view, np.array([10.0, 0, 1.5]), camera(x=2.1), np.array([10.0, 0, 1.5]))
    aside = replace(camera(), ego_T_cam=make_transform(FORWARD, np.array([0, 1.2, 1.5])))
    assert not fits(view, np.array([10.0, 0, 1.5]), aside, np.array([10.0, 0, 1.5]))


def test_how_much_of_a_rectangle_is_covered() -> None:
    assert covered_part(np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 20, 10])) == 0.5
    assert covered_part(np.array([0.0, 0, 10, 10]), np.array([11.0, 0, 20, 10])) == 0.0
