"""The gallery of failing sensors: clean first, then every severity, in the view that shows the failure."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from perception.core.contracts import DetectionClasses, LidarPoints, RadarPoints
from perception.visualization import palette
from perception.visualization.corruptions import GalleryRow, draw_row, stack_rows
from tests.visualization.frames import make_annotations, make_rig, make_sample, painted

WIDTH_PX = 240


def make_row(kind: str, *samples: object, name: str = 'x', from_above: bool = False) -> np.ndarray:
    """A drawn row of severities 1, 2, ... of one corruption, the clean frame first."""
    clean = make_sample(radar=RadarPoints(np.zeros((0, 8), np.float32), np.ones(5, bool)))
    row = GalleryRow(name, 'level', 'source', kind, list(enumerate(samples, 1)), from_above)
    return draw_row(row, clean, make_annotations().boxes, 'CAM_FRONT', WIDTH_PX)


def cell(picture: np.ndarray, index: int) -> np.ndarray:
    """One cell of a row, without its heading."""
    return picture[20:, index * (WIDTH_PX + 4):(index + 1) * (WIDTH_PX + 4)]


def test_clean_stands_before_every_severity():
    dark = replace(make_rig(), images_NHW3=np.zeros_like(make_rig().images_NHW3))
    picture = make_row('camera', make_sample(camera=dark), make_sample(camera=dark))
    assert picture.shape[1] == 3 * (WIDTH_PX + 4)
    assert len(painted(cell(picture, 0), (20, 20, 20))) > len(painted(cell(picture, 1), (20, 20, 20)))
    np.testing.assert_array_equal(cell(picture, 1)[20:], cell(picture, 2)[20:])


def test_a_missing_camera_is_shown_among_all_six():
    present = np.array([True, False, True, True, True, True])
    picture = make_row('camera', make_sample(camera=replace(make_rig(), present_N=present)))
    assert len(painted(cell(picture, 1), (110, 110, 110))) > 1000
    assert not len(painted(cell(picture, 0), (110, 110, 110)))


def test_a_lidar_without_points_is_reported_as_absent():
    none, empty = make_sample(lidar=None), make_sample(lidar=LidarPoints(np.zeros((0, 6), np.float32)))
    picture = make_row('lidar', none, empty)
    assert (cell(picture, 1)[20:] != cell(picture, 2)[20:]).any(), 'absent is written, empty is not'


def test_dead_radars_are_named_and_targets_drawn():
    target = np.array([[20, 5, 0, 4, 0, 10, 0, 2]], np.float32)
    alive = make_sample(radar=RadarPoints(target, np.ones(5, bool)))
    dead = make_sample(radar=RadarPoints(target, np.array([True, False, True, True, True])))
    picture = make_row('radar', alive, dead)
    difference = (cell(picture, 1)[20:] != cell(picture, 2)[20:]).any(-1)
    assert difference.any() and not difference[30:].any(), 'one line of text at the top'


def test_true_boxes_have_the_colours_of_their_own_classes():
    """From above and on the image: label 5 of six classes of one's own is no pedestrian."""
    purple = (150, 0, 200)
    colours = [(0, 0, 0)] * 5 + [purple]
    classes = DetectionClasses.of(
        {f'c{i}': {'categories': [f'thing.{i}'], 'colour': colours[i]} for i in range(6)})
    boxes = replace(make_annotations().boxes, labels_M=np.array([5, 5]), classes=classes)
    clean = make_sample(radar=RadarPoints(np.zeros((0, 8), np.float32), np.ones(5, bool)))
    for kind in ('lidar', 'alignment'):
        row = GalleryRow('x', 'level', 'source', kind, [(1, clean)])
        picture = draw_row(row, clean, boxes, 'CAM_FRONT', WIDTH_PX).astype(int)
        assert (np.abs(picture - purple).max(-1) < 40).sum() > 100, kind


def test_an_alignment_is_drawn_on_an_image_or_from_above():
    on_image = make_row('alignment', make_sample())
    from_above = make_row('alignment', make_sample(), from_above=True)
    assert not len(painted(on_image, palette.EGO)) and len(painted(from_above, palette.EGO)) > 10


def test_rows_are_filled_up_to_one_width():
    short, long = make_row('lidar', make_sample()), make_row('lidar', make_sample(), make_sample())
    stacked = stack_rows([short, long])
    assert stacked.shape[:2] == (short.shape[0] + long.shape[0], max(short.shape[1], long.shape[1]))
