"""The height of the ground: a smooth sum of waves, and the triangles over a lattice that sensors meet.

Vehicles ride on the smooth height; the triangles touch it at the lattice's points and lie about a
centimetre beside it between them. Everything that is sensed or labelled uses the triangles.

Shape letters: W waves, Y X lattice points (row = +y, column = +x), P points.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ['HeightField', 'Relief', 'draw_relief', 'LATTICE_M']

LATTICE_M = 6.0
HORIZON_M = 4000.0
_WAVES = 9
_LENGTHS_M = (65.0, 200.0)
_BEND_PER_M = 1.1e-3
"""Root mean square of the curvature along any direction: 0.35 m beside the tangent plane 25 m away."""


@dataclass(frozen=True)
class HeightField:
    """Heights on a square lattice; between its points each cell is two triangles, split along +x +y.

    Attributes:
        height_YX: (Y, X) float64 metres; (1, 1) for flat ground.
        origin_xy_m: (2,) global position of point [0, 0].
        cell_m: distance of neighbouring points.
    """

    height_YX: np.ndarray = field(default_factory=lambda: np.zeros((1, 1)))
    origin_xy_m: np.ndarray = field(default_factory=lambda: np.zeros(2))
    cell_m: float = LATTICE_M

    def __post_init__(self) -> None:
        object.__setattr__(self, 'height_YX', np.ascontiguousarray(self.height_YX, np.float64))
        object.__setattr__(self, 'origin_xy_m', np.asarray(self.origin_xy_m, np.float64).reshape(2))
        if self.height_YX.ndim != 2 or not self.height_YX.size:
            raise ValueError(f'HeightField: height_YX must be (Y, X), found {self.height_YX.shape}')
        if not self.cell_m > 0:
            raise ValueError(f'HeightField: cell_m must be positive, found {self.cell_m}')

    def height_at(self, xy_P2: np.ndarray) -> np.ndarray:
        """(...,) height of the triangles at global points (..., 2), held beyond the lattice."""
        rows, columns = self.height_YX.shape
        place = (np.asarray(xy_P2, np.float64) - self.origin_xy_m) / self.cell_m
        x, y = np.clip(place[..., 0], 0, columns - 1), np.clip(place[..., 1], 0, rows - 1)
        i, j = np.minimum(x.astype(int), max(columns - 2, 0)), np.minimum(y.astype(int), max(rows - 2, 0))
        u, v = x - i, y - j

        # the corner between start and end of the cell's diagonal is the one on the point's side
        right, up = np.minimum(i + 1, columns - 1), np.minimum(j + 1, rows - 1)
        start, end = self.height_YX[j, i], self.height_YX[up, right]
        lower, upper = self.height_YX[j, right], self.height_YX[up, i]
        below = start + u * (lower - start) + v * (end - lower)
        above = start + v * (upper - start) + u * (end - upper)
        return np.where(u >= v, below, above)

    def triangles_around(self, xy_m: np.ndarray, reach_m: float, origin_m: np.ndarray) -> np.ndarray:
        """The ground as triangles that look up: the lattice's within reach, and a rim to the horizon.

        Args:
            xy_m: (2,) global place in the middle.
            reach_m: how far the lattice's own triangles go, in x and in y.
            origin_m: (3,) what is taken off all corners.

        Returns:
            (F, 3, 3) float32; two triangles where the ground is flat.
        """
        lines = []
        for axis, count in ((0, self.height_YX.shape[1]), (1, self.height_YX.shape[0])):
            middle = (xy_m[axis] - self.origin_xy_m[axis]) / self.cell_m
            first, last = middle - reach_m / self.cell_m, middle + reach_m / self.cell_m
            inside = np.arange(max(int(first), 0), min(int(np.ceil(last)), count - 1) + 1)
            places = self.origin_xy_m[axis] + inside * self.cell_m
            places = places if count > 1 else np.zeros(0)
            lines.append(np.concatenate([[xy_m[axis] - HORIZON_M], places, [xy_m[axis] + HORIZON_M]]))

        grid = np.stack(np.meshgrid(*lines), axis=-1)
        corners = np.concatenate([grid, self.height_at(grid)[..., None]], axis=-1) - origin_m
        start, right, end, up = corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]
        both = [np.stack(three, axis=-2) for three in ((start, right, end), (start, end, up))]
        return np.stack(both, axis=2).reshape(-1, 3, 3).astype(np.float32)


@dataclass(frozen=True)
class Relief:
    """A smooth height as a sum of plane waves `a sin(kx x + ky y + phase)`; flat without a wave.

    Attributes:
        wave_W4: (W, 4) kx, ky (rad/m), phase (rad), amplitude (m).
    """

    wave_W4: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))

    @property
    def is_flat(self) -> bool:
        """Whether the ground is the plane z = 0."""
        return not len(self.wave_W4)

    def height_at(self, xy_P2: np.ndarray) -> np.ndarray:
        """(...,) smooth height at global points (..., 2)."""
        xy = np.asarray(xy_P2, np.float64)
        height = np.zeros(xy.shape[:-1])
        for kx, ky, phase, amplitude in self.wave_W4:
            height += amplitude * np.sin(kx * xy[..., 0] + ky * xy[..., 1] + phase)
        return height

    def plane_at(self, xy_P2: np.ndarray, yaw_P: np.ndarray, x_m: tuple[float, float],
                 half_y_m: float) -> tuple[np.ndarray, np.ndarray]:
        """The plane that a body with four feet stands on.

        Args:
            xy_P2: (P, 2) origin of the body, global metres.
            yaw_P: (P,) its heading.
            x_m: rear and front feet, metres ahead of the origin.
            half_y_m: feet left and right of the middle.

        Returns:
            height (P,) of the plane at the origin, and its slope (P, 2): rise by metre along global x and y.
        """
        if self.is_flat:
            return np.zeros(len(xy_P2)), np.zeros((len(xy_P2), 2))

        ahead = np.stack([np.cos(yaw_P), np.sin(yaw_P)], axis=-1)
        left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=-1)
        rear, front = (
            [self.height_at(xy_P2 + x * ahead + side * half_y_m * left) for side in (-1, 1)] for x in x_m)
        along = (sum(front) - sum(rear)) / (2 * (x_m[1] - x_m[0]))
        across = (front[1] + rear[1] - front[0] - rear[0]) / (4 * half_y_m)

        middle = 0.25 * (sum(front) + sum(rear))
        height = middle - along * 0.5 * (x_m[0] + x_m[1])
        return height, along[:, None] * ahead + across[:, None] * left

    def field_around(self, low_xy_m: np.ndarray, high_xy_m: np.ndarray) -> HeightField:
        """The lattice that covers all between two corners; its points are the same for any corners."""
        if self.is_flat:
            return HeightField()
        first, last = np.floor(np.asarray(low_xy_m) / LATTICE_M), np.ceil(np.asarray(high_xy_m) / LATTICE_M)
        x, y = (LATTICE_M * np.arange(first[axis], last[axis] + 1) for axis in (0, 1))
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        return HeightField(self.height_at(grid), LATTICE_M * first)


def draw_relief(rng: np.random.Generator) -> Relief:
    """Hills for a city: waves of all directions, long ones higher, with the curvature of real streets."""
    length_W = np.exp(rng.uniform(*np.log(_LENGTHS_M), _WAVES))
    direction_W = np.pi * (np.arange(_WAVES) + rng.uniform(0.0, 1.0, _WAVES)) / _WAVES
    wave_W = 2 * np.pi / length_W

    # a wave's curvature along its direction is amplitude times k squared; each has its share
    share_W = rng.uniform(0.5, 1.0, _WAVES)
    share_W *= _BEND_PER_M / np.sqrt(0.5 * np.sum(share_W ** 2 * 3 / 8))
    amplitude_W = share_W / wave_W ** 2
    return Relief(np.column_stack([wave_W * np.cos(direction_W), wave_W * np.sin(direction_W),
                                   rng.uniform(0.0, 2 * np.pi, _WAVES), amplitude_W]))
