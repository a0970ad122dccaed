"""Lanes: lines on the ground in the cameras, lines with a dot at the first point from above."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.contracts import LanePolylines, Lanes
from ..core.protocols import LANE_CLASSES, LANE_RANGES_M
from ..core.raster import clip_polyline
from ..registry import TASK_LAYERS
from . import palette
from .base import DrawingOptions, TaskLayer
from .bev import BevCanvas
from .camera import CameraCanvas
from .legend import LegendEntry, entries_of
from .pages.shapes import LineShapes


@TASK_LAYERS.register_module('lanes')
@dataclass(frozen=True)
class LaneLayer(TaskLayer):
    """Lane elements of one frame.

    Attributes:
        lines: (points `(P, 2)` in ego metres on the ground, index into `LANE_CLASSES`).
        scores_L: of predicted lanes; None of labels.
    """

    title = 'lanes'
    order = 10

    lines: tuple[tuple[np.ndarray, int], ...]
    scores_L: np.ndarray | None = None

    @classmethod
    def from_prediction(cls, prediction: Lanes, options: DrawingOptions) -> LaneLayer:
        """The lanes whose score reaches the threshold."""
        keep = prediction.scores_L >= options.score_threshold
        lines = zip(prediction.points_LP2[keep], prediction.labels_L[keep].tolist(), strict=True)
        return cls(tuple(lines), prediction.scores_L[keep])

    @classmethod
    def from_truth(cls, labels: LanePolylines, options: DrawingOptions) -> LaneLayer:
        """The annotated lanes, cut to the 60 x 30 m that predictions cover."""
        pieces = [
            (piece, int(label))
            for line, label in zip(labels.points, labels.labels_L, strict=True)
            for piece in clip_polyline(line, *LANE_RANGES_M['60x30'])
        ]
        return cls(tuple(pieces))

    def legend(self) -> tuple[LegendEntry, ...]:
        """The four classes."""
        return entries_of(palette.LANES, mark='line')

    def draw_on_camera(self, canvas: CameraCanvas) -> None:
        """Lines on the plane z = 0."""
        for points_P2, label in self.lines:
            points_P3 = np.pad(points_P2[:, :2].astype(np.float64), ((0, 0), (0, 1)))
            canvas.draw_polyline(points_P3, palette.LANES[LANE_CLASSES[label]])

    def draw_on_bev(self, canvas: BevCanvas) -> None:
        """Lines with a dot where each begins."""
        for points_P2, label in self.lines:
            colour = palette.LANES[LANE_CLASSES[label]]
            canvas.draw_line(points_P2, colour)
            canvas.draw_dot(points_P2[0], colour)

    def shapes(self) -> LineShapes:
        """The lanes with their scores."""
        lines, labels = zip(*self.lines, strict=True) if self.lines else ((), ())
        return LineShapes(lines, np.array(labels, dtype=int), palette.LANES, self.scores_L)

    def log_to_rerun(self, rr: Any, recording: Any) -> None:
        """Lines on the plane z = 0."""
        if self.lines:
            strips = [np.pad(points_P2, ((0, 0), (0, 1))) for points_P2, _ in self.lines]
            recording.log('ego/lanes', rr.LineStrips3D(strips))
