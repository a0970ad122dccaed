"""Objects that were followed over time, as they are in one frame."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .checks import check_shape


@dataclass(frozen=True)
class Tracks:
    """M tracks that have a box in this frame, in ego.

    Attributes:
        ids_M: int64, above 0, each once; the same number is the same object in every frame.
        boxes_M9: float32, columns as in `BoxLabels`; the velocity is the tracker's.
        scores_M: 0..1.
        labels_M: into the classes of the boxes that are followed.
        rows_M: int64, row of the frame's detections (or labels) that each one is.
        past: M arrays `(P, 2)` float64, where each one was, oldest first; the last is its place now.
        ahead_MF2: float64, where it will be after equal steps of time if nothing changes its turn and speed.
    """

    ids_M: np.ndarray
    boxes_M9: np.ndarray
    scores_M: np.ndarray
    labels_M: np.ndarray
    rows_M: np.ndarray
    past: tuple[np.ndarray, ...]
    ahead_MF2: np.ndarray

    def __post_init__(self) -> None:
        m = len(self.ids_M)
        check_shape('Tracks', 'boxes_M9', self.boxes_M9, m, 9)
        for name in ('scores_M', 'labels_M', 'rows_M'):
            check_shape('Tracks', name, getattr(self, name), m)
        check_shape('Tracks', 'ahead_MF2', self.ahead_MF2, m, 'F', 2)
        if len(self.past) != m:
            raise ValueError(f'Tracks.past: expected {m} arrays, found {len(self.past)}')

    def select(self, keep_M: np.ndarray) -> Tracks:
        """The tracks that bool `keep_M` marks."""
        past = tuple(self.past[i] for i in np.flatnonzero(keep_M).tolist())
        return Tracks(
            self.ids_M[keep_M], self.boxes_M9[keep_M], self.scores_M[keep_M], self.labels_M[keep_M],
            self.rows_M[keep_M], past, self.ahead_MF2[keep_M])
