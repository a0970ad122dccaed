"""All colours in one place: RGB, 0..255.

Objects are saturated, lanes are bright lines and the map is pale, so that each stands out against the
others; an object has the same colour as a box and as voxels. Colours of one panel differ by at least 19 in
CIELAB, which `tests/visualization/test_palette.py` checks.
"""
from __future__ import annotations

import colorsys

import numpy as np

from ..core.contracts import DetectionClass, DetectionClasses
from ..core.protocols import CATEGORY_TO_CLASS, OCCUPANCY_CLASSES

DETECTION = {
    'car': (255, 127, 0),
    'truck': (200, 20, 30),
    'bus': (120, 80, 0),
    'trailer': (255, 120, 150),
    'construction_vehicle': (150, 160, 0),
    'pedestrian': (20, 100, 255),
    'motorcycle': (220, 0, 200),
    'bicycle': (105, 30, 140),
    'traffic_cone': (0, 160, 170),
    'barrier': (60, 70, 80),
}

MAP = {
    'drivable_area': (184, 203, 222),
    'ped_crossing': (250, 205, 190),
    'walkway': (236, 205, 238),
    'stop_line': (255, 228, 120),
    'carpark_area': (208, 236, 190),
    'divider': (150, 140, 200),
}

LANES = {
    'divider': (245, 190, 0),
    'ped_crossing': (70, 190, 255),
    'boundary': (0, 150, 60),
    'centerline': (140, 140, 140),
}

_SURFACES = {
    'others': (25, 25, 25),
    'driveable_surface': (158, 172, 188),
    'other_flat': (165, 140, 120),
    'sidewalk': (214, 180, 214),
    'terrain': (176, 206, 140),
    'manmade': (222, 200, 160),
    'vegetation': (70, 135, 70),
}
OCCUPANCY = {name: {**DETECTION, **_SURFACES}[name] for name in OCCUPANCY_CLASSES if name != 'free'}

GOLDEN = 0.618033988749895
"""Steps of hue by this part of the circle lie far apart, however many there are."""

BACKGROUND = (250, 250, 250)
EGO = (30, 30, 30)
INK = (40, 40, 40)


def occupancy_colours() -> np.ndarray:
    """uint8 `(17, 3)` in the order of `OCCUPANCY_CLASSES`, without the last, free."""
    return np.array(list(OCCUPANCY.values()), dtype=np.uint8)


def detection_colours(classes: DetectionClasses) -> dict[str, tuple[int, int, int]]:
    """{class: RGB}: its own; else that of the first of nuScenes' ten in it; else one that is free.

    No two classes without a colour of their own have the same.
    """
    colours = {c.name: c.colour for c in classes.classes if c.colour is not None}
    for c in classes.classes:
        wanted = [DETECTION[name] for name in _nuscenes_names(c)]
        further = (colour_of(number) for number in range(10 * len(classes)))
        choices = (*wanted, *DETECTION.values(), *further)
        colours.setdefault(c.name, next(one for one in choices if one not in colours.values()))
    return {name: colours[name] for name in classes.names}


def _nuscenes_names(of: DetectionClass) -> list[str]:
    """Those of the ten that share its name or a category with it, in the order of its categories."""
    names = [of.name, *(CATEGORY_TO_CLASS.get(category, category) for category in of.categories)]
    return [name for name in names if name in DETECTION]


def colour_of(number: int) -> tuple[int, int, int]:
    """A saturated colour for a number; following numbers lie far apart."""
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.95, 0.72)
    return round(255 * red), round(255 * green), round(255 * blue)


def heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers -> colours from near (warm) to far (cold), uint8 `(*, 3)`."""
    import cv2

    scaled = np.clip((np.asarray(values, dtype=np.float64) - low) / (high - low), 0, 1)
    table = cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8), cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return table[(scaled * 255).astype(int)]
