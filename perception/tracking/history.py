"""Where tracks were and where they will be, in the car's own frame, for whoever looks."""
from __future__ import annotations

import numpy as np

from ..core.contracts import CENTRE, VELOCITY, YAW, Frame, Tracks
from ..core.geometry import invert, yaw_of
from .motion import constant_turn

_TURN_S = 1.1
"""A turn is measured over so much of the past."""
_STILL_MPS = 1.0
"""A thing that is slower does not turn: its heading is noise."""
_MOST_TURN = 1.0


class TrackHistory:
    """Remembers the global places of tracks for some seconds.

    Args:
        past_s: how long the tail is.
        ahead_s: how far the motion is drawn on.
        step_s: between the places ahead.
    """

    def __init__(self, past_s: float = 4.0, ahead_s: float = 3.0, step_s: float = 0.5) -> None:
        self.past_s = past_s
        self.steps_s = np.arange(1, round(ahead_s / step_s) + 1) * step_s
        self.clear()

    def clear(self) -> None:
        """Forget everything: another drive begins."""
        self._id_R = np.zeros(0, dtype=np.int64)
        self._place_R4 = np.zeros((0, 4))  # time (s), global x, y, heading

    def tracks(
        self, frame: Frame, ids_M: np.ndarray, boxes_M9: np.ndarray, scores_M: np.ndarray,
        labels_M: np.ndarray, rows_M: np.ndarray,
    ) -> Tracks:
        """Add a frame's boxes and give them with their past and the motion ahead.

        Args:
            frame: time and pose.
            ids_M: int64.
            boxes_M9: in ego.
            scores_M: of the boxes.
            labels_M: of the boxes.
            rows_M: see `Tracks`.
        """
        now_s, pose = frame.timestamp_ns / 1e9, frame.global_T_ego
        self._add(now_s, pose, ids_M, boxes_M9)

        # rows of one track follow each other, in the order of time
        first_M = np.searchsorted(self._id_R, ids_M)
        end_M = np.searchsorted(self._id_R, ids_M, 'right')
        to_ego_22 = invert(pose)[:2, :2]
        xy_R2 = (self._place_R4[:, 1:3] - pose[:2, 3]) @ to_ego_22.T
        past = tuple(xy_R2[a:b] for a, b in zip(first_M.tolist(), end_M.tolist(), strict=True))

        ahead_MF2 = self._ahead(boxes_M9, self._turns(now_s, first_M, end_M))
        return Tracks(
            ids_M, np.asarray(boxes_M9, dtype=np.float32), scores_M, labels_M, rows_M, past, ahead_MF2)

    def _add(self, now_s: float, pose: np.ndarray, ids_M: np.ndarray, boxes_M9: np.ndarray) -> None:
        """Remember this frame's places, forget those that are too old."""
        age_s_R = now_s - self._place_R4[:, 0]
        kept = (age_s_R > 0) & (age_s_R <= self.past_s)
        xy_M2 = boxes_M9[:, CENTRE] @ pose[:2, :3].T + pose[:2, 3]
        yaw_M1 = boxes_M9[:, YAW:YAW + 1] + yaw_of(pose)
        new_M4 = np.concatenate([np.full((len(ids_M), 1), now_s), xy_M2, yaw_M1], 1)

        ids = np.concatenate([self._id_R[kept], ids_M])
        places = np.concatenate([self._place_R4[kept], new_M4])
        order = np.lexsort([places[:, 0], ids])
        self._id_R, self._place_R4 = ids[order], places[order]

    def _turns(self, now_s: float, first_M: np.ndarray, end_M: np.ndarray) -> np.ndarray:
        """Rate of turn (rad/s) of each heading over the last second; half a turn more or less is the same."""
        is_old = self._place_R4[:, 0] < now_s - _TURN_S
        old_before = np.concatenate([[0], np.cumsum(is_old)])
        earlier = self._place_R4[first_M + old_before[end_M] - old_before[first_M]]

        last = self._place_R4[end_M - 1]
        passed_s_M = last[:, 0] - earlier[:, 0]
        change_M = (last[:, 3] - earlier[:, 3] + np.pi / 2) % np.pi - np.pi / 2
        rate_M = np.divide(change_M, passed_s_M, out=np.zeros(len(last)), where=passed_s_M > 0)
        return rate_M.clip(-_MOST_TURN, _MOST_TURN)

    def _ahead(self, boxes_M9: np.ndarray, turn_M: np.ndarray) -> np.ndarray:
        velocity_M2 = np.asarray(boxes_M9[:, VELOCITY], dtype=np.float64)
        moves_M = np.nan_to_num(np.hypot(*velocity_M2.T)) > _STILL_MPS
        xy_M2 = np.asarray(boxes_M9[:, :2], dtype=np.float64)
        return constant_turn(xy_M2, velocity_M2, np.where(moves_M, turn_M, 0.0), self.steps_s)
