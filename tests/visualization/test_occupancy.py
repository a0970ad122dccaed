"""Occupancy drawing: forward is up, left is left, masked voxels stay away."""
import numpy as np

from perception.visualization import palette
from perception.visualization.occupancy import draw_occupancy


def _one_voxel(x: int, y: int) -> np.ndarray:
    semantics = np.full((200, 200, 16), 17, dtype=np.uint8)
    semantics[x:x + 4, y:y + 4, 3] = 4
    return semantics


def _centre_of(image: np.ndarray) -> np.ndarray:
    return np.argwhere((image != palette.BACKGROUND).any(-1)).mean(0)


def test_forward_is_up_and_left_is_left() -> None:
    ahead, left = (
        _centre_of(draw_occupancy(_one_voxel(180, 98))), _centre_of(draw_occupancy(_one_voxel(98, 180))))
    assert ahead[0] < 200 and abs(ahead[1] - 300) < 10
    assert left[1] < 100 and abs(left[0] - 300) < 20


def test_free_and_unlabelled_space_is_empty() -> None:
    semantics = np.full((200, 200, 16), 17, dtype=np.uint8)
    semantics[:50] = 255
    assert (draw_occupancy(semantics) == palette.BACKGROUND).all()


def test_a_mask_hides_voxels() -> None:
    semantics = _one_voxel(100, 100)
    assert (draw_occupancy(semantics, mask_XYZ=np.zeros_like(semantics)) == palette.BACKGROUND).all()


def test_the_top_face_has_the_class_colour() -> None:
    image = draw_occupancy(_one_voxel(100, 100))
    assert (image == palette.OCCUPANCY['car']).all(-1).any()
