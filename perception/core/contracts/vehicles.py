"""The ground that annotated vehicles cover, as one more class of the map."""
from __future__ import annotations

import numpy as np

from ..geometry import box_corners
from ..protocols import DETECTION_CLASSES, VEHICLE_CLASSES
from .annotations import BoxLabels, MapLayers, Polygon

_BOTTOM = (0, 1, 2, 3)
_VEHICLE_LABELS = [DETECTION_CLASSES.index(name) for name in VEHICLE_CLASSES]


def with_vehicles(layers: MapLayers, boxes: BoxLabels) -> MapLayers:
    """The map with a class 'vehicle': the footprints of all annotated vehicles, seen or not, in ego metres.

    As Philion & Fidler 2020 (arXiv 2008.05711) draw theirs.
    """
    is_vehicle_M = np.isin(boxes.labels_M, _VEHICLE_LABELS)
    geometry_V7 = np.asarray(boxes.boxes_M9)[is_vehicle_M, :7].astype(np.float64)

    corners_V42 = box_corners(geometry_V7[np.isfinite(geometry_V7).all(1)])[:, _BOTTOM, :2]
    footprints: tuple[Polygon, ...] = tuple((corners_42, ()) for corners_42 in corners_V42)
    return MapLayers({**layers.polygons, 'vehicle': footprints}, layers.lines, layers.radius_m)
