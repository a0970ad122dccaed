"""Occupancy labels in the Occ3D-nuScenes format, computed from the scene's triangles.

The format is that of Tian et al. 2023, arXiv 2304.14365.

Semantics: voxels that a surface passes (objects are filled from their lowest to their highest surface, column
by column) and the ground layer by majority of its materials; where several meet, the rarer kind wins. Masks:
a voxel is observed when a sight line from the sensor passes it or ends on one of its open faces. Sight lines
go to all occupied and all border voxels within the field of view, so the masks are those of a dense scan; one
32-beam turn alone would leave gaps that Occ3D closes by adding up many sweeps. First hits of the LiDAR's
beams and of a small picture's pixels are marked as well: a body can show through a voxel whose open faces
have hidden middles.

Shape letters: X Y Z voxels, ego frame at `t_s`.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from ...core.lens.views import views_of
from ...core.protocols import CATEGORY_TO_CLASS, OCCUPANCY_CLASSES
from ...core.protocols import OCCUPANCY_FREE as FREE
from ...core.protocols import OCCUPANCY_LOW_M as LOW_M
from ...core.protocols import OCCUPANCY_SHAPE_XYZ as SHAPE_XYZ
from ...core.protocols import OCCUPANCY_VOXEL_M as VOXEL_M
from ...core.rig.sensors import CameraSensor, LidarSensor, SensorRig
from ...core.voxels import camera_sight, look_at_faces, look_through_border
from ..scene.materials import MATERIALS
from ..scene.scene import WorldScene
from ..sensors.beams import ray_table
from ..sensors.ground import ground_lookup, ground_material, height_of_ground
from ..sensors.lidar import cast_scan
from ..sensors.rasterise import rasterise_faces
from ..sensors.triangles import SceneGeometry, Snapshot, snapshot_of
from .voxels import fill_columns, mark_surfaces

__all__ = ['VoxelLabels', 'label_occupancy', 'occupancy_class', 'FREE']

_LOOK_SIZE_HW = (112, 200)
_RANK = np.array([5, 10, 11, 6, 6, 6, 11, 12, 12, 6, 6, 1, 2, 3, 2, 5, 4, 0])
"""Who wins a shared voxel: small objects, then vehicles and buildings, plants, kerbs, the ground, free."""
_MATERIAL_CLASS = np.array([material.occupancy for material in MATERIALS], np.uint8)


@dataclass(frozen=True)
class VoxelLabels:
    """Occ3D's three arrays, (200, 200, 16) uint8.

    Attributes:
        semantics: class 0-17, 17 = free.
        mask_lidar: 1 where the LiDAR observes.
        mask_camera: 1 where at least one camera observes.
    """

    semantics: np.ndarray
    mask_lidar: np.ndarray
    mask_camera: np.ndarray

    def keys(self) -> tuple[str, ...]:
        """The names of Occ3D's arrays, so that `np.savez(file, **labels)` writes its file."""
        return ('semantics', 'mask_lidar', 'mask_camera')

    def __getitem__(self, name: str) -> np.ndarray:
        return getattr(self, name)


def occupancy_class(category: str) -> int:
    """Occ3D class of a nuScenes category; what the ten detection classes leave out is `others`."""
    return OCCUPANCY_CLASSES.index(CATEGORY_TO_CLASS.get(category, 'others'))


