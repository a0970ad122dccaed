"""Four kinds of light and weather: day, dusk, night, rain."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ['WEATHER_KINDS', 'Weather', 'draw_weather_kind', 'make_weather']

WEATHER_KINDS = ('day', 'dusk', 'night', 'rain')
WEATHER_WEIGHTS = {'day': 0.58, 'dusk': 0.12, 'night': 0.12, 'rain': 0.18}

_LIGHT = {
    'day': dict(
        sun_rgb=(1.15, 1.09, 1.0), ambient_rgb=(0.27, 0.30, 0.36), sky_horizon_rgb=(0.72, 0.80, 0.92),
        sky_zenith_rgb=(0.22, 0.40, 0.75), fog_density_per_m=0.0008, rain_rate=0.0, wetness=0.0),
    'dusk': dict(
        sun_rgb=(0.55, 0.33, 0.16), ambient_rgb=(0.15, 0.14, 0.18), sky_horizon_rgb=(0.75, 0.42, 0.22),
        sky_zenith_rgb=(0.12, 0.15, 0.32), fog_density_per_m=0.0015, rain_rate=0.0, wetness=0.0),
    'night': dict(
        sun_rgb=(0.035, 0.035, 0.045), ambient_rgb=(0.06, 0.054, 0.048), sky_horizon_rgb=(0.03, 0.028, 0.03),
        sky_zenith_rgb=(0.006, 0.007, 0.012), fog_density_per_m=0.001, rain_rate=0.0, wetness=0.0),
    'rain': dict(
        sun_rgb=(0.14, 0.14, 0.14), ambient_rgb=(0.36, 0.38, 0.40), sky_horizon_rgb=(0.52, 0.54, 0.56),
        sky_zenith_rgb=(0.38, 0.40, 0.43), fog_density_per_m=0.0025, rain_rate=0.5, wetness=0.8),
}
_SUN_ELEVATION_DEG = {'day': (35.0, 70.0), 'dusk': (6.0, 14.0), 'night': (30.0, 60.0), 'rain': (50.0, 80.0)}


@dataclass(frozen=True)
class Weather:
    """Light and weather of a scene.

    Attributes:
        kind: one of `WEATHER_KINDS`.
        sun_direction: (3,) unit vector towards the sun (the moon or street glow at night), z > 0.
        sun_rgb, ambient_rgb, sky_horizon_rgb, sky_zenith_rgb: linear RGB radiance, day's white = about 1.
        fog_density_per_m: extinction of the air.
        rain_rate: 0 dry to 1 heavy.
        wetness: 0 dry to 1 standing water: darker, more mirror-like ground, weaker LiDAR returns.
    """

    kind: str
    sun_direction: np.ndarray
    sun_rgb: tuple[float, float, float]
    ambient_rgb: tuple[float, float, float]
    sky_horizon_rgb: tuple[float, float, float]
    sky_zenith_rgb: tuple[float, float, float]
    fog_density_per_m: float
    rain_rate: float
    wetness: float

    def __post_init__(self) -> None:
        if self.kind not in WEATHER_KINDS:
            raise ValueError(f'Weather: kind must be one of {WEATHER_KINDS}, found {self.kind!r}')
        direction = np.asarray(self.sun_direction, np.float64).reshape(3)
        if direction[2] <= 0:
            raise ValueError(f'Weather: sun_direction must point upwards, found {direction}')
        object.__setattr__(self, 'sun_direction', direction / np.linalg.norm(direction))


def make_weather(kind: str, rng: np.random.Generator) -> Weather:
    """Light and weather of `kind` with the sun somewhere plausible.

    Args:
        kind: one of `WEATHER_KINDS`.
        rng: draws the sun's place, the rain's strength and the brightness.

    Raises:
        ValueError: `kind` is unknown.
    """
    if kind not in WEATHER_KINDS:
        raise ValueError(f'make_weather: kind must be one of {WEATHER_KINDS}, found {kind!r}')
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.deg2rad(rng.uniform(*_SUN_ELEVATION_DEG[kind]))
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation),
                          np.sin(elevation)])

    light = dict(_LIGHT[kind])
    brightness = rng.uniform(0.85, 1.15)
    for key in ('sun_rgb', 'ambient_rgb', 'sky_horizon_rgb', 'sky_zenith_rgb'):
        light[key] = tuple(float(channel * brightness) for channel in light[key])
    if kind == 'rain':
        light['rain_rate'] = float(rng.uniform(0.3, 1.0))
        light['fog_density_per_m'] = 0.001 + 0.003 * light['rain_rate']
    return Weather(kind=kind, sun_direction=direction, **light)


def draw_weather_kind(rng: np.random.Generator) -> str:
    """One of the four kinds, about as frequent as in nuScenes (`WEATHER_WEIGHTS`)."""
    weights = np.array([WEATHER_WEIGHTS[kind] for kind in WEATHER_KINDS])
    return WEATHER_KINDS[int(rng.choice(len(weights), p=weights / weights.sum()))]
