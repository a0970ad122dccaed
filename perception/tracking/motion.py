"""How tracks move between frames: by the velocity they were seen with, or by a Kalman filter.

Both hold the places and velocities of all tracks in columns and have the same five methods, so that the
tracker does not ask which one it has. A velocity that is exactly zero in both directions, or not finite, says
nothing: detectors without memory report it for all that they see.
"""
from __future__ import annotations

import numpy as np

from .options import TrackerOptions

_SPEED_MPS = 10.0
"""Standard deviation of the speed of a thing that was seen once and reported none."""


def known_velocities(velocity_M2: np.ndarray) -> np.ndarray:
    """Which velocities say something: bool `(M,)`."""
    return np.isfinite(velocity_M2).all(1) & (velocity_M2 != 0).any(1)


class VelocityMotion:
    """A track stays where it was seen and goes on with the velocity it was seen with.

    Attributes:
        xy_N2: where each track is now, metres.
        velocity_N2: m/s.
    """

    def __init__(self, options: TrackerOptions) -> None:
        del options  # nothing to choose
        self.xy_N2, self.velocity_N2 = np.zeros((0, 2)), np.zeros((0, 2))
        self._seen_N2, self._since_s_N = np.zeros((0, 2)), np.zeros(0)

    def predict(self, step_s: float) -> None:
        """Let time go on."""
        self.xy_N2 = self.xy_N2 + step_s * self.velocity_N2
        self._since_s_N = self._since_s_N + step_s

    def correct(self, tracks: np.ndarray, xy_K2: np.ndarray, velocity_K2: np.ndarray) -> None:
        """Tracks (indices) were seen at these places, with these reported velocities."""
        since_s_K1 = self._since_s_N[tracks, None]
        moved_K2 = xy_K2 - self._seen_N2[tracks]
        shown_K2 = np.divide(
            moved_K2, since_s_K1, out=self.velocity_N2[tracks].copy(), where=since_s_K1 > 1e-3)

        self.velocity_N2[tracks] = np.where(known_velocities(velocity_K2)[:, None], velocity_K2, shown_K2)
        self.xy_N2[tracks] = xy_K2
        self._seen_N2[tracks] = xy_K2
        self._since_s_N[tracks] = 0.0

    def begin(self, xy_K2: np.ndarray, velocity_K2: np.ndarray) -> None:
        """New tracks behind the others."""
        velocity_K2 = np.where(known_velocities(velocity_K2)[:, None], velocity_K2, 0.0)
        self.xy_N2 = np.concatenate([self.xy_N2, xy_K2])
        self.velocity_N2 = np.concatenate([self.velocity_N2, velocity_K2])
        self._seen_N2 = np.concatenate([self._seen_N2, xy_K2])
        self._since_s_N = np.concatenate([self._since_s_N, np.zeros(len(xy_K2))])

    def keep(self, alive_N: np.ndarray) -> None:
        """Forget the tracks that bool `alive_N` does not mark."""
        self.xy_N2, self.velocity_N2 = self.xy_N2[alive_N], self.velocity_N2[alive_N]
        self._seen_N2, self._since_s_N = self._seen_N2[alive_N], self._since_s_N[alive_N]


