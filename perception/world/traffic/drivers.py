"""Who drives in a scene: the ego, cars and larger vehicles on the lanes around it, riders at the edges."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..city.records import RoadNetwork, StreetLane
from .actors import Actor, draw_size
from .routes import Route, draw_route
from .simulation import DriveLog, Driver

EGO_LENGTH_M, EGO_WIDTH_M, EGO_REAR_TO_CENTRE_M = 4.084, 1.73, 1.25
MOVING_WEIGHTS = {
    'vehicle.car': 0.72, 'vehicle.truck': 0.10, 'vehicle.bus.rigid': 0.05, 'vehicle.motorcycle': 0.05,
    'vehicle.bicycle': 0.05, 'vehicle.trailer': 0.02, 'vehicle.emergency.ambulance': 0.01}
RARE = ('vehicle.bus.rigid', 'vehicle.bicycle', 'vehicle.motorcycle', 'vehicle.trailer', 'vehicle.truck')
"""Every scene has one of each of these near the ego, so that small worlds show all classes in motion."""
SPEED_M_PER_S = {'vehicle.bicycle': (3.5, 6.0), 'vehicle.bus.rigid': (6.0, 9.5), 'vehicle.truck': (6.0, 10.0),
                 'vehicle.trailer': (6.0, 9.0)}
TRAILER_ROOM_M = 22.0
"""A trailer fits behind its truck from this distance along a lane on."""


@dataclass(frozen=True)
class Participant:
    """A driver with what it drives; a 'vehicle.trailer' is a truck that pulls one."""

    category: str
    size_lwh_m: np.ndarray
    trailer_size_lwh_m: np.ndarray | None
    driver: Driver
    seed: int


def ego_driver(network: RoadNetwork, rng: np.random.Generator) -> Driver:
    """The ego on a random lane, likely to turn at the next crossroads."""
    lanes = [lane for lane in network.lanes if not lane.is_connector and lane.curve.length_m > 40.0]
    lane = lanes[int(rng.integers(len(lanes)))]
    start = rng.uniform(4.0, 0.75 * lane.curve.length_m)
    speed = rng.uniform(7.0, 12.5)
    route = draw_route(network, lane.index, start + 28.0 * speed + 60.0, rng, prefer_turns=2.0)
    return Driver(route, start, speed * 0.8, speed, EGO_LENGTH_M, EGO_WIDTH_M, EGO_REAR_TO_CENTRE_M)


def _spawn_places(network: RoadNetwork, ego: Driver, way_K2: np.ndarray, spacing_m: float, reach_m: float,
                  rng: np.random.Generator) -> list[tuple[StreetLane, float]]:
    """(lane, distance) pairs around the ego's way, nearest to its start first."""
    ego_lane = ego.route.lanes[0]
    ego_xy = ego.route.curve.at(ego.start_m)[0]
    places = []
    for lane in network.lanes:
        if lane.is_connector:
            continue
        s_m = rng.uniform(2.0, spacing_m)
        while s_m < lane.curve.length_m - 4.0:
            xy = lane.curve.at(s_m)[0]
            clear = lane.index != ego_lane or abs(s_m - ego.start_m) > 14.0
            if clear and np.linalg.norm(way_K2 - xy, axis=1).min() < reach_m:
                places.append((lane, s_m, float(np.linalg.norm(xy - ego_xy))))
            s_m += rng.uniform(0.35, 1.65) * spacing_m + 8.0

    places.sort(key=lambda place: place[2])
    return [(lane, s_m) for lane, s_m, _ in places]


def _participant(network: RoadNetwork, category: str, lane: StreetLane, s_m: float,
                 rng: np.random.Generator) -> Participant:
    body = 'vehicle.truck' if category == 'vehicle.trailer' else category
    size = draw_size(body, rng)
    trailer = draw_size('vehicle.trailer', rng) if category == 'vehicle.trailer' else None
    desired = rng.uniform(*SPEED_M_PER_S.get(category, (7.0, 12.0)))
    route = draw_route(network, lane.index, s_m + 28.0 * desired + 60.0, rng)

    # cyclists keep to the kerb, motorcyclists anywhere near the middle of the lane
    kerb = -1.0 if network.drives_right else 1.0
    aside = 0.0
    if category == 'vehicle.bicycle':
        aside = kerb * (0.5 * lane.width_m - 0.3)
    elif category == 'vehicle.motorcycle':
        aside = rng.uniform(-0.5, 0.5)

    driver = Driver(route, s_m, 0.7 * desired, desired, size[0], max(size[1], 0.6), 0.3 * size[0],
                    0.0 if trailer is None else trailer[0], aside)
    return Participant(category, size, trailer, driver, int(rng.integers(2 ** 31)))


