"""What stands at the roadside: parked cars, buses at stops, parked cycles."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..city.records import Road
from .actors import Actor, draw_size, standing_actor
from .roadworks import driveways_along
from .surroundings import Surroundings

PARKED_WEIGHTS = {
    'vehicle.car': 0.94, 'vehicle.truck': 0.04, 'vehicle.bus.rigid': 0.01, 'vehicle.trailer': 0.01}
LOT_CATEGORIES, LOT_WEIGHTS = ('vehicle.car', 'vehicle.motorcycle', 'vehicle.trailer'), (0.96, 0.03, 0.01)
SMALL_TRAILER_M = np.array([4.4, 2.0, 1.7])


def parked_actors(surroundings: Surroundings, count: int, rng: np.random.Generator) -> list[Actor]:
    """Parked vehicles and cycles around the ego's way, standing for `count` time samples.

    One trailer, one bus and one lorry come first, as near to the way as the kerbs allow.
    """
    kerbs = _kerbs(surroundings)
    parameters = surroundings.parameters
    rare = [str(name) for name in rng.permutation(['vehicle.trailer', 'vehicle.bus.rigid', 'vehicle.truck'])]
    actors = _nearest_at_kerb(kerbs, rare, surroundings.way_K2, count, rng)

    for kerb in kerbs:
        actors.extend(_kerb_parking(kerb, rng.uniform(*parameters.kerb_fraction), count, rng))
    actors.extend(_lot_parking(surroundings, 60.0, rng.uniform(*parameters.lot_fraction), count, rng))

    bicycles_left = bool(rng.random() < 0.5)
    actors.extend(_cycle_row(surroundings, bicycles_left, 'vehicle.bicycle', count, rng))
    actors.extend(_cycle_row(surroundings, not bicycles_left, 'vehicle.motorcycle', count, rng))
    return actors


@dataclass(frozen=True)
class Kerb:
    """One side of a street with a parking strip, and the driveways that must stay free there."""

    surroundings: Surroundings
    road: Road
    left: bool
    gates: tuple[float, ...]

    def is_free(self, middle_m: float, length_m: float) -> bool:
        """Whether a vehicle of a length may stand around a place along the street."""
        half = 0.5 * length_m
        low, high = self.road.span_m
        return (
            low + half + 1.0 < middle_m < high - half - 1.0
            and not self.surroundings.blocked_by_works(self.road, self.left, middle_m, 1.5 + half)
            and all(abs(middle_m - gate) > 4.0 + half for gate in self.gates)
        )

    def vehicle(self, category: str, size_lwh_m: np.ndarray, middle_m: float, count: int,
                rng: np.random.Generator) -> Actor:
        """A vehicle close to the kerb that heads as its side of the street drives.

        Wide ones stand partly on the kerb, so that the lane stays clear.
        """
        sign = 1.0 if self.left else -1.0
        nearest = self.road.carriageway_m + 0.12 + 0.5 * size_lwh_m[1]
        aside = sign * max(abs(self.road.kerb_m(self.left)) - 0.12 - 0.5 * size_lwh_m[1], nearest)
        xy, yaw = self.road.curve.beside(middle_m, aside)

        with_curve = self.left != self.surroundings.city.network.drives_right
        heading = float(yaw) + (0.0 if with_curve else np.pi) + rng.normal(0, 0.012)
        actor = standing_actor(category, xy, heading, count, rng, '', size_lwh_m)

        at_stop = category.startswith('vehicle.bus') and rng.random() < 0.6
        return replace(actor, parked=False) if at_stop else actor


def _kerbs(surroundings: Surroundings) -> list[Kerb]:
    """All street sides with a parking strip."""
    return [Kerb(surroundings, road, left, tuple(driveways_along(surroundings.city, road, left)))
            for road in surroundings.roads for left in (False, True) if road.parking[left]]


def _nearest_at_kerb(kerbs: list[Kerb], categories: list[str], way_K2: np.ndarray, count: int,
                     rng: np.random.Generator) -> list[Actor]:
    """One standing vehicle of each category as near to the ego's way as the kerbs allow."""
    actors: list[Actor] = []
    taken: list[np.ndarray] = []
    for category in categories:
        size = draw_size(category, rng)
        aim = way_K2[int(rng.integers(len(way_K2)))]
        place = _free_place_near(kerbs, aim, size[0], taken)
        if place is not None:
            kerb, s_m = place
            taken.append(kerb.road.curve.at(s_m)[0])
            actors.append(kerb.vehicle(category, size, s_m, count, rng))
    return actors


