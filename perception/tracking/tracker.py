"""Boxes of one frame after the other -> numbers of objects; in global coordinates, which stand still."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.contracts import CENTRE, VELOCITY, YAW
from .matching import match_greedily
from .motion import KalmanMotion, VelocityMotion
from .options import TrackerOptions

_MOTION = {'velocity': VelocityMotion, 'kalman': KalmanMotion}
_GATE_S = 0.5
_COLUMNS = ('x', 'y', 'z', 'length', 'width', 'height', 'yaw')


@dataclass(frozen=True)
class Tracked:
    """What a tracker says of the M boxes of a frame.

    Attributes:
        ids_M: int64, above 0, each once; 0 for boxes that have no track (yet).
        boxes_M9: float64, the boxes; with 'kalman' with filtered centre (x, y), always with the tracker's
            velocity where there is a track.
    """

    ids_M: np.ndarray
    boxes_M9: np.ndarray


class Tracker:
    """Follows boxes: greedy matching of centres by predicted place, birth and death.

    Detections choose best first; each takes the nearest free track of its class within the gate. A frame that
    is lost costs nothing but time: tracks go on until `max_age_s`.

    Args:
        options: default `TrackerOptions()`.

    Attributes:
        resets: how often all tracks ended at once, by a clock that jumped or by `reset`.

    Source: Yin et al., Center-based 3D object detection and tracking, CVPR 2021 (arXiv 2006.11275), section
    4.2; there the detection is moved back by its own velocity, here the track is moved ahead, which also
    works where a detection reports no velocity.
    """

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self.options = options or TrackerOptions()
        self.resets = 0
        self._next_id = 1
        self._time_ns: int | None = None
        self._gates_m = np.array(self.options.gate_of_label(), dtype=np.float64)
        self._forget()

        # the first frame shall not wait for the compiler
        self.update(0, np.zeros((0, 9)), np.zeros(0), np.zeros(0))
        self._forget()

    def __len__(self) -> int:
        """Tracks that are alive, seen in the last frame or not."""
        return len(self._id_N)

    def reset(self) -> None:
        """End all tracks; numbers go on and are never used again."""
        self._forget()
        self.resets += 1

    def _forget(self) -> None:
        self._motion = _MOTION[self.options.motion](self.options)
        self._id_N, self._label_N, self._hits_N = (np.zeros(0, dtype=np.int64) for _ in range(3))
        self._unseen_s_N = np.zeros(0)
        self._time_ns = None

    def update(
        self, time_ns: int, boxes_M9: np.ndarray, labels_M: np.ndarray, scores_M: np.ndarray
    ) -> Tracked:
        """Take the boxes of the next frame.

        Args:
            time_ns: of the frame.
            boxes_M9: global, columns as in `core.contracts`; velocity NaN or zero where unknown.
            labels_M: into the classes of the options.
            scores_M: higher ones choose first.

        Raises:
            ValueError: a place, size or yaw is not finite, a label is none, or lengths differ; names the box.
        """
        boxes_M9 = np.array(boxes_M9, dtype=np.float64).reshape(-1, 9)
        labels_M, scores_M = np.asarray(labels_M, dtype=np.int64), np.asarray(scores_M, dtype=np.float64)
        _check(boxes_M9, labels_M, scores_M, len(self.options.classes))
        self._advance(int(time_ns))

        # gates grow with the time since a track was seen
        reach_N = np.maximum(self._unseen_s_N / _GATE_S, 1.0) * self._gates_m[self._label_N]
        xy_M2, velocity_M2 = boxes_M9[:, CENTRE][:, :2].copy(), boxes_M9[:, VELOCITY].copy()
        order_M = np.argsort(-scores_M, kind='stable')
        track_of_M = match_greedily(
            xy_M2, labels_M, order_M, self._motion.xy_N2, self._label_N, reach_N)

        seen_M = track_of_M >= 0
        tracks = track_of_M[seen_M]
        self._motion.correct(tracks, xy_M2[seen_M], velocity_M2[seen_M])
        self._hits_N[tracks] += 1
        self._unseen_s_N[tracks] = 0.0

        born = np.flatnonzero(~seen_M & (scores_M >= self.options.birth_score))
        track_of_M[born] = len(self) + np.arange(len(born))
        self._begin(labels_M[born], xy_M2[born], velocity_M2[born])
        return self._tracked(boxes_M9, track_of_M)

    def _advance(self, time_ns: int) -> None:
        """Let time go on to a frame; what was not seen for too long ends."""
        step_s = 0.0 if self._time_ns is None else (time_ns - self._time_ns) / 1e9
        if not 0 <= step_s <= self.options.max_jump_s:
            self.reset()
            step_s = 0.0
        self._time_ns = time_ns

        self._motion.predict(step_s)
        self._unseen_s_N = self._unseen_s_N + step_s
        alive_N = self._unseen_s_N <= self.options.max_age_s + 1e-6
        if not alive_N.all():
            self._motion.keep(alive_N)
            self._id_N, self._label_N = self._id_N[alive_N], self._label_N[alive_N]
            self._hits_N, self._unseen_s_N = self._hits_N[alive_N], self._unseen_s_N[alive_N]

    def _begin(self, labels_K: np.ndarray, xy_K2: np.ndarray, velocity_K2: np.ndarray) -> None:
        count = len(labels_K)
        self._motion.begin(xy_K2, velocity_K2)
        self._id_N = np.concatenate([self._id_N, self._next_id + np.arange(count)])
        self._label_N = np.concatenate([self._label_N, labels_K])
        self._hits_N = np.concatenate([self._hits_N, np.ones(count, dtype=np.int64)])
        self._unseen_s_N = np.concatenate([self._unseen_s_N, np.zeros(count)])
        self._next_id += count

    def _tracked(self, boxes_M9: np.ndarray, track_of_M: np.ndarray) -> Tracked:
        """Numbers and boxes of those tracks that were seen often enough."""
        ids_M = np.zeros(len(boxes_M9), dtype=np.int64)
        rows = np.flatnonzero(track_of_M >= 0)
        rows = rows[self._hits_N[track_of_M[rows]] >= self.options.min_hits]
        tracks = track_of_M[rows]

        ids_M[rows] = self._id_N[tracks]
        boxes_M9[rows, VELOCITY] = self._motion.velocity_N2[tracks]
        boxes_M9[rows, :2] = self._motion.xy_N2[tracks]
        return Tracked(ids_M, boxes_M9)


def _check(boxes_M9: np.ndarray, labels_M: np.ndarray, scores_M: np.ndarray, classes: int) -> None:
    m = len(boxes_M9)
    if len(labels_M) != m or len(scores_M) != m:
        raise ValueError(f'tracker: found {m} boxes, {len(labels_M)} labels and {len(scores_M)} scores')

    bad = np.argwhere(~np.isfinite(boxes_M9[:, :YAW + 1]))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f'tracker: box[{row}].{_COLUMNS[column]} is {boxes_M9[row, column]}, expected a finite number')
    wrong = np.flatnonzero((labels_M < 0) | (labels_M >= classes) | ~np.isfinite(scores_M))
    if len(wrong):
        raise ValueError(
            f'tracker: box[{wrong[0]}] has label {labels_M[wrong[0]]} and score {scores_M[wrong[0]]}, '
            f'expected a label of 0 to {classes - 1} and a finite score')
