"""The words of the synthetic world: meshes, tracks, the ego's path, the ground, the weather, the scene.

Global frame: metres, x east, y north, z up; the ground is the plane z = 0. Ego frame: origin on the ground
below the rear axle, x forward, y left. Times are seconds since the scene's start. Everything a sensor or a
label needs is a function of (scene, time), so that all of them are cut from the same geometry.

Shape letters: V vertices, F faces, T time samples, P points, Y X ground cells (row = +y, column = +x).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .materials import MATERIAL_ID, MATERIALS, Material

if TYPE_CHECKING:
    from ..city.city import City

__all__ = [
    'MATERIALS', 'MATERIAL_ID', 'Material', 'Mesh', 'GroundRaster', 'Track', 'EgoTrajectory', 'Weather',
    'WorldScene', 'WEATHER_KINDS', 'pose_matrix', 'wrap_angle']

WEATHER_KINDS = ('day', 'dusk', 'night', 'rain')


def wrap_angle(angle_rad: np.ndarray | float) -> np.ndarray | float:
    """The same angle in [-pi, pi)."""
    return (angle_rad + np.pi) % (2.0 * np.pi) - np.pi


def pose_matrix(xyz_m: Sequence[float] | np.ndarray, yaw_rad: float) -> np.ndarray:
    """``global_T_object`` (4, 4) float64 of an upright object at ``xyz_m`` turned by ``yaw_rad`` about z."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    pose = np.eye(4)
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    pose[:3, 3] = xyz_m
    return pose


