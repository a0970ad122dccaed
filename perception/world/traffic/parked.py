"""What stands at the roadside: parked cars, buses at stops, parked cycles, road works."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..city.records import PARKING_STRIP_M, City, Road, RoadWorks
from .actors import Actor, draw_size, standing_actor

PARKED_SHARE = {
    'vehicle.car': 0.86, 'vehicle.truck': 0.09, 'vehicle.bus.rigid': 0.02, 'vehicle.trailer': 0.03}
LOT_CATEGORIES, LOT_SHARE = ('vehicle.car', 'vehicle.motorcycle', 'vehicle.trailer'), (0.93, 0.04, 0.03)
SMALL_TRAILER_M = np.array([4.4, 2.0, 1.7])


def draw_works(city: City, road: Road, near_xy: np.ndarray, rng: np.random.Generator) -> RoadWorks:
    """A zone on one side of a street, as near to a place as the street allows, clear of the lanes."""
    left = bool(rng.random() < 0.5)
    length = rng.uniform(20.0, 30.0)
    s_K = np.arange(road.span_m[0] + 0.5 * length + 6.0, road.span_m[1] - 0.5 * length - 6.0, 2.0)
    gates = _gates(city, road, left)
    clear = np.array([all(abs(gate - s_m) > 0.5 * length + 4.5 for gate in gates) for s_m in s_K])
    cost = np.linalg.norm(road.curve.at(s_K)[0] - near_xy, axis=1) + 1e3 * ~clear
    middle = float(s_K[cost.argmin()])
    inner = road.carriageway_m + 0.35
    outer = road.carriageway_m + max(PARKING_STRIP_M * road.parking[left] + 2.2, 4.2)
    return RoadWorks(road.index, left, middle - 0.5 * length, middle + 0.5 * length, inner, outer)


def works_actors(city: City, works: RoadWorks, count: int, rng: np.random.Generator) -> list[Actor]:
    """Machines, workers, cones along the lane, barriers at the ends and towards the walkway, rubble."""
    road = city.network.roads[works.road]
    sign = 1.0 if works.left else -1.0
    actors: list[Actor] = []

    def put(category: str, s_m: float, aside_m: float, turn_rad: float = 0.0, pose: str = '') -> None:
        xy, yaw = road.curve.beside(s_m, sign * aside_m)
        actors.append(standing_actor(category, xy, float(yaw) + turn_rad, count, rng, pose))

    middle = 0.5 * (works.inner_m + works.outer_m) + 0.15
    flip = np.pi * int(rng.integers(2))
    put('vehicle.construction', works.start_m + 0.35 * (works.stop_m - works.start_m), middle, flip)
    if rng.random() < 0.5:
        put('vehicle.construction', works.stop_m - 5.0, middle, flip + rng.uniform(-0.1, 0.1))
    elif rng.random() < 0.6:
        put('vehicle.truck', works.stop_m - 5.0, middle, flip)
    for s_m in np.arange(works.start_m, works.stop_m + 0.1, rng.uniform(3.4, 5.0)):
        put('movable_object.trafficcone', s_m, works.inner_m + rng.uniform(-0.05, 0.1), rng.uniform(0, 6.28))
    for s_m, turn in ((works.start_m - 1.0, 0.0), (works.stop_m + 1.0, 0.0)):
        for aside in np.arange(works.inner_m + 1.1, works.outer_m - 0.4, 2.15):
            put('movable_object.barrier', s_m, aside, turn + rng.normal(0, 0.04))
    for s_m in np.arange(works.start_m + 1.5, works.stop_m - 1.0, 2.25):
        if rng.random() < 0.35:
            put('movable_object.barrier', s_m, works.outer_m, 0.5 * np.pi + rng.normal(0, 0.04))
    for _ in range(int(rng.integers(2, 5))):
        put('human.pedestrian.construction_worker', rng.uniform(works.start_m + 1, works.stop_m - 1),
            rng.uniform(works.inner_m + 0.6, works.outer_m - 0.8), rng.uniform(0, 6.28), 'standing')
    for _ in range(int(rng.integers(1, 3))):
        put(
            'movable_object.debris', rng.uniform(works.start_m + 1, works.stop_m - 1), middle,
            rng.uniform(0, 6.28))
    return actors


def _gates(city: City, road: Road, left: bool) -> list[float]:
    """Where car parks' driveways meet a street side, along the street."""
    places = []
    for park in city.map.car_parks:
        if park.road == road.index:
            gate = np.array(park.driveway.centroid.coords[0])
            s_m = float(road.curve.s_K[np.linalg.norm(road.curve.points_K2 - gate, axis=1).argmin()])
            beside = road.curve.beside(s_m, 5.0 if left else -5.0)[0]
            across = road.curve.beside(s_m, -5.0 if left else 5.0)[0]
            if np.linalg.norm(beside - gate) < np.linalg.norm(across - gate):
                places.append(s_m)
    return places


