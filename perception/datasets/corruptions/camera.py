"""Cameras that fail: MetaBEV's view drop, view noise, occlusion and missing camera, and RoboBEV's eight.

RoboBEV takes fog, snow, motion blur and brightness from Hendrycks and Dietterich (ICLR 2019, arXiv
1903.12261) at levels 2, 4, 5 of five (snow: 1, 2, 3); the numbers below are those levels'. A camera that
gives no picture is black **and** marked absent: the published suites only blacken it, because their models
know no mask.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...core.contracts import Sample
from ..transforms.sensor import keep_sensors, without_cameras
from . import image
from .base import METABEV, ROBOBEV, register

_DARK = ((0.4, 120, 0.018), (0.3, 50, 0.026), (0.2, 30, 0.038))
_FOG = ((2.0, 2.0), (2.5, 1.5), (3.0, 1.4))
_SNOW = (
    image.Snow(mean=0.1, spread=0.3, zoom=3, threshold=0.5, radius=10, sigma=4, keep=0.8),
    image.Snow(mean=0.2, spread=0.3, zoom=2, threshold=0.5, radius=12, sigma=4, keep=0.7),
    image.Snow(mean=0.55, spread=0.3, zoom=4, threshold=0.9, radius=12, sigma=8, keep=0.7))
_BLUR = ((15, 5), (15, 12), (20, 15))
_LEVELS = 'level: easy, moderate, hard'


def _each(sample: Sample, change: Callable[[np.ndarray], np.ndarray]) -> Sample:
    """Change every picture that is there."""
    if sample.camera is None:
        return sample
    images = sample.camera.images_NHW3.copy()
    for i in np.flatnonzero(sample.camera.present_N):
        height, width = sample.camera.size_of(i)
        images[i, :height, :width] = change(images[i, :height, :width])
    return replace(sample, camera=replace(sample.camera, images_NHW3=images))


def _chosen(cameras: int, count: float, rng: np.random.Generator) -> np.ndarray:
    """Which of N cameras are hit: bool `(N,)`.

    With one state of `rng`, the cameras of a larger count include those of a smaller one.
    """
    hit = np.zeros(cameras, bool)
    hit[rng.permutation(cameras)[:int(count)]] = True
    return hit


def _lose(sample: Sample, count: float, rng: np.random.Generator) -> Sample:
    if sample.camera is None:
        return sample
    hit = _chosen(len(sample.camera.names), count, rng)
    return replace(sample, camera=without_cameras(sample.camera, hit))


@register('view_drop', 'camera', range(1, 7), 'cameras', METABEV, 'metabev')
def view_drop(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """`severity` cameras give no picture."""
    return _lose(sample, severity, rng)


@register('view_noise', 'camera', range(1, 7), 'cameras', METABEV, 'metabev')
def view_noise(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """The pictures of `severity` cameras are random bytes, and nothing says so."""
    if sample.camera is None:
        return sample
    images = sample.camera.images_NHW3.copy()
    for i in np.flatnonzero(_chosen(len(images), severity, rng)):
        height, width = sample.camera.size_of(i)
        images[i, :height, :width] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return replace(sample, camera=replace(sample.camera, images_NHW3=images))


@register('obstacle_occlusion', 'camera', (1,), 'with dirt', METABEV, 'metabev', lasting=True)
def obstacle_occlusion(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Dirt on every lens; the masks are generated, the paper's pictures of dirt are not needed."""
    return _each(sample, lambda picture: image.add_dirt(picture, rng))


@register(
    'missing_camera', 'camera', (1,), 'no camera at all', METABEV, 'metabev_missing',
    sensors=('camera', 'lidar'), lasting=True)
def missing_camera(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """No camera works: the feature is absent, not zero."""
    return keep_sensors(sample, ('lidar', 'radar'))


@register('bright', 'camera', (1, 2, 3), _LEVELS, ROBOBEV, 'robobev')
def bright(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Too much light: the value of HSV grows by 0.2, 0.4, 0.5."""
    return _each(sample, lambda picture: image.brighten(picture, (0.2, 0.4, 0.5)[int(severity) - 1]))


@register('dark', 'camera', (1, 2, 3), _LEVELS, ROBOBEV, 'robobev')
def dark(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Too little light, with shot and read noise: the brightest is 0.4, 0.3, 0.2."""
    return _each(sample, lambda picture: image.darken(picture, *_DARK[int(severity) - 1], rng))


@register('fog', 'camera', (1, 2, 3), _LEVELS, ROBOBEV, 'robobev')
def fog(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Drifting fog in every picture, thickness 2, 2.5, 3."""
    return _each(sample, lambda picture: image.add_fog(picture, *_FOG[int(severity) - 1], rng))


@register('snow', 'camera', (1, 2, 3), _LEVELS, ROBOBEV, 'robobev')
def snow(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Falling snow in every picture."""
    return _each(sample, lambda picture: image.add_snow(picture, _SNOW[int(severity) - 1], rng))


@register('motion_blur', 'camera', (1, 2, 3), _LEVELS, ROBOBEV, 'robobev')
def motion_blur(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Every picture is smeared along a line, each in a direction of its own."""
    return _each(sample, lambda picture: image.blur_level(picture, *_BLUR[int(severity) - 1], rng))


@register('colour_quantisation', 'camera', (1, 2, 3), _LEVELS, ROBOBEV, 'robobev')
def colour_quantisation(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Colours keep 4, 3, 2 bits of each byte."""
    return _each(sample, lambda picture: image.keep_bits(picture, 5 - int(severity)))


@register('camera_crash', 'camera', (2, 4, 5), 'cameras', ROBOBEV, 'robobev', lasting=True)
def camera_crash(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """The same cameras give no picture during the whole drive."""
    return _lose(sample, severity, rng)


@register('frame_lost', 'camera', (2, 4, 5), 'sixths of all pictures', ROBOBEV, 'robobev',
          suites={'memory': (2, 4, 5)})
def frame_lost(sample: Sample, severity: float, rng: np.random.Generator) -> Sample:
    """Each picture is lost with a probability of 2/6, 4/6, 5/6, frame by frame."""
    if sample.camera is None:
        return sample
    lost = rng.uniform(size=len(sample.camera.names)) < severity / 6
    return replace(sample, camera=without_cameras(sample.camera, lost))
