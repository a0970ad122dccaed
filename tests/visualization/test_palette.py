"""Colours of one panel can be told apart."""
from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest

from perception.core.contracts import NUSCENES_CLASSES, DetectionClasses
from perception.core.protocols import DETECTION_CLASSES, LANE_CLASSES, MAP_CLASSES, OCCUPANCY_CLASSES
from perception.visualization import palette

BACKGROUND = {'background': palette.BACKGROUND}


def lab(colour: tuple[int, int, int]) -> np.ndarray:
    """RGB -> CIELAB, in which a distance of about 2 can just be seen."""
    return cv2.cvtColor(np.float32([[colour]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]


def closest(*palettes: dict[str, tuple[int, int, int]]) -> tuple[float, str, str]:
    colours = [(name, lab(colour)) for colours in palettes for name, colour in colours.items()]
    return min((float(np.linalg.norm(a - b)), x, y) for (x, a), (y, b) in combinations(colours, 2))


@pytest.mark.parametrize('palettes, least', [
    ((palette.DETECTION,), 40),
    ((palette.DETECTION, palette.MAP, palette.LANES, BACKGROUND), 19),
    ((palette.OCCUPANCY, BACKGROUND), 19),
], ids=['boxes', 'view from above', 'occupancy'])
def test_colours_of_one_panel_can_be_told_apart(palettes, least):
    distance, first, second = closest(*palettes)
    assert distance >= least, f'{first} and {second}'


def test_every_class_has_a_colour():
    assert tuple(palette.DETECTION) == DETECTION_CLASSES
    assert tuple(palette.MAP) == MAP_CLASSES
    assert tuple(palette.LANES) == LANE_CLASSES
    assert tuple(palette.OCCUPANCY) == OCCUPANCY_CLASSES[:-1]


def test_an_object_has_one_colour_as_box_and_as_voxels():
    assert all(palette.OCCUPANCY[name] == colour for name, colour in palette.DETECTION.items())


def test_other_classes_have_the_colour_of_what_they_hold_or_a_free_one():
    names = [f'thing_{i}' for i in range(20)]
    classes = DetectionClasses.of({
        'two_wheeler': dict(categories=['vehicle.bicycle', 'vehicle.motorcycle']),
        'bike': dict(categories=['vehicle.bike'], colour=(1, 2, 3)),
        'car': dict(categories=['kart']),
        **{name: dict(categories=[name]) for name in names}})
    colours = palette.detection_colours(classes)
    assert colours['two_wheeler'] == palette.DETECTION['bicycle']
    assert colours['bike'] == (1, 2, 3) and colours['car'] == palette.DETECTION['car']
    assert tuple(colours) == classes.names and len(set(colours.values())) == 23
    assert palette.detection_colours(NUSCENES_CLASSES) == palette.DETECTION
