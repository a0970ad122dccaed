"""What nuScenes says about its ten classes: valid attributes, groups of alike sizes, radii of NMS."""
from __future__ import annotations

import numpy as np

from ...core.protocols import ATTRIBUTES, DETECTION_CLASSES, HALF_TURN_CLASSES

_FAMILY = {
    'pedestrian': 'pedestrian', 'motorcycle': 'cycle', 'bicycle': 'cycle', 'car': 'vehicle',
    'truck': 'vehicle', 'bus': 'vehicle', 'trailer': 'vehicle', 'construction_vehicle': 'vehicle'}

VALID_ATTRIBUTES = np.array([[attribute.split('.')[0] == _FAMILY.get(name) for attribute in ATTRIBUTES]
                             for name in DETECTION_CLASSES])
"""bool `(10, 8)`: the attributes a class may have (nuScenes detection task); cones and barriers have none."""

MOVING_ATTRIBUTES = np.array([attribute in ('pedestrian.moving', 'cycle.with_rider', 'vehicle.moving')
                              for attribute in ATTRIBUTES])
"""bool `(8,)`: attributes of objects that move."""

ONE_GROUP = (DETECTION_CLASSES,)
"""All classes on one regression branch."""

SIX_GROUPS = (
    ('car',), ('truck', 'construction_vehicle'), ('bus', 'trailer'), ('barrier',), ('motorcycle', 'bicycle'),
    ('pedestrian', 'traffic_cone'))
"""Groups with a regression branch each (Yin et al. 2021, arXiv 2006.11275, nuScenes set-up)."""

CROWDED_CLASSES = ('pedestrian', 'traffic_cone', 'barrier')
"""Objects of these stand so close together that two of them have neighbouring cells."""

IS_HALF_TURN = np.array([name in HALF_TURN_CLASSES for name in DETECTION_CLASSES])
"""bool `(10,)`: classes that look the same from both ends, so that yaw and yaw + pi are one heading."""

NMS_RADIUS_M = {
    'car': 2.0, 'truck': 3.46, 'construction_vehicle': 3.46, 'bus': 3.16, 'trailer': 3.16, 'barrier': 1.0,
    'motorcycle': 0.92, 'bicycle': 0.92, 'pedestrian': 0.42, 'traffic_cone': 0.42}
"""Two boxes of a class whose centres are closer than this are one object.

The publication has squared radii; these are their roots.
"""
