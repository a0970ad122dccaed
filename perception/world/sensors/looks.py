"""How surfaces look: per-material texture, gloss and glow, and the light of a scene, as plain numbers.

Kept apart from `materials`, which says what a surface *is*; here is only what an eye sees beyond its
albedo.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..scene.materials import MATERIALS
from ..scene.weather import Weather

__all__ = [
    'Light', 'light_of', 'LOOKS', 'ALBEDO', 'PANES', 'COURSES', 'NOISE', 'GLOSS', 'GLOW', 'PATTERN', 'SCALE']

NOISE, SCALE, GLOSS, GLOW, PATTERN = range(5)
"""Columns of `LOOKS`: texture contrast, grains per metre, mirrored fraction, own light, pattern."""
PANES, COURSES = 1.0, 2.0
"""Patterns: glass in frames (some panes lit in the dark), paving in courses."""

_NOISE = {
    'terrain_grass': (0.45, 3.0), 'terrain_soil': (0.4, 2.0), 'asphalt': (0.16, 4.0),
    'asphalt_light': (0.16, 4.0), 'sidewalk': (0.12, 2.0), 'sidewalk_brick': (0.2, 5.0), 'leaves': (0.6, 4.0),
    'leaves_light': (0.6, 4.0), 'bush': (0.6, 6.0), 'trunk': (0.4, 6.0), 'fence_wood': (0.3, 5.0),
    'brick_wall': (0.25, 5.0)}
_GLOSS_PREFIX = {'car_': 0.5, 'vehicle_window': 1.0, 'building_glass': 0.9, 'bus_': 0.35, 'truck_': 0.25}
_GLOW = {'headlight': 1.6, 'taillight': 0.9, 'sign_retro': 0.05}
_PATTERN = {'building_glass': PANES, 'sidewalk': COURSES, 'sidewalk_brick': COURSES}


def _look(name: str) -> tuple[float, float, float, float, float]:
    noise, scale = _NOISE.get(name, (0.06, 2.0))
    gloss = next((value for prefix, value in _GLOSS_PREFIX.items() if name.startswith(prefix)), 0.0)
    return noise, scale, gloss, _GLOW.get(name, 0.0), _PATTERN.get(name, 0.0)


LOOKS = np.array([_look(material.name) for material in MATERIALS])
ALBEDO = np.array([material.albedo for material in MATERIALS])

RGB = tuple[float, float, float]


class Light(NamedTuple):
    """A scene's light as compiled code takes it; colours are linear RGB."""

    sun_direction: RGB
    sun_rgb: RGB
    ambient_rgb: RGB
    horizon_rgb: RGB
    zenith_rgb: RGB
    fog_per_m: float
    wetness: float
    darkness: float


def light_of(weather: Weather) -> Light:
    """The light of `weather`; darkness is 1 at night, 0.35 at dusk, 0 by day: how far lamps are lit."""
    darkness = {'night': 1.0, 'dusk': 0.35}.get(weather.kind, 0.0)
    colours = (
        weather.sun_direction, weather.sun_rgb, weather.ambient_rgb, weather.sky_horizon_rgb,
        weather.sky_zenith_rgb)
    return Light(
        *(tuple(float(channel) for channel in colour) for colour in colours),
        float(weather.fog_density_per_m), float(weather.wetness), darkness)
