"""A scene small enough to check in the head: one straight road, one car, one pedestrian, one building."""
from __future__ import annotations

import numpy as np

from .bodies.shapes import box
from .scene.ground_raster import GroundRaster
from .scene.materials import MATERIAL_ID
from .scene.mesh import Mesh
from .scene.scene import WorldScene
from .scene.track import EgoTrajectory, Track
from .scene.weather import make_weather


def _toy_ground() -> GroundRaster:
    """The ground for x in [-60, 260], y in [-40, 40]: road |y| < 7, walkways 7 < |y| < 10, grass."""
    y = (np.arange(800) + 0.5) * 0.1 - 40.0
    x = (np.arange(3200) + 0.5) * 0.1 - 60.0
    row = np.full(800, MATERIAL_ID['terrain_grass'], np.uint8)
    row[np.abs(y) < 10] = MATERIAL_ID['sidewalk']
    row[np.abs(y) < 7.2] = MATERIAL_ID['kerb']
    row[np.abs(y) < 7] = MATERIAL_ID['asphalt']
    row[np.abs(y) < 0.1] = MATERIAL_ID['paint_yellow']
    material = np.repeat(row[:, None], len(x), axis=1)
    for offset_m in (-3.5, 3.5):
        material[np.ix_(np.abs(y - offset_m) < 0.08, x % 6 < 3)] = MATERIAL_ID['paint_white']
    return GroundRaster(material, np.array([-60.0, -40.0]))


def _toy_object(index: int, category: str, size: tuple[float, float, float], start_xy: tuple[float, float],
                speed_m_per_s: float, attribute: str, material: str) -> Track:
    times = np.arange(-5, 206) * 0.1
    half = np.array(size) / 2
    xyz = np.stack([start_xy[0] + speed_m_per_s * times, np.full_like(times, start_xy[1]),
                    np.full_like(times, half[2])], axis=1)
    body = box((-half[0], half[0]), (-half[1], half[1]), (-half[2], 0.1 * half[2]), material)
    upper = 'vehicle_window' if category.startswith('vehicle') else 'skin'
    cabin = box((-0.6 * half[0], 0.3 * half[0]), (-0.9 * half[1], 0.9 * half[1]), (0.1 * half[2], half[2]),
                upper)
    return Track(index, category, np.array(size), times, xyz, np.zeros_like(times), [attribute] * len(times),
                 Mesh.merge([body, cabin]))


def toy_scene() -> WorldScene:
    """A straight road along x; the ego drives at 8 m/s in the right lane (y = -1.75) from x = 0.

    A car drives 15 m ahead at 8 m/s in the same lane, a pedestrian stands on the right walkway at (30, -8.5),
    a building of 20 x 10 x 9 m stands at x in [20, 40], y in [12, 22].
    """
    times = np.arange(-10, 421) * 0.05
    xyz = np.stack([8.0 * times, np.full_like(times, -1.75), np.zeros_like(times)], axis=1)
    ego = EgoTrajectory(times, xyz, np.zeros_like(times), np.full_like(times, 8.0))
    car = _toy_object(0, 'vehicle.car', (4.6, 1.9, 1.7), (15.0, -1.75), 8.0, 'vehicle.moving', 'car_red')
    walker = _toy_object(
        1, 'human.pedestrian.adult', (0.7, 0.7, 1.75), (30.0, -8.5), 0.0, 'pedestrian.standing', 'cloth_blue'
    )
    building = box((20.0, 40.0), (12.0, 22.0), (0.0, 9.0), 'brick_wall')
    return WorldScene(
        name='scene-0001', location='singapore-onenorth', description='Toy: straight road, one car',
        log_name='toy-log', start_timestamp_us=1_600_000_000_000_000, duration_s=20.0, seed=0,
        weather=make_weather('day', np.random.default_rng(0)), ego=ego, ground=_toy_ground(),
        static_mesh=building, tracks=(car, walker))
