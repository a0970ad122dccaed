"""The street network: crossroads, streets, lanes and the connectors that join lanes inside crossroads.

A street ("road") runs between two crossroads ("nodes") along one centre line. Lanes are numbered from the
middle outwards; `direction` +1 runs along the centre line, -1 against it.
"""
from __future__ import annotations

import numpy as np

from ...core.geometry import wrap_yaw
from ..scene.curves import bezier
from .records import Road, RoadNetwork, StreetLane
from .styles import CityStyle

CORNER_ROOM_M = 5.0
CORNER_RADIUS_M = 9.0
TURN_REACH = 0.5
CROSSING_WIDTH_M = 3.6
CROSSING_GAP_M = 1.0
STOP_LINE_DEPTH_M = 2.0


def _draw_edges(
    columns: int, rows: int, drop_share: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Lattice edges with some left out; every node keeps at least two, border nodes only lose inner ones."""
    edges = [
        (row * columns + column, row * columns + column + 1)
        for row in range(rows)
        for column in range(columns - 1)
    ]
    edges += [(row * columns + column, (row + 1) * columns + column) for row in range(rows - 1)
              for column in range(columns)]
    degree = np.bincount(np.array(edges).ravel(), minlength=columns * rows)
    for index in rng.permutation(len(edges))[: int(drop_share * len(edges)) * 2]:
        first, second = edges[index]
        if min(degree[first], degree[second]) >= 3 and rng.random() < 0.5:
            degree[[first, second]] -= 1
            edges[index] = (-1, -1)
    return [edge for edge in edges if edge[0] >= 0]


def _draw_roads(style: CityStyle, margin_m: float, rng: np.random.Generator) -> tuple[np.ndarray, list[Road]]:
    columns, rows = style.lattice
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    nodes = margin_m + grid * style.spacing_m + rng.uniform(-style.jitter_m, style.jitter_m, grid.shape)
    turn = rng.uniform(-style.bend_rad, style.bend_rad, len(nodes))
    row_lanes, column_lanes = rng.choice(style.lane_counts, rows), rng.choice(style.lane_counts, columns)
    row_median, column_median = rng.choice(style.median_m, rows), rng.choice(style.median_m, columns)
    roads = []
    for first, second in _draw_edges(columns, rows, style.drop_share, rng):
        along_row = second == first + 1
        axis = 0.0 if along_row else 0.5 * np.pi
        line = first // columns if along_row else first % columns
        count = int((row_lanes if along_row else column_lanes)[line])
        median = float((row_median if along_row else column_median)[line]) if count > 1 else 0.0
        curve = bezier(nodes[first], axis + turn[first], nodes[second], axis + turn[second], 0.36, 1.0)
        strips, one = rng.random(2) < style.parking_share, bool(rng.random() < 0.5)
        parking = (bool(strips[0] or (one and not strips[1])), bool(strips[1] or (not one and not strips[0])))
        roads.append(
            Road(len(roads), int(first), int(second), curve, count, style.lane_width_m, median, parking)
        )
    return nodes, roads


def _set_back(roads: list[Road]) -> list[Road]:
    """Roads that know how far from each node their lanes end: room for the corner, the crossing and the
    gap."""
    arms: dict[int, list[Road]] = {}
    for road in roads:
        arms.setdefault(road.node_a, []).append(road)
        arms.setdefault(road.node_b, []).append(road)
    extra = CORNER_ROOM_M + CROSSING_WIDTH_M + 2 * CROSSING_GAP_M
    widest = {node: max(road.half_width_m for road in members) for node, members in arms.items()}
    return [
        Road(
            road.index, road.node_a, road.node_b, road.curve, road.lanes_per_direction, road.lane_width_m,
            road.median_m, road.parking, widest[road.node_a] + extra, widest[road.node_b] + extra)
        for road in roads
    ]


def _road_lanes(roads: list[Road], drives_right: bool) -> list[StreetLane]:
    lanes: list[StreetLane] = []
    for road in roads:
        middle = road.curve.piece(*road.span_m)
        for direction in (1, -1):
            side = -direction if drives_right else direction
            for position in range(road.lanes_per_direction):
                aside_m = 0.5 * road.median_m + (position + 0.5) * road.lane_width_m
                curve = middle.offset(side * aside_m)
                curve = curve if direction == 1 else curve.reversed()
                lane = StreetLane(len(lanes), curve, road.lane_width_m, road.index, direction, position)
                lanes.append(lane)
    return lanes


def _turn_name(angle_rad: float) -> str:
    if abs(angle_rad) < np.deg2rad(40):
        return 'straight'
    return 'left' if angle_rad > 0 else 'right'


def _lane_pairs(
    entering: list[StreetLane], leaving: list[StreetLane], turn: str, drives_right: bool
) -> list[tuple[StreetLane, StreetLane]]:
    """Which lane goes where: all lanes straight on, the outermost in near turns, the innermost in far
    turns."""
    if turn == 'straight':
        return [(lane, leaving[min(lane.position, len(leaving) - 1)]) for lane in entering]
    near = (turn == 'right') == drives_right
    return [(entering[-1], leaving[-1])] if near else [(entering[0], leaving[0])]


def _connect(network: RoadNetwork) -> tuple[StreetLane, ...]:
    """All lanes followed by the connectors between them; fills `incoming` and `outgoing`."""
    lanes = list(network.lanes)

    def ends(road: Road, node: int, entering: bool) -> list[StreetLane]:
        direction = 1 if (road.node_b == node) == entering else -1
        found = [lane for lane in network.lanes if lane.road == road.index and lane.direction == direction]
        return sorted(found, key=lambda lane: lane.position)

    def join(lane: StreetLane, onward: StreetLane, node: int, turn: str) -> None:
        start, end = lane.curve, onward.curve
        curve = bezier(start.points_K2[-1], start.yaw_K[-1], end.points_K2[0], end.yaw_K[0], TURN_REACH)
        index = len(lanes)
        lanes.append(StreetLane(index, curve, lane.width_m, -1, 1, lane.position, node, lane.road, turn,
                          [lane.index], [onward.index]))
        lane.outgoing.append(index)
        onward.incoming.append(index)

    for node in range(len(network.nodes_N2)):
        arms = network.arms(node)
        for arm in arms:
            entering = ends(arm, node, True)
            onward = []
            for other in arms:
                if other is not arm:
                    leaving = ends(other, node, False)
                    turn = _turn_name(
                        float(wrap_yaw(leaving[0].curve.yaw_K[0] - entering[0].curve.yaw_K[-1]))
                    )
                    onward.append((leaving, turn))
                    for lane, target in _lane_pairs(entering, leaving, turn, network.drives_right):
                        join(lane, target, node, turn)
            for lane in entering:
                if not lane.outgoing:
                    leaving, turn = onward[lane.index % len(onward)]
                    join(lane, leaving[min(lane.position, len(leaving) - 1)], node, turn)
    return tuple(lanes)


def draw_network(style: CityStyle, rng: np.random.Generator, margin_m: float = 110.0) -> RoadNetwork:
    """A street network of a style; all coordinates are positive, `margin_m` beyond the outermost nodes.

    Args:
        style: the city's parameters.
        rng: the city's generator.
        margin_m: land around the network.
    """
    nodes, roads = _draw_roads(style, margin_m, rng)
    roads = _set_back(roads)
    network = RoadNetwork(
        nodes, tuple(roads), tuple(_road_lanes(roads, style.drives_right)), style.drives_right
    )
    return RoadNetwork(nodes, network.roads, _connect(network), style.drives_right)
