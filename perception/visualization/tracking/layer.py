"""Tracks: numbers, a tail where each object was, dots where it will be if it turns and drives on as now."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.contracts import CENTRE, SIZE, Tracks
from ...registry import TASK_LAYERS
from ..base import DrawingOptions, TaskLayer
from ..bev import BevCanvas
from ..camera import CameraCanvas
from ..pages.shapes import TrailShapes
from ..palette import colour_of

_MOVED_M = 1.0
"""Way below which neither tail nor dots are drawn: standing objects would be hidden by their own noise."""


@TASK_LAYERS.register_module('tracking')
@dataclass(frozen=True)
class TrackLayer(TaskLayer):
    """Tracks of one frame; every number has its colour in all frames.

    Attributes:
        tracks: in ego.
    """

    title = 'tracks'
    order = 40

    tracks: Tracks

    @classmethod
    def from_prediction(cls, prediction: Tracks, options: DrawingOptions) -> TrackLayer:
        """The tracks whose score reaches the threshold."""
        return cls(prediction.select(np.asarray(prediction.scores_M) >= options.score_threshold))

    @classmethod
    def from_truth(cls, labels: Tracks, options: DrawingOptions) -> TrackLayer:
        """All annotated tracks."""
        return cls(labels)

    def draw_on_camera(self, canvas: CameraCanvas) -> None:
        """The number above the box, tail and dots on the ground."""
        tracks = self.tracks
        for m, number in enumerate(tracks.ids_M.tolist()):
            box, colour = tracks.boxes_M9[m].astype(np.float64), colour_of(number)
            ground_m = box[2] - box[SIZE][2] / 2

            for line in (tracks.past[m], self._way_ahead(m)):
                if _length(line) > _MOVED_M:
                    points = np.column_stack([line, np.full(len(line), ground_m)])
                    canvas.draw_polyline(points, colour, 2)
            top = box[CENTRE] + [0, 0, box[SIZE][2] / 2]
            canvas.draw_text(str(number), top, colour)

    def draw_on_bev(self, canvas: BevCanvas) -> None:
        """The tail as a line, the motion ahead as dots, the number beside the box."""
        tracks = self.tracks
        for m, number in enumerate(tracks.ids_M.tolist()):
            colour = colour_of(number)
            if len(tracks.past[m]) > 1 and _length(tracks.past[m]) > _MOVED_M:
                canvas.draw_line(tracks.past[m], colour, 2)
            if _length(self._way_ahead(m)) > _MOVED_M:
                for place in tracks.ahead_MF2[m]:
                    canvas.draw_dot(place, colour, 2)
            canvas.draw_text(str(number), tracks.boxes_M9[m, :2], colour)

    def shapes(self) -> TrailShapes:
        """Numbers above the boxes, tails and ways ahead of those that move."""
        tracks, numbers = self.tracks, self.tracks.ids_M.tolist()
        nothing = np.zeros((0, 2))
        past = tuple(line if _length(line) > _MOVED_M else nothing for line in tracks.past)
        ahead = tuple(
            line if _length(self._way_ahead(m)) > _MOVED_M else nothing
            for m, line in enumerate(tracks.ahead_MF2))

        tops_M3 = tracks.boxes_M9[:, CENTRE] + [0, 0, 1] * tracks.boxes_M9[:, SIZE][:, 2:] * 0.5
        colours = tuple(colour_of(number) for number in numbers)
        return TrailShapes(tuple(numbers), tops_M3, past, ahead, colours, tracks.scores_M)

    def log_to_rerun(self, rr: Any, recording: Any) -> None:
        """Tails and ways ahead as lines on the ground, with the numbers as labels."""
        tracks = self.tracks
        numbers = tracks.ids_M.tolist()
        colours = [colour_of(number) for number in numbers]
        ahead = [self._way_ahead(m) for m in range(len(numbers))]
        for name, lines in (('past', tracks.past), ('ahead', ahead)):
            strips = [np.column_stack([line, np.zeros(len(line))]) for line in lines]
            labels = [str(number) for number in numbers]
            recording.log(f'ego/tracks/{name}', rr.LineStrips3D(strips, colors=colours, labels=labels))

    def _way_ahead(self, m: int) -> np.ndarray:
        """From where track m is to where it will be, `(F + 1, 2)`."""
        return np.concatenate([self.tracks.boxes_M9[m:m + 1, :2], self.tracks.ahead_MF2[m]])


def _length(line_P2: np.ndarray) -> float:
    """Between the ends."""
    return float(np.hypot(*(line_P2[-1] - line_P2[0])))