def draw_participants(network: RoadNetwork, ego: Driver, way_K2: np.ndarray, spacing_m: float, reach_m: float,
                      most: int, rng: np.random.Generator) -> list[Participant]:
    """Vehicles around the ego's way.

    Args:
        network: the lanes.
        ego: the ego's drive.
        way_K2: (K, 2) places the ego will come by.
        spacing_m: mean distance between vehicles of a lane.
        reach_m: how far from those places vehicles are of interest.
        most: largest number of vehicles.
        rng: draws all.
    """
    places = _spawn_places(network, ego, way_K2, spacing_m, reach_m, rng)[:most]
    is_outermost = [lane.position == network.roads[lane.road].lanes_per_direction - 1 for lane, _ in places]
    categories = _draw_categories(places, is_outermost, rng)

    participants = []
    for category, outermost, (lane, s_m) in zip(categories, is_outermost, places, strict=True):
        # what does not fit into its place becomes something smaller, or faster
        if category == 'vehicle.trailer' and s_m <= TRAILER_ROOM_M:
            category = 'vehicle.truck'
        if category == 'vehicle.bicycle' and not outermost:
            category = 'vehicle.motorcycle'
        participants.append(_participant(network, category, lane, s_m, rng))
    return participants


def _draw_categories(places: list[tuple[StreetLane, float]], is_outermost: list[bool],
                     rng: np.random.Generator) -> list[str]:
    """A category for each place; among the nearest 14, one of each rare category where it fits."""
    names, weights = list(MOVING_WEIGHTS), np.array(list(MOVING_WEIGHTS.values()))
    drawn = rng.choice(len(names), len(places), p=weights / weights.sum())
    categories = [names[int(index)] for index in drawn]

    candidates = list(rng.permutation(min(len(places), 14)))
    for rare in RARE:
        for index in candidates:
            fits = (rare != 'vehicle.bicycle' or is_outermost[index]) and (
                rare != 'vehicle.trailer' or places[index][1] > TRAILER_ROOM_M)
            if fits:
                categories[index] = rare
                candidates.remove(index)
                break
    return categories


def first_without_overlap(ego: Driver, participants: list[Participant]) -> list[Participant]:
    """The participants less those that would start on top of an earlier one (or of the ego)."""
    taken = [(ego.route, ego.start_m, ego.length_m)]
    kept = []
    for participant in participants:
        driver = participant.driver
        xy = driver.route.curve.at(driver.start_m)[0]
        room = 0.5 * driver.length_m + driver.trailer_m
        free = all(np.linalg.norm(route.curve.at(s_m)[0] - xy) > room + 0.5 * length + 2.0
                   for route, s_m, length in taken)
        if free:
            taken.append((driver.route, driver.start_m, driver.length_m + 2 * driver.trailer_m))
            kept.append(participant)
    return kept


def driven_actors(participants: list[Participant], log: DriveLog, first_row: int) -> list[Actor]:
    """Actors (and their trailers) from the rows of a simulation's log, `first_row` and those after it."""
    actors = []
    for row, participant in enumerate(participants, start=first_row):
        rider = participant.category in ('vehicle.bicycle', 'vehicle.motorcycle')
        category = 'vehicle.truck' if participant.category == 'vehicle.trailer' else participant.category
        actors.append(Actor(category, participant.size_lwh_m, log.centre_DT2[row], log.yaw_DT[row],
                            'rider' if rider else '', False, participant.seed))

        if participant.trailer_size_lwh_m is not None:
            trailer_T3 = log.trailer_DT3[row]
            actors.append(Actor('vehicle.trailer', participant.trailer_size_lwh_m, trailer_T3[:, :2],
                                trailer_T3[:, 2], '', False, participant.seed + 1))
    return actors


def route_places(route: Route, start_m: float, stop_m: float, step_m: float = 4.0) -> np.ndarray:
    """(K, 2) places along a route."""
    return route.curve.at(np.arange(start_m, max(stop_m, start_m + step_m), step_m))[0]
