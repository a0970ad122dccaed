"""Outputs and labels of one vehicle, frame after frame -> the same with tracks."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.contracts import VELOCITY, Annotations, DetectionClasses, Frame, TaskOutput
from ..core.geometry import invert, transform_boxes
from .history import TrackHistory
from .options import TrackerOptions
from .tracker import Tracker

_FASTEST_MPS = 100.0
_LEAST_JUMP_M = 20.0


class FrameTracker:
    """Adds `Tracks` to the outputs of one vehicle as `TaskOutput.extra['tracking']`.

    State is that of one drive of one vehicle: take one tracker for each. All tracks end, and new numbers
    begin, where the name of the scene changes, the clock jumps (`TrackerOptions.max_jump_s`), or the car
    moves faster than a car can. A frame without a finite pose gives no tracks and ends those there were.

    Args:
        options: of the `Tracker`.
        history: how much past and motion ahead the tracks have; default `TrackHistory()`.
    """

    def __init__(
        self, options: TrackerOptions | None = None, history: TrackHistory | None = None
    ) -> None:
        self.tracker = Tracker(options)
        self.history = history or TrackHistory()
        self._last: Frame | None = None

    @property
    def resets(self) -> int:
        """How often all tracks ended at once."""
        return self.tracker.resets

    def __call__(self, output: TaskOutput) -> TaskOutput:
        """The output with tracks; itself where it has no boxes.

        Raises:
            ValueError: a box is not finite or has no class, or the options have gates for other classes.
        """
        frame = output.frame
        if not np.isfinite(frame.global_T_ego).all():
            self._reset()
            return output
        if self._last is not None and _is_another_drive(self._last, frame):
            self._reset()
        self._last = frame
        if output.detection is None:
            return output

        found = output.detection
        self._follow_classes(found.classes)
        before = self.tracker.resets
        boxes = np.asarray(found.boxes_M9, dtype=np.float64)
        tracked = self.tracker.update(
            frame.timestamp_ns, transform_boxes(frame.global_T_ego, boxes), found.labels_M, found.scores_M)
        if self.tracker.resets != before:
            self.history.clear()

        rows = np.flatnonzero(tracked.ids_M)
        moved = transform_boxes(invert(frame.global_T_ego), tracked.boxes_M9[rows])
        boxes = boxes[rows]
        boxes[:, :2], boxes[:, VELOCITY] = moved[:, :2], moved[:, VELOCITY]
        tracks = self.history.tracks(
            frame, tracked.ids_M[rows], boxes, np.asarray(found.scores_M)[rows],
            np.asarray(found.labels_M)[rows], rows)
        return replace(output, extra={**output.extra, 'tracking': tracks})

    def _follow_classes(self, classes: DetectionClasses) -> None:
        """Take another tracker where the boxes are of other classes than those before: at a first frame."""
        if classes != self.tracker.options.classes:
            self.tracker = Tracker(replace(self.tracker.options, classes=classes))
            self.history.clear()

    def _reset(self) -> None:
        self.tracker.reset()
        self.history.clear()
        self._last = None


class TruthTracks:
    """Adds `Tracks` to labels as `Annotations.extra['tracking']`: annotated objects, numbered as they come.

    Numbers start over where the name of the scene changes.

    Args:
        history: as for `FrameTracker`.
    """

    def __init__(self, history: TrackHistory | None = None) -> None:
        self.history = history or TrackHistory()
        self._number_of: dict[str, int] = {}
        self._scene: str | None = None

    def __call__(self, frame: Frame, annotations: Annotations) -> Annotations:
        """The labels with tracks; themselves where no box says which object it is."""
        boxes = annotations.boxes
        if boxes is None or not boxes.instance_tokens:
            return annotations
        if frame.scene != self._scene:
            self._number_of.clear()
            self.history.clear()
            self._scene = frame.scene

        number_of = self._number_of
        ids = [number_of.setdefault(token, len(number_of) + 1) for token in boxes.instance_tokens]
        tracks = self.history.tracks(
            frame, np.array(ids, dtype=np.int64), np.asarray(boxes.boxes_M9, dtype=np.float64),
            np.ones(len(ids), dtype=np.float32), boxes.labels_M, np.arange(len(ids)))
        return replace(annotations, extra={**annotations.extra, 'tracking': tracks})


def _is_another_drive(last: Frame, frame: Frame) -> bool:
    """Whether two frames cannot follow each other on one drive."""
    step_s = abs(frame.timestamp_ns - last.timestamp_ns) / 1e9
    moved_m = np.linalg.norm(frame.global_T_ego[:3, 3] - last.global_T_ego[:3, 3])
    return frame.scene != last.scene or moved_m > max(_LEAST_JUMP_M, _FASTEST_MPS * step_s)
