"""The view from above must not be mirrored or rotated: forward is up, left is left."""
import numpy as np
import pytest

from perception.core.grid import BEVGrid
from perception.visualization.bev import BevCanvas
from perception.visualization.detection import DetectionLayer
from perception.visualization.map_segmentation import MapLayer


@pytest.fixture
def canvas() -> BevCanvas:
    return BevCanvas((-50, 50), (-50, 50), 2.0)


def test_forward_is_up_and_left_is_left(canvas: BevCanvas) -> None:
    ahead, left, origin = canvas.pixels(np.array([[20.0, 0], [0, 20.0], [0, 0]]))
    assert ahead.tolist() == [100, 60]
    assert left.tolist() == [60, 100]
    assert origin.tolist() == [100, 100]


def test_a_point_is_painted_where_it_lies(canvas: BevCanvas) -> None:
    canvas.draw_points(np.array([[30.1, -10.1]]), (1, 2, 3))
    row, column = np.argwhere((canvas.image == (1, 2, 3)).all(-1))[0]
    assert (row, column) == (39, 120)


def test_the_map_and_the_points_agree(canvas: BevCanvas) -> None:
    grid = BEVGrid((-50, 50), (-50, 50), 0.5)
    masks = np.zeros((6, 200, 200), dtype=bool)
    masks[0, 120:124, 160:164] = True  # y in [10, 12), x in [30, 32)
    MapLayer(masks, grid).draw_on_bev(canvas)
    painted = np.argwhere((canvas.image != 250).any(-1))
    assert painted.min(0).tolist() == [36, 76]
    assert painted.max(0).tolist() == [39, 79]


def test_points_off_the_canvas_are_left_out(canvas: BevCanvas) -> None:
    before = canvas.image.copy()
    canvas.draw_points(np.array([[500.0, 0], [0, -500.0]]))
    assert (canvas.image == before).all()


def test_a_moving_box_has_an_arrow_ahead_of_it(canvas: BevCanvas) -> None:
    still, moving = BevCanvas((-50, 50), (-50, 50), 2.0), canvas
    box = np.array([[10, 5, 1, 4.5, 2, 1.5, 0, 0, 0]], dtype=np.float32)
    DetectionLayer(box, np.array([0])).draw_on_bev(still)
    box[0, 7] = 10
    DetectionLayer(box, np.array([0])).draw_on_bev(moving)
    changed = np.argwhere((still.image != moving.image).any(-1))
    assert changed[:, 0].min() < 70  # 10 m/s forward: up the picture
    assert abs(np.median(changed[:, 1]) - 90) <= 3
