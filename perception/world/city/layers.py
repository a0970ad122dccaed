"""From a street network to map layers: drivable area, walkways, crossings, stop lines, car parks."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..scene.curves import Curve
from .records import CarPark, Crossing, Road, RoadNetwork, StopLine, StreetMap, TrafficLight
from .roads import CORNER_RADIUS_M, CROSSING_GAP_M, CROSSING_WIDTH_M, STOP_LINE_DEPTH_M
from .styles import CityStyle

if TYPE_CHECKING:
    from shapely.geometry import LineString, Polygon

BAY_DEPTH_M, BAY_WIDTH_M, AISLE_M = 5.4, 2.8, 7.0


def quad(
    origin_xy: np.ndarray, yaw_rad: float, x_m: tuple[float, float], y_m: tuple[float, float]
) -> np.ndarray:
    """(4, 2) corners of a rectangle given in a frame at `origin_xy` turned by `yaw_rad`."""
    forward = np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    left = np.array([-np.sin(yaw_rad), np.cos(yaw_rad)])
    corners = ((x_m[0], y_m[0]), (x_m[1], y_m[0]), (x_m[1], y_m[1]), (x_m[0], y_m[1]))
    return np.array([origin_xy + x * forward + y * left for x, y in corners])


def _polygons(geometry, smallest_m2: float = 1.0) -> list[Polygon]:
    """The polygons of any geometry, slivers left out."""
    parts = getattr(geometry, 'geoms', [geometry])
    return [part for part in parts if part.geom_type == 'Polygon' and part.area > smallest_m2]


def _arm_sides(network: RoadNetwork, road: Road, node: int) -> tuple[float, float]:
    """Distances to the right and left kerb, seen by a driver who comes towards the node."""
    return (road.left_m, road.right_m) if node == road.node_a else (road.right_m, road.left_m)


def _node_zone(network: RoadNetwork, node: int, streets) -> Polygon:
    """The crossroads: what of the street surface lies between the ends of the arms' lanes."""
    from shapely.geometry import MultiPoint

    corners = []
    for road in network.arms(node):
        xy, yaw = network.arm_pose(road, node, network.setback_m(road, node))
        right, left = _arm_sides(network, road, node)
        corners.extend(quad(xy, yaw, (0.0, 0.0), (-right, left)))
    hull = MultiPoint(np.array([*corners, network.nodes_N2[node]])).convex_hull
    return max(_polygons(hull.intersection(streets)), key=lambda part: part.area)


def _crossing(network: RoadNetwork, road: Road, node: int) -> Crossing:
    from shapely.geometry import Polygon

    near = network.setback_m(road, node) - CROSSING_GAP_M - CROSSING_WIDTH_M
    xy, yaw = network.arm_pose(road, node, near + 0.5 * CROSSING_WIDTH_M)
    right, left = _arm_sides(network, road, node)
    half = 0.5 * CROSSING_WIDTH_M
    kerbs = quad(xy, yaw, (0.0, 0.0), (-right, left))[1:3]
    middle = Curve(np.linspace(kerbs[0], kerbs[1], 20))
    return Crossing(Polygon(quad(xy, yaw, (-half, half), (-right, left))), node, road.index, middle)


def _stop_line(network: RoadNetwork, road: Road, node: int, crossing: int) -> StopLine:
    from shapely.geometry import Polygon

    direction = 1 if node == road.node_b else -1
    distance = network.setback_m(road, node) + 0.3
    xy, yaw = network.arm_pose(road, node, distance)
    inner, outer = 0.5 * road.median_m, road.carriageway_m
    across = (-outer, -inner) if network.drives_right else (inner, outer)
    area = Polygon(quad(xy, yaw, (-STOP_LINE_DEPTH_M, 0.0), across))
    paint = Polygon(quad(xy, yaw, (-0.5 * STOP_LINE_DEPTH_M - 0.25, -0.5 * STOP_LINE_DEPTH_M + 0.25), across))
    return StopLine(area, paint, node, road.index, direction, 'TRAFFIC_LIGHT', crossing)


def _traffic_light(network: RoadNetwork, road: Road, node: int) -> TrafficLight:
    """A signal beside the kerb at the stop line, facing the cars that come."""
    xy, yaw = network.arm_pose(
        road, node, network.setback_m(road, node) - CROSSING_GAP_M - CROSSING_WIDTH_M - 0.5
    )
    right, left = _arm_sides(network, road, node)
    aside = -(right + 1.6) if network.drives_right else left + 1.6
    place = quad(xy, yaw, (0.0, 0.0), (aside, aside))[0]
    return TrafficLight(place, float(yaw) + np.pi, node, road.index)


def _dividers(
    network: RoadNetwork,
) -> tuple[list[tuple[LineString, int]], list[tuple[LineString, int, int, int]]]:
    from shapely.geometry import LineString

    between, among = [], []
    for road in network.roads:
        middle = road.curve.piece(*road.span_m, step_m=2.0)
        edges = (0.0,) if road.median_m == 0 else (-0.5 * road.median_m, 0.5 * road.median_m)
        between.extend((LineString(middle.offset(edge).points_K2), road.index) for edge in edges)
        for direction in (1, -1):
            side = -direction if network.drives_right else direction
            for position in range(1, road.lanes_per_direction):
                line = middle.offset(side * (0.5 * road.median_m + position * road.lane_width_m))
                line = line if direction == 1 else line.reversed()
                among.append((LineString(line.points_K2), road.index, direction, position))
    return between, among