@dataclass(frozen=True)
class Kerb:
    """One side of a street with a parking strip, and what may not be blocked there."""

    city: City
    road: Road
    left: bool
    works: tuple[RoadWorks, ...]
    gates: tuple[float, ...]

    def is_free(self, middle_m: float, length_m: float) -> bool:
        """Whether a vehicle of a length may stand around a place along the street."""
        half = 0.5 * length_m
        low, high = self.road.span_m
        return (
            low + half + 1.0 < middle_m < high - half - 1.0
            and not any(zone.holds(self.road.index, self.left, middle_m, 1.5 + half) for zone in self.works)
            and all(abs(middle_m - gate) > 4.0 + half for gate in self.gates)
        )

    def vehicle(self, category: str, size_lwh_m: np.ndarray, middle_m: float, count: int,
                rng: np.random.Generator) -> Actor:
        """A vehicle close to the kerb (wide ones partly on it, clear of the lane) that heads as its side
        drives."""
        sign = 1.0 if self.left else -1.0
        with_curve = self.left != self.city.network.drives_right
        nearest = self.road.carriageway_m + 0.12 + 0.5 * size_lwh_m[1]
        aside = sign * max(abs(self.road.kerb_m(self.left)) - 0.12 - 0.5 * size_lwh_m[1], nearest)
        xy, yaw = self.road.curve.beside(middle_m, aside)
        heading = float(yaw) + (0.0 if with_curve else np.pi) + rng.normal(0, 0.012)
        actor = standing_actor(category, xy, heading, count, rng, '', size_lwh_m)
        waits = category.startswith('vehicle.bus') and rng.random() < 0.6
        return replace(actor, parked=False) if waits else actor


def kerbs_of(city: City, roads: list[Road], works: list[RoadWorks]) -> list[Kerb]:
    """All street sides with a parking strip."""
    return [Kerb(city, road, left, tuple(works), tuple(_gates(city, road, left)))
            for road in roads for left in (False, True) if road.parking[left]]


def wanted_at_kerb(kerbs: list[Kerb], categories: list[str], seen_K2: np.ndarray, count: int,
                   rng: np.random.Generator) -> list[Actor]:
    """One standing vehicle of each category as near to the ego's way as the kerbs allow."""
    actors: list[Actor] = []
    taken: list[np.ndarray] = []
    for category in categories:
        size = draw_size(category, rng)
        aim = seen_K2[int(rng.integers(len(seen_K2)))]
        best: tuple[float, Kerb, float] | None = None
        for kerb in kerbs:
            for s_m in np.arange(kerb.road.span_m[0] + 1.0, kerb.road.span_m[1], 3.0):
                xy = kerb.road.curve.at(s_m)[0]
                apart = float(np.linalg.norm(xy - aim))
                alone = all(np.linalg.norm(xy - other) > 18.0 for other in taken)
                if (best is None or apart < best[0]) and alone and kerb.is_free(float(s_m), size[0]):
                    best = (apart, kerb, float(s_m))
        if best is not None:
            taken.append(best[1].road.curve.at(best[2])[0])
            actors.append(best[1].vehicle(category, size, best[2], count, rng))
    return actors


def kerb_parking(kerb: Kerb, share: float, count: int, rng: np.random.Generator) -> list[Actor]:
    """Vehicles along one kerb; `share` of the places are taken."""
    actors = []
    names, weights = list(PARKED_SHARE), np.array(list(PARKED_SHARE.values()))
    s_m = kerb.road.span_m[0] + rng.uniform(2.0, 6.0)
    while s_m < kerb.road.span_m[1] - 6.0:
        if rng.random() > share:
            s_m += rng.uniform(3.0, 8.0)
            continue
        category = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        size = draw_size(category, rng)
        if not kerb.is_free(s_m + 0.5 * size[0], size[0]):
            s_m += 4.0
            continue
        actors.append(kerb.vehicle(category, size, s_m + 0.5 * size[0], count, rng))
        s_m += size[0] + rng.uniform(0.9, 2.2)
    return actors


def lot_parking(city: City, near_K2: np.ndarray, reach_m: float, share: float, count: int,
                rng: np.random.Generator) -> list[Actor]:
    """Cars in the bays of the car parks near some places; now and then a motorcycle."""
    actors = []
    for park in city.map.car_parks:
        for x, y, yaw in park.bays_B3:
            if np.linalg.norm(near_K2 - [x, y], axis=1).min() < reach_m and rng.random() < share:
                category = LOT_CATEGORIES[int(rng.choice(3, p=LOT_SHARE))]
                turn = rng.normal(0, 0.03) + np.pi * (rng.random() < 0.3)
                size = SMALL_TRAILER_M * rng.uniform(0.9, 1.1, 3) if category == 'vehicle.trailer' else None
                actors.append(
                    standing_actor(
                        category, np.array([x, y]) + rng.normal(0, 0.1, 2), yaw + turn, count, rng, '', size
                    )
                )
    return actors


def parked_cycles(city: City, road: Road, left: bool, s_m: float, category: str, number: int, count: int,
                  rng: np.random.Generator) -> list[Actor]:
    """A row of cycles across the outer edge of a walkway, sometimes with a rack beneath."""
    sign = 1.0 if left else -1.0
    edge = abs(road.kerb_m(left)) + city.style.walkway_m - 0.75
    actors = []
    for place in range(number):
        xy, yaw = road.curve.beside(s_m + 0.95 * place, sign * edge)
        actors.append(
            standing_actor(category, xy, float(yaw) + 0.5 * np.pi + rng.normal(0, 0.08), count, rng)
        )
    return actors
