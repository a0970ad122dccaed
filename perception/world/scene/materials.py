"""The materials of the world: what a surface looks like to a camera, a LiDAR and a radar.

A material id is the index into `MATERIALS` and fits in a uint8. Albedo is linear RGB. Semantic indices
follow the published class lists: nuScenes-lidarseg (Fong et al., 2021, arXiv 2109.03805; 32 classes) and
Occ3D-nuScenes (Tian et al., 2023, arXiv 2304.14365; 18 classes, the last one = free).
"""
from __future__ import annotations

from dataclasses import dataclass

from ...core.protocols import LIDARSEG_CATEGORIES, OCCUPANCY_CLASSES

LIDARSEG_DRIVEABLE = LIDARSEG_CATEGORIES.index('flat.driveable_surface')
LIDARSEG_OTHER_FLAT = LIDARSEG_CATEGORIES.index('flat.other')
LIDARSEG_SIDEWALK = LIDARSEG_CATEGORIES.index('flat.sidewalk')
LIDARSEG_TERRAIN = LIDARSEG_CATEGORIES.index('flat.terrain')
LIDARSEG_MANMADE = LIDARSEG_CATEGORIES.index('static.manmade')
LIDARSEG_OTHER_STATIC = LIDARSEG_CATEGORIES.index('static.other')
LIDARSEG_VEGETATION = LIDARSEG_CATEGORIES.index('static.vegetation')

OCCUPANCY_OTHERS = OCCUPANCY_CLASSES.index('others')
OCCUPANCY_DRIVEABLE = OCCUPANCY_CLASSES.index('driveable_surface')
OCCUPANCY_OTHER_FLAT = OCCUPANCY_CLASSES.index('other_flat')
OCCUPANCY_SIDEWALK = OCCUPANCY_CLASSES.index('sidewalk')
OCCUPANCY_TERRAIN = OCCUPANCY_CLASSES.index('terrain')
OCCUPANCY_MANMADE = OCCUPANCY_CLASSES.index('manmade')
OCCUPANCY_VEGETATION = OCCUPANCY_CLASSES.index('vegetation')


@dataclass(frozen=True)
class Material:
    """One kind of surface.

    Attributes:
        name: unique name, the key of `MATERIAL_ID`.
        albedo: linear RGB in [0, 1].
        lidar_reflectivity: diffuse reflectivity at 905 nm in [0, 1]; paint is worn paint.
        radar_reflectivity: relative back-scatter at 77 GHz in [0, 1].
        lidarseg: nuScenes-lidarseg index of static surfaces (objects take theirs from their category).
        occupancy: Occ3D class of static surfaces (objects take theirs from their category).
    """

    name: str
    albedo: tuple[float, float, float]
    lidar_reflectivity: float
    radar_reflectivity: float
    lidarseg: int
    occupancy: int


def _flat(name: str, albedo: tuple[float, float, float], lidar: float, seg: int, occ: int) -> Material:
    return Material(name, albedo, lidar, 0.02, seg, occ)


def _built(name: str, albedo: tuple[float, float, float], lidar: float, radar: float) -> Material:
    return Material(name, albedo, lidar, radar, LIDARSEG_MANMADE, OCCUPANCY_MANMADE)


def _plant(name: str, albedo: tuple[float, float, float], lidar: float) -> Material:
    return Material(name, albedo, lidar, 0.08, LIDARSEG_VEGETATION, OCCUPANCY_VEGETATION)


def _movable(name: str, albedo: tuple[float, float, float], lidar: float, radar: float) -> Material:
    return Material(name, albedo, lidar, radar, LIDARSEG_OTHER_STATIC, OCCUPANCY_OTHERS)


_ROAD = (LIDARSEG_DRIVEABLE, OCCUPANCY_DRIVEABLE)
_WALK = (LIDARSEG_SIDEWALK, OCCUPANCY_SIDEWALK)

