"""A teacher's labels of one frame as plain arrays, and back as the labels that a head reads.

Weights of boxes and elements are float32; those of cells and voxels come in fifteenths (0: not labelled), so
that a frame of voxels takes tens of kilobytes.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import (
    BoxLabels,
    DetectionClasses,
    LabelledArea,
    LanePolylines,
    MapCells,
    OccupancyLabels,
)
from ...core.protocols import (
    ATTRIBUTES,
    LANE_CLASSES,
    OCCUPANCY_FREE,
    OCCUPANCY_IGNORED,
    OCCUPANCY_SHAPE_XYZ,
)
from ...core.reading import BadFile, check_array

LEVELS = 15
_FAR_M = 1e5
Arrays = Mapping[str, np.ndarray]
Facts = Mapping[str, Any]


def to_levels(weights: np.ndarray) -> np.ndarray:
    """Weights 0..1 in fifteenths, uint8; none above 0 becomes 0."""
    weights = np.asarray(weights, np.float64)
    return np.where(weights > 0, np.clip(np.round(weights * LEVELS), 1, LEVELS), 0).astype(np.uint8)


def from_levels(levels: np.ndarray) -> np.ndarray:
    """Inverse of `to_levels`, float32."""
    return levels.astype(np.float32) / LEVELS


def box_arrays(boxes: BoxLabels) -> dict[str, np.ndarray]:
    """Boxes as arrays."""
    return {
        'boxes': boxes.boxes_M9.astype(np.float32), 'labels': boxes.labels_M.astype(np.int16),
        'attributes': boxes.attributes_M.astype(np.int8), 'weights': boxes.weights_M.astype(np.float32)}


def read_boxes(path: Path, arrays: Arrays, facts: Facts, classes: DetectionClasses) -> BoxLabels:
    """Inverse of `box_arrays`; how many points lie in a box is not known (-1)."""
    boxes_M9 = _checked(path, arrays, 'boxes', 'f', (None, 9), (-_FAR_M, _FAR_M))
    m = len(boxes_M9)
    if m and not (boxes_M9[:, 3:6] > 0).all():
        raise BadFile(path, f'detection.boxes: found a size of {boxes_M9[:, 3:6].min()}, expected above 0')

    labels_M = _checked(path, arrays, 'labels', 'iu', (m,), (0, len(classes.names) - 1))
    attributes_M = _checked(path, arrays, 'attributes', 'iu', (m,), (-1, len(ATTRIBUTES) - 1))
    unknown_M = np.full(m, -1, np.int64)
    return BoxLabels(
        boxes_M9=boxes_M9,
        labels_M=labels_M.astype(np.int64),
        attributes_M=attributes_M.astype(np.int64),
        num_lidar_points_M=unknown_M,
        num_radar_points_M=unknown_M,
        visibility_M=np.zeros(m, np.int64),
        classes=classes,
        weights_M=_checked(path, arrays, 'weights', 'f', (m,), (0, 1)),
        area=_area(facts))


def map_arrays(cells: MapCells) -> dict[str, np.ndarray]:
    """Cells as arrays, eight masks' cells to a byte."""
    return {'masks': np.packbits(cells.masks_KYX, axis=-1), 'levels': to_levels(cells.weights_KYX)}


