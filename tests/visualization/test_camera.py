"""Drawing on images: an object ahead lands in the middle, to the left lands left, behind is not drawn."""
from dataclasses import replace

import numpy as np
import pytest

from perception.core.contracts import CameraRig
from perception.core.lens import Distortion
from perception.core.lens.projection import lens_project
from perception.visualization.camera import CameraCanvas, resize_rig
from perception.visualization.detection import DetectionLayer
from perception.visualization.panel import draw_camera


@pytest.fixture
def rig() -> CameraRig:
    ego_T_cam = np.eye(4)
    ego_T_cam[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    ego_T_cam[2, 3] = 1.0
    K = np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]])
    images = np.zeros((1, 100, 200, 3), np.uint8)
    return CameraRig(('CAM_FRONT',), images, K[None], ego_T_cam[None], np.array([True]), np.zeros(1))


def _lit(image: np.ndarray) -> np.ndarray:
    return np.argwhere(image.any(-1))


def _box(x: float, y: float) -> tuple[DetectionLayer]:
    return (DetectionLayer(np.array([[x, y, 1, 4, 2, 2, 0, 0, 0]], dtype=np.float32), np.array([0])),)


def test_a_box_ahead_is_centred(rig: CameraRig) -> None:
    image = draw_camera(rig, 0, _box(12, 0))
    assert np.allclose(_lit(image).mean(0), [50, 100], atol=2)
    assert np.allclose(_lit(image)[:, 1].min(), 90, atol=2)  # near face: half a width of 1 m at 10 m, f = 100


def test_a_box_to_the_left_is_left(rig: CameraRig) -> None:
    assert _lit(draw_camera(rig, 0, _box(12, 4)))[:, 1].max() < 100


def test_a_box_behind_is_not_drawn(rig: CameraRig) -> None:
    assert len(_lit(draw_camera(rig, 0, _box(-12, 0)))) == 0


def test_a_box_across_the_near_plane_is_cut_not_flipped(rig: CameraRig) -> None:
    image = draw_camera(rig, 0, _box(1, 3))
    lit = _lit(image)
    assert len(lit) == 0 or lit[:, 1].max() < 100


def test_points_are_drawn_nearest_last(rig: CameraRig) -> None:
    points = np.array([[40.0, 0, 1], [5.0, 0, 1]])
    image = draw_camera(rig, 0, points_ego=points)
    only_near = draw_camera(rig, 0, points_ego=points[1:])
    assert (image == only_near).all()


def test_an_absent_camera_is_grey(rig: CameraRig) -> None:
    absent = CameraRig(
        rig.names, rig.images_NHW3, rig.K_N33, rig.ego_T_cam_N44, np.array([False]), rig.time_lag_s_N
    )
    assert (draw_camera(absent, 0, _box(12, 0))[0, 0] == 90).all()


def test_enlarging_moves_the_camera_with_the_image(rig: CameraRig) -> None:
    lit = _lit(draw_camera(resize_rig(rig, 400), 0, _box(12, 0)))
    assert np.allclose(lit.mean(0), [100.5, 200.5], atol=3)


# -------------------------------------------------------------------- lenses

FISHEYE = Distortion('kannala_brandt', (0.0, 0.0, 0.0, 0.0))
BROWN = Distortion('brown_conrady', (-0.2, 0.03, 0.0, 0.0))


@pytest.mark.parametrize('lens', [FISHEYE, BROWN])
def test_a_line_bends_as_its_points_do(rig: CameraRig, lens: Distortion) -> None:
    canvas = CameraCanvas(replace(rig, distortions=(lens,)), 0)
    ends = np.array([[4.0, 3.5, 2.5], [4.0, -3.5, 2.5]])
    canvas.draw_polyline(ends, (255, 0, 0))

    # every point of it lies under the ink, and the middle far from the chord
    points = ends[0] + np.linspace(0, 1, 50)[:, None] * (ends[1] - ends[0])
    pixels, _ = lens_project(canvas.K, canvas.to_camera(points), lens)
    columns, rows = np.round(pixels).astype(int).T
    ink = canvas.image[..., 0] > 0
    thick = ink | np.roll(ink, 1, 0) | np.roll(ink, -1, 0)
    assert thick[rows, columns].all()
    assert abs(pixels[25, 1] - pixels[[0, -1], 1].mean()) > 3


def test_a_fisheye_shows_a_box_beside_the_car_and_none_of_a_lens_folds_over(rig: CameraRig) -> None:
    wide = replace(rig, K_N33=np.array([[[50.0, 0, 100], [0, 50, 50], [0, 0, 1]]]), distortions=(FISHEYE,))
    beside = _box(-0.5, 6)  # 95 degrees to the left: 83 of 100 pixels
    lit = _lit(draw_camera(wide, 0, beside))
    assert len(lit) > 20 and 5 < lit[:, 1].mean() < 30

    # its polynomial turns at 58 degrees: what is beyond would come back into the image
    folding = Distortion('brown_conrady', (-0.13, 0, 0, 0))
    assert len(_lit(draw_camera(replace(rig, distortions=(folding,)), 0, _box(1.2, 6)))) == 0
    assert len(_lit(draw_camera(replace(rig, distortions=(folding,)), 0, _box(12, 4)))) > 20


def test_a_resized_rig_keeps_its_lenses(rig: CameraRig) -> None:
    assert resize_rig(replace(rig, distortions=(FISHEYE,)), 100).distortions == (FISHEYE,)
