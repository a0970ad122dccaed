"""The scene of the synthetic world: everything that a sensor or a label needs, as a function of time.

Global frame: metres, x east, y north, z up; the ground lies around z = 0. Ego frame: origin on the ground
below the rear axle, x forward, y left, z along the ground's normal. Times are seconds since the scene's
start. Every sensor and every label is computed from the same scene, so that all of them show the same
geometry.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from .ground_raster import GroundRaster
from .mesh import Mesh
from .relief import HeightField
from .track import EgoTrajectory, Track
from .weather import Weather

__all__ = ['WorldScene']


@dataclass(frozen=True)
class WorldScene:
    """Everything there is to sense in one scene.

    Attributes:
        name: nuScenes scene name, e.g. `scene-0001`.
        location: one of the four nuScenes locations.
        description: one line for `scene.json`.
        log_name: name of the drive the scene is cut from.
        start_timestamp_us: time of `t_s = 0` in microseconds since the epoch.
        duration_s: length (nuScenes: 20 s).
        seed: the seed it was made from.
        weather, ego, ground: light, the car's path, what the ground is made of.
        static_mesh: buildings, poles, trees, bushes, walls and kerbs in the global frame.
        tracks: all objects, moving or not; `tracks[i].index == i`.
        height: how high the ground lies; flat by default.
    """

    name: str
    location: str
    description: str
    log_name: str
    start_timestamp_us: int
    duration_s: float
    seed: int
    weather: Weather
    ego: EgoTrajectory
    ground: GroundRaster
    static_mesh: Mesh
    tracks: tuple[Track, ...] = field(default_factory=tuple)
    height: HeightField = field(default_factory=HeightField)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'tracks', tuple(self.tracks))
        if self.duration_s <= 0:
            raise ValueError(f'{self.name}: duration_s must be positive, found {self.duration_s}')
        indices = [track.index for track in self.tracks]
        if indices != list(range(len(indices))):
            raise ValueError(f'{self.name}: tracks[i].index must equal i, found {indices[:8]}...')
