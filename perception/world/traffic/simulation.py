"""Cars that follow their routes: the intelligent driver model with corridor look-ahead, 10 steps a second.

Longitudinal control is the intelligent driver model (Treiber, Hennecke and Helbing, 2000, Phys. Rev. E 62,
1805, eqs. 2-3). Each car looks along the band its body will sweep and keeps its distance from whatever lies
in it: cars, trailers, people, and where these will be one and two seconds later when they cross its way. The
rear axle rides on the route, so that headings follow the path as a real car's do.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .routes import Route, Signal

STEP_S = 0.1
PATH_STEP_M = 0.5
MAX_ACCELERATION, COMFORT_BRAKE, FULL_BRAKE = 1.6, 2.2, 8.0
LATERAL_ACCELERATION = 2.4
HEADWAY_S, STANDSTILL_M = 1.2, 2.2
LOOK_M = 36
DRAWBAR_M = 1.3
FORESIGHT_STEPS, FORESIGHT_S = (0, 10, 20), (1.0, 2.0)


@dataclass(frozen=True)
class Driver:
    """One simulated vehicle.

    Attributes:
        route: where it drives.
        start_m: where its rear axle begins.
        speed_m_per_s, desired_m_per_s: initial and wanted speed.
        length_m, width_m: its box.
        rear_to_centre_m: from the rear axle forward to the box centre.
        trailer_m: length of a towed trailer, 0 without.
        aside_m: how far left of the route it rides.
    """

    route: Route
    start_m: float
    speed_m_per_s: float
    desired_m_per_s: float
    length_m: float
    width_m: float
    rear_to_centre_m: float
    trailer_m: float = 0.0
    aside_m: float = 0.0


@dataclass(frozen=True)
class Walkers:
    """People whose paths are fixed beforehand: (W, T, 2) positions at the simulation's times."""

    xy_WT2: np.ndarray


@dataclass(frozen=True)
class DriveLog:
    """What came out, for D drivers at T times.

    Attributes:
        times_s: (T,).
        s_DT: rear axle's distance along the route.
        speed_DT: m/s.
        centre_DT2, yaw_DT: box centre and heading.
        trailer_DT3: trailer centre x, y and yaw (NaN without a trailer).
    """

    times_s: np.ndarray
    s_DT: np.ndarray
    speed_DT: np.ndarray
    centre_DT2: np.ndarray
    yaw_DT: np.ndarray
    trailer_DT3: np.ndarray