class KalmanMotion:
    """Constant velocity with white acceleration, filtered (Kalman 1960).

    State per axis: place and velocity. Both axes have the same uncertainty, so one 2 x 2 covariance a track
    is enough: `_cov_N3` holds its entries place-place, place-velocity and velocity-velocity. A detection's
    place and velocity are independent and enter one after the other.

    Attributes:
        xy_N2: where each track is now, metres.
        velocity_N2: m/s.
    """

    def __init__(self, options: TrackerOptions) -> None:
        self._place_var = options.position_m ** 2
        self._velocity_var = options.velocity_mps ** 2
        self._acceleration_var = options.acceleration_mps2 ** 2
        self.xy_N2, self.velocity_N2 = np.zeros((0, 2)), np.zeros((0, 2))
        self._cov_N3 = np.zeros((0, 3))

    def predict(self, step_s: float) -> None:
        """Let time go on; what is not seen grows less certain."""
        self.xy_N2 = self.xy_N2 + step_s * self.velocity_N2
        place, cross, velocity = self._cov_N3.T
        noise = self._acceleration_var

        self._cov_N3 = np.stack([
            place + 2 * step_s * cross + step_s ** 2 * velocity + noise * step_s ** 4 / 4,
            cross + step_s * velocity + noise * step_s ** 3 / 2,
            velocity + noise * step_s ** 2], 1)

    def correct(self, tracks: np.ndarray, xy_K2: np.ndarray, velocity_K2: np.ndarray) -> None:
        """Tracks (indices) were seen at these places, with these reported velocities."""
        place, cross, velocity = self._cov_N3[tracks].T
        total = place + self._place_var
        self._gain(tracks, xy_K2 - self.xy_N2[tracks], place / total, cross / total)
        left = self._place_var / total
        self._cov_N3[tracks] = np.stack([place * left, cross * left, velocity - cross ** 2 / total], 1)

        known_K = known_velocities(velocity_K2)
        tracks, reported_K2 = tracks[known_K], velocity_K2[known_K]
        place, cross, velocity = self._cov_N3[tracks].T
        total = velocity + self._velocity_var
        self._gain(tracks, reported_K2 - self.velocity_N2[tracks], cross / total, velocity / total)
        left = self._velocity_var / total
        self._cov_N3[tracks] = np.stack([place - cross ** 2 / total, cross * left, velocity * left], 1)

    def _gain(self, tracks: np.ndarray, off_K2: np.ndarray, place_K: np.ndarray, speed_K: np.ndarray) -> None:
        """Move places and velocities by their gains times what was seen otherwise than expected."""
        self.xy_N2[tracks] += place_K[:, None] * off_K2
        self.velocity_N2[tracks] += speed_K[:, None] * off_K2

    def begin(self, xy_K2: np.ndarray, velocity_K2: np.ndarray) -> None:
        """New tracks behind the others."""
        known_K = known_velocities(velocity_K2)
        speed_var_K = np.where(known_K, self._velocity_var, _SPEED_MPS ** 2)
        cov_K3 = np.stack([np.full(len(xy_K2), self._place_var), np.zeros(len(xy_K2)), speed_var_K], 1)

        self.xy_N2 = np.concatenate([self.xy_N2, xy_K2])
        self.velocity_N2 = np.concatenate([
            self.velocity_N2, np.where(known_K[:, None], velocity_K2, 0.0)])
        self._cov_N3 = np.concatenate([self._cov_N3, cov_K3])

    def keep(self, alive_N: np.ndarray) -> None:
        """Forget the tracks that bool `alive_N` does not mark."""
        self.xy_N2, self.velocity_N2 = self.xy_N2[alive_N], self.velocity_N2[alive_N]
        self._cov_N3 = self._cov_N3[alive_N]


def constant_turn(
    xy_M2: np.ndarray, velocity_M2: np.ndarray, turn_rad_per_s_M: np.ndarray, steps_s_F: np.ndarray
) -> np.ndarray:
    """Where things will be that keep their speed and their turn: float64 `(M, F, 2)`.

    A thing that turns by w goes along an arc: after t it lies off by |v| / w (sin(a + wt) - sin a,
    cos a - cos(a + wt)), a being the direction of its velocity (Schubert et al., Comparison and evaluation of
    advanced motion models for vehicle tracking, FUSION 2008).

    Args:
        xy_M2: metres.
        velocity_M2: m/s; one that is not finite counts as zero.
        turn_rad_per_s_M: of the velocity, counter-clockwise.
        steps_s_F: after which times.
    """
    velocity_M2 = np.where(np.isfinite(velocity_M2).all(1, keepdims=True), velocity_M2, 0.0)
    angle_MF = turn_rad_per_s_M[:, None] * steps_s_F[None]

    # sin(x) / x and (1 - cos(x)) / x are well-behaved at zero: half angles
    along_MF = steps_s_F * np.sinc(angle_MF / np.pi)
    across_MF = steps_s_F * np.sinc(angle_MF / (2 * np.pi)) * np.sin(angle_MF / 2)
    vx_M1, vy_M1 = velocity_M2[:, :1], velocity_M2[:, 1:]
    off_MF2 = np.stack([vx_M1 * along_MF - vy_M1 * across_MF, vy_M1 * along_MF + vx_M1 * across_MF], -1)
    return xy_M2[:, None] + off_MF2