MATERIALS: tuple[Material, ...] = (
    _flat('terrain_grass', (0.10, 0.17, 0.05), 0.20, LIDARSEG_TERRAIN, OCCUPANCY_TERRAIN),
    _flat('terrain_soil', (0.20, 0.14, 0.08), 0.15, LIDARSEG_TERRAIN, OCCUPANCY_TERRAIN),
    _flat('asphalt', (0.085, 0.085, 0.09), 0.09, *_ROAD),
    _flat('asphalt_light', (0.15, 0.15, 0.145), 0.11, *_ROAD),
    _flat('paint_white', (0.72, 0.72, 0.70), 0.25, *_ROAD),
    _flat('paint_yellow', (0.68, 0.45, 0.06), 0.20, *_ROAD),
    _flat('crossing_paint', (0.66, 0.66, 0.64), 0.24, *_ROAD),
    _flat('carpark', (0.12, 0.115, 0.125), 0.10, *_ROAD),
    _flat('sidewalk', (0.36, 0.34, 0.31), 0.13, *_WALK),
    _flat('sidewalk_brick', (0.30, 0.15, 0.10), 0.12, *_WALK),
    _flat('kerb', (0.46, 0.45, 0.43), 0.14, *_WALK),
    _flat('island', (0.30, 0.30, 0.28), 0.13, LIDARSEG_OTHER_FLAT, OCCUPANCY_OTHER_FLAT),
    _built('concrete', (0.42, 0.41, 0.39), 0.32, 0.25),
    _built('brick_wall', (0.33, 0.12, 0.08), 0.30, 0.22),
    _built('plaster_cream', (0.62, 0.55, 0.40), 0.42, 0.20),
    _built('plaster_white', (0.70, 0.70, 0.68), 0.48, 0.20),
    _built('plaster_blue', (0.25, 0.34, 0.44), 0.38, 0.20),
    _built('building_glass', (0.10, 0.16, 0.20), 0.06, 0.30),
    _built('roof', (0.20, 0.17, 0.16), 0.22, 0.20),
    _built('pole_metal', (0.32, 0.33, 0.33), 0.35, 0.55),
    _built('sign_retro', (0.10, 0.22, 0.55), 0.98, 0.40),
    _built('signal_housing', (0.03, 0.03, 0.03), 0.15, 0.40),
    _built('fence_wood', (0.26, 0.17, 0.09), 0.28, 0.10),
    _plant('trunk', (0.13, 0.09, 0.06), 0.30),
    _plant('leaves', (0.055, 0.14, 0.035), 0.45),
    _plant('leaves_light', (0.11, 0.20, 0.05), 0.48),
    _plant('bush', (0.04, 0.10, 0.03), 0.42),
    _movable('car_white', (0.72, 0.72, 0.72), 0.55, 0.85),
    _movable('car_black', (0.02, 0.02, 0.022), 0.06, 0.85),
    _movable('car_silver', (0.42, 0.43, 0.45), 0.45, 0.85),
    _movable('car_red', (0.40, 0.03, 0.03), 0.32, 0.85),
    _movable('car_blue', (0.03, 0.08, 0.32), 0.20, 0.85),
    _movable('car_green', (0.05, 0.18, 0.09), 0.22, 0.85),
    _movable('truck_white', (0.66, 0.66, 0.64), 0.52, 0.90),
    _movable('truck_orange', (0.58, 0.20, 0.02), 0.45, 0.90),
    _movable('bus_red', (0.50, 0.05, 0.04), 0.38, 0.90),
    _movable('bus_green', (0.10, 0.36, 0.14), 0.38, 0.90),
    _movable('trailer_grey', (0.34, 0.35, 0.37), 0.40, 0.90),
    _movable('construction_yellow', (0.65, 0.42, 0.02), 0.48, 0.90),
    _movable('vehicle_window', (0.02, 0.025, 0.03), 0.04, 0.40),
    _movable('tyre', (0.018, 0.018, 0.018), 0.05, 0.15),
    _movable('headlight', (0.88, 0.88, 0.84), 0.12, 0.60),
    _movable('taillight', (0.60, 0.02, 0.02), 0.60, 0.60),
    _movable('licence_plate', (0.75, 0.72, 0.40), 0.99, 0.70),
    _movable('chassis_dark', (0.04, 0.04, 0.042), 0.08, 0.70),
    _movable('cycle_frame', (0.16, 0.05, 0.16), 0.22, 0.45),
    _movable('skin', (0.45, 0.26, 0.18), 0.45, 0.20),
    _movable('hair_dark', (0.03, 0.02, 0.015), 0.18, 0.10),
    _movable('cloth_dark', (0.04, 0.045, 0.07), 0.20, 0.15),
    _movable('cloth_red', (0.42, 0.06, 0.07), 0.38, 0.15),
    _movable('cloth_light', (0.55, 0.52, 0.46), 0.50, 0.15),
    _movable('cloth_blue', (0.08, 0.14, 0.36), 0.32, 0.15),
    _movable('vest_orange', (0.85, 0.26, 0.02), 0.90, 0.20),
    _movable('helmet', (0.80, 0.68, 0.10), 0.60, 0.20),
    _movable('cone_orange', (0.80, 0.16, 0.02), 0.28, 0.08),
    _movable('cone_white', (0.80, 0.80, 0.78), 0.50, 0.08),
    _movable('barrier_white', (0.62, 0.62, 0.60), 0.40, 0.20),
    _movable('barrier_orange', (0.70, 0.18, 0.03), 0.38, 0.20),
    _movable('debris_dark', (0.12, 0.09, 0.06), 0.22, 0.10),
    _movable('bin_green', (0.04, 0.20, 0.06), 0.30, 0.25),
    _movable('reflector_red', (0.55, 0.02, 0.02), 0.95, 0.60),
    _movable('grille', (0.015, 0.015, 0.016), 0.06, 0.70))

MATERIAL_ID: dict[str, int] = {material.name: index for index, material in enumerate(MATERIALS)}
