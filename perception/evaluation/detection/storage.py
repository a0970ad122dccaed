"""Detections on disk: arrays in ego per sample, and the nuScenes results format in global."""
from __future__ import annotations

from typing import Any

import numpy as np

from ...core.contracts import (
    CENTRE,
    NUSCENES_CLASSES,
    SIZE,
    VELOCITY,
    YAW,
    Boxes3D,
    DetectionClasses,
    Frame,
)
from ...core.protocols import ATTRIBUTES
from ..errors import ResultError
from .boxes import WIDTH_LENGTH_HEIGHT, BoxTable, ego_to_global
from .file import MAX_BOXES_PER_SAMPLE

COLUMNS = ('x', 'y', 'z', 'length', 'width', 'height', 'yaw', 'score')


def global_boxes(
    boxes: Boxes3D, frame: Frame, sample: int = 0, max_boxes: int = MAX_BOXES_PER_SAMPLE
) -> BoxTable:
    """Detections in ego -> the best of them in global, as the metric and the results file have them.

    Args:
        boxes: of one sample.
        frame: its pose.
        sample: number of the sample in the table.
        max_boxes: how many are kept.

    Raises:
        ResultError: a score, place, size or yaw is not finite, or a label or attribute is none; names the
            sample and the box.
    """
    _check_finite(boxes, frame)
    _check_classes(boxes, frame)

    best = np.argsort(-np.asarray(boxes.scores_M), kind='stable')[:max_boxes]
    rows = ego_to_global(frame.global_T_ego, np.asarray(boxes.boxes_M9)[best])

    return BoxTable.make(
        np.full(len(rows), sample), rows[:, CENTRE], rows[:, SIZE][:, WIDTH_LENGTH_HEIGHT], rows[:, YAW],
        np.nan_to_num(rows[:, VELOCITY]), np.asarray(boxes.labels_M)[best],
        np.asarray(boxes.attributes_M)[best], np.asarray(boxes.scores_M)[best])


def _check_finite(boxes: Boxes3D, frame: Frame) -> None:
    place, scores = np.asarray(boxes.boxes_M9)[:, : YAW + 1], np.asarray(boxes.scores_M)[:, None]
    numbers = np.concatenate([place, scores], 1)
    if np.isfinite(numbers).all():
        return

    row, column = np.argwhere(~np.isfinite(numbers))[0]
    raise ResultError(
        f'sample {frame.token}: detection[{row}].{COLUMNS[column]} is {numbers[row, column]}, '
        'expected a finite number'
    )


def _check_classes(boxes: Boxes3D, frame: Frame) -> None:
    columns = {
        'label': (boxes.labels_M, 0, len(boxes.classes) - 1),
        'attribute': (boxes.attributes_M, -1, len(ATTRIBUTES) - 1)}
    for name, (values, low, high) in columns.items():
        wrong = ~((np.asarray(values) >= low) & (np.asarray(values) <= high))
        if wrong.any():
            row = int(wrong.argmax())
            raise ResultError(
                f'sample {frame.token}: detection[{row}].{name} is {values[row]}, expected {low} to {high}'
            )


def nuscenes_records(
    boxes: BoxTable, token: str, classes: DetectionClasses = NUSCENES_CLASSES
) -> list[dict[str, Any]]:
    """One sample's boxes in the nuScenes results format; `classes` says what their labels mean."""
    half = boxes.yaw_M / 2
    rotation = np.stack([np.cos(half), np.zeros_like(half), np.zeros_like(half), np.sin(half)], 1).tolist()
    columns = zip(
        boxes.centre_M3.tolist(), boxes.size_M3.tolist(), rotation, boxes.velocity_M2.tolist(),
        boxes.label_M.tolist(), boxes.score_M.tolist(), boxes.attribute_M.tolist(), strict=True)

    return [
        dict(
            sample_token=token, translation=centre, size=size, rotation=quaternion, velocity=velocity,
            detection_name=classes.names[label], detection_score=score,
            attribute_name=ATTRIBUTES[attribute] if attribute >= 0 else '')
        for centre, size, quaternion, velocity, label, score, attribute in columns
    ]
