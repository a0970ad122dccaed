"""Rays through a voxel grid, from where the LiDAR stood: the geometry of RayIoU.

The ray set (Liu et al., Fully Sparse 3D Occupancy Prediction, ECCV 2024, arXiv 2312.17118, section 4, and its
public code):

* directions: 360 azimuths, one a degree, at 39 pitches. Ten pitches look down so that rays meet flat ground 1
  m below at 1, 2 ... 10 m (-45.0 ... -5.7 degrees); further ones go up in equal steps of the last difference
  (0.63 degrees) until 0.21 rad (12 degrees) is passed. 14,040 rays an origin.
* origins: where the LiDAR was at every key frame of the scene, seen from this sample, if |x| and |y| are
  below 39 m; of more than eight, eight spread evenly over the drive. Each frame's own calibration says where
  its LiDAR sits in the car.
* a ray ends in the first voxel that is not free, and its depth is where it *leaves* that voxel; a ray that
  meets nothing ends where it leaves the grid and is 'free'.
* numbers are rounded where the public code keeps them as float32: places along the drive, the edge of a
  voxel (`VOXEL_M`), starts and ends in voxels, depths. A ray that grazes a voxel or a threshold so ends on
  the same side.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numba import njit

from ...core.contracts import Frame
from ...core.geometry import invert
from ...core.protocols import OCCUPANCY_FREE, OCCUPANCY_VOXEL_M
from ...core.protocols import OCCUPANCY_LOW_M as ORIGIN_M
from ...core.voxels import is_inside, next_voxel

MAX_ORIGINS = 8
REACH_M = 39.0
VOXEL_M = np.float32(OCCUPANCY_VOXEL_M)


@lru_cache(maxsize=1)
def lidar_directions() -> np.ndarray:
    """Unit directions of the 14,040 rays: float32 `(R, 3)`."""
    pitches = [-(math.pi / 2 - math.atan(k)) for k in range(1, 11)]
    while pitches[-1] < 0.21:
        pitches.append(2 * pitches[-1] - pitches[-2])
    pitch, azimuth = np.meshgrid(np.array(pitches), np.deg2rad(np.arange(360.0)), indexing='ij')
    directions = np.stack(
        [np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)], -1
    )
    return directions.reshape(-1, 3).astype(np.float32)


def scene_origins(frame: Frame, drive: Sequence[Frame]) -> np.ndarray:
    """Ray origins `(T, 3)` in `frame`'s ego, T <= 8: the LiDAR's places along the drive that lie near enough.

    Args:
        frame: the evaluated sample.
        drive: all key frames of its scene in time order (the sample itself among them). Where one does not
            say where its LiDAR is, no ray starts; where the sample itself does not, there is none at all.
    """
    if frame.ego_T_lidar is None:
        return np.zeros((0, 3))

    known = [f for f in drive if f.ego_T_lidar is not None]
    global_T_lidar_F44 = np.array([f.global_T_ego @ f.ego_T_lidar for f in known])
    lidar_T_global = invert(np.asarray(frame.global_T_ego @ frame.ego_T_lidar, dtype=np.float64))

    # places in the sample's own LiDAR frame, where its own is zero
    places_F3 = (lidar_T_global @ global_T_lidar_F44)[:, :3, 3].astype(np.float32)
    places_F3[[f.token == frame.token for f in known]] = 0
    seen_F3 = places_F3 @ frame.ego_T_lidar[:3, :3].T + frame.ego_T_lidar[:3, 3]

    near = seen_F3[(np.abs(seen_F3[:, 0]) < REACH_M) & (np.abs(seen_F3[:, 1]) < REACH_M)]
    if len(near) > MAX_ORIGINS:
        near = near[np.round(np.linspace(0, len(near) - 1, MAX_ORIGINS)).astype(int)]
    return near


def in_voxels(origins_T3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts `(T, 3)` and ends `(T, R, 3)` of rays of length 1 m, in voxel units.

    Rounded to float32 as the public code does.
    """
    low, voxel_m = np.array(ORIGIN_M), float(VOXEL_M)
    starts = ((origins_T3 - low) / voxel_m).astype(np.float32)
    ends = ((origins_T3[:, None] + lidar_directions()[None] - low) / voxel_m).astype(np.float32)
    return starts.astype(np.float64), ends.astype(np.float64)