@dataclass
class _Paths:
    """All routes on one lattice of half metres, padded to the longest."""

    xy_DK2: np.ndarray
    yaw_DK: np.ndarray
    limit_DK: np.ndarray
    rows: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rows = np.arange(len(self.xy_DK2))

    @classmethod
    def of(cls, drivers: list[Driver]) -> _Paths:
        count = max(int(driver.route.curve.length_m / PATH_STEP_M) for driver in drivers) + 2
        s_K = np.arange(count) * PATH_STEP_M
        places, yaws, limits = [], [], []
        for driver in drivers:
            xy, yaw = driver.route.curve.beside(s_K, driver.aside_m)
            places.append(xy)
            yaws.append(yaw)
            limits.append(_speed_limit(yaw, driver.desired_m_per_s, driver.route.curve.length_m))
        return cls(np.array(places), np.array(yaws), np.array(limits))

    def at(self, s_DX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (D, X, 2) and headings (D, X) at distances (D, X)."""
        cell = np.clip(s_DX / PATH_STEP_M, 0.0, self.xy_DK2.shape[1] - 1.001)
        low = cell.astype(int)
        part, rows = cell - low, self.rows[:, None]
        xy = (1 - part[..., None]) * self.xy_DK2[rows, low] + part[..., None] * self.xy_DK2[rows, low + 1]
        return xy, (1 - part) * self.yaw_DK[rows, low] + part * self.yaw_DK[rows, low + 1]

    def limit_at(self, s_D: np.ndarray) -> np.ndarray:
        """Allowed speed (D,)."""
        cell = np.clip(s_D / PATH_STEP_M, 0, self.limit_DK.shape[1] - 1).astype(int)
        return self.limit_DK[self.rows, cell]


def _speed_limit(yaw_K: np.ndarray, desired: float, length_m: float) -> np.ndarray:
    """Wanted speed along a path: slow in bends (with braking before them), to a halt at its end."""
    curvature = np.abs(np.gradient(yaw_K)) / PATH_STEP_M
    limit = np.minimum(desired, np.sqrt(LATERAL_ACCELERATION / np.maximum(curvature, 1e-4)))
    limit[int(length_m / PATH_STEP_M) - 4:] = 0.0
    energy = (limit ** 2 + 2 * 1.5 * PATH_STEP_M * np.arange(len(limit)))[::-1]
    energy = np.minimum.accumulate(energy)[::-1] - 2 * 1.5 * PATH_STEP_M * np.arange(len(limit))
    limit = np.sqrt(np.maximum(energy, 0.0))
    return np.maximum(limit, 0.05)


class _Simulation:
    def __init__(self, drivers: list[Driver], signals: dict[int, Signal], walkers: Walkers) -> None:
        self.drivers, self.signals, self.walkers = drivers, signals, walkers
        self.paths = _Paths.of(drivers)
        pick = lambda name: np.array([getattr(driver, name) for driver in drivers], float)  # noqa: E731
        self.s, self.v = pick('start_m'), pick('speed_m_per_s')
        self.length, self.width, self.ahead = pick('length_m'), pick('width_m'), pick('rear_to_centre_m')
        self.trailer = pick('trailer_m')
        self.v = np.minimum(self.v, self.paths.limit_at(self.s))

    def poses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Box centres (D, 2), headings (D,) and trailers (D, 3)."""
        axle = self.s - (self.length / 2 - self.ahead) - DRAWBAR_M - 0.8 * self.trailer
        xy, yaw = self.paths.at(np.stack([self.s, axle], axis=1))
        forward = np.stack([np.cos(yaw[:, 0]), np.sin(yaw[:, 0])], axis=1)
        centre = xy[:, 0] + self.ahead[:, None] * forward
        hitch = centre - 0.5 * self.length[:, None] * forward
        pull = hitch - xy[:, 1]
        trailer_yaw = np.arctan2(pull[:, 1], pull[:, 0])
        along = np.stack([np.cos(trailer_yaw), np.sin(trailer_yaw)], axis=1)
        trailer = np.column_stack([hitch - (DRAWBAR_M + 0.5 * self.trailer)[:, None] * along, trailer_yaw])
        trailer[self.trailer == 0] = np.nan
        return centre, yaw[:, 0], trailer

    def _obstacles(self, centre: np.ndarray, yaw: np.ndarray, trailer: np.ndarray, step: int) -> np.ndarray:
        """(O, 8) x, y, yaw, length, width, speed, owner, seconds ahead of everything a car must not touch.

        Cars in motion appear again where they will be one and two seconds later, people likewise.
        """
        owner, now = np.arange(len(centre)), np.zeros(len(centre))
        cars = np.column_stack([centre, yaw, self.length, self.width, self.v, owner, now])
        towed = np.flatnonzero(self.trailer > 0)
        tow = np.column_stack(
            [trailer[towed], self.trailer[towed], np.full(len(towed), 2.7), self.v[towed], towed, now[towed]]
        )
        steps = np.minimum(step + np.array(FORESIGHT_STEPS), self.walkers.xy_WT2.shape[1] - 1)
        people = self.walkers.xy_WT2[:, steps].reshape(-1, 2)
        flat = np.zeros(len(people))
        people = np.column_stack([people, flat, flat + 0.9, flat + 0.9, flat, flat - 1, flat])
        return np.concatenate([cars, tow, people, *(self._later(seconds) for seconds in FORESIGHT_S)])

    def _later(self, seconds: float) -> np.ndarray:
        """Cars in motion as obstacles where their routes take them within some seconds."""
        xy, yaw = self.paths.at((self.s + seconds * self.v)[:, None])
        xy, yaw, moving = xy[:, 0], yaw[:, 0], self.v > 1.0
        ahead = self.ahead[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        rows = np.column_stack([xy + ahead, yaw, self.length, self.width, self.v, np.arange(len(yaw)),
                                np.full(len(yaw), seconds)])
        return rows[moving]

    def gaps(self, centre: np.ndarray, yaw: np.ndarray, trailer: np.ndarray,
             step: int) -> tuple[np.ndarray, np.ndarray]:
        """Free way (D,) ahead of each front bumper and the speed (D,) of what ends it."""
        things = self._obstacles(centre, yaw, trailer, step)
        apart = np.linalg.norm(centre[:, None] - things[None, :, :2], axis=2)
        near = (apart < LOOK_M + 12.0) & (things[None, :, 6] != np.arange(len(centre))[:, None])
        crossing = np.abs(np.sin(yaw[:, None] - things[None, :, 2])) > 0.5
        who, what = np.nonzero(near & (crossing | (things[None, :, 7] == 0)))
        thing = things[what]
        places, headings = self.paths.at(
            (self.s + self.ahead + 0.5 * self.length)[:, None] + np.arange(0.0, LOOK_M)
        )
        hit, turn = self._swept(places[who], headings[who], thing, 0.5 * self.width[who] + 0.3)
        first = np.where(hit.any(axis=1), hit.argmax(axis=1), LOOK_M * 10)
        yields = (thing[:, 7] == 0) | (first > thing[:, 7] * np.maximum(self.v[who], 1.0))
        speed = thing[:, 5] * np.cos(turn[np.arange(len(who)), np.minimum(first, LOOK_M - 1)])
        speed = np.where(thing[:, 7] == 0, np.maximum(speed, 0.0), 0.0)
        gap, lead = np.full(len(centre), 1e3), np.zeros(len(centre))
        blocked = np.flatnonzero((first < LOOK_M) & yields)
        for index in blocked[np.argsort(-first[blocked], kind='stable')]:
            gap[who[index]], lead[who[index]] = first[index], speed[index]
        return gap, lead

    @staticmethod
    def _swept(places_XA2: np.ndarray, headings_XA: np.ndarray, thing_X8: np.ndarray,
               reach_X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where along its way a car's front would touch a box (X, A), and the headings' difference (X, A)."""
        offset = places_XA2 - thing_X8[:, None, :2]
        cos, sin = np.cos(thing_X8[:, 2])[:, None], np.sin(thing_X8[:, 2])[:, None]
        x, y = offset[..., 0] * cos + offset[..., 1] * sin, offset[..., 1] * cos - offset[..., 0] * sin
        turn = headings_XA - thing_X8[:, 2][:, None]
        across, along = np.abs(np.sin(turn)), np.abs(np.cos(turn))
        hit = ((np.abs(x) < 0.5 * thing_X8[:, 3][:, None] + across * reach_X[:, None])
               & (np.abs(y) < 0.5 * thing_X8[:, 4][:, None] + along * reach_X[:, None] + 0.2 * across))
        return hit, turn

    def stop_gaps(self, t_s: float) -> np.ndarray:
        """Distance (D,) to a red stop line at which the car can still halt."""
        gap = np.full(len(self.drivers), 1e3)
        front = self.s + self.ahead + 0.5 * self.length
        for index, driver in enumerate(self.drivers):
            for s_m, node, road in driver.route.stops:
                distance = s_m - front[index]
                if distance > -0.5 and distance < 80.0:
                    can_halt = distance > self.v[index] ** 2 / (2 * 4.5) - 0.3
                    if can_halt and not self.signals[node].is_green(road, t_s):
                        gap[index] = max(distance, 0.0)
                    break
        return gap

    def advance(self, t_s: float, gap: np.ndarray, lead: np.ndarray) -> None:
        """One step of the driver model."""
        wanted = self.paths.limit_at(self.s + 0.5)
        free = 1.0 - (self.v / np.maximum(wanted, 0.3)) ** 4

        def room(closing: np.ndarray, rest_m: float) -> np.ndarray:
            brake = self.v * closing / (2 * np.sqrt(MAX_ACCELERATION * COMFORT_BRAKE))
            return rest_m + np.maximum(HEADWAY_S * self.v + brake, 0.0)

        follow = (room(self.v - lead, STANDSTILL_M) / np.maximum(gap, 0.3)) ** 2
        halt = (room(self.v, 0.6) / np.maximum(self.stop_gaps(t_s), 0.3)) ** 2
        acceleration = MAX_ACCELERATION * (free - np.maximum(follow, halt))
        acceleration = np.clip(acceleration, -FULL_BRAKE, MAX_ACCELERATION)
        before = self.v
        self.v = np.maximum(self.v + acceleration * STEP_S, 0.0)
        self.v[(self.v < 0.05) & (acceleration <= 0)] = 0.0
        self.s = self.s + 0.5 * (before + self.v) * STEP_S


def simulate(
    drivers: list[Driver], signals: dict[int, Signal], walkers: Walkers, times_s: np.ndarray
) -> DriveLog:
    """Let all drivers drive over `times_s` (steps of `STEP_S`; walkers' positions at the same
    times)."""
    world = _Simulation(drivers, signals, walkers)
    rows = []
    for step, t_s in enumerate(times_s):
        centre, yaw, trailer = world.poses()
        rows.append((world.s, world.v, centre, yaw, trailer))
        world.advance(t_s, *world.gaps(centre, yaw, trailer, step))
    s, v, centre, yaw, trailer = (np.stack(parts, axis=1) for parts in zip(*rows, strict=True))
    return DriveLog(np.asarray(times_s), s, v, centre, yaw, trailer)
