"""All colours in one place: RGB, 0..255."""
from __future__ import annotations

import numpy as np

from ..core.protocols import DETECTION_CLASSES, LANE_CLASSES, MAP_CLASSES, OCCUPANCY_CLASSES

DETECTION = dict(zip(DETECTION_CLASSES, [
    (255, 158, 0), (255, 99, 71), (255, 127, 80), (255, 140, 0), (233, 150, 70), (40, 90, 255), (255, 61, 99),
    (220, 20, 60), (47, 79, 79), (112, 128, 144)], strict=True))
MAP = dict(
    zip(
        MAP_CLASSES,
        [(166, 206, 227), (251, 154, 153), (227, 119, 194), (253, 191, 111), (255, 127, 0), (106, 61, 154)],
        strict=True)
)
OCCUPANCY = dict(
    zip(
        OCCUPANCY_CLASSES,
        [
            (120, 120, 120), (255, 120, 50), (255, 192, 203), (255, 255, 0), (0, 150, 245), (0, 255, 255),
            (200, 180, 0), (255, 0, 0), (255, 240, 150), (135, 60, 0), (160, 32, 240), (180, 0, 180),
            (139, 137, 137), (75, 0, 75), (150, 240, 80), (210, 210, 225), (0, 150, 30), (255, 255, 255)],
        strict=True,
    )
)
LANES = dict(zip(LANE_CLASSES, [(255, 165, 0), (30, 100, 255), (20, 160, 60), (150, 150, 150)], strict=True))
BACKGROUND = (250, 250, 250)
EGO = (30, 30, 30)
INK = (40, 40, 40)


def detection_colours() -> np.ndarray:
    """uint8 `(10, 3)` in the order of `DETECTION_CLASSES`."""
    return np.array([DETECTION[c] for c in DETECTION_CLASSES], dtype=np.uint8)


def occupancy_colours() -> np.ndarray:
    """uint8 `(18, 3)` in the order of `OCCUPANCY_CLASSES`."""
    return np.array([OCCUPANCY[c] for c in OCCUPANCY_CLASSES], dtype=np.uint8)


def heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers -> colours from near (warm) to far (cold), uint8 `(*, 3)`."""
    import cv2
    scaled = np.clip((np.asarray(values, dtype=np.float64) - low) / (high - low), 0, 1)
    table = cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8), cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return table[(scaled * 255).astype(int)]
