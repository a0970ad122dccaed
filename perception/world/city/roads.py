"""The street network: crossroads, streets, lanes and the connectors that join lanes inside crossroads.

A street ("road") runs between two crossroads ("nodes") along one centre line. Lanes are numbered from the
middle outwards; `direction` +1 runs along the centre line, -1 against it.
"""
from __future__ import annotations

from dataclasses import replace

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
    columns: int, rows: int, drop_fraction: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Lattice edges with some left out; every node keeps at least two, border nodes only lose inner ones."""
    nodes = np.arange(rows * columns).reshape(rows, columns)
    along_rows = np.stack([nodes[:, :-1].ravel(), nodes[:, 1:].ravel()], axis=1)
    along_columns = np.stack([nodes[:-1].ravel(), nodes[1:].ravel()], axis=1)
    edges = np.concatenate([along_rows, along_columns])

    kept = np.ones(len(edges), bool)
    degree = np.bincount(edges.ravel(), minlength=columns * rows)
    for index in rng.permutation(len(edges))[: int(drop_fraction * len(edges)) * 2]:
        if degree[edges[index]].min() >= 3 and rng.random() < 0.5:
            degree[edges[index]] -= 1
            kept[index] = False
    return [(int(first), int(second)) for first, second in edges[kept]]


def _draw_roads(style: CityStyle, margin_m: float, rng: np.random.Generator) -> tuple[np.ndarray, list[Road]]:
    """Crossroads on a shifted lattice (N, 2), and the streets between them without setbacks."""
    columns, rows = style.lattice
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    nodes = margin_m + grid * style.spacing_m + rng.uniform(-style.jitter_m, style.jitter_m, grid.shape)
    turn = rng.uniform(-style.bend_rad, style.bend_rad, len(nodes))

    # all streets of one row or column of the lattice have the same cross section
    row_lanes, column_lanes = rng.choice(style.lane_counts, rows), rng.choice(style.lane_counts, columns)
    row_median, column_median = rng.choice(style.median_m, rows), rng.choice(style.median_m, columns)

    roads = []
    for first, second in _draw_edges(columns, rows, style.drop_fraction, rng):
        along_row = second == first + 1
        axis = 0.0 if along_row else 0.5 * np.pi
        line = first // columns if along_row else first % columns
        count = int((row_lanes if along_row else column_lanes)[line])
        median = float((row_median if along_row else column_median)[line]) if count > 1 else 0.0
        curve = bezier(nodes[first], axis + turn[first], nodes[second], axis + turn[second], 0.36, 1.0)
        parking = _draw_parking(style.parking_probability, rng)
        roads.append(Road(len(roads), first, second, curve, count, style.lane_width_m, median, parking))
    return nodes, roads


def _draw_parking(probability: float, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether there is a parking strip on the right and on the left; there is one on at least one side."""
    right, left = rng.random(2) < probability
    prefer_right = bool(rng.random() < 0.5)
    return bool(right or (prefer_right and not left)), bool(left or (not prefer_right and not right))


def _set_back(roads: list[Road]) -> list[Road]:
    """Roads that know how far from each node their lanes end: room for corner, crossing and gap."""
    widest: dict[int, float] = {}
    for road in roads:
        for node in (road.node_a, road.node_b):
            widest[node] = max(widest.get(node, 0.0), road.half_width_m)

    room_m = CORNER_ROOM_M + CROSSING_WIDTH_M + 2 * CROSSING_GAP_M
    return [replace(road, setback_a_m=widest[road.node_a] + room_m, setback_b_m=widest[road.node_b] + room_m)
            for road in roads]


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
    """Which lane leads where: all straight on, the outermost in near turns, the innermost in far turns."""
    if turn == 'straight':
        return [(lane, leaving[min(lane.position, len(leaving) - 1)]) for lane in entering]
    near = (turn == 'right') == drives_right
    return [(entering[-1], leaving[-1])] if near else [(entering[0], leaving[0])]


class _Connectors:
    """Joins the lanes of a network by connectors; fills `incoming` and `outgoing` of the lanes."""

    def __init__(self, network: RoadNetwork) -> None:
        self.network = network
        self.lanes = list(network.lanes)

    def join_arms(self, node: int) -> None:
        """All connectors inside one crossroads."""
        arms = self.network.arms(node)
        for arm in arms:
            entering = self._ends(arm, node, True)
            exits = []
            for other in (road for road in arms if road is not arm):
                leaving = self._ends(other, node, False)
                angle = wrap_yaw(leaving[0].curve.yaw_K[0] - entering[0].curve.yaw_K[-1])
                turn = _turn_name(float(angle))
                exits.append((leaving, turn))
                for lane, target in _lane_pairs(entering, leaving, turn, self.network.drives_right):
                    self._join(lane, target, node, turn)

            # no lane is a dead end: one that leads nowhere yet takes any of the exits
            for lane in entering:
                if not lane.outgoing:
                    leaving, turn = exits[lane.index % len(exits)]
                    self._join(lane, leaving[min(lane.position, len(leaving) - 1)], node, turn)

    def _ends(self, road: Road, node: int, entering: bool) -> list[StreetLane]:
        """The lanes of a street that run towards a node, or away from it, from the middle outwards."""
        direction = 1 if (road.node_b == node) == entering else -1
        lanes = [lane for lane in self.network.lanes
                 if lane.road == road.index and lane.direction == direction]
        return sorted(lanes, key=lambda lane: lane.position)

    def _join(self, lane: StreetLane, target: StreetLane, node: int, turn: str) -> None:
        """One connector from the end of a lane to the beginning of another."""
        start, end = lane.curve, target.curve
        curve = bezier(start.points_K2[-1], start.yaw_K[-1], end.points_K2[0], end.yaw_K[0], TURN_REACH)
        index = len(self.lanes)
        self.lanes.append(StreetLane(index, curve, lane.width_m, -1, 1, lane.position, node, lane.road, turn,
                                     [lane.index], [target.index]))
        lane.outgoing.append(index)
        target.incoming.append(index)


def draw_network(style: CityStyle, rng: np.random.Generator, margin_m: float = 110.0) -> RoadNetwork:
    """A street network of a style; all coordinates are positive, `margin_m` beyond the outermost nodes.

    Args:
        style: the city's parameters.
        rng: the city's generator.
        margin_m: land around the network.
    """
    nodes, roads = _draw_roads(style, margin_m, rng)
    roads = _set_back(roads)
    lanes = _road_lanes(roads, style.drives_right)
    network = RoadNetwork(nodes, tuple(roads), tuple(lanes), style.drives_right)

    connectors = _Connectors(network)
    for node in range(len(nodes)):
        connectors.join_arms(node)
    return replace(network, lanes=tuple(connectors.lanes))
