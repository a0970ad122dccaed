"""Drawing on images: an object ahead lands in the middle, to the left lands left, behind is not drawn."""
import numpy as np
import pytest

from perception.core.contracts import CameraRig
from perception.visualization.camera import resize_rig
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