def read_map(path: Path, arrays: Arrays, facts: Facts, classes: DetectionClasses) -> MapCells:
    """Inverse of `map_arrays`."""
    count = len(facts['classes'])
    levels_KYX = _checked(path, arrays, 'levels', 'u', (count, None, None), (0, LEVELS))
    rows, columns = levels_KYX.shape[1:]
    packed = _checked(path, arrays, 'masks', 'u', (count, rows, -(-columns // 8)))
    masks_KYX = np.unpackbits(packed.astype(np.uint8), axis=-1, count=columns)
    return MapCells(masks_KYX, from_levels(levels_KYX), _area(facts))


def occupancy_arrays(voxels: OccupancyLabels) -> dict[str, np.ndarray]:
    """Voxels as arrays."""
    return {'semantics': voxels.semantics_XYZ, 'levels': to_levels(voxels.weights_XYZ)}


def read_occupancy(
    path: Path, arrays: Arrays, facts: Facts, classes: DetectionClasses
) -> OccupancyLabels:
    """Inverse of `occupancy_arrays`; both masks are where a voxel is labelled."""
    levels = _checked(path, arrays, 'levels', 'u', OCCUPANCY_SHAPE_XYZ, (0, LEVELS))
    semantics = _checked(path, arrays, 'semantics', 'u', OCCUPANCY_SHAPE_XYZ, (0, OCCUPANCY_IGNORED))
    if ((semantics > OCCUPANCY_FREE) & (levels > 0)).any():
        raise BadFile(path, f'occupancy.semantics: expected 0 to {OCCUPANCY_FREE} where a weight is above 0')
    labelled = (levels > 0).astype(np.uint8)
    return OccupancyLabels(semantics, labelled, labelled, weights_XYZ=from_levels(levels))


def lane_arrays(lanes: LanePolylines) -> dict[str, np.ndarray]:
    """Elements as arrays, their points one after the other."""
    points = np.concatenate([np.zeros((0, 2), np.float32), *lanes.points]).astype(np.float32)
    return {
        'points': points, 'lengths': np.array([len(line) for line in lanes.points], np.int32),
        'labels': lanes.labels_L.astype(np.int8), 'weights': lanes.weights_L.astype(np.float32)}


def read_lanes(path: Path, arrays: Arrays, facts: Facts, classes: DetectionClasses) -> LanePolylines:
    """Inverse of `lane_arrays`."""
    points_P2 = _checked(path, arrays, 'points', 'f', (None, 2), (-_FAR_M, _FAR_M))
    lengths_L = _checked(path, arrays, 'lengths', 'iu', (None,), (2, max(2, len(points_P2)))).astype(int)
    count = len(lengths_L)
    if lengths_L.sum() != len(points_P2):
        raise BadFile(path, f'lanes.lengths: found {lengths_L.sum()} points, expected {len(points_P2)}')

    area = _area(facts)
    return LanePolylines(
        points=tuple(np.split(points_P2, np.cumsum(lengths_L)[:-1])) if count else (),
        labels_L=_checked(path, arrays, 'labels', 'iu', (count,), (0, len(LANE_CLASSES) - 1)).astype(int),
        radius_m=float(np.hypot(np.abs(area.x_range_m).max(), np.abs(area.y_range_m).max())),
        protocol=facts['protocol'],
        weights_L=_checked(path, arrays, 'weights', 'f', (count,), (0, 1)),
        area=area)


TO_ARRAYS: dict[str, Callable[[Any], dict[str, np.ndarray]]] = {
    'detection': box_arrays, 'map_segmentation': map_arrays, 'occupancy': occupancy_arrays,
    'lanes': lane_arrays}
"""Task -> its labels as arrays."""

FROM_ARRAYS: dict[str, Callable[[Path, Arrays, Facts, DetectionClasses], Any]] = {
    'detection': read_boxes, 'map_segmentation': read_map, 'occupancy': read_occupancy, 'lanes': read_lanes}
"""Task -> its labels from (path, arrays, the header's facts of the task, classes of boxes)."""


def _area(facts: Facts) -> LabelledArea:
    (x_range_m, y_range_m) = facts['area']
    return LabelledArea(tuple(x_range_m), tuple(y_range_m))


def _checked(
    path: Path, arrays: Arrays, name: str, kinds: str, shape: Sequence[int | None],
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    if name not in arrays:
        raise BadFile(path, f'found no array {name!r}, expected {", ".join(arrays) or "some"} and it')
    return check_array(path, name, arrays[name], kinds, shape, limits)
