"""The ground on which labels say something, where that is not all around the car."""
from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .checks import check_shape


@dataclass(frozen=True)
class LabelledArea:
    """A rectangle on the ground; beyond it nothing is known, not even that nothing is there.

    Attributes:
        x_range_m, y_range_m: its sides, in a frame of its own.
        area_T_ego: `(4, 4)` float64, ego -> that frame; the identity until the world is moved around the car.
    """

    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]
    area_T_ego: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        check_shape('LabelledArea', 'area_T_ego', self.area_T_ego, 4, 4)
        for name in ('x_range_m', 'y_range_m'):
            low, high = (float(value) for value in getattr(self, name))
            if not low < high:
                raise ValueError(f'LabelledArea.{name}: expected low < high, found ({low}, {high})')
            object.__setattr__(self, name, (low, high))

    def moved(self, new_T_old: np.ndarray) -> LabelledArea:
        """The same ground seen from a moved ego frame."""
        return replace(self, area_T_ego=self.area_T_ego @ np.linalg.inv(new_T_old))

    def shares(self, points_P2: np.ndarray) -> np.ndarray:
        """Where ego points lie in the rectangle: float64 `(P, 2)`, 0..1 along x and y inside it."""
        own_P2 = np.asarray(points_P2, np.float64) @ self.area_T_ego[:2, :2].T + self.area_T_ego[:2, 3]
        low_2 = np.array([self.x_range_m[0], self.y_range_m[0]])
        high_2 = np.array([self.x_range_m[1], self.y_range_m[1]])
        return (own_P2 - low_2) / (high_2 - low_2)

    def covers(self, points_P2: np.ndarray) -> np.ndarray:
        """Which ego points lie inside: bool `(P,)`; the lower borders belong to it, the upper do not."""
        shares_P2 = self.shares(points_P2)
        return ((shares_P2 >= 0) & (shares_P2 < 1)).all(1)
