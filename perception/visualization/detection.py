"""Boxes: wireframes on the cameras, footprints with heading and velocity from above."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..core.contracts import (
    CENTRE,
    NUSCENES_CLASSES,
    SIZE,
    VELOCITY,
    YAW,
    Boxes3D,
    BoxLabels,
    DetectionClasses,
)
from ..core.geometry import box_corners
from ..registry import TASK_LAYERS
from . import palette
from .base import DrawingOptions, TaskLayer
from .bev import BevCanvas
from .camera import CameraCanvas
from .legend import LegendEntry, entries_of
from .pages.shapes import BoxShapes

_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
_FRONT_CROSS = ((0, 5), (1, 4))
_STILL_MPS = 0.5


@TASK_LAYERS.register_module('detection')
@dataclass(frozen=True)
class DetectionLayer(TaskLayer):
    """Boxes of one frame.

    Attributes:
        boxes_M9: in ego, columns as in `core.contracts`.
        labels_M: into `classes`.
        velocity_s: an arrow ends where the object is after this time.
        classes: what the labels mean.
        scores_M: of predicted boxes; None of labels.
    """

    title = 'boxes'
    order = 20

    boxes_M9: np.ndarray
    labels_M: np.ndarray
    velocity_s: float = 1.0
    classes: DetectionClasses = NUSCENES_CLASSES
    scores_M: np.ndarray | None = None

    @classmethod
    def from_prediction(cls, prediction: Boxes3D, options: DrawingOptions) -> DetectionLayer:
        """The boxes whose score reaches the threshold."""
        keep = prediction.scores_M >= options.score_threshold
        return cls(
            prediction.boxes_M9[keep], prediction.labels_M[keep], classes=prediction.classes,
            scores_M=prediction.scores_M[keep])

    @classmethod
    def from_truth(cls, labels: BoxLabels, options: DrawingOptions) -> DetectionLayer:
        """All annotated boxes."""
        return cls(labels.boxes_M9, labels.labels_M, classes=labels.classes)

    def legend(self) -> tuple[LegendEntry, ...]:
        """The classes."""
        return entries_of(self._colours, mark='outline')

    def draw_on_camera(self, canvas: CameraCanvas) -> None:
        """Wireframes, far ones first, with a cross on the front face."""
        if not len(self.boxes_M9):
            return
        corners_ego = box_corners(self.boxes_M9.astype(np.float64)).reshape(-1, 3)
        corners_M83 = canvas.to_camera(corners_ego).reshape(-1, 8, 3)

        for m in np.argsort(-corners_M83[..., 2].mean(1)):
            colour = self._colour(m)
            for a, b in _EDGES + _FRONT_CROSS:
                canvas.draw_segment(corners_M83[m, a], corners_M83[m, b], colour)

    def draw_on_bev(self, canvas: BevCanvas) -> None:
        """Footprints with a line to the front, and an arrow along the velocity."""
        if not len(self.boxes_M9):
            return
        footprints_M42 = box_corners(self.boxes_M9.astype(np.float64))[:, :4, :2]

        for m, (box, footprint) in enumerate(zip(self.boxes_M9, footprints_M42, strict=True)):
            colour = self._colour(m)
            canvas.draw_line(footprint, colour, 2, closed=True)
            canvas.draw_line(np.stack([box[:2], footprint[:2].mean(0)]), colour, 2)

            velocity = box[VELOCITY]
            if np.isfinite(velocity).all() and np.hypot(*velocity) > _STILL_MPS:
                canvas.draw_arrow(box[:2], box[:2] + self.velocity_s * velocity, palette.INK)

    def shapes(self) -> BoxShapes:
        """The boxes with their scores."""
        return BoxShapes(self.boxes_M9, self.labels_M, self._colours, self.scores_M)

    def log_to_rerun(self, rr: Any, recording: Any) -> None:
        """3-D boxes with the names of their classes."""
        if not len(self.boxes_M9):
            return
        boxes = rr.Boxes3D(
            centers=self.boxes_M9[:, CENTRE],
            half_sizes=self.boxes_M9[:, SIZE] / 2,
            labels=[self.classes.names[int(label)] for label in self.labels_M],
            rotation_axis_angles=[
                rr.RotationAxisAngle((0, 0, 1), angle=float(yaw)) for yaw in self.boxes_M9[:, YAW]
            ],
        )
        recording.log('ego/boxes', boxes)

    @cached_property
    def _colours(self) -> dict[str, tuple[int, int, int]]:
        return palette.detection_colours(self.classes)

    def _colour(self, m: int) -> tuple[int, int, int]:
        return self._colours[self.classes.names[int(self.labels_M[m])]]