@dataclass(frozen=True)
class Mesh:
    """Triangles with one material each; faces run counter-clockwise seen from outside.

    Attributes:
        vertices_V3: (V, 3) float32, metres.
        faces_F3: (F, 3) int32, indices into the vertices.
        material_F: (F,) uint8, indices into :data:`MATERIALS`.

    Raises:
        ValueError: a shape is wrong, or an index points nowhere.
    """

    vertices_V3: np.ndarray
    faces_F3: np.ndarray
    material_F: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(
            self, 'vertices_V3', np.ascontiguousarray(self.vertices_V3, np.float32).reshape(-1, 3)
        )
        object.__setattr__(self, 'faces_F3', np.ascontiguousarray(self.faces_F3, np.int32).reshape(-1, 3))
        object.__setattr__(self, 'material_F', np.ascontiguousarray(self.material_F, np.uint8).reshape(-1))
        if len(self.material_F) != len(self.faces_F3):
            raise ValueError(
                f'Mesh: {len(self.faces_F3)} faces need as many materials, found {len(self.material_F)}'
            )
        if len(self.faces_F3) and not 0 <= self.faces_F3.min() <= self.faces_F3.max() < len(self.vertices_V3):
            raise ValueError(f'Mesh: face indices must lie in [0, {len(self.vertices_V3)}), found '
                             f'[{self.faces_F3.min()}, {self.faces_F3.max()}]')
        if len(self.material_F) and self.material_F.max() >= len(MATERIALS):
            raise ValueError(
                f'Mesh: material ids must be below {len(MATERIALS)}, found {self.material_F.max()}'
            )

    @classmethod
    def empty(cls) -> Mesh:
        """A mesh without faces."""
        return cls(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))

    @classmethod
    def merge(cls, meshes: Sequence[Mesh]) -> Mesh:
        """All faces of ``meshes`` in one mesh, in order."""
        if not meshes:
            return cls.empty()
        offsets = np.cumsum([0] + [len(mesh.vertices_V3) for mesh in meshes[:-1]])
        faces = [mesh.faces_F3 + offset for mesh, offset in zip(meshes, offsets, strict=True)]
        return cls(np.concatenate([mesh.vertices_V3 for mesh in meshes]), np.concatenate(faces),
                   np.concatenate([mesh.material_F for mesh in meshes]))

    def transform(self, dst_T_src: np.ndarray) -> Mesh:
        """The mesh in frame ``dst``; ``dst_T_src`` is (4, 4) with a positive determinant."""
        matrix = np.asarray(dst_T_src, np.float64)
        vertices = self.vertices_V3 @ matrix[:3, :3].T + matrix[:3, 3]
        return Mesh(vertices, self.faces_F3, self.material_F)

    @property
    def triangles_F33(self) -> np.ndarray:
        """(F, 3, 3) float32 corner positions."""
        return self.vertices_V3[self.faces_F3]

    @property
    def _cross_F3(self) -> np.ndarray:
        corners = self.triangles_F33.astype(np.float64)
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

    @property
    def normals_F3(self) -> np.ndarray:
        """(F, 3) unit normals that point outwards."""
        cross = self._cross_F3
        return cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-12)

    @property
    def areas_m2(self) -> np.ndarray:
        """(F,) face areas."""
        return 0.5 * np.linalg.norm(self._cross_F3, axis=1)

    @property
    def area_m2(self) -> float:
        """The area of all faces together."""
        return float(self.areas_m2.sum())

    @property
    def bounds_m(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of the axis-aligned box around the vertices."""
        return self.vertices_V3.min(axis=0), self.vertices_V3.max(axis=0)


@dataclass(frozen=True)
class GroundRaster:
    """What the ground plane z = 0 is made of, on a square lattice.

    Attributes:
        material_YX: (Y, X) uint8 material ids; row = +y, column = +x.
        origin_xy_m: (2,) global position of the corner of cell [0, 0] (not its centre).
        m_per_cell: side of a cell.
        outside: material id of everything beyond the raster.
    """

    material_YX: np.ndarray
    origin_xy_m: np.ndarray
    m_per_cell: float = 0.1
    outside: int = MATERIAL_ID['terrain_grass']

    def __post_init__(self) -> None:
        object.__setattr__(self, 'material_YX', np.ascontiguousarray(self.material_YX, np.uint8))
        object.__setattr__(self, 'origin_xy_m', np.asarray(self.origin_xy_m, np.float64).reshape(2))
        if self.material_YX.ndim != 2:
            raise ValueError(f'GroundRaster: material_YX must have two axes, found {self.material_YX.ndim}')
        if not self.m_per_cell > 0:
            raise ValueError(f'GroundRaster: m_per_cell must be positive, found {self.m_per_cell}')

    def material_at(self, xy_P2: np.ndarray) -> np.ndarray:
        """Material ids (...,) uint8 at global points (..., 2) in metres."""
        cells = np.floor((np.asarray(xy_P2, np.float64) - self.origin_xy_m) / self.m_per_cell).astype(
            np.int64
        )
        column, row = cells[..., 0], cells[..., 1]
        height, width = self.material_YX.shape
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        material = self.material_YX[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        return np.where(inside, material, np.uint8(self.outside)).astype(np.uint8)


class _TimedPath:
    """Linear interpolation of ``xyz_T3`` and ``yaw_T`` over ``times_s`` (shared by things and the ego)."""

    times_s: np.ndarray
    xyz_T3: np.ndarray
    yaw_T: np.ndarray

    def _check_path(self, name: str) -> None:
        for key in ('times_s', 'xyz_T3', 'yaw_T'):
            object.__setattr__(self, key, np.ascontiguousarray(getattr(self, key), np.float64))
        count = len(self.times_s)
        if count < 2 or np.any(np.diff(self.times_s) <= 0):
            raise ValueError(f'{name}: times_s must hold at least two strictly rising times, found {count}')
        if self.xyz_T3.shape != (count, 3) or self.yaw_T.shape != (count,):
            raise ValueError(f'{name}: {count} times need xyz ({count}, 3) and yaw ({count},), found '
                             f'{self.xyz_T3.shape} and {self.yaw_T.shape}')

    @cached_property
    def _continuous_yaw_T(self) -> np.ndarray:
        return np.unwrap(self.yaw_T)

    def _xyz_yaw(self, t_s: float) -> tuple[np.ndarray, float]:
        xyz = np.array([np.interp(t_s, self.times_s, self.xyz_T3[:, axis]) for axis in range(3)])
        return xyz, float(wrap_angle(np.interp(t_s, self.times_s, self._continuous_yaw_T)))

    def _rates(self, t_s: float, half_step_s: float = 0.05) -> tuple[np.ndarray, float]:
        """Central differences of position and yaw, one-sided at the ends."""
        before = max(t_s - half_step_s, self.times_s[0])
        after = min(t_s + half_step_s, self.times_s[-1])
        if after <= before:
            return np.zeros(3), 0.0
        (xyz0, yaw0), (xyz1, yaw1) = self._xyz_yaw(before), self._xyz_yaw(after)
        return (xyz1 - xyz0) / (after - before), float(wrap_angle(yaw1 - yaw0)) / (after - before)


@dataclass(frozen=True)
class Track(_TimedPath):
    """One thing for the whole scene.

    Attributes:
        index: its place in ``WorldScene.tracks``; the id the sensors' id buffers carry.
        category: full nuScenes category, e.g. ``vehicle.car``.
        size_lwh_m: (3,) length, width, height of the box.
        times_s: (T,) rising, 10 Hz or denser.
        xyz_T3: (T, 3) box centre, global metres.
        yaw_T: (T,) heading, radians counter-clockwise from global x.
        attribute_T: T attribute names, '' where the category has none.
        mesh: in the object frame (x forward, origin at the box centre); inside the box and touching its
            sides.
    """

    index: int
    category: str
    size_lwh_m: np.ndarray
    times_s: np.ndarray
    xyz_T3: np.ndarray
    yaw_T: np.ndarray
    attribute_T: list[str]
    mesh: Mesh

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
        """Box centre (3,) in global metres and yaw in radians at ``t_s`` (held beyond the ends)."""
        return self._xyz_yaw(t_s)

    def matrix_at(self, t_s: float) -> np.ndarray:
        """``global_T_object`` (4, 4) at ``t_s``."""
        return pose_matrix(*self._xyz_yaw(t_s))

    def velocity_at(self, t_s: float) -> tuple[float, float, float]:
        """(vx, vy) in global m/s and the yaw rate in rad/s at ``t_s``."""
        velocity, yaw_rate = self._rates(t_s)
        return float(velocity[0]), float(velocity[1]), yaw_rate

    def attribute_at(self, t_s: float) -> str:
        """The attribute of the sample nearest to ``t_s`` ('' when the category has none)."""
        return self.attribute_T[int(np.argmin(np.abs(self.times_s - t_s)))]

    def mesh_at(self, t_s: float) -> Mesh:
        """The thing's mesh in the global frame at ``t_s``."""
        return self.mesh.transform(self.matrix_at(t_s))


@dataclass(frozen=True)
class EgoTrajectory(_TimedPath):
    """The path of the ego frame (rear axle on the ground).

    Attributes:
        times_s: (T,) rising.
        xyz_T3: (T, 3) global metres.
        yaw_T: (T,) radians.
        speed_T: (T,) forward speed, m/s.
    """

    times_s: np.ndarray
    xyz_T3: np.ndarray
    yaw_T: np.ndarray
    speed_T: np.ndarray

    def __post_init__(self) -> None:
        self._check_path('EgoTrajectory')
        object.__setattr__(self, 'speed_T', np.ascontiguousarray(self.speed_T, np.float64))
        if self.speed_T.shape != self.times_s.shape:
            raise ValueError(
                f'EgoTrajectory: speed_T must be {self.times_s.shape}, found {self.speed_T.shape}'
            )

    def pose_at(self, t_s: float) -> np.ndarray:
        """``global_T_ego`` (4, 4) float64 at ``t_s`` (held beyond the ends)."""
        return pose_matrix(*self._xyz_yaw(t_s))

    def xyz_yaw_at(self, t_s: float) -> tuple[np.ndarray, float]:
        """Position (3,) and yaw at ``t_s``."""
        return self._xyz_yaw(t_s)

    def velocity_at(self, t_s: float) -> np.ndarray:
        """(3,) global velocity in m/s at ``t_s``."""
        return self._rates(t_s)[0]

    def yaw_rate_at(self, t_s: float) -> float:
        """Yaw rate in rad/s at ``t_s``."""
        return self._rates(t_s)[1]

    def speed_at(self, t_s: float) -> float:
        """Forward speed in m/s at ``t_s``."""
        return float(np.interp(t_s, self.times_s, self.speed_T))

    def acceleration_at(self, t_s: float, half_step_s: float = 0.1) -> np.ndarray:
        """(3,) global acceleration in m/s^2 at ``t_s`` (central difference of the velocity)."""
        before = max(t_s - half_step_s, self.times_s[0])
        after = min(t_s + half_step_s, self.times_s[-1])
        if after <= before:
            return np.zeros(3)
        return (self.velocity_at(after) - self.velocity_at(before)) / (after - before)


@dataclass(frozen=True)
class Weather:
    """Light and weather of a scene.

    Attributes:
        kind: one of :data:`WEATHER_KINDS`.
        sun_direction: (3,) unit vector towards the sun (the moon or street glow at night), z > 0.
        sun_rgb, ambient_rgb, sky_horizon_rgb, sky_zenith_rgb: linear RGB radiance, day's white = about 1.
        fog_density_per_m: extinction of the air.
        rain_rate: 0 dry to 1 heavy.
        wetness: 0 dry to 1 standing water: darker, more mirror-like ground, weaker LiDAR returns.
    """

    kind: str
    sun_direction: np.ndarray
    sun_rgb: tuple[float, float, float]
    ambient_rgb: tuple[float, float, float]
    sky_horizon_rgb: tuple[float, float, float]
    sky_zenith_rgb: tuple[float, float, float]
    fog_density_per_m: float
    rain_rate: float
    wetness: float

    def __post_init__(self) -> None:
        if self.kind not in WEATHER_KINDS:
            raise ValueError(f'Weather: kind must be one of {WEATHER_KINDS}, found {self.kind!r}')
        direction = np.asarray(self.sun_direction, np.float64).reshape(3)
        if direction[2] <= 0:
            raise ValueError(f'Weather: sun_direction must point upwards, found {direction}')
        object.__setattr__(self, 'sun_direction', direction / np.linalg.norm(direction))


@dataclass(frozen=True)
class WorldScene:
    """Everything there is to sense in one scene.

    Attributes:
        name: nuScenes scene name, e.g. ``scene-0001``.
        location: one of the four nuScenes locations.
        description: one line for ``scene.json``.
        log_name: name of the drive the scene is cut from.
        start_timestamp_us: time of ``t_s = 0`` in microseconds since the epoch.
        duration_s: length (nuScenes: 20 s).
        seed: the seed it was made from.
        weather, ego, ground: light, the car's path, the ground plane.
        static_mesh: buildings, poles, trees, bushes, walls and kerbs in the global frame.
        tracks: all things, moving or not; ``tracks[i].index == i``.
        city: the city it lies in (None for toy scenes).
    """

    name: str
    location: str
    description: str
    log_name: str
    start_timestamp_us: int
    duration_s: float
    seed: int
    weather: Weather
    ego: EgoTrajectory
    ground: GroundRaster
    static_mesh: Mesh
    tracks: tuple[Track, ...] = field(default_factory=tuple)
    city: City | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'tracks', tuple(self.tracks))
        if self.duration_s <= 0:
            raise ValueError(f'{self.name}: duration_s must be positive, found {self.duration_s}')
        found = [track.index for track in self.tracks]
        if found != list(range(len(found))):
            raise ValueError(f'{self.name}: tracks[i].index must equal i, found {found[:8]}...')
