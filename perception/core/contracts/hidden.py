"""What was hidden of a measurement, so that a network learns to make it up."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .checks import check_shape


@dataclass(frozen=True)
class HiddenPoints:
    """The LiDAR's points of the present moment, and which of them the network does not see.

    Attributes:
        points_P3: float32, metres in ego; all points of the area in which pillars were hidden.
        hidden_P: bool, those in hidden pillars.
    """

    points_P3: np.ndarray
    hidden_P: np.ndarray

    def __post_init__(self) -> None:
        check_shape('HiddenPoints', 'points_P3', self.points_P3, 'P', 3)
        check_shape('HiddenPoints', 'hidden_P', self.hidden_P, len(self.points_P3))
