"""Frames to measure, score and warm up with: of a split's files, invented, or blank."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core.contracts import Annotations, Batch, Frame
from ..core.geometry import make_transform
from ..core.protocols import RADARS
from ..core.selection import spread
from ..registry import DATASETS, FUNCTIONS
from .export.graph import TensorSpec

# the spinning LiDAR of nuScenes
_BEAMS = 32
_LOWEST_DEG = -30.67
_HIGHEST_DEG = 10.67
_MOUNT_M = 1.84


@dataclass(frozen=True)
class Frames:
    """Where frames come from: `read(i)` takes frame i from its sensor files to a batch of one sample; `count`
    of them.

    `labelled(i)` gives the labels beside the batch; None where there are none to be had.
    """

    read: Callable[[int], Batch]
    count: int
    labelled: Callable[[int], tuple[Batch, Sequence[Annotations | None]]] | None = None

    def spread(self, most: int | None) -> list[int]:
        """At most so many frames, evenly over all of them (None: all)."""
        return spread(self.count, most)


def data_frames(loader: Mapping[str, Any], **changes: Any) -> Frames:
    """Frames of the split that a configuration's `test_dataloader` names, or of another one (`changes` of its
    dataset).

    `read` opens sensor files alone, as a vehicle does: labels cost as much again.
    """
    dataset, collate = DATASETS.build({**loader['dataset'], **changes}), dict(loader['collate_fn'])
    bare = DATASETS.build({**loader['dataset'], **changes, 'tasks': ()})
    make_batch = FUNCTIONS.get(collate.pop('type'))

    def labelled(index: int) -> tuple[Batch, Sequence[Annotations | None]]:
        found = make_batch([dataset[index]], **collate)
        return found['inputs'], found['data_samples']
    return Frames(lambda index: make_batch([bare[index]], **collate)['inputs'], len(dataset), labelled)


def random_frames(image_hw: tuple[int, int], points: int, seed: int = 0) -> Frames:
    """One frame without files, for machines without data and sizes the data does not have: six images of
    noise, and a sweep of 32 beams over a street with things in it, whose pillars are as crowded as a real
    sweep's.
    """
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (1, 6, 3, *image_hw), dtype=np.uint8))
    batch = Batch(
        (Frame('random', 0, np.eye(4)),), images, *_ring(6, image_hw), torch.ones(1, 6, dtype=torch.bool),
        (torch.from_numpy(_sweep(points, rng)),), torch.ones(1, dtype=torch.bool))
    return Frames(lambda index: batch, 1)


def blank_batch(sensors: Sequence[str], inputs: Sequence[TensorSpec]) -> Batch:
    """One frame of black images and hardly any points in the shapes of a graph: enough to go the whole way
    once."""
    fields: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    if 'camera' in sensors:
        _, n, _, *image_hw = next(spec.shape for spec in inputs if spec.name == 'camera.images')
        K, ego_T_cam = _ring(n, tuple(image_hw))
        fields |= dict(
            images_BN3HW=torch.zeros(1, n, 3, *image_hw, dtype=torch.uint8), K_BN33=K,
            ego_T_cam_BN44=ego_T_cam, camera_present_BN=torch.ones(1, n, dtype=torch.bool))
    if 'lidar' in sensors:
        fields |= dict(
            lidar_points=(torch.from_numpy(_sweep(64, rng)),), lidar_present_B=torch.ones(1, dtype=torch.bool)
        )
    if 'radar' in sensors:
        rows = torch.zeros(len(RADARS), 8)
        rows[:, 0], rows[:, 7] = 10.0, torch.arange(len(RADARS))
        fields |= dict(radar_points=(rows,), radar_present_BR=torch.ones(1, len(RADARS), dtype=torch.bool))
    return Batch((Frame('warm-up', 0, np.eye(4)),), **fields)


def _ring(n: int, image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """K `(1, N, 3, 3)` and ego_T_cam `(1, N, 4, 4)` of N level cameras that look all around from 1.5 m."""
    h, w = image_hw
    poses = [
        make_transform(
            np.array([[math.sin(a), 0, math.cos(a)], [-math.cos(a), 0, math.sin(a)], [0, -1, 0]]),
            np.array([0.0, 0.0, 1.5]))
        for a in (2 * math.pi * i / n for i in range(n))
    ]
    K = torch.tensor([[0.7 * w, 0, w / 2], [0, 0.7 * w, h / 2], [0, 0, 1.0]]).expand(1, n, 3, 3).contiguous()
    return K, torch.from_numpy(np.stack(poses).astype(np.float32))[None]


def _sweep(points: int, rng: np.random.Generator) -> np.ndarray:
    """Points `(points, 6)` in ego of one turn of a 32-beam LiDAR: every ray ends on the ground or, before, at
    a wall."""
    beam = np.arange(points) % _BEAMS
    elevation = np.radians(_LOWEST_DEG + (_HIGHEST_DEG - _LOWEST_DEG) * beam / (_BEAMS - 1))
    azimuth = 2 * np.pi * np.arange(points) / max(1, points)
    # a thing every three degrees
    walls_m = rng.uniform(6, 50, 120)[(azimuth / (2 * np.pi) * 120).astype(int)]
    ground_m = _MOUNT_M / np.maximum(-np.sin(elevation), 1e-3)
    reach_m = np.minimum(ground_m, walls_m / np.cos(elevation)) + rng.normal(0, 0.02, points)
    flat_m = reach_m * np.cos(elevation)
    return np.stack(
        [
            flat_m * np.cos(azimuth), flat_m * np.sin(azimuth), _MOUNT_M + reach_m * np.sin(elevation),
            rng.uniform(0, 255, points), beam, np.zeros(points)],
        1,
    ).astype(np.float32)
