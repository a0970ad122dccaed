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
        self._places: dict[int, list[tuple[float, float, float, float]]] = {}

    def clear(self) -> None:
        """Forget everything: another drive begins."""
        self._places.clear()

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
        now_s = frame.timestamp_ns / 1e9
        self._places = {key: places for key, places in self._places.items()
                        if 0 <= now_s - places[-1][0] <= self.past_s}
        pose, yaw_rad = frame.global_T_ego, yaw_of(frame.global_T_ego)
        xy_M2 = boxes_M9[:, CENTRE] @ pose[:2, :3].T + pose[:2, 3]

        # one polyline a track, all moved into this frame's ego together
        lines, turns = [], []
        for key, xy, yaw in zip(ids_M.tolist(), xy_M2.tolist(), boxes_M9[:, YAW].tolist(), strict=True):
            places = self._places.setdefault(key, [])
            places[:] = [place for place in places if 0 < now_s - place[0] <= self.past_s]
            places.append((now_s, *xy, yaw + yaw_rad))
            lines.append(np.array(places))
            turns.append(_turn(places))

        past = self._in_ego(pose, lines)
        ahead_MF2 = self._ahead(boxes_M9, np.array(turns))
        return Tracks(
            ids_M, np.asarray(boxes_M9, dtype=np.float32), scores_M, labels_M, rows_M, past, ahead_MF2)

    @staticmethod
    def _in_ego(pose: np.ndarray, lines: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Global places -> ego, `(P, 2)` each; the ground is taken to be flat."""
        if not lines:
            return ()
        points_P2 = np.concatenate(lines)[:, 1:3]
        to_ego_33 = invert(pose)[:3, :3]
        moved_P2 = (points_P2 - pose[:2, 3]) @ to_ego_33[:2, :2].T
        return tuple(np.split(moved_P2, np.cumsum([len(line) for line in lines])[:-1]))

    def _ahead(self, boxes_M9: np.ndarray, turn_M: np.ndarray) -> np.ndarray:
        velocity_M2 = np.asarray(boxes_M9[:, VELOCITY], dtype=np.float64)
        moves_M = np.nan_to_num(np.hypot(*velocity_M2.T)) > _STILL_MPS
        turn_M = np.where(moves_M, turn_M, 0.0) if len(turn_M) else np.zeros(0)
        xy_M2 = np.asarray(boxes_M9[:, :2], dtype=np.float64)
        return constant_turn(xy_M2, velocity_M2, turn_M, self.steps_s)


def _turn(places: list[tuple[float, float, float, float]]) -> float:
    """Rate of turn (rad/s) of the heading over the last second; half a turn more or less is the same."""
    time_s, _, _, yaw = places[-1]
    earlier = next(place for place in places if time_s - place[0] <= _TURN_S)
    if earlier[0] == time_s:
        return 0.0
    change = (yaw - earlier[3] + np.pi / 2) % np.pi - np.pi / 2
    return float(np.clip(change / (time_s - earlier[0]), -_MOST_TURN, _MOST_TURN))
