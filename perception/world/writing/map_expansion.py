"""A city's map in the JSON layout of the nuScenes map expansion v1.3, as `NuScenesMap` reads it."""
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.geometry import wrap_yaw
from ..city.records import City, StreetLane, TrafficLight
from ..scene.curves import Curve

if TYPE_CHECKING:
    from shapely.geometry import LineString, Polygon

__all__ = ['arcline_path', 'city_map_expansion']

MAP_VERSION = '1.3'
ARC_PIECE_M = 3.0
STRAIGHT_RADIUS_M = 999.0
SIGNAL_COLOURS = ('RED', 'YELLOW', 'GREEN')


def arcline_path(curve: Curve, piece_m: float = ARC_PIECE_M) -> list[dict[str, Any]]:
    """A curve as arcs and straight pieces in the map expansion's `arcline_path_3` layout.

    Each piece is a three-part path of which one part has a length: the first (an arc, `LSL` or `RSR`) or
    the second (straight). An arc keeps the chord's end points and the change of heading.

    Args:
        curve: the centre line in global metres.
        piece_m: longest piece.
    """
    count = max(1, int(np.ceil(curve.length_m / piece_m)))
    xy_K2, yaw_K = curve.at(np.linspace(0.0, curve.length_m, count + 1))
    pieces = []
    for start, end, yaw0, yaw1 in zip(xy_K2[:-1], xy_K2[1:], yaw_K[:-1], yaw_K[1:], strict=True):
        chord = float(np.linalg.norm(end - start))
        turn = float(wrap_yaw(yaw1 - yaw0))

        # a chord lies half the turn from the headings at its ends
        heading = float(np.arctan2(end[1] - start[1], end[0] - start[0])) - 0.5 * turn
        start_pose = [float(start[0]), float(start[1]), heading]
        end_pose = [float(end[0]), float(end[1]), float(wrap_yaw(heading + turn))]

        if abs(turn) < 1e-4:
            shape, radius, lengths = 'LSR', STRAIGHT_RADIUS_M, [0.0, chord, 0.0]
        else:
            radius = chord / (2 * np.sin(0.5 * abs(turn)))
            shape, lengths = ('LSL' if turn > 0 else 'RSR'), [radius * abs(turn), 0.0, 0.0]
        pieces.append({'start_pose': start_pose, 'end_pose': end_pose, 'shape': shape,
                       'radius': float(radius), 'segment_length': [float(length) for length in lengths]})
    return pieces


class _MapWriter:
    """Collects nodes, lines, polygons and the layers' records.

    Tokens are hashes of city, layer and the record's number in its layer.
    """

    def __init__(self, city: City) -> None:
        self.city = city
        self.tables: dict[str, list[dict[str, Any]]] = {name: [] for name in (
            'polygon', 'line', 'node', 'drivable_area', 'road_segment', 'road_block', 'lane', 'ped_crossing',
            'walkway', 'stop_line', 'carpark_area', 'road_divider', 'lane_divider', 'traffic_light',
            'lane_connector')}

    def token(self, layer: str, index: int) -> str:
        """The token of one record, whether it is there yet or not."""
        text = f'{self.city.location}/{self.city.seed}/{layer}/{index}'
        return str(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())

    def add(self, layer: str, **fields: Any) -> str:
        """One record; returns its token."""
        token = self.token(layer, len(self.tables[layer]))
        self.tables[layer].append({'token': token, **fields})
        return token

    def nodes(self, points_K2: np.ndarray) -> list[str]:
        """Nodes for points; returns their tokens."""
        points = np.asarray(points_K2, np.float64).tolist()
        return [self.add('node', x=round(x, 4), y=round(y, 4)) for x, y in points]

    def line(self, points_K2: np.ndarray) -> str:
        """A line through points; returns its token."""
        return self.add('line', node_tokens=self.nodes(points_K2))

    def polygon(self, polygon: Polygon) -> str:
        """A polygon with its holes; returns its token."""
        holes = [{'node_tokens': self.nodes(np.array(ring.coords)[:-1])} for ring in polygon.interiors]
        return self.add('polygon', exterior_node_tokens=self.nodes(np.array(polygon.exterior.coords)[:-1]),
                        holes=holes)


