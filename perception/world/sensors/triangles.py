"""All triangles of a scene at one instant: the one geometry that every sensor and every label is cut from.

A `SceneGeometry` is prepared once per scene; `at(t_s)` gives the `Snapshot` of that instant:
the static triangles near the ego and every track's triangles at its pose. Positions are float32 in the
*local* frame: global axes, origin at a whole metre near the ego's path, so that float32 keeps a tenth of a
millimetre.

Shape letters: F faces, M objects, P points.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from ..scene.scene import WorldScene

__all__ = ['SceneGeometry', 'Snapshot', 'face_normals', 'snapshot_of', 'REACH_M']

_GROUND_STEP_M = 20.0
REACH_M = 150.0
"""Triangles whose nearest corner lies farther from the ego than this (in x, y) are not sensed."""


@njit(cache=True, nogil=True)
def _rotation(yaw, slope_x, slope_y, R):
    """Put the rotation of `pose_matrix` into `R` (3, 3)."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    rise = slope_x * cos + slope_y * sin
    along = math.sqrt(1.0 + rise * rise)
    up = math.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    R[0, 0], R[1, 0], R[2, 0] = cos / along, sin / along, rise / along
    R[0, 2], R[1, 2], R[2, 2] = -slope_x / up, -slope_y / up, 1.0 / up

    # left is up x forward
    R[0, 1] = R[1, 2] * R[2, 0] - R[2, 2] * R[1, 0]
    R[1, 1] = R[2, 2] * R[0, 0] - R[0, 2] * R[2, 0]
    R[2, 1] = R[0, 2] * R[1, 0] - R[1, 2] * R[0, 0]


@njit(cache=True, nogil=True)
def _place(
    triangles, material, normals, first_face, poses, used, start, out_tri, out_material, out_normal, out_track
):
    """Write the faces of the objects in `used` at their poses, from row `start` on."""
    row = start
    turn, R = np.empty((3, 3)), np.empty((3, 3), np.float32)
    for place in range(len(used)):
        track = used[place]
        x, y, z = np.float32(poses[track, 0]), np.float32(poses[track, 1]), np.float32(poses[track, 2])
        _rotation(poses[track, 3], poses[track, 4], poses[track, 5], turn)
        for axis in range(3):
            for other in range(3):
                R[axis, other] = turn[axis, other]

        for face in range(first_face[track], first_face[track + 1]):
            for corner in range(3):
                px = triangles[face, corner, 0]
                py = triangles[face, corner, 1]
                pz = triangles[face, corner, 2]
                out_tri[row, corner, 0] = R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz + x
                out_tri[row, corner, 1] = R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz + y
                out_tri[row, corner, 2] = R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz + z

            nx, ny, nz = normals[face, 0], normals[face, 1], normals[face, 2]
            for axis in range(3):
                out_normal[row, axis] = R[axis, 0] * nx + R[axis, 1] * ny + R[axis, 2] * nz
            out_material[row] = material[face]
            out_track[row] = track
            row += 1


@njit(cache=True, nogil=True)
def _interpolate(times, path, first_time, t_s, poses):
    """Each object's path at `t_s`, held beyond its ends; `path` rows are columns of `poses`."""
    for track in range(len(poses)):
        # the sample before t by bisection
        low, high = first_time[track], first_time[track + 1] - 1
        t = min(max(t_s, times[low]), times[high])
        while high - low > 1:
            middle = (low + high) // 2
            if times[middle] <= t:
                low = middle
            else:
                high = middle

        part = (t - times[low]) / (times[high] - times[low])
        for axis in range(poses.shape[1]):
            poses[track, axis] = path[low, axis] + part * (path[high, axis] - path[low, axis])


def face_normals(triangles_F33: np.ndarray) -> np.ndarray:
    """(F, 3) float32 unit normals that point to where the corners run counter-clockwise."""
    corners = triangles_F33.astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return (cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-12)).astype(np.float32)


