"""Paths over time: the tracks of all objects and the trajectory of the ego.

Shape letters: T time samples.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...core.geometry import wrap_yaw
from .mesh import Mesh, pose_matrix

__all__ = ['EgoTrajectory', 'Track']

Times = float | np.ndarray
"""Seconds: one moment, or an array of any shape."""


class _TimedPath:
    """Linear interpolation of place, heading and slope over `times_s` (shared by objects and the ego)."""

    times_s: np.ndarray
    xyz_T3: np.ndarray
    yaw_T: np.ndarray
    slope_T2: np.ndarray | None

    def _check_path(self, name: str) -> None:
        if self.slope_T2 is None:
            object.__setattr__(self, 'slope_T2', np.zeros((len(self.times_s), 2)))
        for key in ('times_s', 'xyz_T3', 'yaw_T', 'slope_T2'):
            object.__setattr__(self, key, np.ascontiguousarray(getattr(self, key), np.float64))
        count = len(self.times_s)
        if count < 2 or np.any(np.diff(self.times_s) <= 0):
            raise ValueError(f'{name}: times_s must hold at least two strictly rising times, found {count}')
        if self.xyz_T3.shape != (count, 3) or self.yaw_T.shape != (count,):
            raise ValueError(f'{name}: {count} times need xyz ({count}, 3) and yaw ({count},), found '
                             f'{self.xyz_T3.shape} and {self.yaw_T.shape}')
        if self.slope_T2.shape != (count, 2):
            raise ValueError(f'{name}: {count} times need slope ({count}, 2), found {self.slope_T2.shape}')

    @cached_property
    def _continuous_yaw_T(self) -> np.ndarray:
        return np.unwrap(self.yaw_T)

    # (...) times of any shape: places (..., 3), headings (...)
    def _xyz_yaw(self, t_s: Times) -> tuple[np.ndarray, np.ndarray]:
        xyz = np.stack(
            [np.interp(t_s, self.times_s, self.xyz_T3[:, axis]) for axis in range(3)], axis=-1)
        return xyz, wrap_yaw(np.interp(t_s, self.times_s, self._continuous_yaw_T))

    def _matrix(self, t_s: Times) -> np.ndarray:
        slope = [np.interp(t_s, self.times_s, self.slope_T2[:, axis]) for axis in range(2)]
        return pose_matrix(*self._xyz_yaw(t_s), np.stack(slope, axis=-1))

    def _around(self, t_s: Times, half_step_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ends of a central difference, one-sided at the path's ends, and one over what is between them.

        Where both ends are one moment (beyond the path) that is zero.
        """
        before = np.maximum(np.asarray(t_s) - half_step_s, self.times_s[0])
        after = np.minimum(np.asarray(t_s) + half_step_s, self.times_s[-1])
        apart = after - before
        return before, after, np.where(apart > 0, 1 / np.where(apart > 0, apart, 1), 0.0)

    def _rates(self, t_s: Times, half_step_s: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Rates of the position (..., 3) and of the yaw (...)."""
        before, after, per_s = self._around(t_s, half_step_s)
        (xyz0, yaw0), (xyz1, yaw1) = self._xyz_yaw(before), self._xyz_yaw(after)
        return (xyz1 - xyz0) * per_s[..., None], wrap_yaw(yaw1 - yaw0) * per_s


@dataclass(frozen=True)
class Track(_TimedPath):
    """One object for the whole scene.

    Attributes:
        index: its place in `WorldScene.tracks`; the id the sensors' id buffers carry.
        category: full nuScenes category, e.g. `vehicle.car`.
        size_lwh_m: (3,) length, width, height of the box.
        times_s: (T,) rising, 10 Hz or denser.
        xyz_T3: (T, 3) box centre, global metres.
        yaw_T: (T,) heading, radians counter-clockwise from global x.
        attribute_T: T attribute names, '' where the category has none.
        mesh: in the object frame (x forward, origin at the box centre); inside the box and touching its
            sides.
        slope_T2: (T, 2) rise of the ground it stands on by metre along global x and y: its up axis is the
            ground's normal; None for level ground and for what stands upright anywhere.
    """

    index: int
    category: str
    size_lwh_m: np.ndarray
    times_s: np.ndarray
    xyz_T3: np.ndarray
    yaw_T: np.ndarray
    attribute_T: list[str]
    mesh: Mesh
    slope_T2: np.ndarray | None = None

    def __post_init__(self) -> None:
        name = f'Track {self.index} ({self.category})'
        object.__setattr__(self, 'size_lwh_m', np.asarray(self.size_lwh_m, np.float64).reshape(3))
        self._check_path(name)
        if not np.all(self.size_lwh_m > 0):
            raise ValueError(f'{name}: size_lwh_m must be positive, found {self.size_lwh_m}')
        if len(self.attribute_T) != len(self.times_s):
            raise ValueError(f'{name}: {len(self.times_s)} times need as many attributes, '
                             f'found {len(self.attribute_T)}')

    def pose_at(self, t_s: float) -> tuple[np.ndarray, float]:
        """Box centre (3,) in global metres and yaw in radians at `t_s` (held beyond the ends)."""
        xyz, yaw = self._xyz_yaw(t_s)
        return xyz, float(yaw)

    def matrix_at(self, t_s: float) -> np.ndarray:
        """`global_T_object` (4, 4) at `t_s`."""
        return self._matrix(t_s)

    def velocity_at(self, t_s: float) -> tuple[float, float, float]:
        """(vx, vy) in global m/s and the yaw rate in rad/s at `t_s`."""
        velocity, yaw_rate = self._rates(t_s)
        return float(velocity[0]), float(velocity[1]), float(yaw_rate)

    def attribute_at(self, t_s: float) -> str:
        """The attribute of the sample nearest to `t_s` ('' when the category has none)."""
        return self.attribute_T[int(np.argmin(np.abs(self.times_s - t_s)))]

    def mesh_at(self, t_s: float) -> Mesh:
        """The object's mesh in the global frame at `t_s`."""
        return self.mesh.transform(self.matrix_at(t_s))


@dataclass(frozen=True)
class EgoTrajectory(_TimedPath):
    """The path of the ego frame (rear axle on the ground).

    Attributes:
        times_s: (T,) rising.
        xyz_T3: (T, 3) global metres.
        yaw_T: (T,) radians.
        speed_T: (T,) forward speed, m/s.
        slope_T2: (T, 2) rise of the ground by metre along global x and y, None for level ground.
    """

    times_s: np.ndarray
    xyz_T3: np.ndarray
    yaw_T: np.ndarray
    speed_T: np.ndarray
    slope_T2: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._check_path('EgoTrajectory')
        object.__setattr__(self, 'speed_T', np.ascontiguousarray(self.speed_T, np.float64))
        if self.speed_T.shape != self.times_s.shape:
            raise ValueError(
                f'EgoTrajectory: speed_T must be {self.times_s.shape}, found {self.speed_T.shape}'
            )

    def pose_at(self, t_s: Times) -> np.ndarray:
        """`global_T_ego` (..., 4, 4) float64 at `t_s` (...), held beyond the ends."""
        return self._matrix(t_s)

    def xyz_yaw_at(self, t_s: float) -> tuple[np.ndarray, float]:
        """Position (3,) and yaw at `t_s`."""
        xyz, yaw = self._xyz_yaw(t_s)
        return xyz, float(yaw)

    def velocity_at(self, t_s: Times) -> np.ndarray:
        """(..., 3) global velocity in m/s at `t_s` (...)."""
        return self._rates(t_s)[0]

    def yaw_rate_at(self, t_s: float) -> float:
        """Yaw rate in rad/s at `t_s`."""
        return float(self._rates(t_s)[1])

    def rotation_rate_at(self, t_s: Times, half_step_s: float = 0.05) -> np.ndarray:
        """(..., 3) rate of turning in rad/s about the car's own axes at `t_s` (...): a central difference."""
        before, after, per_s = self._around(t_s, half_step_s)
        R0, R1 = self._matrix(before)[..., :3, :3], self._matrix(after)[..., :3, :3]
        turn = np.swapaxes(R0, -1, -2) @ R1
        skew = 0.5 * (turn - np.swapaxes(turn, -1, -2)) * per_s[..., None, None]
        return np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1)

    def speed_at(self, t_s: Times) -> np.ndarray:
        """Forward speed in m/s at `t_s` (...)."""
        return np.interp(t_s, self.times_s, self.speed_T)

    def acceleration_at(self, t_s: Times, half_step_s: float = 0.1) -> np.ndarray:
        """(..., 3) global acceleration in m/s^2 at `t_s` (...): a central difference of the velocity."""
        before, after, per_s = self._around(t_s, half_step_s)
        return (self.velocity_at(after) - self.velocity_at(before)) * per_s[..., None]
