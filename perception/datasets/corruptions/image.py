"""Arithmetic on images `(H, W, 3)` uint8 RGB.

Lengths in pixels are those of an image 1600 wide and scale with the width.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_REFERENCE_WIDTH_PX = 1600


def _floats(image_HW3: np.ndarray) -> np.ndarray:
    return image_HW3.astype(np.float32) / 255


def _bytes(image_HW3: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image_HW3, 0, 1) * 255).astype(np.uint8)


def brighten(image_HW3: np.ndarray, addition: float) -> np.ndarray:
    """Add to the value of hue, saturation, value (all 0..1)."""
    import cv2

    hsv = cv2.cvtColor(_floats(image_HW3), cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.minimum(hsv[..., 2] + addition, 1)
    return _bytes(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def darken(
    image_HW3: np.ndarray, brightest: float, photons: float, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Take light away: stretch to 0..1, square, scale to `brightest`, add shot and Gaussian read noise."""
    x = _floats(image_HW3)
    low, high = float(x.min()), float(x.max())
    x = ((x - low) / max(high - low, 1e-6)) ** 2 * brightest
    shot = rng.poisson(x * photons).astype(np.float32) / photons
    return _bytes(np.clip(shot, 0, 1) + rng.standard_normal(x.shape, dtype=np.float32) * noise)


def keep_bits(image_HW3: np.ndarray, bits: int) -> np.ndarray:
    """Keep the highest `bits` of each byte."""
    return image_HW3 & np.uint8(0xFF << (8 - bits) & 0xFF)


def cloud(size_hw: tuple[int, int], decay: float, rng: np.random.Generator) -> np.ndarray:
    """Fractal noise in 0..1, float32 `(H, W)`.

    A sum of random grids, each twice as fine and `decay` times as weak as the one before.
    """
    import cv2

    height, width = size_hw
    total = np.zeros(size_hw, np.float32)
    strength = 1.0
    cells = 2
    while cells < max(size_hw):
        rows = max(2, round(cells * height / width) + 1)
        grid = rng.uniform(-strength, strength, (rows, cells + 1)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        strength /= decay
        cells *= 2
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def add_fog(image_HW3: np.ndarray, thickness: float, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Lay a bright cloud over the image and bring the brightest back to where it was.

    After Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261), with our own fractal noise.
    """
    x = _floats(image_HW3)
    brightest = max(float(x.max()), 1e-6)
    veil = thickness * cloud(image_HW3.shape[:2], decay, rng)[..., None]
    return _bytes((x + veil) * brightest / (brightest + thickness))


def streak_kernel(radius_px: float, sigma_px: float, angle_rad: float) -> np.ndarray:
    """Weights of a blur to one side along `angle_rad`: a half Gaussian that sums to 1.

    Taps that lie between pixels are shared among the four around them.
    """
    reach = max(1, math.ceil(radius_px))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.arange(0, radius_px + 1e-6)
    weights = np.exp(-steps ** 2 / (2 * max(sigma_px, 1e-3) ** 2))
    x, y = reach + steps * math.cos(angle_rad), reach + steps * math.sin(angle_rad)
    for dx in (0, 1):
        for dy in (0, 1):
            column = np.floor(x).astype(int) + dx
            row = np.floor(y).astype(int) + dy
            weight = (1 - np.abs(x - column)) * (1 - np.abs(y - row)) * weights
            inside = (weight > 0) & (column <= 2 * reach) & (row <= 2 * reach)
            np.add.at(kernel, (row[inside], column[inside]), weight[inside])
    return kernel / kernel.sum()


def streak(image: np.ndarray, radius: float, sigma: float, angle_rad: float) -> np.ndarray:
    """Blur `(H, W)` or `(H, W, 3)` along a line; `radius` and `sigma` in pixels of an image 1600 wide."""
    import cv2

    scale = image.shape[1] / _REFERENCE_WIDTH_PX
    kernel = streak_kernel(radius * scale, sigma * scale, angle_rad)
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)


def blur_level(image_HW3: np.ndarray, radius: float, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blur along a line that leans at most 45 degrees from level."""
    return streak(image_HW3, radius, sigma, math.radians(rng.uniform(-45, 45)))


@dataclass(frozen=True)
class Snow:
    """How much it snows, after Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261).

    Args:
        mean, spread: of the noise that flakes are made of.
        zoom: how large a flake is.
        threshold: noise below it is no flake.
        radius, sigma: of the streak a flake draws, in pixels of an image 1600 wide.
        keep: fraction of the image's own colour that stays.
    """

    mean: float
    spread: float
    zoom: float
    threshold: float
    radius: float
    sigma: float
    keep: float


def add_snow(image_HW3: np.ndarray, snow: Snow, rng: np.random.Generator) -> np.ndarray:
    """Let flakes fall over an image that turns pale."""
    import cv2

    x = _floats(image_HW3)
    flakes = _flakes(image_HW3.shape[:2], snow, rng)[..., None]
    pale = np.maximum(x, cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None] * 1.5 + 0.5)
    return _bytes(snow.keep * x + (1 - snow.keep) * pale + flakes + flakes[::-1, ::-1])


def _flakes(size_hw: tuple[int, int], snow: Snow, rng: np.random.Generator) -> np.ndarray:
    """Brightness of flakes, float32 `(H, W)`: noise, enlarged, cut below a threshold, streaked."""
    import cv2

    # flakes thinner than a pixel are drawn finer and averaged
    height, width = size_hw
    fine = max(1, math.ceil(_REFERENCE_WIDTH_PX / 2 / width))
    enlarge = max(1.0, snow.zoom * width * fine / _REFERENCE_WIDTH_PX)
    grid_hw = [math.ceil(side * fine / enlarge) + 1 for side in size_hw]
    flakes = rng.normal(snow.mean, snow.spread, grid_hw).astype(np.float32)
    flakes = cv2.resize(flakes, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    flakes = flakes[: height * fine, : width * fine]

    flakes = np.where(flakes < snow.threshold, 0, np.clip(flakes, 0, 1)).astype(np.float32)
    flakes = streak(flakes, snow.radius, snow.sigma, math.radians(rng.uniform(-135, -45)))
    return cv2.resize(flakes, (width, height), interpolation=cv2.INTER_AREA)


def dirt_mask(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Opacity 0..1 `(H, W)` of dirt on a lens: one large patch, ragged edges, and splashes."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    clumps = cloud(size_hw, 1.8, rng) - 0.5
    opacity = np.zeros(size_hw, np.float32)
    for blob in range(1 + rng.integers(6, 14)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        size = width * (rng.uniform(0.18, 0.32) if blob == 0 else rng.uniform(0.02, 0.07))
        stretch, lean = rng.uniform(0.6, 1.6), rng.uniform(0, math.pi)

        along = (columns - x) * math.cos(lean) + (rows - y) * math.sin(lean)
        across = (rows - y) * math.cos(lean) - (columns - x) * math.sin(lean)
        distance = np.hypot(along / (size * stretch), across / size) + clumps
        opacity = np.maximum(opacity, np.clip((1 - distance) / 0.25, 0, 1))
    return opacity


def add_dirt(image_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend a generated dirt mask over the image."""
    opacity = dirt_mask(image_HW3.shape[:2], rng)[..., None] * 0.97
    mud = np.array([0.24, 0.19, 0.13], np.float32) * rng.uniform(0.5, 1.3)
    grain = 0.8 + 0.4 * cloud(image_HW3.shape[:2], 1.3, rng)[..., None]
    return _bytes(_floats(image_HW3) * (1 - opacity) + mud * grain * opacity)
