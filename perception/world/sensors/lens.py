"""Rain before the lens: a soft picture, drops on the glass, streaks in the air."""
from __future__ import annotations

import cv2
import numpy as np

__all__ = ['add_rain']


def _drops_mask(size_hw: tuple[int, int], rain_rate: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: where drops sit on the glass."""
    height, width = size_hw
    mask = np.zeros(size_hw, np.float32)
    for _ in range(rng.poisson(9.0 * rain_rate)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(mask, centre, int(rng.uniform(0.008, 0.03) * width) + 1, float(rng.uniform(0.5, 0.95)), -1)
    return cv2.blur(mask, (5, 5))


def _streaks(size_hw: tuple[int, int], rain_rate: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 added light of falling rain."""
    height, width = size_hw
    layer = np.zeros(size_hw, np.float32)
    for _ in range(rng.poisson(60.0 * rain_rate)):
        u, v = int(rng.integers(width)), int(rng.integers(height))
        length = int(rng.uniform(0.02, 0.06) * height)
        cv2.line(layer, (u, v), (u + int(rng.integers(-2, 3)), v + length), float(rng.uniform(0.02, 0.07)), 1)
    return layer


def add_rain(radiance_HW3: np.ndarray, rain_rate: float, rng: np.random.Generator) -> np.ndarray:
    """The picture through rain of `rain_rate` (0 to 1); (H, W, 3) float32 linear light, a new array."""
    height, width = radiance_HW3.shape[:2]
    soft = cv2.GaussianBlur(radiance_HW3, (3, 3), 0.3 + 0.5 * rain_rate)

    # drops show the scene blurred and upside down, as small lenses do
    small_size = (max(width // 16, 1), max(height // 16, 1))
    small = cv2.resize(radiance_HW3, small_size, interpolation=cv2.INTER_AREA)
    smeared = cv2.resize(small[::-1], (width, height), interpolation=cv2.INTER_LINEAR)
    drops = _drops_mask((height, width), rain_rate, rng)[..., None]

    ambient = radiance_HW3[::8, ::8].mean(axis=(0, 1))
    streaks = _streaks((height, width), rain_rate, rng)[..., None] * (ambient * 4.0)
    return soft * (1.0 - drops) + (0.5 * smeared + 0.5 * soft) * drops + streaks.astype(np.float32)
