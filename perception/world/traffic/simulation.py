"""Cars that follow their routes: the intelligent driver model with corridor look-ahead, 10 steps a second.

Longitudinal control is the intelligent driver model, IDM (Treiber, Hennecke and Helbing, 2000, Phys. Rev. E
62, 1805, eqs. 2-3). Each car looks along the band its body will sweep and keeps its distance from whatever
lies in it: cars, trailers, people, and where these will be one and two seconds later when they cross its way.
The rear axle rides on the route, so that headings follow the path as a real car's do.

Shape letters: D drivers, T times, K cells of a path, O obstacles, X pairs of driver and obstacle, A distances
ahead.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from .routes import Route, Signal

STEP_S = 0.1
PATH_STEP_M = 0.5
MAX_ACCELERATION_M_PER_S2 = 1.6
COMFORT_BRAKE_M_PER_S2 = 2.2
FULL_BRAKE_M_PER_S2 = 8.0
LATERAL_ACCELERATION_M_PER_S2 = 2.4
HEADWAY_S = 1.2
STANDSTILL_M = 2.2
"""Gap that stays to a leader when both stand."""
STOP_LINE_GAP_M = 0.6
LOOK_M = 36
"""How far ahead of its bumper a car looks, metre by metre."""
FAR_M = 1e3
DRAWBAR_M = 1.3
FORESIGHT_STEPS, FORESIGHT_S = (0, 10, 20), (1.0, 2.0)

_YAW, _LENGTH, _WIDTH, _SPEED, _OWNER, _LATER_S = range(2, 8)
"""Columns of the obstacles after x and y; `_LATER_S` says in how many seconds an obstacle will be there."""


@dataclass(frozen=True)
class Driver:
    """One simulated vehicle.

    Attributes:
        route: where it drives.
        start_m: where its rear axle begins.
        speed_m_per_s, desired_m_per_s: initial and desired speed.
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
    """The simulated drives of D drivers at T times.

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

    def since(self, step: int) -> DriveLog:
        """The log from a time step on."""
        return DriveLog(self.times_s[step:], self.s_DT[:, step:], self.speed_DT[:, step:],
                        self.centre_DT2[:, step:], self.yaw_DT[:, step:], self.trailer_DT3[:, step:])


def desired_gap(
    speed_m_per_s: np.ndarray, closing_m_per_s: np.ndarray, standstill_m: float
) -> np.ndarray:
    """IDM's desired gap to the leader, eq. 3: `s* = s0 + max(v T + v dv / (2 sqrt(a b)), 0)`.

    Args:
        speed_m_per_s: (D,) speed v of each driver.
        closing_m_per_s: (D,) speed dv at which the gap to the leader shrinks.
        standstill_m: gap s0 that stays when both stand.

    Returns:
        (D,) metres.
    """
    brake_m = speed_m_per_s * closing_m_per_s / (
        2 * np.sqrt(MAX_ACCELERATION_M_PER_S2 * COMFORT_BRAKE_M_PER_S2))
    return standstill_m + np.maximum(HEADWAY_S * speed_m_per_s + brake_m, 0.0)


def acceleration(speed_m_per_s: np.ndarray, desired_m_per_s: np.ndarray,
                 gap_ratio: np.ndarray) -> np.ndarray:
    """IDM's acceleration, eq. 2: `a (1 - (v / v0)^4 - (s* / s)^2)`, cut at a full brake.

    Args:
        speed_m_per_s: (D,) speed v.
        desired_m_per_s: (D,) desired speed v0.
        gap_ratio: (D,) squared ratio `(s* / s)^2` of the desired gap to the actual one.

    Returns:
        (D,) m/s^2.
    """
    free_road = 1.0 - (speed_m_per_s / np.maximum(desired_m_per_s, 0.3)) ** 4
    return np.clip(MAX_ACCELERATION_M_PER_S2 * (free_road - gap_ratio),
                   -FULL_BRAKE_M_PER_S2, MAX_ACCELERATION_M_PER_S2)


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
        """The routes of `drivers`, each at its own distance beside the centre line."""
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
        part = cell - low
        rows = self.rows[:, None]
        xy = (1 - part[..., None]) * self.xy_DK2[rows, low] + part[..., None] * self.xy_DK2[rows, low + 1]
        yaw = (1 - part) * self.yaw_DK[rows, low] + part * self.yaw_DK[rows, low + 1]
        return xy, yaw

    def limit_at(self, s_D: np.ndarray) -> np.ndarray:
        """Allowed speed (D,)."""
        cell = np.clip(s_D / PATH_STEP_M, 0, self.limit_DK.shape[1] - 1).astype(int)
        return self.limit_DK[self.rows, cell]


def _speed_limit(yaw_K: np.ndarray, desired: float, length_m: float) -> np.ndarray:
    """Desired speed along a path: slow in bends (with braking before them), to a halt at its end."""
    curvature = np.abs(np.gradient(yaw_K)) / PATH_STEP_M
    limit = np.minimum(desired, np.sqrt(LATERAL_ACCELERATION_M_PER_S2 / np.maximum(curvature, 1e-4)))
    limit[int(length_m / PATH_STEP_M) - 4:] = 0.0

    # brake at 1.5 m/s^2: v^2 + 2 b s may nowhere exceed what it is anywhere ahead
    energy = (limit ** 2 + 2 * 1.5 * PATH_STEP_M * np.arange(len(limit)))[::-1]
    energy = np.minimum.accumulate(energy)[::-1] - 2 * 1.5 * PATH_STEP_M * np.arange(len(limit))
    return np.maximum(np.sqrt(np.maximum(energy, 0.0)), 0.05)


def _column(drivers: list[Driver], name: str) -> np.ndarray:
    """(D,) one attribute of all drivers."""
    return np.array([getattr(driver, name) for driver in drivers], float)


class _Simulation:
    """The state of all drivers: distance `s` along their routes and speed `v`, (D,) each."""

    def __init__(self, drivers: list[Driver], signals: dict[int, Signal], walkers: Walkers) -> None:
        self.drivers = drivers
        self.signals = signals
        self.walkers = walkers
        self.paths = _Paths.of(drivers)

        self.length = _column(drivers, 'length_m')
        self.width = _column(drivers, 'width_m')
        self.ahead = _column(drivers, 'rear_to_centre_m')
        self.trailer = _column(drivers, 'trailer_m')
        self.s = _column(drivers, 'start_m')
        self.v = np.minimum(_column(drivers, 'speed_m_per_s'), self.paths.limit_at(self.s))

    def poses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Box centres (D, 2), headings (D,) and trailers (D, 3)."""
        axle = self.s - (self.length / 2 - self.ahead) - DRAWBAR_M - 0.8 * self.trailer
        xy, yaw = self.paths.at(np.stack([self.s, axle], axis=1))

        # the trailer's axle rides on the route too; its yaw is the direction from there to the hitch
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
        """(O, 8) x, y, yaw, length, width, speed, owner, seconds later of everything a car must not touch.

        Cars in motion appear again where they will be one and two seconds later, people likewise.
        """
        owner, now = np.arange(len(centre)), np.zeros(len(centre))
        cars = np.column_stack([centre, yaw, self.length, self.width, self.v, owner, now])
        towed = np.flatnonzero(self.trailer > 0)
        trailers = np.column_stack(
            [trailer[towed], self.trailer[towed], np.full(len(towed), 2.7), self.v[towed], towed, now[towed]]
        )

        steps = np.minimum(step + np.array(FORESIGHT_STEPS), self.walkers.xy_WT2.shape[1] - 1)
        people_xy = self.walkers.xy_WT2[:, steps].reshape(-1, 2)
        zero = np.zeros(len(people_xy))
        people = np.column_stack([people_xy, zero, zero + 0.9, zero + 0.9, zero, zero - 1, zero])
        return np.concatenate([cars, trailers, people, *(self._later(seconds) for seconds in FORESIGHT_S)])

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
        # pairs of a driver and an obstacle near it; where an obstacle will be counts if it crosses the way
        obstacles = self._obstacles(centre, yaw, trailer, step)
        apart = np.linalg.norm(centre[:, None] - obstacles[None, :, :2], axis=2)
        near = (apart < LOOK_M + 12.0) & (obstacles[None, :, _OWNER] != np.arange(len(centre))[:, None])
        crossing = np.abs(np.sin(yaw[:, None] - obstacles[None, :, _YAW])) > 0.5
        driver, row = np.nonzero(near & (crossing | (obstacles[None, :, _LATER_S] == 0)))
        obstacle = obstacles[row]
        is_now = obstacle[:, _LATER_S] == 0

        # the first metre at which the car's front would touch the obstacle
        front_m = (self.s + self.ahead + 0.5 * self.length)[:, None] + np.arange(0.0, LOOK_M)
        places, headings = self.paths.at(front_m)
        reach = 0.5 * self.width[driver] + 0.3
        first, turn = first_touch(places, headings, driver, obstacle, reach)

        # later places matter only to a car that could not be past them by then; they count as standing
        matters = is_now | (first > obstacle[:, _LATER_S] * np.maximum(self.v[driver], 1.0))
        along_way = obstacle[:, _SPEED] * np.cos(turn)
        speed = np.where(is_now, np.maximum(along_way, 0.0), 0.0)

        # farthest first, so that the nearest obstacle of a driver is written last
        gap, lead = np.full(len(centre), FAR_M), np.zeros(len(centre))
        blocked = np.flatnonzero((first < LOOK_M) & matters)
        for pair in blocked[np.argsort(-first[blocked], kind='stable')]:
            gap[driver[pair]], lead[driver[pair]] = first[pair], speed[pair]
        return gap, lead

    def stop_gaps(self, t_s: float) -> np.ndarray:
        """Distance (D,) to a red stop line at which the car can still halt."""
        gap = np.full(len(self.drivers), FAR_M)
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
        """One step of the driver model.

        Args:
            t_s: time, for the signals.
            gap: (D,) metres to the leader.
            lead: (D,) the leader's speed in m/s.
        """
        # a red stop line is a leader that stands; the stronger of both demands counts
        follow = (desired_gap(self.v, self.v - lead, STANDSTILL_M) / np.maximum(gap, 0.3)) ** 2
        halt = (desired_gap(self.v, self.v, STOP_LINE_GAP_M) / np.maximum(self.stop_gaps(t_s), 0.3)) ** 2
        desired_m_per_s = self.paths.limit_at(self.s + 0.5)
        accelerated = acceleration(self.v, desired_m_per_s, np.maximum(follow, halt))

        before = self.v
        self.v = np.maximum(self.v + accelerated * STEP_S, 0.0)
        self.v[(self.v < 0.05) & (accelerated <= 0)] = 0.0
        self.s = self.s + 0.5 * (before + self.v) * STEP_S


