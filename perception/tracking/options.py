"""What a tracker may be told."""
from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.contracts import NUSCENES_CLASSES, DetectionClasses

MOTIONS = ('velocity', 'kalman')


@dataclass(frozen=True)
class TrackerOptions:
    """Options of a `Tracker`.

    Attributes:
        motion: 'velocity': a track goes on with the velocity that its last detection reported, or, where that
            is exactly zero or unknown, with the one that its last two places show. 'kalman': place and
            velocity are filtered, and the filtered ones are given out.
        gates_m: per class, how far a detection may lie from where a track of its class is expected, half a
            second after it was seen; they grow with the time after that. None: the `gate_m` of the classes.
        max_age_s: a track that was not seen for longer ends.
        min_hits: detections that a track needs before it is given out.
        birth_score: a lower detection continues tracks and begins none.
        max_jump_s: a clock that goes back, or ahead by more, ends all tracks.
        position_m, velocity_mps, acceleration_mps2: standard deviations of a detection's centre and velocity
            and of how much an object accelerates, for 'kalman'.
        classes: what the labels of the boxes mean.
    """

    motion: str = 'velocity'
    gates_m: tuple[float, ...] | None = None
    max_age_s: float = 1.5
    min_hits: int = 1
    birth_score: float = 0.0
    max_jump_s: float = 5.0
    position_m: float = 0.5
    velocity_mps: float = 1.0
    acceleration_mps2: float = 3.0
    classes: DetectionClasses = NUSCENES_CLASSES

    def __post_init__(self) -> None:
        if self.motion not in MOTIONS:
            raise ValueError(
                f'TrackerOptions.motion: expected one of {", ".join(MOTIONS)}, found {self.motion!r}'
            )
        gates_m = self.gate_of_label()
        if len(gates_m) != len(self.classes) or not all(map(_is_positive, gates_m)):
            raise ValueError(
                f'TrackerOptions.gates_m: expected {len(self.classes)} numbers above 0, found {gates_m!r}')

        for name in ('max_age_s', 'max_jump_s', 'position_m', 'velocity_mps', 'acceleration_mps2'):
            if not _is_positive(getattr(self, name)):
                raise ValueError(
                    f'TrackerOptions.{name}: expected a number above 0, found {getattr(self, name)!r}'
                )
        if type(self.min_hits) is not int or self.min_hits < 1:
            raise ValueError(
                f'TrackerOptions.min_hits: expected a whole number above 0, found {self.min_hits!r}'
            )
        if not (isinstance(self.birth_score, (int, float)) and math.isfinite(self.birth_score)):
            raise ValueError(
                f'TrackerOptions.birth_score: expected a finite number, found {self.birth_score!r}'
            )

    def gate_of_label(self) -> tuple[float, ...]:
        """The gate of each class, metres."""
        return tuple(c.gate_m for c in self.classes.classes) if self.gates_m is None else tuple(self.gates_m)


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0