def _free_place_near(
    kerbs: list[Kerb], aim: np.ndarray, length_m: float, taken: list[np.ndarray]
) -> tuple[Kerb, float] | None:
    """The free place nearest to `aim` that lies 18 m or more from the taken ones."""
    best: tuple[Kerb, float] | None = None
    best_m = np.inf
    for kerb in kerbs:
        for s_m in np.arange(kerb.road.span_m[0] + 1.0, kerb.road.span_m[1], 3.0):
            xy = kerb.road.curve.at(s_m)[0]
            apart = float(np.linalg.norm(xy - aim))
            alone = all(np.linalg.norm(xy - other) > 18.0 for other in taken)
            if apart < best_m and alone and kerb.is_free(float(s_m), length_m):
                best, best_m = (kerb, float(s_m)), apart
    return best


def _kerb_parking(kerb: Kerb, fraction: float, count: int, rng: np.random.Generator) -> list[Actor]:
    """Vehicles along one kerb; `fraction` of the places are taken."""
    names, weights = list(PARKED_WEIGHTS), np.array(list(PARKED_WEIGHTS.values()))
    probabilities = weights / weights.sum()
    actors = []
    s_m = kerb.road.span_m[0] + rng.uniform(2.0, 6.0)
    while s_m < kerb.road.span_m[1] - 6.0:
        if rng.random() > fraction:
            s_m += rng.uniform(3.0, 8.0)
            continue

        category = names[int(rng.choice(len(names), p=probabilities))]
        size = draw_size(category, rng)
        if not kerb.is_free(s_m + 0.5 * size[0], size[0]):
            s_m += 4.0
            continue

        actors.append(kerb.vehicle(category, size, s_m + 0.5 * size[0], count, rng))
        s_m += size[0] + rng.uniform(0.9, 2.2)
    return actors


def _lot_parking(surroundings: Surroundings, reach_m: float, fraction: float, count: int,
                 rng: np.random.Generator) -> list[Actor]:
    """Cars in the bays of the car parks near the ego's way; now and then a motorcycle or a trailer."""
    actors = []
    for park in surroundings.city.map.car_parks:
        for x, y, yaw in park.bays_B3:
            if surroundings.distance_to_way_m(np.array([x, y])) >= reach_m or rng.random() >= fraction:
                continue
            category = LOT_CATEGORIES[int(rng.choice(3, p=LOT_WEIGHTS))]
            turn = rng.normal(0, 0.03) + np.pi * (rng.random() < 0.3)
            size = SMALL_TRAILER_M * rng.uniform(0.9, 1.1, 3) if category == 'vehicle.trailer' else None
            xy = np.array([x, y]) + rng.normal(0, 0.1, 2)
            actors.append(standing_actor(category, xy, yaw + turn, count, rng, '', size))
    return actors


def _cycle_row(surroundings: Surroundings, left: bool, category: str, count: int,
               rng: np.random.Generator) -> list[Actor]:
    """One to four cycles parked in a row on a walkway near the ego's way, clear of road works."""
    roads, way_K2 = surroundings.roads, surroundings.way_K2
    for _ in range(20):
        road = roads[int(rng.integers(len(roads)))]
        apart = np.linalg.norm(road.curve.points_K2[:, None] - way_K2[None], axis=2).min(axis=1)
        if apart.min() > 25.0:
            continue

        s_m = float(road.curve.s_K[apart.argmin()]) + rng.uniform(-12, 12)
        s_m = float(np.clip(s_m, road.span_m[0] + 2, road.span_m[1] - 6))
        if not surroundings.blocked_by_works(road, left, s_m, 7.0):
            edge = abs(road.kerb_m(left)) + surroundings.city.style.walkway_m - 0.75
            aside = edge if left else -edge
            places = s_m + 0.95 * np.arange(int(rng.integers(1, 5)))
            return [_parked_cycle(road, float(place), aside, category, count, rng) for place in places]
    return []


def _parked_cycle(road: Road, s_m: float, aside_m: float, category: str, count: int,
                  rng: np.random.Generator) -> Actor:
    """A cycle that stands across the outer edge of a walkway."""
    xy, yaw = road.curve.beside(s_m, aside_m)
    return standing_actor(category, xy, float(yaw) + 0.5 * np.pi + rng.normal(0, 0.08), count, rng)
