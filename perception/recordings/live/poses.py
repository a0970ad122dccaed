"""Where the car was and is, from poses that come while it drives."""
from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque

import numpy as np

from ..messages.poses import between

_KEPT = 2000


class LivePoses:
    """The last poses of the car, in bounded memory; may be used from any thread.

    Args:
        ahead_s: how far beyond the newest pose the motion between the last two goes on; later times have the
            pose at the end of it.
        jump_s: times that go ahead by more start over, as do those that go back by more than `late_s`.
        late_s: poses of several publishers may come so much later than newer ones.
    """

    def __init__(self, ahead_s: float = 0.3, jump_s: float = 5.0, late_s: float = 0.5) -> None:
        self.ahead_ns, self.jump_ns, self.late_ns = ahead_s * 1e9, jump_s * 1e9, late_s * 1e9
        self._stamps: deque[int] = deque()
        self._poses: deque[np.ndarray] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, global_T_ego: np.ndarray) -> None:
        """Take in a pose; one that is not finite is left out, one of the same time replaces the other."""
        if not np.isfinite(global_T_ego).all():
            return
        with self._lock:
            if self._stamps and not -self.late_ns <= stamp_ns - self._stamps[-1] <= self.jump_ns:
                self._stamps.clear()
                self._poses.clear()

            place = bisect_left(self._stamps, stamp_ns)
            if place < len(self._stamps) and self._stamps[place] == stamp_ns:
                self._poses[place] = global_T_ego
                return
            if len(self._stamps) == _KEPT:
                self._stamps.popleft()
                self._poses.popleft()
                place = max(0, place - 1)
            self._stamps.insert(place, stamp_ns)
            self._poses.insert(place, global_T_ego)

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """`global_T_ego` `(4, 4)` at a time: between two poses, or a little ahead; None before the first."""
        with self._lock:
            if not self._stamps:
                return None
            right = bisect_left(self._stamps, stamp_ns)
            if right < len(self._stamps) and self._stamps[right] == stamp_ns:
                return self._poses[right]
            if right == 0 or len(self._stamps) == 1:
                return self._poses[0]

            # beyond the newest the last two go on
            right = min(right, len(self._stamps) - 1)
            stamps, poses = ((values[right - 1], values[right]) for values in (self._stamps, self._poses))
        stamp_ns = min(stamp_ns, stamps[1] + self.ahead_ns)
        return between(*poses, (stamp_ns - stamps[0]) / (stamps[1] - stamps[0]))
