"""Groups of alike classes, and what decoding needs of a set of classes."""
from __future__ import annotations

import numpy as np

from ...core.contracts import DetectionClasses
from ...core.protocols import ATTRIBUTES

MOVING_ATTRIBUTES = np.array([attribute in ('pedestrian.moving', 'cycle.with_rider', 'vehicle.moving')
                              for attribute in ATTRIBUTES])
"""bool `(8,)`: attributes of objects that move."""

SIX_GROUPS = (
    ('car',), ('truck', 'construction_vehicle'), ('bus', 'trailer'), ('barrier',), ('motorcycle', 'bicycle'),
    ('pedestrian', 'traffic_cone'))
"""Groups with a regression branch each (Yin et al. 2021, arXiv 2006.11275, nuScenes set-up)."""


def crowded_classes(classes: DetectionClasses) -> tuple[str, ...]:
    """Names of those whose objects stand so close together that two of them have neighbouring cells."""
    return tuple(c.name for c in classes.classes if c.crowded)


def nms_radius_m(classes: DetectionClasses) -> dict[str, float]:
    """{name: two boxes of it whose centres are closer than this are one object}."""
    return {c.name: c.nms_radius_m for c in classes.classes}
