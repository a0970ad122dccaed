"""What makes the four invented cities differ: their streets, houses, plants and the side they drive on."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CityStyle:
    """Parameters of one city.

    Attributes:
        lattice: columns and rows of the street lattice.
        spacing_m: distance of neighbouring crossroads before they are shifted.
        jitter_m, bend_rad: how far crossroads are shifted and street ends are turned.
        drop_fraction: fraction of streets left out, which turns crossroads into three-way ones.
        drives_right: True for right-hand traffic.
        lane_counts: lanes per direction, drawn per street line.
        lane_width_m, median_m, walkway_m, verge_m: cross section.
        parking_probability: probability that a street side has a parking strip.
        divider: material of the line between the two directions.
        asphalt, sidewalk, terrain: ground materials.
        facades: wall materials.
        building_height_m, building_width_m, building_gap_m, setback_m: ranges of the houses.
        glass_fraction: how much of a wall is window.
        tree_spacing_m, bush_probability, wall_probability: plants and garden walls.
        carpark_probability: probability of a car park beside a street.
    """

    lattice: tuple[int, int]
    spacing_m: float
    jitter_m: float
    bend_rad: float
    drop_fraction: float
    drives_right: bool
    lane_counts: tuple[int, ...]
    lane_width_m: float
    median_m: tuple[float, ...]
    walkway_m: float
    verge_m: float
    parking_probability: float
    divider: str
    asphalt: str
    sidewalk: str
    terrain: str
    facades: tuple[str, ...]
    building_height_m: tuple[float, float]
    building_width_m: tuple[float, float]
    building_gap_m: tuple[float, float]
    setback_m: tuple[float, float]
    glass_fraction: float
    tree_spacing_m: float
    bush_probability: float
    wall_probability: float
    carpark_probability: float


CITY_STYLES: dict[str, CityStyle] = {
    'boston-seaport': CityStyle(
        (5, 4), 140.0, 10.0, 0.10, 0.15, True, (1, 2, 2), 3.5, (0.0, 0.0, 2.0), 3.6, 1.0, 0.7, 'paint_yellow',
        'asphalt', 'sidewalk', 'terrain_soil', ('brick_wall', 'concrete', 'building_glass', 'plaster_cream'),
        (9.0, 38.0), (14.0, 30.0), (1.0, 10.0), (0.8, 4.0), 0.45, 16.0, 0.15, 0.15, 0.45),
    'singapore-onenorth': CityStyle(
        (4, 5), 145.0, 16.0, 0.24, 0.20, False, (1, 2, 2), 3.4, (0.0, 2.4, 0.0), 3.0, 2.5, 0.5, 'paint_white',
        'asphalt', 'sidewalk', 'terrain_grass', ('building_glass', 'concrete', 'plaster_white'), (10.0, 45.0),
        (20.0, 38.0), (8.0, 24.0), (4.0, 10.0), 0.60, 10.0, 0.45, 0.10, 0.35),
    'singapore-queenstown': CityStyle(
        (4, 4), 150.0, 14.0, 0.18, 0.18, False, (1, 1, 2), 3.5, (0.0, 0.0, 1.6), 3.0, 2.0, 0.6, 'paint_white',
        'asphalt_light', 'sidewalk', 'terrain_grass', ('plaster_white', 'plaster_cream', 'plaster_blue'),
        (14.0, 40.0), (26.0, 48.0), (10.0, 26.0), (5.0, 12.0), 0.35, 9.0, 0.50, 0.20, 0.60),
    'singapore-hollandvillage': CityStyle(
        (5, 4), 130.0, 18.0, 0.26, 0.22, False, (1, 1, 2), 3.3, (0.0, 0.0, 2.0), 2.8, 1.2, 0.65,
        'paint_white', 'asphalt', 'sidewalk_brick', 'terrain_grass',
        ('plaster_cream', 'brick_wall', 'plaster_blue', 'plaster_white'), (5.5, 11.0), (8.0, 18.0),
        (0.5, 6.0), (1.0, 6.0), 0.30, 12.0, 0.55, 0.35, 0.45),
}