def _add_areas(writer: _MapWriter) -> None:
    """Drivable area, street segments, blocks per direction, crossings, walkways, stop lines, car parks."""
    from shapely.geometry import Polygon

    city, network = writer.city, writer.city.network
    areas = [writer.polygon(area) for area in city.map.drivable]
    drivable = writer.add('drivable_area', polygon_tokens=areas)

    # streets come before crossroads: `_node_segment` counts on it
    for polygon in city.map.road_areas:
        writer.add('road_segment', polygon_token=writer.polygon(polygon), is_intersection=False,
                   drivable_area_token=drivable)
    for polygon in city.map.node_zones:
        writer.add('road_segment', polygon_token=writer.polygon(polygon), is_intersection=True,
                   drivable_area_token=drivable)

    # one block for each direction, from the edge where cars enter to the one where they leave
    for road in network.roads:
        middle = road.curve.piece(*road.span_m, step_m=2.0)
        for direction in (1, -1):
            sign = -direction if network.drives_right else direction
            inner, outer = sign * 0.5 * road.median_m, sign * road.carriageway_m
            ends = np.stack([middle.offset(aside).points_K2[[0, -1]] for aside in (inner, outer)], 1)
            ends = ends[::direction]
            writer.add(
                'road_block', polygon_token=writer.polygon(Polygon(middle.strip(*sorted((inner, outer))))),
                from_edge_line_token=writer.line(ends[0]), to_edge_line_token=writer.line(ends[1]),
                road_segment_token=writer.token('road_segment', road.index))
    _add_small_areas(writer)


def _node_segment(writer: _MapWriter, node: int) -> str:
    return writer.token('road_segment', len(writer.city.network.roads) + node)


def _block(writer: _MapWriter, road: int, direction: int) -> str:
    return writer.token('road_block', 2 * road + (0 if direction == 1 else 1))


def _add_small_areas(writer: _MapWriter) -> None:
    """Crossings, walkways, stop lines and car parks."""
    city_map = writer.city.map
    for crossing in city_map.crossings:
        writer.add('ped_crossing', polygon_token=writer.polygon(crossing.polygon),
                   road_segment_token=_node_segment(writer, crossing.node))
    for walkway in city_map.walkways:
        writer.add('walkway', polygon_token=writer.polygon(walkway))

    lights = {(light.node, light.road): index for index, light in enumerate(city_map.traffic_lights)}
    for line in city_map.stop_lines:
        writer.add('stop_line', polygon_token=writer.polygon(line.polygon), stop_line_type=line.kind,
                   ped_crossing_tokens=[writer.token('ped_crossing', line.crossing)],
                   traffic_light_tokens=[writer.token('traffic_light', lights[line.node, line.road])],
                   road_block_token=_block(writer, line.road, line.direction))

    for park in city_map.car_parks:
        writer.add(
            'carpark_area', polygon_token=writer.polygon(park.polygon), orientation=float(park.yaw_rad),
            road_block_token=_block(writer, park.road, 1))


def _segments(writer: _MapWriter, points_K2: np.ndarray, kind: str) -> list[dict[str, str]]:
    return [{'node_token': token, 'segment_type': kind} for token in writer.nodes(points_K2)]


