"""Tails lie where things were, dots where they will be, numbers beside them."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from perception.core.contracts import Tracks
from perception.visualization import draw_frame, layers_of_output, palette
from perception.visualization.bev import BevCanvas
from perception.visualization.camera import CameraCanvas
from perception.visualization.tracking import TrackLayer, colour_of
from tests.visualization.frames import BOXES, make_output, make_rig, make_sample, painted


def tracks_ahead() -> Tracks:
    """A car 20 m ahead that came from the right and goes on to the left; one behind that stands."""
    past = np.array([[20.0, -10], [20, 0], [20, 10]]), np.array([[-20.0, -10.0]])
    ahead = np.array([[[20.0, 20], [20, 30]], [[-20, -10], [-20, -10]]])
    return Tracks(
        np.array([7, 12]), BOXES, np.array([0.9, 0.2]), np.array([0, 5]), np.arange(2), past, ahead)


def test_tail_and_dots_from_above():
    canvas = BevCanvas(px_per_m=4.0)
    TrackLayer(tracks_ahead()).draw_on_bev(canvas)

    # forward is up, left is left: x = 20 is row 120, y = -10 column 240
    rows, columns = painted(canvas.image, colour_of(7)).T
    on_line = np.abs(rows - 120) <= 1
    assert {240, 220, 200, 161} <= set(columns[on_line].tolist()), 'the tail'
    assert {120, 80} <= set(columns[on_line].tolist()) and 100 not in columns[on_line], 'dots'

    # a thing that stands has its number alone, at the upper right of row 280, column 240
    rows, columns = np.argwhere((canvas.image[200:] != palette.BACKGROUND).any(-1)).T
    assert len(rows) and rows.max() + 200 < 280 and columns.min() > 240


def test_numbers_on_the_camera_that_sees_the_box():
    tracks = tracks_ahead().select(np.array([True, False]))
    boxes = tracks.boxes_M9.copy()
    boxes[0, 1] = 0.0
    found = []
    for index in range(6):
        canvas = CameraCanvas(make_rig(size_hw=(120, 240)), index)
        before = canvas.image.copy()
        TrackLayer(replace(tracks, boxes_M9=boxes, past=(boxes[:, :2],))).draw_on_camera(canvas)
        found.append((canvas.image != before).any())
    assert found[0] and not any(found[2:5])


def test_tracks_of_an_output_are_drawn_by_score():
    output = replace(make_output(), extra={'tracking': tracks_ahead()})
    layer = next(layer for layer in layers_of_output(output) if isinstance(layer, TrackLayer))
    assert layer.tracks.ids_M.tolist() == [7]
    alone = replace(output, detection=None)
    with_all, with_one = (
        draw_frame(make_sample(), layers_of_output(alone, least, 0.1), None) for least in (0.15, 0.3))
    assert with_all.shape == with_one.shape and (with_all != with_one).any()
    assert len({colour_of(number) for number in range(100)}) == 100
