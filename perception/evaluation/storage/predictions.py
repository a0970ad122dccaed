"""Predictions that a model made earlier, looked up by frame: of our own results or of anybody's file."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.contracts import NUSCENES_CLASSES, Boxes3D, DetectionClasses, Frame, TaskOutput
from ...core.geometry import invert, transform_points
from ..detection.boxes import BoxTable
from ..detection.file import DetectionResults, read_box_results
from ..errors import ResultError
from .files import results_folder
from .results import ResultStore


class StoredPredictions:
    """What is stored for each frame.

    Args:
        path: a folder of per-sample results, the work dir of a test, or a nuScenes file of detections or
            tracks (.json, .json.gz), of which the boxes are taken.

    Raises:
        ResultError: there is nothing of the kind, or the file is malformed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._store: ResultStore | None = None
        self._results: DetectionResults | None = None
        self._row_of: dict[str, int] = {}

        if not self.path.is_dir():
            self._results = read_box_results(self.path)
            self._row_of = {token: row for row, token in enumerate(self._results.tokens)}
            return
        self._store = ResultStore(results_folder(self.path))
        if not self._store.tokens():
            raise ResultError(f'{path}: expected a folder of results with samples/<token>.npz, found none')

    def __call__(self, frame: Frame) -> TaskOutput:
        """The predictions for a frame.

        Raises:
            ResultError: there are none, or they are damaged.
        """
        if self._store is not None:
            return self._store.read(frame.token)
        row = self._row_of.get(frame.token)
        if row is None:
            raise ResultError(f'{self.path}: sample {frame.token} has no result')

        boxes, classes = self._results.boxes, self._results.format.classes
        first, last = np.searchsorted(boxes.sample_M, [row, row + 1])
        boxes = boxes.select(np.arange(first, last))
        return TaskOutput(frame, detection=boxes_in_ego(boxes, frame, classes))


def boxes_in_ego(
    table: BoxTable, frame: Frame, classes: DetectionClasses = NUSCENES_CLASSES
) -> Boxes3D:
    """Boxes of one sample from global into the car's frame, best first: inverse of `ego_to_global`.

    `classes` says what their labels mean.
    """
    ego_T_global = invert(np.asarray(frame.global_T_ego, dtype=np.float64))
    upright_22 = ego_T_global[:2, :2]
    heading_M2 = np.stack([np.cos(table.yaw_M), np.sin(table.yaw_M)], 1) @ upright_22.T

    boxes_M9 = np.column_stack([
        transform_points(ego_T_global, table.centre_M3),
        table.size_M3[:, [1, 0, 2]],  # files have the width first
        np.arctan2(heading_M2[:, 1], heading_M2[:, 0]), table.velocity_M2 @ upright_22.T])
    order = np.argsort(-table.score_M, kind='stable')
    return Boxes3D(
        boxes_M9[order].astype(np.float32), table.score_M[order].astype(np.float32),
        table.label_M[order].astype(np.int64), table.attribute_M[order].astype(np.int64), classes)