@njit(cache=True, nogil=True)
def _label_ground(ground, material_class, local_T_ego, rank, semantics):
    """The layers that the ground passes: each column's most frequent ground class over 3 x 3 samples."""
    R = local_T_ego
    votes = np.empty(18, np.int64)
    for ix in range(semantics.shape[0]):
        for iy in range(semantics.shape[1]):
            votes[:] = 0
            low, high, z = 1e9, -1e9, 0.0
            for sample in range(9):
                # ego metres, then the local frame
                x = LOW_M[0] + (ix + (sample % 3 + 0.5) / 3.0) * VOXEL_M
                y = LOW_M[1] + (iy + (sample // 3 + 0.5) / 3.0) * VOXEL_M
                lx = R[0, 0] * x + R[0, 1] * y + R[0, 3]
                ly = R[1, 0] * x + R[1, 1] * y + R[1, 3]
                lz = R[2, 0] * x + R[2, 1] * y + R[2, 3]

                # up the column to the ground, from where it was met before: each step leaves a hundredth
                for _ in range(3 if sample == 0 else 1):
                    above = height_of_ground(ground, lx + R[0, 2] * z, ly + R[1, 2] * z) - (lz + R[2, 2] * z)
                    z += above / R[2, 2]
                low, high = min(low, z), max(high, z)
                material = ground_material(ground, lx + R[0, 2] * z, ly + R[1, 2] * z)
                votes[material_class[material]] += 1

            label = np.argmax(votes)
            first = max(0, int(math.floor((low - LOW_M[2]) / VOXEL_M)))
            last = min(semantics.shape[2] - 1, int(math.floor((high - LOW_M[2]) / VOXEL_M)))
            for layer in range(first, last + 1):
                if rank[label] > rank[semantics[ix, iy, layer]]:
                    semantics[ix, iy, layer] = label

            # walls on a slope reach into the ground as far as their lowest foot: nothing is seen of that
            semantics[ix, iy, :min(first, semantics.shape[2])] = FREE


def _label_objects(snapshot: Snapshot, ego_T_local: np.ndarray, semantics: np.ndarray) -> None:
    """Mark and fill every object near the grid, each in its own small window."""
    ones_rank = np.ones(18, np.int64)
    ones_rank[0] = 0
    reach = 40.0 + 20.0  # half the grid, and the largest object
    for place, track in enumerate(snapshot.objects_M):
        if np.hypot(*(snapshot.poses_M6[track, :2] - snapshot.local_T_ego[:2, 3])) > reach * np.sqrt(2.0):
            continue

        # the voxels [low, high) around the object, cut at the grid
        rows = slice(snapshot.first_face_M1[place], snapshot.first_face_M1[place + 1])
        triangles = snapshot.triangles_F33[rows]
        corners = triangles.reshape(-1, 3) @ ego_T_local[:3, :3].T + ego_T_local[:3, 3]
        first, last = (np.floor((corner - LOW_M) / VOXEL_M).astype(int)
                       for corner in (corners.min(axis=0), corners.max(axis=0)))
        low = first.clip(0, SHAPE_XYZ)
        high = last.clip(-1, np.array(SHAPE_XYZ) - 1) + 1
        if np.any(low >= high):
            continue

        # its surface in that window, then every column filled from the lowest to the highest mark
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        shell = np.zeros(tuple(high - low), np.uint8)
        window_T_local = ego_T_local.copy()
        window_T_local[:3, 3] -= low * VOXEL_M
        mark_surfaces(triangles, np.ones(len(triangles), np.uint8), ones_rank, window_T_local, shell)
        fill_columns(shell, occupancy_class(snapshot.scene.tracks[track].category), _RANK, semantics[window])


def _semantics(snapshot: Snapshot) -> np.ndarray:
    """(X, Y, Z) uint8 classes of all voxels."""
    semantics = np.full(SHAPE_XYZ, FREE, np.uint8)
    ego_T_local = np.linalg.inv(snapshot.local_T_ego)

    # static faces come first in a snapshot
    count = int((snapshot.track_F < 0).sum())
    static_class_F = _MATERIAL_CLASS[snapshot.material_F[:count]]
    mark_surfaces(snapshot.triangles_F33[:count], static_class_F, _RANK, ego_T_local, semantics)

    _label_objects(snapshot, ego_T_local, semantics)
    _label_ground(ground_lookup(snapshot.geometry), _MATERIAL_CLASS, snapshot.local_T_ego, _RANK, semantics)
    return semantics


def _lidar_view(lidar: LidarSensor) -> np.ndarray:
    """(5, 3): tan of the lowest and the highest beam, half a beam's step wider; the rest zero."""
    step = 0.5 * (lidar.elevations_rad[1] - lidar.elevations_rad[0])
    view = np.zeros((5, 3))
    view[0, :2] = np.tan(lidar.elevations_rad[0] - step), np.tan(lidar.elevations_rad[-1] + step)
    return view


def _mark_observed(position_m: np.ndarray, view: np.ndarray, blocked: np.ndarray, mask: np.ndarray) -> None:
    """Mark the voxels that sight lines from a sensor pass, or end on."""
    start = (position_m - np.array(LOW_M)) / VOXEL_M
    look_through_border(start, view, blocked, mask)
    look_at_faces(start, view, blocked, mask)


def _mark_hits(hits_ego_P3: np.ndarray, blocked: np.ndarray, mask: np.ndarray) -> None:
    """Mark the occupied voxels that hold a first hit."""
    cells = np.floor((hits_ego_P3 - np.array(LOW_M)) / VOXEL_M).astype(np.int64)
    inside = np.all((cells >= 0) & (cells < SHAPE_XYZ), axis=1)
    x, y, z = cells[inside].T
    mask[x, y, z] |= blocked[x, y, z]


def _lidar_hits(snapshot: Snapshot, lidar: LidarSensor) -> np.ndarray:
    """(P, 3) ego points where the beams of a noiseless turn end."""
    rays = ray_table(lidar.azimuths, 0.0, lidar.elevations_rad)
    local_T_lidar = snapshot.local_T_ego @ lidar.ego_T_lidar
    raw = cast_scan(snapshot, local_T_lidar, rays, 0.0, lidar.elevations_rad, lidar.max_range_m)
    met = raw.range_AE < lidar.max_range_m
    return (rays[met] * raw.range_AE[met][:, None]) @ lidar.ego_T_lidar[:3, :3].T + lidar.ego_T_lidar[:3, 3]


def _camera_hits(snapshot: Snapshot, camera: CameraSensor) -> np.ndarray:
    """(P, 3) ego points where the pixels of a small picture meet a face (the ground left out)."""
    K, lens = camera.intrinsics_for(_LOOK_SIZE_HW), camera.distortion
    if lens is None or lens.is_pinhole:
        return _view_hits(snapshot, camera.ego_T_cam, K, np.ones(_LOOK_SIZE_HW, bool))
    return np.concatenate([
        _view_hits(snapshot, camera.ego_T_cam @ view.cam_T_view, view.K_33, view.weight_HW > 0)
        for view in views_of(K, _LOOK_SIZE_HW, lens)])


def _view_hits(
    snapshot: Snapshot, ego_T_view: np.ndarray, K: np.ndarray, looks_HW: np.ndarray
) -> np.ndarray:
    """As `_camera_hits` of a pinhole view and of those of its pixels that are looked at."""
    fx, fy = K[0, 0], K[1, 1]
    cx, cy = K[0, 2], K[1, 2]
    inverse, face = np.zeros(looks_HW.shape, np.float32), np.full(looks_HW.shape, -1, np.int32)
    view_T_local = np.linalg.inv(snapshot.local_T_ego @ ego_T_view)
    rasterise_faces(snapshot.triangles_F33, view_T_local, fx, fy, cx, cy, inverse, face)
    patch = np.full(looks_HW.shape, -1, np.int32)
    rasterise_faces(snapshot.ground_F33, view_T_local, fx, fy, cx, cy, inverse, patch)

    v, u = np.nonzero((face >= 0) & (patch < 0) & looks_HW)
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones(len(u))], axis=-1)
    return rays / inverse[v, u][:, None] @ ego_T_view[:3, :3].T + ego_T_view[:3, 3]