@dataclass(frozen=True)
class Snapshot:
    """Every triangle within reach of the ego at one instant.

    Attributes:
        t_s: the instant, seconds since the scene's start.
        geometry: the scene's prepared geometry (ground, weather, local frame).
        global_T_ego: (4, 4) float64 pose of the car.
        local_T_ego: (4, 4) float64, the same in the local frame.
        triangles_F33: (F, 3, 3) float32 corners, local frame; objects come last, in the order of `objects_M`.
        normals_F3: (F, 3) float32 outward unit normals.
        material_F: (F,) uint8.
        track_F: (F,) int16 index of the object, -1 for what stands still for ever.
        poses_M6: (all objects, 6) float64 x, y, z (local), yaw, slope along x and y at `t_s`.
        objects_M: indices of the objects within reach.
        first_face_M1: (len(objects_M) + 1,) rows where each object's faces begin.
        ground_F33: (F', 3, 3) float32 the ground's triangles, local frame, to the horizon.
        ground_normal_F3: (F', 3) float32 their unit normals.
    """

    t_s: float
    geometry: SceneGeometry
    global_T_ego: np.ndarray
    local_T_ego: np.ndarray
    triangles_F33: np.ndarray
    normals_F3: np.ndarray
    material_F: np.ndarray
    track_F: np.ndarray
    poses_M6: np.ndarray
    objects_M: np.ndarray
    first_face_M1: np.ndarray
    ground_F33: np.ndarray
    ground_normal_F3: np.ndarray

    @property
    def scene(self) -> WorldScene:
        """The scene this instant belongs to."""
        return self.geometry.scene