def cast(semantics_XYZ: np.ndarray, origins_T3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label uint8 and depth float32 (m) of every ray from every origin: two arrays `(T * R,)`."""
    grid = np.ascontiguousarray(semantics_XYZ, dtype=np.uint8)
    label, depth = _cast(grid, *in_voxels(origins_T3), OCCUPANCY_FREE)
    return label.ravel(), depth.ravel().astype(np.float32) * VOXEL_M


def compare(
    truth_XYZ: np.ndarray,
    predicted_XYZ: np.ndarray,
    origins_T3: np.ndarray,
    limits_m: Sequence[float],
    classes: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare the rays of two grids that end somewhere in truth.

    Both grids are walked together, which costs little more than one. Origins are shared out over as many
    threads as torch may use; not by numba's `prange`, whose OpenMP layer would set torch's number of threads
    for the rest of the process.

    Args:
        truth_XYZ: class of each voxel.
        predicted_XYZ: class of each voxel.
        origins_T3: ego, metres.
        limits_m: differences in depth that still count.
        classes: how many.

    Returns:
        Hits within each limit `(limits, classes)`, rays by true and by predicted class.
    """
    grids = [np.ascontiguousarray(grid, dtype=np.uint8) for grid in (truth_XYZ, predicted_XYZ)]
    limits = np.array(limits_m, dtype=np.float32)

    def one(start: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _compare(*grids, start, ends, OCCUPANCY_FREE, limits, classes)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        counts = list(pool.map(one, *in_voxels(origins_T3)))

    if not counts:
        return np.zeros((len(limits), classes), np.int64), *np.zeros((2, classes), np.int64)
    hits, true, predicted = (sum(parts) for parts in zip(*counts, strict=True))
    return hits, true, predicted


@njit(cache=True)
def _cast(semantics: np.ndarray, starts: np.ndarray, ends: np.ndarray, free: int):
    label = np.full((len(starts), ends.shape[1]), free, dtype=np.uint8)
    depth = np.zeros((len(starts), ends.shape[1]))

    for t in range(len(starts)):
        for r in range(ends.shape[1]):
            label[t, r], depth[t, r], _, _ = _walk(semantics, semantics, starts[t], ends[t, r], free)
    return label, depth


@njit(cache=True, nogil=True)
def _compare(
    truth: np.ndarray,
    guess: np.ndarray,
    start: np.ndarray,
    ends: np.ndarray,
    free: int,
    limits: np.ndarray,
    classes: int,
):
    """Counts from one origin: hits `(limits, classes)`, true and predicted rays `(classes,)`."""
    hits = np.zeros((len(limits), classes), dtype=np.int64)
    true = np.zeros(classes, dtype=np.int64)
    predicted = np.zeros(classes, dtype=np.int64)

    for r in range(len(ends)):
        true_label, true_depth, label, depth = _walk(truth, guess, start, ends[r], free)
        if true_label == free:
            continue

        true[true_label] += 1
        predicted[label] += 1
        if label == true_label:
            error_m = abs(np.float32(depth) * VOXEL_M - np.float32(true_depth) * VOXEL_M)
            for k in range(len(limits)):
                hits[k, label] += error_m < limits[k]
    return hits, true, predicted


@njit(cache=True)
def _walk(one: np.ndarray, two: np.ndarray, start: np.ndarray, end: np.ndarray, free: int):
    """Walk a ray until it has met something in both grids or left them.

    Label and depth (voxel units) of each.
    """
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx / length, dy / length, dz / length

    # axes in the order z, y, x: the published code lets z step first where borders are met at once
    voxel = int(start[2]), int(start[1]), int(start[0])
    steps = 1 if dz >= 0 else -1, 1 if dy >= 0 else -1, 1 if dx >= 0 else -1
    crossings = (
        (voxel[0] + (steps[0] > 0) - start[2]) / dz if dz != 0 else math.inf,
        (voxel[1] + (steps[1] > 0) - start[1]) / dy if dy != 0 else math.inf,
        (voxel[2] + (steps[2] > 0) - start[0]) / dx if dx != 0 else math.inf)
    gaps = (
        steps[0] / dz if dz != 0 else math.inf,
        steps[1] / dy if dy != 0 else math.inf,
        steps[2] / dx if dx != 0 else math.inf)

    label_one = free
    label_two = free
    depth_one = 0.0
    depth_two = 0.0
    leaves = 0.0
    was_inside = False

    for _ in range(1001):
        z, y, x = voxel
        inside = is_inside(x, y, z, one.shape)
        if was_inside and not inside:
            break

        voxel, crossings, crossed = next_voxel(voxel, crossings, steps, gaps)
        if inside:
            was_inside = True
            leaves = crossed
            if label_one == free and one[x, y, z] != free:
                label_one = one[x, y, z]
                depth_one = leaves
            if label_two == free and two[x, y, z] != free:
                label_two = two[x, y, z]
                depth_two = leaves
            if label_one != free and label_two != free:
                break

    return (
        label_one, depth_one if label_one != free else leaves,
        label_two, depth_two if label_two != free else leaves)


def cast_reference(
    semantics_XYZ: np.ndarray, origin_3: np.ndarray, direction_3: np.ndarray, step_m: float = 1e-3
) -> tuple[int, float]:
    """Reference implementation of `cast` for one ray: creep along it; label, and depth where it leaves."""
    low = np.array(ORIGIN_M)
    reached = 0.0
    hit = None

    while True:
        cell = np.floor((origin_3 + reached * direction_3 - low) / VOXEL_M).astype(int)
        outside = (cell < 0).any() or (cell >= semantics_XYZ.shape).any()

        if hit is not None and (outside or tuple(cell) != hit):
            return int(semantics_XYZ[hit]), reached
        if outside:
            return OCCUPANCY_FREE, reached
        if hit is None and semantics_XYZ[tuple(cell)] != OCCUPANCY_FREE:
            hit = tuple(cell)
        reached += step_m