def label_occupancy(
    scene: WorldScene | SceneGeometry | Snapshot, t_s: float, rig: SensorRig
) -> VoxelLabels:
    """Label the voxels around the ego at `t_s`.

    Args:
        scene: the scene; pass a `SceneGeometry` (or the snapshot at `t_s`) to share the work between
            sensors.
        t_s: the key frame's LiDAR time, seconds since the scene's start; the grid lies in the ego frame of
            this time.
        rig: where the sensors sit (the camera mask takes all cameras at `t_s`).
    """
    snapshot = snapshot_of(scene, t_s)
    semantics = _semantics(snapshot)
    blocked = semantics != FREE
    mask_lidar, mask_camera = np.zeros(SHAPE_XYZ, np.uint8), np.zeros(SHAPE_XYZ, np.uint8)

    _mark_observed(rig.lidar.ego_T_lidar[:3, 3], _lidar_view(rig.lidar), blocked, mask_lidar)
    _mark_hits(_lidar_hits(snapshot, rig.lidar), blocked, mask_lidar)

    for camera in rig.cameras.values():
        _mark_hits(_camera_hits(snapshot, camera), blocked, mask_camera)
        view = camera_sight(camera.K_33, camera.size_hw, camera.ego_T_cam, camera.distortion)
        _mark_observed(camera.ego_T_cam[:3, 3], view, blocked, mask_camera)
    return VoxelLabels(semantics, mask_lidar, mask_camera)
