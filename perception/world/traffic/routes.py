"""Routes through the lane graph, and the signals at the crossroads."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..city.records import RoadNetwork, StreetLane
from ..city.roads import STOP_LINE_DEPTH_M
from ..scene.curves import Curve

GREEN_S, ALL_RED_S = 8.0, 2.0


@dataclass(frozen=True)
class Route:
    """A drive along lanes and connectors.

    Attributes:
        curve: the joined centre line, sampled every half metre or so.
        lanes: lane indices in order.
        lane_start_s: where each begins along the curve.
        stops: (S, 3) distance of the stop, node, street the car comes from; only at signalled nodes.
    """

    curve: Curve
    lanes: tuple[int, ...]
    lane_start_s: tuple[float, ...]
    stops: tuple[tuple[float, int, int], ...]

    def lane_at(self, s_m: float) -> int:
        """The lane's index at a distance along the route."""
        return self.lanes[int(np.searchsorted(self.lane_start_s, s_m, side='right')) - 1]

    def arrivals(self, start_m: float, speed_m_per_s: float) -> dict[int, tuple[float, int]]:
        """When a car comes to each signalled node for the first time, and along which street.

        Args:
            start_m: where the car starts along the route.
            speed_m_per_s: its desired speed; traffic lets it reach three quarters of that.

        Returns:
            node -> (seconds after the start, street).
        """
        return {node: ((s_m - start_m) / (0.75 * speed_m_per_s), road)
                for s_m, node, road in reversed(self.stops) if s_m > start_m}


def draw_route(network: RoadNetwork, lane: int, length_m: float, rng: np.random.Generator,
               prefer_turns: float = 1.0) -> Route:
    """A random drive that starts at the beginning of `lane` and is at least `length_m` long.

    Args:
        network: the lane graph; every lane leads somewhere.
        lane: index of the first lane.
        length_m: least length.
        rng: draws where to turn.
        prefer_turns: weight of a turn over going straight on.
    """
    current = network.lanes[lane]
    lanes, starts = [], []
    stops, points = [], []
    length = 0.0
    while True:
        lanes.append(current.index)
        starts.append(length)
        # neighbouring lanes have their common end point once
        points.append(current.curve.points_K2 if not points else current.curve.points_K2[1:])
        length += current.curve.length_m
        if length >= length_m:
            break

        following = _draw_following(network, current, prefer_turns, rng)
        if following.is_connector and len(network.arms(following.node)) >= 3:
            stops.append((length - 0.5 * STOP_LINE_DEPTH_M - 0.6, following.node, following.arm))
        current = following

    curve = Curve(np.concatenate(points))
    return Route(_smoothed(curve.piece(0.0, curve.length_m, 0.5)), tuple(lanes), tuple(starts), tuple(stops))


def _draw_following(
    network: RoadNetwork, lane: StreetLane, prefer_turns: float, rng: np.random.Generator
) -> StreetLane:
    choices = [network.lanes[index] for index in lane.outgoing]
    weight = np.array([1.0 if choice.turn in ('straight', '') else prefer_turns for choice in choices])
    return choices[int(rng.choice(len(choices), p=weight / weight.sum()))]


def _smoothed(curve: Curve, reach: int = 3) -> Curve:
    """A moving average over `2 * reach + 1` points; the ends stay."""
    points = curve.points_K2
    padded = np.concatenate([np.repeat(points[:1], reach, 0), points, np.repeat(points[-1:], reach, 0)])
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    inner = np.stack([np.convolve(padded[:, axis], kernel, mode='valid') for axis in (0, 1)], axis=1)
    inner[:reach], inner[-reach:] = points[:reach], points[-reach:]
    return Curve(inner)


@dataclass(frozen=True)
class Signal:
    """A crossroads whose arms get green one after the other, so that no two streams cross.

    Attributes:
        arms: street indices in their order.
        first_green_s: when the first arm's green begins.
        first_length_s: how long it lasts; the other arms get `GREEN_S`.
    """

    arms: tuple[int, ...]
    first_green_s: float
    first_length_s: float

    def is_green(self, road: int, t_s: float) -> bool:
        """Whether cars that come along `road` may drive."""
        cycle = self.first_length_s + ALL_RED_S + (len(self.arms) - 1) * (GREEN_S + ALL_RED_S)
        phase = (t_s - self.first_green_s) % cycle
        if phase < self.first_length_s:
            return road == self.arms[0]
        turn, rest = divmod(phase - self.first_length_s - ALL_RED_S, GREEN_S + ALL_RED_S)
        return (
            phase >= self.first_length_s + ALL_RED_S and rest < GREEN_S and self.arms[1 + int(turn)] == road
        )


def draw_signals(network: RoadNetwork, arrivals: dict[int, tuple[float, int]], red_fraction: float,
                 rng: np.random.Generator) -> dict[int, Signal]:
    """Signals of all crossroads.

    Args:
        network: the streets.
        arrivals: node -> (seconds, street) of the ego, from `Route.arrivals`.
        red_fraction: how many of the signals on the ego's way show red when it comes.
        rng: draws the order of the arms and the times.
    """
    signals = {}
    for node in range(len(network.nodes_N2)):
        arms = [road.index for road in network.arms(node)]
        if len(arms) < 3:
            continue

        # the same numbers are drawn on and off the ego's way
        rng.shuffle(arms)
        start, length = rng.uniform(-20.0, 20.0), GREEN_S
        is_red, early_s, late_s = rng.random() < red_fraction, rng.uniform(4.0, 9.0), rng.uniform(2.0, 6.0)
        if node in arrivals:
            arrives_s, road = arrivals[node]
            arms.remove(road)
            arms.insert(0, road)
            start, length = (arrives_s + late_s, 12.0) if is_red else (arrives_s - early_s, 16.0)

        signals[node] = Signal(tuple(arms), float(start), length)
    return signals