class SceneGeometry:
    """A scene made ready for sensing: triangle soups, normals, a local frame.

    Args:
        scene: the world scene; it is not changed.
        reach_m: triangles farther than this from the ego are left out of the snapshots.
    """

    def __init__(self, scene: WorldScene, reach_m: float = REACH_M) -> None:
        self.scene = scene
        self.reach_m = float(reach_m)
        self.origin_m = np.array([*np.round(np.mean(scene.ego.xyz_T3[:, :2], axis=0)), 0.0])
        """(3,) global position of the local frame's origin."""

        self._ground_middle: tuple[float, ...] | None = None

        # what stands: corners in the local frame, and the box around each face for cropping
        static = scene.static_mesh.vertices_V3.astype(np.float64) - self.origin_m
        self._static_F33 = np.ascontiguousarray(static[scene.static_mesh.faces_F3].astype(np.float32))
        self._static_low_F2 = self._static_F33[:, :, :2].min(axis=1)
        self._static_high_F2 = self._static_F33[:, :, :2].max(axis=1)
        self._static_normal_F3 = face_normals(self._static_F33)
        self._static_material_F = scene.static_mesh.material_F

        # objects: faces of all of them one after the other, in their own frames
        meshes = [track.mesh.triangles_F33 for track in scene.tracks]
        self._object_F33 = np.concatenate(meshes) if meshes else np.zeros((0, 3, 3), np.float32)
        self._object_normal_F3 = face_normals(self._object_F33)
        self._object_material_F = (np.concatenate([track.mesh.material_F for track in scene.tracks])
                                   if meshes else np.zeros(0, np.uint8))
        self._first_face = np.cumsum([0] + [len(faces) for faces in meshes])
        self._radius_M = np.array([0.5 * float(np.linalg.norm(track.size_lwh_m[:2]))
                                   for track in scene.tracks])

        # their paths likewise, N time samples in all
        paths = [np.column_stack([track.xyz_T3 - self.origin_m, np.unwrap(track.yaw_T), track.slope_T2])
                 for track in scene.tracks]
        times = [track.times_s for track in scene.tracks]
        self._path_N6 = np.concatenate(paths) if paths else np.zeros((0, 6))
        self._path_times_N = np.concatenate(times) if times else np.zeros(0)
        self._first_time = np.cumsum([0] + [len(track.times_s) for track in scene.tracks])

    @classmethod
    def of(cls, scene: WorldScene | SceneGeometry) -> SceneGeometry:
        """`scene` itself when it is already prepared, else its prepared geometry."""
        return scene if isinstance(scene, SceneGeometry) else cls(scene)

    def poses_at(self, t_s: float) -> np.ndarray:
        """(all objects, 6) x, y, z in the local frame, yaw and slope at `t_s`, as `Track` gives them."""
        poses = np.zeros((len(self.scene.tracks), 6))
        _interpolate(self._path_times_N, self._path_N6, self._first_time, float(t_s), poses)
        return poses

    def velocities_at(self, t_s: float, half_step_s: float = 0.05) -> np.ndarray:
        """(all objects, 3) vx, vy (m/s, global) and yaw rate (rad/s), as `Track.velocity_at` gives them."""
        first = self._path_times_N[self._first_time[:-1]]
        last = self._path_times_N[self._first_time[1:] - 1]
        span = np.minimum(t_s + half_step_s, last) - np.maximum(t_s - half_step_s, first)
        change = self.poses_at(t_s + half_step_s) - self.poses_at(t_s - half_step_s)
        return np.where(span > 0, change[:, [0, 1, 3]].T / np.maximum(span, 1e-9), 0.0).T

    def _ground_near(self, xy_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ground's triangles around a global place, and their normals; made anew every 20 m."""
        middle = tuple(_GROUND_STEP_M * np.round(np.asarray(xy_m) / _GROUND_STEP_M))
        if self._ground_middle != middle:
            reach_m = self.reach_m + 0.5 * _GROUND_STEP_M
            triangles = self.scene.height.triangles_around(np.array(middle), reach_m, self.origin_m)
            self._ground, self._ground_middle = (triangles, face_normals(triangles)), middle
        return self._ground

    def at(self, t_s: float) -> Snapshot:
        """The triangles at `t_s`; the same `t_s` always gives the same snapshot."""
        global_T_ego = self.scene.ego.pose_at(t_s)
        local_T_ego = global_T_ego.copy()
        local_T_ego[:3, 3] -= self.origin_m

        # which objects and which static faces are within reach
        x, y = local_T_ego[:2, 3]
        poses = self.poses_at(t_s)
        distance = np.hypot(poses[:, 0] - x, poses[:, 1] - y) - self._radius_M
        used = np.flatnonzero(distance < self.reach_m)
        gap_F2 = np.maximum(self._static_low_F2 - (x, y), (x, y) - self._static_high_F2)
        keep = np.flatnonzero(np.all(gap_F2 < self.reach_m, axis=1))

        # static faces first, then each object's faces from its row of `first` on
        sizes = np.diff(self._first_face)[used]
        first = len(keep) + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        count = int(first[-1])
        triangles, normals = np.empty((count, 3, 3), np.float32), np.empty((count, 3), np.float32)
        material, track = np.empty(count, np.uint8), np.empty(count, np.int16)
        still = slice(len(keep))
        triangles[still], normals[still] = self._static_F33[keep], self._static_normal_F3[keep]
        material[still], track[still] = self._static_material_F[keep], -1

        _place(
            self._object_F33, self._object_material_F, self._object_normal_F3, self._first_face, poses, used,
            len(keep), triangles, material, normals, track)
        return Snapshot(
            float(t_s), self, global_T_ego, local_T_ego, triangles, normals, material, track, poses, used,
            first, *self._ground_near(global_T_ego[:2, 3]))


def snapshot_of(scene: WorldScene | SceneGeometry | Snapshot, t_s: float) -> Snapshot:
    """The snapshot of `scene` at `t_s`, made now unless `scene` already is that snapshot."""
    if isinstance(scene, Snapshot) and scene.t_s == t_s:
        return scene
    return SceneGeometry.of(scene.geometry if isinstance(scene, Snapshot) else scene).at(t_s)
