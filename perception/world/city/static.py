"""What stands in a city: buildings, lamp posts, signals, signs, trees, bushes, garden walls."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..bodies.shapes import ball, box, placed, prism, quad_face
from ..scene.materials import MATERIAL_ID
from ..scene.mesh import Mesh
from ..scene.relief import Relief
from .layers import quad
from .records import City, Road, RoadNetwork, RoadWorks, StandingObjects, StreetMap
from .styles import CityStyle

if TYPE_CHECKING:
    from shapely.geometry import Polygon

LAMP_SPACING_M = 32.0
FOOT_M = 0.3
"""How deep what stands reaches into sloping ground."""


def tree(height_m: float, crown_m: float, leaves: str, rng: np.random.Generator) -> Mesh:
    """A trunk with one or two crowns."""
    crown = ball((0, 0, height_m - crown_m), (crown_m, 0.9 * crown_m, crown_m), leaves)
    shift = rng.uniform(-0.4, 0.4, 2) * crown_m
    lower = height_m - 1.9 * crown_m
    second = ball((*shift, lower), (0.85 * crown_m, 0.85 * crown_m, 0.7 * crown_m), leaves)
    return Mesh.merge([prism(0.18, 0.12, (0.0, lower), 'trunk', 5), crown, second])


def bush(radius_m: float) -> Mesh:
    """A low shrub."""
    return ball((0, 0, 0.55 * radius_m), (radius_m, radius_m, 0.8 * radius_m), 'bush')


def lamp_post(height_m: float) -> Mesh:
    """A post whose arm reaches along +x over the street."""
    return Mesh.merge([prism(0.11, 0.07, (0.0, height_m), 'pole_metal', 5),
                       box((0.0, 2.0), (-0.05, 0.05), (height_m - 0.15, height_m), 'pole_metal'),
                       box((1.5, 2.2), (-0.15, 0.15), (height_m - 0.25, height_m - 0.1), 'signal_housing')])


def signal() -> Mesh:
    """A traffic light that faces +x."""
    lamps = [
        quad_face(
            np.array([[0.21, -0.1, z], [0.21, 0.1, z], [0.21, 0.1, z + 0.2], [0.21, -0.1, z + 0.2]]), paint
        )
        for z, paint in ((3.05, 'leaves'), (3.35, 'paint_yellow'), (3.65, 'taillight'))
    ]
    return Mesh.merge([prism(0.09, 0.09, (0.0, 4.0), 'pole_metal', 5),
                       box((-0.05, 0.2), (-0.18, 0.18), (2.95, 3.95), 'signal_housing'), *lamps])


def sign() -> Mesh:
    """A road sign with a retro-reflective plate that faces +x."""
    return Mesh.merge([prism(0.04, 0.04, (0.0, 2.6), 'pole_metal', 4),
                       box((0.03, 0.06), (-0.35, 0.35), (2.0, 2.7), 'sign_retro')])


def building(width_m: float, depth_m: float, height_m: float, facade: str, glass_fraction: float) -> Mesh:
    """A house of width along y and depth along x, with window bands on all sides and a roof structure."""
    x, y = 0.5 * depth_m, 0.5 * width_m
    parts = [box((-x, x), (-y, y), (0.0, height_m), facade),
             box((-0.4 * x, 0.5 * x), (-0.5 * y, 0.3 * y), (height_m, height_m + 2.2), 'roof'),
             box((-x, x), (-y, y), (height_m, height_m + 0.3), 'roof')]
    return Mesh.merge([*parts, _windows(x + 0.04, y + 0.04, height_m, glass_fraction)])


def _windows(x: float, y: float, height_m: float, glass_fraction: float) -> Mesh:
    """Glass bands just outside the four walls x = +-x and y = +-y, one a storey, at most five."""
    floors = max(1, min(5, round(height_m / 3.4)))
    storey = height_m / floors
    low = (np.arange(floors) + 0.5 * (1 - glass_fraction) + 0.1) * storey
    high = low + glass_fraction * storey

    # (wall, end, xy): each band runs along its wall, counter-clockwise seen from above
    inner_x, inner_y = 0.92 * x, 0.92 * y
    runs = np.array([[[x, -inner_y], [x, inner_y]],
                     [[inner_x, y], [-inner_x, y]],
                     [[-x, inner_y], [-x, -inner_y]],
                     [[-inner_x, -y], [inner_x, -y]]])

    # (wall, floor, corner, xyz), then two triangles a band
    corners = np.empty((4, floors, 4, 3))
    corners[..., :2] = runs[:, None, [0, 1, 1, 0]]
    corners[..., 2] = np.stack([low, low, high, high], axis=1)
    first = 4 * np.arange(4 * floors)[:, None, None]
    faces = (first + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return Mesh(corners.reshape(-1, 3), faces, np.full(len(faces), MATERIAL_ID['building_glass']))


class _Site:
    """Collects standing objects and refuses those that would stand on something else."""

    def __init__(self, city_map: StreetMap, walkway_room_m: float) -> None:
        from shapely.ops import unary_union
        from shapely.prepared import prep

        self.streets = unary_union([*city_map.drivable, *city_map.node_zones]).buffer(0.2)
        self.paved = prep(unary_union([self.streets, *city_map.walkways]).buffer(walkway_room_m))
        self.road = prep(self.streets)
        self.footprints: list[tuple[Polygon, tuple[float, float, float, float]]] = []
        self.objects: list[tuple[Mesh, np.ndarray, float]] = []

    def occupy_if_free(self, corners_42: np.ndarray) -> bool:
        """Whether a building may stand on a ground plan; if so, the ground is taken from now on."""
        from shapely.geometry import Polygon

        outline = Polygon(corners_42)
        if self.paved.intersects(outline) or self._meets_footprint(outline):
            return False
        self.occupy(outline)
        return True

    def occupy(self, outline: Polygon) -> None:
        """Keep everything else off this ground."""
        self.footprints.append((outline, outline.bounds))

    def _meets_footprint(self, outline: Polygon) -> bool:
        """Whether a footprint meets `outline`; bounding boxes sort out most of them cheaply."""
        low_x, low_y, high_x, high_y = outline.bounds
        return any(x0 <= high_x and x1 >= low_x and y0 <= high_y and y1 >= low_y and outline.intersects(other)
                   for other, (x0, y0, x1, y1) in self.footprints)

    def free_for_plant(self, xy: np.ndarray, radius_m: float) -> bool:
        """Whether a plant or post of a radius may stand at a place."""
        from shapely.geometry import Point

        spot = Point(xy).buffer(radius_m, quad_segs=2)
        return not self.road.intersects(spot) and not self._meets_footprint(spot)

    def add(self, mesh: Mesh, xy: np.ndarray, yaw_rad: float, radius_m: float) -> None:
        """Put a mesh at a place, turned by a yaw."""
        self.objects.append((placed(mesh, xy, yaw_rad), np.asarray(xy), radius_m))


def _build_houses(site: _Site, road: Road, style: CityStyle, left: bool, rng: np.random.Generator) -> None:
    """Houses along one side of a street; where the first row has no room, a second one is tried."""
    s_m = road.span_m[0] - 8.0
    while s_m < road.span_m[1] + 6.0:
        width, depth = rng.uniform(*style.building_width_m), rng.uniform(9.0, 18.0)
        height, setback = rng.uniform(*style.building_height_m), rng.uniform(*style.setback_m)
        facade = style.facades[int(rng.integers(len(style.facades)))]

        xy, yaw = road.curve.at(s_m + 0.5 * width)
        outward = float(yaw) + (0.5 * np.pi if left else -0.5 * np.pi)
        start = abs(road.kerb_m(left)) + style.walkway_m + style.verge_m + setback
        for extra in (0.0, 24.0):
            corners = quad(xy, outward, (start + extra, start + extra + depth), (-0.5 * width, 0.5 * width))
            if site.occupy_if_free(corners):
                house = building(width, depth, height, facade, style.glass_fraction)
                site.add(house, corners.mean(axis=0), outward + np.pi, 0.6 * float(np.hypot(width, depth)))
                break

        s_m += width + rng.uniform(*style.building_gap_m)


def _plant_side(site: _Site, road: Road, style: CityStyle, left: bool, rng: np.random.Generator) -> None:
    """Trees, bushes and garden walls on the verge behind the walkway."""
    edge = abs(road.kerb_m(left)) + style.walkway_m
    sign_y = 1.0 if left else -1.0
    for s_m in np.arange(road.span_m[0], road.span_m[1], style.tree_spacing_m):
        place, yaw = road.curve.beside(s_m + rng.uniform(-2, 2), sign_y * (edge + rng.uniform(0.7, 1.2)))
        height = rng.uniform(4.5, 9.0)
        crown = rng.uniform(0.22, 0.3) * height
        if rng.random() < 0.75 and site.free_for_plant(place, 0.5):
            leaves = ('leaves', 'leaves_light')[int(rng.integers(2))]
            site.add(tree(height, crown, leaves, rng), place, rng.uniform(0, 6.28), crown)

        # half way to the next tree a bush, or else a wall
        beside, _ = road.curve.beside(s_m + 0.5 * style.tree_spacing_m, sign_y * (edge + 0.9))
        if rng.random() < style.bush_probability and site.free_for_plant(beside, 0.7):
            site.add(bush(rng.uniform(0.45, 0.8)), beside, rng.uniform(0, 6.28), 0.9)
        elif rng.random() < style.wall_probability and site.free_for_plant(beside, 2.5):
            length, height = rng.uniform(3.0, 5.0), rng.uniform(0.8, 2.0)
            material = ('concrete', 'fence_wood', 'brick_wall')[int(rng.integers(3))]
            wall = box((-0.5 * length, 0.5 * length), (-0.12, 0.12), (0.0, height), material)
            site.add(wall, beside, float(yaw), 0.5 * length)


def _stand_posts(site: _Site, road: Road, left: bool, drives_right: bool, rng: np.random.Generator) -> None:
    """Lamp posts and one road sign along one kerb."""
    kerb, sign_y = abs(road.kerb_m(left)), 1.0 if left else -1.0
    for s_m in np.arange(road.span_m[0] + 8.0 + 12.0 * left, road.span_m[1] - 3.0, LAMP_SPACING_M):
        place, yaw = road.curve.beside(s_m, sign_y * (kerb + 0.45))
        if site.free_for_plant(place, 0.1):
            site.add(lamp_post(rng.uniform(7.0, 9.0)), place, float(yaw) - sign_y * 0.5 * np.pi, 2.2)

    place, yaw = road.curve.beside(sum(road.span_m) * rng.uniform(0.35, 0.65), sign_y * (kerb + 0.5))
    if site.free_for_plant(place, 0.1):
        along = left != drives_right
        site.add(sign(), place, float(yaw) + (np.pi if along else 0.0), 0.5)


def _plant_median(site: _Site, road: Road, rng: np.random.Generator) -> None:
    """Low bushes on a median that is wide enough."""
    if road.median_m > 1.2:
        for s_m in np.arange(road.span_m[0] + 4.0, road.span_m[1] - 4.0, 5.0):
            if rng.random() < 0.5:
                site.add(bush(rng.uniform(0.35, 0.5)), road.curve.at(s_m)[0], 0.0, 0.6)


def build_static(network: RoadNetwork, city_map: StreetMap, style: CityStyle,
                 rng: np.random.Generator) -> StandingObjects:
    """All standing objects of a city; nothing stands on the drivable area, no building on a walkway."""
    site = _Site(city_map, 0.3)
    for park in city_map.car_parks:
        site.occupy(park.polygon.buffer(0.5))
        site.occupy(park.driveway.buffer(0.5))

    # houses of all streets first: they need most room
    for road in network.roads:
        for left in (False, True):
            _build_houses(site, road, style, left, rng)
    for road in network.roads:
        _plant_median(site, road, rng)
        for left in (False, True):
            _plant_side(site, road, style, left, rng)
            _stand_posts(site, road, left, network.drives_right, rng)

    for light in city_map.traffic_lights:
        site.add(signal(), light.xy_m, light.yaw_rad, 0.3)
    meshes, centres, radii = zip(*site.objects, strict=True)
    return StandingObjects(meshes, np.array(centres), np.array(radii))


def static_around(city: City, path_K2: np.ndarray, reach_m: float, works: Sequence[RoadWorks],
                  relief: Relief) -> Mesh:
    """Standing objects within reach of a path, on their ground, less posts and plants inside road works."""
    from shapely.geometry import Point, Polygon

    static = city.static
    distance = np.linalg.norm(static.centre_S2[:, None] - path_K2[None], axis=2).min(axis=1)
    near = np.flatnonzero(distance - static.radius_S < reach_m)

    zones = [Polygon(zone.outline(city.network.roads[zone.road])).buffer(0.6) for zone in works]

    def is_cleared(index: int) -> bool:
        place = Point(static.centre_S2[index])
        return static.radius_S[index] <= 4.0 and any(zone.contains(place) for zone in zones)

    return Mesh.merge([_grounded(static.meshes[index], static.centre_S2[index], relief)
                       for index in near if not is_cleared(index)])


def _grounded(mesh: Mesh, centre_xy: np.ndarray, relief: Relief) -> Mesh:
    """A standing object on the height of its centre, upright; its foot reaches below the lowest ground."""
    if relief.is_flat:
        return mesh
    vertices = mesh.vertices_V3.astype(np.float64)
    foot = np.abs(vertices[:, 2]) < 0.01
    vertices[:, 2] += relief.height_at(centre_xy)
    if foot.any():
        vertices[foot, 2] = relief.height_at(vertices[foot, :2]).min() - FOOT_M
    return Mesh(vertices, mesh.faces_F3, mesh.material_F)