@njit(cache=True)
def first_touch(
    places_DA2: np.ndarray, headings_DA: np.ndarray, driver_X: np.ndarray, obstacle_X8: np.ndarray,
    reach_X: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Where along its way a car's front would first touch a box, for X pairs of both.

    Args:
        places_DA2: the fronts of all drivers, metre by metre.
        headings_DA: of the drivers there, radians.
        driver_X: of each pair, a row of both.
        obstacle_X8: of each pair, the columns of `_Simulation._obstacles`.
        reach_X: half the width of the front, with a margin.

    Returns:
        The metre (X,), `10 * LOOK_M` where it touches nothing, and the heading there against the box's (X,).
    """
    pairs, ahead = len(driver_X), headings_DA.shape[1]
    first_X, turn_X = np.full(pairs, 10 * LOOK_M), np.zeros(pairs)
    for x in range(pairs):
        driver, yaw, reach = driver_X[x], obstacle_X8[x, _YAW], reach_X[x]
        cos, sin = np.cos(yaw), np.sin(yaw)
        half_length, half_width = 0.5 * obstacle_X8[x, _LENGTH], 0.5 * obstacle_X8[x, _WIDTH]

        for a in range(ahead):
            dx = places_DA2[driver, a, 0] - obstacle_X8[x, 0]
            dy = places_DA2[driver, a, 1] - obstacle_X8[x, 1]
            along_box, across_box = abs(dx * cos + dy * sin), abs(dy * cos - dx * sin)
            # no turn of the front reaches farther than its half width
            if along_box >= half_length + reach or across_box >= half_width + reach + 0.2:
                continue

            # the front is a bar across the heading; its extent along the box's axes follows from the turn
            turn = headings_DA[driver, a] - yaw
            across, along = abs(np.sin(turn)), abs(np.cos(turn))
            if (along_box < half_length + across * reach
                    and across_box < half_width + along * reach + 0.2 * across):
                first_X[x], turn_X[x] = a, turn
                break
    return first_X, turn_X


def simulate(
    drivers: list[Driver], signals: dict[int, Signal], walkers: Walkers, times_s: np.ndarray
) -> DriveLog:
    """Let all drivers drive.

    Args:
        drivers: who drives, and where to.
        signals: the signal of each crossroads, by node.
        walkers: the people that drivers must not touch, at the same times.
        times_s: (T,) steps of `STEP_S`.
    """
    state = _Simulation(drivers, signals, walkers)
    rows = []
    for step, t_s in enumerate(times_s):
        centre, yaw, trailer = state.poses()
        rows.append((state.s, state.v, centre, yaw, trailer))
        state.advance(t_s, *state.gaps(centre, yaw, trailer, step))

    s, v, centre, yaw, trailer = (np.stack(parts, axis=1) for parts in zip(*rows, strict=True))
    return DriveLog(np.asarray(times_s), s, v, centre, yaw, trailer)