def _car_park(road: Road, left: bool, walkway_m: float, rng: np.random.Generator) -> CarPark:
    """A car park behind the walkway in the middle of a street, two or three rows of bays, one driveway."""
    from shapely.geometry import Polygon

    s_m = 0.5 * sum(road.span_m) + rng.uniform(-6.0, 6.0)
    bays, rows = int(rng.integers(7, 11)), int(rng.integers(2, 4))
    width, depth = bays * BAY_WIDTH_M + 8.0, rows * BAY_DEPTH_M + (rows - 1) * AISLE_M + 1.0

    # from here on x points away from the street and y along it
    xy, yaw = road.curve.at(s_m)
    outward = float(yaw) + (0.5 * np.pi if left else -0.5 * np.pi)
    start = abs(road.kerb_m(left)) + walkway_m + 2.0
    area = quad(xy, outward, (start, start + depth), (-0.5 * width, 0.5 * width))
    gate = 0.5 * width - 3.5
    driveway = quad(xy, outward, (start - walkway_m - 3.0, start + 0.5), (gate - 3.0, gate + 3.0))

    # cars of the first row look at the street, those of the others away from it
    places = []
    for row in range(rows):
        x = start + 0.5 + row * (BAY_DEPTH_M + AISLE_M) + 0.5 * BAY_DEPTH_M
        nose = outward if row else outward + np.pi
        for bay in range(bays):
            y = -0.5 * width + 1.0 + (bay + 0.5) * BAY_WIDTH_M
            places.append([*quad(xy, outward, (x, x), (y, y))[0], nose])
    return CarPark(Polygon(area), Polygon(driveway), np.array(places), road.index, outward)


def _draw_car_parks(
    network: RoadNetwork, style: CityStyle, streets, rng: np.random.Generator
) -> list[CarPark]:
    """Car parks that touch neither another street nor each other."""
    from shapely.ops import unary_union

    taken, parks = streets.buffer(style.walkway_m + 1.0), []
    for road in network.roads:
        for left in (False, True):
            if rng.random() < style.carpark_probability and road.span_m[1] - road.span_m[0] > 55.0:
                park = _car_park(road, left, style.walkway_m, rng)
                if not park.polygon.buffer(0.5).intersects(taken):
                    parks.append(park)
                    taken = unary_union([taken, park.polygon.buffer(3.0)])
    return parks


def _street_surface(network: RoadNetwork):
    """The union of all streets with its inner corners rounded by a morphological closing."""
    from shapely.geometry import LineString, Polygon
    from shapely.ops import unary_union

    strips = [Polygon(road.curve.strip(-road.right_m, road.left_m)).buffer(0) for road in network.roads]

    # a round cap at every node, so that streets that meet there leave no notch
    caps = []
    for node in range(len(network.nodes_N2)):
        centre = LineString([network.nodes_N2[node] - [0.5, 0], network.nodes_N2[node] + [0.5, 0]])
        caps.append(centre.buffer(min(road.half_width_m for road in network.arms(node))))

    union = unary_union([*strips, *caps])
    return union.buffer(CORNER_RADIUS_M, quad_segs=6).buffer(-CORNER_RADIUS_M, quad_segs=6).simplify(0.02)


def _without_medians(drivable, network: RoadNetwork):
    """The drivable area less the medians, a hand's breadth smaller, between the lanes' ends."""
    from shapely.geometry import Polygon
    from shapely.ops import unary_union

    medians = []
    for road in network.roads:
        if road.median_m > 0:
            half = 0.5 * road.median_m
            medians.append(Polygon(road.curve.piece(*road.span_m).strip(-half, half)).buffer(-0.05))
    return drivable.difference(unary_union(medians)) if medians else drivable


def draw_map(network: RoadNetwork, style: CityStyle, rng: np.random.Generator) -> StreetMap:
    """All map layers of a street network; the walkway is a band around the street surface.

    Args:
        network: the streets.
        style: the city's parameters.
        rng: draws the car parks.
    """
    from shapely.geometry import Polygon
    from shapely.ops import unary_union

    streets = _street_surface(network)
    parks = _draw_car_parks(network, style, streets, rng)
    drivable = unary_union([streets, *[park.polygon for park in parks], *[park.driveway for park in parks]])
    walkway = streets.buffer(style.walkway_m, quad_segs=4).difference(drivable).simplify(0.02)

    # every arm of a crossroads with three arms or more has a crossing, a stop line and a signal
    nodes = range(len(network.nodes_N2))
    crossings, stop_lines, lights = [], [], []
    for node in nodes:
        arms = network.arms(node)
        for road in arms if len(arms) >= 3 else ():
            crossings.append(_crossing(network, road, node))
            stop_lines.append(_stop_line(network, road, node, len(crossings) - 1))
            lights.append(_traffic_light(network, road, node))

    road_dividers, lane_dividers = _dividers(network)
    return StreetMap(
        drivable=tuple(_polygons(_without_medians(drivable, network))),
        walkways=tuple(_polygons(walkway)),
        node_zones=tuple(_node_zone(network, node, streets) for node in nodes),
        road_areas=tuple(Polygon(road.curve.piece(*road.span_m).strip(-road.right_m, road.left_m))
                         for road in network.roads),
        lane_polygons=tuple(Polygon(lane.curve.strip(-0.5 * lane.width_m, 0.5 * lane.width_m)).buffer(0)
                            for lane in network.lanes),
        crossings=tuple(crossings),
        stop_lines=tuple(stop_lines),
        car_parks=tuple(parks),
        road_dividers=tuple(road_dividers),
        lane_dividers=tuple(lane_dividers),
        traffic_lights=tuple(lights))
