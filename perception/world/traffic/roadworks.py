"""Road works: a zone beside a street with a machine or without, workers, cones and barriers."""
from __future__ import annotations

import numpy as np

from ..city.records import PARKING_STRIP_M, City, Road, RoadWorks
from .actors import Actor, standing_actor


def draw_roadworks(city: City, road: Road, near_xy: np.ndarray, with_machine: bool,
                   rng: np.random.Generator) -> RoadWorks:
    """A zone on one side of a street, as near to a place as the street allows, clear of the lanes.

    Args:
        city: the city.
        road: the street.
        near_xy: (2,) where the zone should lie, global metres.
        with_machine: whether a machine works there; a zone without one is short.
        rng: draws side and length.
    """
    left = bool(rng.random() < 0.5)
    length = rng.uniform(18.0, 24.0) if with_machine else rng.uniform(9.0, 14.0)

    # the middle: as near to the place as it gets without blocking a driveway
    s_K = np.arange(road.span_m[0] + 0.5 * length + 6.0, road.span_m[1] - 0.5 * length - 6.0, 2.0)
    gates = driveways_along(city, road, left)
    clear = np.array([all(abs(gate - s_m) > 0.5 * length + 4.5 for gate in gates) for s_m in s_K])
    cost = np.linalg.norm(road.curve.at(s_K)[0] - near_xy, axis=1) + 1e3 * ~clear
    middle = float(s_K[cost.argmin()])

    inner = road.carriageway_m + 0.35
    outer = road.carriageway_m + max(PARKING_STRIP_M * road.parking[left] + 2.2, 4.2)
    return RoadWorks(road.index, left, middle - 0.5 * length, middle + 0.5 * length, inner, outer,
                     with_machine)


def driveways_along(city: City, road: Road, left: bool) -> list[float]:
    """Where car parks' driveways meet a side of a street: distances along the street in metres."""
    places = []
    for park in city.map.car_parks:
        if park.road != road.index:
            continue
        gate = np.array(park.driveway.centroid.coords[0])
        s_m = float(road.curve.s_K[np.linalg.norm(road.curve.points_K2 - gate, axis=1).argmin()])
        this_side = road.curve.beside(s_m, 5.0 if left else -5.0)[0]
        other_side = road.curve.beside(s_m, -5.0 if left else 5.0)[0]
        if np.linalg.norm(this_side - gate) < np.linalg.norm(other_side - gate):
            places.append(s_m)
    return places


class _Zone:
    """Collects the objects of one zone, placed by distance along the street and offset from its middle."""

    def __init__(self, road: Road, works: RoadWorks, count: int, rng: np.random.Generator) -> None:
        self.road = road
        self.works = works
        self.count = count
        self.rng = rng
        self.actors: list[Actor] = []

    def put(self, category: str, s_m: float, aside_m: float, turn_rad: float = 0.0, pose: str = '') -> None:
        """Place one object; `aside_m` counts towards the side of the works."""
        sign = 1.0 if self.works.left else -1.0
        xy, yaw = self.road.curve.beside(s_m, sign * aside_m)
        heading = float(yaw) + turn_rad
        self.actors.append(standing_actor(category, xy, heading, self.count, self.rng, pose))


def roadworks_actors(city: City, works: RoadWorks, count: int, rng: np.random.Generator) -> list[Actor]:
    """The objects of one zone, standing for `count` time samples.

    A machine stands in the middle, if there is one, cones along the lane, barriers at the ends and towards
    the walkway; workers and rubble lie between them.
    """
    zone = _Zone(city.network.roads[works.road], works, count, rng)
    if works.with_machine:
        _put_machines(zone)
    _put_cones_and_barriers(zone, works.left != city.network.drives_right)
    _put_workers_and_rubble(zone)
    return zone.actors


def _middle_m(works: RoadWorks) -> float:
    return 0.5 * (works.inner_m + works.outer_m) + 0.15


def _put_machines(zone: _Zone) -> None:
    """An excavator or loader, and at times a lorry at the far end."""
    works, rng = zone.works, zone.rng
    middle = _middle_m(works)
    flip = np.pi * int(rng.integers(2))
    zone.put('vehicle.construction', works.start_m + 0.35 * (works.stop_m - works.start_m), middle, flip)
    if rng.random() < 0.3:
        zone.put('vehicle.truck', works.stop_m - 4.5, middle, flip)


def _put_cones_and_barriers(zone: _Zone, with_curve: bool) -> None:
    """Traffic comes to the zone's start where it drives `with_curve`, else to its stop."""
    works, rng = zone.works, zone.rng
    for s_m in np.linspace(works.start_m, works.stop_m, int(rng.integers(2, 5))):
        aside = works.inner_m + rng.uniform(-0.05, 0.1)
        zone.put('movable_object.trafficcone', s_m, aside, rng.uniform(0, 6.28))

    # barriers across the end that traffic comes to, at times the other too, and a few along the walkway
    ends = [works.start_m - 1.0, works.stop_m + 1.0][::1 if with_curve else -1]
    for s_m in ends[:1 + int(rng.random() < 0.3)]:
        for aside in np.arange(works.inner_m + 1.1, works.outer_m - 0.4, 2.15):
            zone.put('movable_object.barrier', s_m, aside, rng.normal(0, 0.04))
    for s_m in np.arange(works.start_m + 1.5, works.stop_m - 1.0, 2.25):
        if rng.random() < 0.12:
            zone.put('movable_object.barrier', s_m, works.outer_m, 0.5 * np.pi + rng.normal(0, 0.04))


def _put_workers_and_rubble(zone: _Zone) -> None:
    works, rng = zone.works, zone.rng
    for _ in range(int(rng.integers(1, 4))):
        s_m = rng.uniform(works.start_m + 1, works.stop_m - 1)
        aside = rng.uniform(works.inner_m + 0.6, works.outer_m - 0.8)
        facing = rng.uniform(0, 6.28)
        zone.put('human.pedestrian.construction_worker', s_m, aside, facing, 'standing')
    for _ in range(int(rng.integers(1, 3))):
        s_m = rng.uniform(works.start_m + 1, works.stop_m - 1)
        zone.put('movable_object.debris', s_m, _middle_m(works), rng.uniform(0, 6.28))