def _lane_sides(writer: _MapWriter, lane: StreetLane) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Divider segments left and right of a lane, with the kind of line that is painted there."""
    network = writer.city.network
    road = network.roads[lane.road]
    solid = 'SINGLE_SOLID_YELLOW' if writer.city.style.divider == 'paint_yellow' else 'DOUBLE_SOLID_WHITE'
    inner = solid if lane.position == 0 else 'SINGLE_DASHED_WHITE'
    outer = 'SINGLE_SOLID_WHITE' if lane.position == road.lanes_per_direction - 1 else 'SINGLE_DASHED_WHITE'
    left, right = (inner, outer) if network.drives_right else (outer, inner)
    sparse = lane.curve.piece(0.0, lane.curve.length_m, 4.0)
    half = 0.5 * lane.width_m
    return (_segments(writer, sparse.offset(half).points_K2, left),
            _segments(writer, sparse.offset(-half).points_K2, right))


def _add_lanes(writer: _MapWriter) -> None:
    """Lanes with their dividers, and connectors."""
    city = writer.city
    for lane, polygon in zip(city.network.lanes, city.map.lane_polygons, strict=True):
        if lane.is_connector:
            writer.add('lane_connector', polygon_token=writer.polygon(polygon))
            continue

        half = 0.5 * lane.width_m
        left, right = lane.curve.offset(half).points_K2, lane.curve.offset(-half).points_K2
        left_segments, right_segments = _lane_sides(writer, lane)
        writer.add('lane', polygon_token=writer.polygon(polygon), lane_type='CAR',
                   from_edge_line_token=writer.line(np.stack([left[0], right[0]])),
                   to_edge_line_token=writer.line(np.stack([left[-1], right[-1]])),
                   left_lane_divider_segments=left_segments, right_lane_divider_segments=right_segments)


def _line_points(line: LineString) -> np.ndarray:
    return np.array(line.coords)


def _add_lines(writer: _MapWriter) -> None:
    """Dividers of roads and lanes, and traffic lights."""
    city_map = writer.city.map
    for line, road in city_map.road_dividers:
        writer.add('road_divider', line_token=writer.line(_line_points(line)),
                   road_segment_token=writer.token('road_segment', road))

    for line, *_ in city_map.lane_dividers:
        token = writer.line(_line_points(line))
        segments = [{'node_token': node, 'segment_type': 'SINGLE_DASHED_WHITE'}
                    for node in writer.tables['line'][-1]['node_tokens']]
        writer.add('lane_divider', line_token=token, lane_divider_segments=segments)

    for light in city_map.traffic_lights:
        _add_traffic_light(writer, light)


def _pose_record(x: float, y: float, z: float, yaw_rad: float) -> dict[str, float]:
    return {'tx': x, 'ty': y, 'tz': z, 'rx': 0.0, 'ry': 0.0, 'rz': yaw_rad}


def _add_traffic_light(writer: _MapWriter, light: TrafficLight) -> None:
    """A signal with its three lamps, for the cars of one road block."""
    road = writer.city.network.roads[light.road]
    direction = 1 if light.node == road.node_b else -1
    facing = np.array([np.cos(light.yaw_rad), np.sin(light.yaw_rad)])
    lamps = [{'color': colour, 'shape': 'CIRCLE', 'to_road_block_tokens': [],
              'rel_pos': _pose_record(0.0, 0.0, 0.3 * (1 - index), 0.0)}
             for index, colour in enumerate(SIGNAL_COLOURS)]

    x, y = float(light.xy_m[0]), float(light.xy_m[1])
    writer.add(
        'traffic_light',
        line_token=writer.line(np.stack([light.xy_m, light.xy_m + facing])),
        traffic_light_type='VERTICAL',
        from_road_block_token=_block(writer, light.road, direction),
        items=lamps,
        pose=_pose_record(x, y, 3.45, float(wrap_yaw(light.yaw_rad))))


def _lane_tokens(writer: _MapWriter) -> list[str]:
    """Token of every lane or connector by its index in the network."""
    counts, tokens = {'lane': 0, 'lane_connector': 0}, []
    for lane in writer.city.network.lanes:
        layer = 'lane_connector' if lane.is_connector else 'lane'
        tokens.append(writer.token(layer, counts[layer]))
        counts[layer] += 1
    return tokens


def city_map_expansion(city: City) -> dict[str, Any]:
    """The city's map expansion: all layers, nodes, arc-line paths and the lanes' connectivity.

    Args:
        city: from `make_city`.

    Returns:
        A JSON-ready dict for `maps/expansion/<location>.json`.
    """
    writer = _MapWriter(city)
    _add_areas(writer)
    _add_lanes(writer)
    _add_lines(writer)

    tokens = _lane_tokens(writer)
    paths = {tokens[lane.index]: arcline_path(lane.curve) for lane in city.network.lanes}
    connectivity = {tokens[lane.index]: {'incoming': [tokens[index] for index in lane.incoming],
                                         'outgoing': [tokens[index] for index in lane.outgoing]}
                    for lane in city.network.lanes}

    return {'version': MAP_VERSION, **writer.tables, 'arcline_path_3': paths, 'connectivity': connectivity,
            'canvas_edge': list(city.canvas_edge)}
