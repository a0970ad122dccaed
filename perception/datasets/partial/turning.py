"""A teacher's predictions above a confidence -> labels with weights."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...core.contracts import (
    SIZE,
    Boxes3D,
    BoxLabels,
    LabelledArea,
    LanePolylines,
    Lanes,
    MapCells,
    MapSegmentation,
    Occupancy,
    OccupancyLabels,
)
from ...core.protocols import OCCUPANCY_IGNORED, OCCUPANCY_SHAPE_XYZ

CONFIDENCES = {'detection': 0.4, 'map_segmentation': 0.75, 'occupancy': 0.75, 'lanes': 0.4}
"""What a label needs at least, where nothing else is asked for."""

DOUBTFUL = 0.5
"""Boxes and elements from this share of the confidence on are ignored places (weight 0), no background."""

_CLOSED_M = 1.0


def turn_boxes(boxes: Boxes3D, confidence: float, area: LabelledArea) -> BoxLabels:
    """Boxes with their scores as weights; doubtful ones with 0. Sizes that are no sizes are left out."""
    geometry_M7 = boxes.boxes_M9[:, :7]
    sound_M = np.isfinite(geometry_M7).all(1) & (geometry_M7[:, SIZE] > 0).all(1)
    keep = np.flatnonzero(sound_M & (boxes.scores_M >= DOUBTFUL * confidence))
    scores_M, unknown_M = boxes.scores_M[keep], np.full(len(keep), -1, np.int64)
    return BoxLabels(
        boxes_M9=boxes.boxes_M9[keep].astype(np.float32),
        labels_M=boxes.labels_M[keep].astype(np.int64),
        attributes_M=boxes.attributes_M[keep].astype(np.int64),
        num_lidar_points_M=unknown_M,
        num_radar_points_M=unknown_M,
        visibility_M=np.zeros(len(keep), np.int64),
        classes=boxes.classes,
        weights_M=_weights(scores_M, confidence),
        area=area)


def turn_map(prediction: MapSegmentation, confidence: float, area: LabelledArea) -> MapCells:
    """A cell is what is likelier, present or not, with that probability as weight; 0 below the confidence."""
    probabilities = np.nan_to_num(prediction.probabilities_6YX, nan=0.5)
    certainty = np.maximum(probabilities, 1 - probabilities)
    own = LabelledArea(prediction.x_range_m, prediction.y_range_m)
    return MapCells((probabilities >= 0.5).astype(np.uint8), _weights(certainty, confidence), own)


def turn_occupancy(voxels: Occupancy, confidence: float, area: LabelledArea) -> OccupancyLabels:
    """Voxels with the softmax of their class as weight; 255 and 0 below the confidence.

    Raises:
        ValueError: the voxels have no confidences, or are not those of the protocol.
    """
    if voxels.confidence_XYZ is None or voxels.semantics_XYZ.shape != tuple(OCCUPANCY_SHAPE_XYZ):
        found = 'none' if voxels.confidence_XYZ is None else f'voxels {voxels.semantics_XYZ.shape}'
        raise ValueError(
            f"occupancy: expected the teacher's confidences of {tuple(OCCUPANCY_SHAPE_XYZ)} voxels, "
            f'found {found}')
    weights = _weights(np.nan_to_num(voxels.confidence_XYZ.astype(np.float32)), confidence)
    labelled = (weights > 0).astype(np.uint8)
    semantics = np.where(labelled, voxels.semantics_XYZ, OCCUPANCY_IGNORED).astype(np.uint8)
    return OccupancyLabels(semantics, labelled, labelled, weights_XYZ=weights)


def turn_lanes(lanes: Lanes, confidence: float, area: LabelledArea) -> LanePolylines:
    """Elements with their scores as weights; doubtful ones with 0. Ends that nearly meet are joined."""
    finite_L = np.isfinite(lanes.points_LP2).all((1, 2))
    keep = np.flatnonzero(finite_L & (lanes.scores_L >= DOUBTFUL * confidence))
    radius_m = float(np.hypot(np.abs(area.x_range_m).max(), np.abs(area.y_range_m).max()))
    return LanePolylines(
        tuple(_joined(lanes.points_LP2[i].astype(np.float32)) for i in keep),
        lanes.labels_L[keep].astype(np.int64), radius_m,
        weights_L=_weights(lanes.scores_L[keep], confidence), area=area)


TURNS: dict[str, Callable[[Any, float, LabelledArea], Any]] = {
    'detection': turn_boxes, 'map_segmentation': turn_map, 'occupancy': turn_occupancy, 'lanes': turn_lanes}
"""Task -> (prediction, confidence, where it was looked) -> labels with weights."""


def _weights(scores: np.ndarray, confidence: float) -> np.ndarray:
    return np.where(scores >= confidence, np.clip(scores, 0, 1), 0).astype(np.float32)


def _joined(line_P2: np.ndarray) -> np.ndarray:
    """A ring, whose ends a network never puts on one place exactly, with its last point on its first."""
    length_m = np.linalg.norm(np.diff(line_P2, axis=0), axis=1).sum()
    if len(line_P2) < 4 or np.linalg.norm(line_P2[0] - line_P2[-1]) > min(_CLOSED_M, length_m / 4):
        return line_P2
    return np.concatenate([line_P2[:-1], line_P2[:1]])
