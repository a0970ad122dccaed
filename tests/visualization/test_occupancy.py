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


def _column(x: int, y: int, levels: slice) -> np.ndarray:
    semantics = np.full((200, 200, 16), 17, dtype=np.uint8)
    semantics[x:x + 4, y:y + 4, levels] = 15
    return semantics


def test_the_cut_through_the_ground_is_not_drawn() -> None:
    at_border = draw_occupancy(_column(0, 100, slice(0, 3)))
    inside = draw_occupancy(_column(60, 100, slice(0, 3)))
    top, back = (palette.OCCUPANCY['manmade'], [round(0.78 * c - 0.5) for c in palette.OCCUPANCY['manmade']])
    assert (at_border == top).all(-1).any() and not (np.abs(at_border - np.array(back)) <= 1).all(-1).any()
    assert (np.abs(inside - np.array(back)) <= 1).all(-1).any(), 'inside the grid the same face is visible'


def test_the_cut_through_a_house_is_drawn() -> None:
    image = draw_occupancy(_column(0, 100, slice(3, 10)))
    back = 0.78 * np.array(palette.OCCUPANCY['manmade'])
    assert (np.abs(image - back) <= 1).all(-1).any()
