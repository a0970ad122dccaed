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
    """Where frames come from.

    Attributes:
        read: index -> batch of one sample, from its sensor files.
        count: number of frames.
        labelled: index -> (batch, annotations); None where there are no annotations.
    """

    read: Callable[[int], Batch]
    count: int
    labelled: Callable[[int], tuple[Batch, Sequence[Annotations | None]]] | None = None

    def spread(self, most: int | None) -> list[int]:
        """Indices of at most `most` frames, evenly over all of them (None: all)."""
        return spread(self.count, most)

    def runs(self, most: int | None, length: int = 8) -> list[int]:
        """Indices of about as many frames in runs that follow each other, evenly over all of them."""
        if most is None or most >= self.count:
            return list(range(self.count))
        starts = spread(max(1, self.count // length), max(1, most // length))
        return [start * length + i for start in starts for i in range(min(length, most))]


def data_frames(loader: Mapping[str, Any], **changes: Any) -> Frames:
    """Frames of the split that a configuration's `test_dataloader` names.

    `read` opens sensor files alone, as a vehicle does: labels cost as much again.

    Args:
        loader: `test_dataloader`.
        changes: of its dataset, such as another split.
    """
    dataset = DATASETS.build({**loader['dataset'], **changes})
    without_labels = DATASETS.build({**loader['dataset'], **changes, 'tasks': ()})
    collate = dict(loader['collate_fn'])
    make_batch = FUNCTIONS.get(collate.pop('type'))

    def read(index: int) -> Batch:
        return make_batch([without_labels[index]], **collate)['inputs']

    def labelled(index: int) -> tuple[Batch, Sequence[Annotations | None]]:
        sample = make_batch([dataset[index]], **collate)
        return sample['inputs'], sample['data_samples']

    return Frames(read, len(dataset), labelled)


def random_frames(image_hw: tuple[int, int], points: int, seed: int = 0) -> Frames:
    """One frame without files, for machines without data and for sizes that the data does not have.

    Six images of noise, and a sweep of 32 beams over a street with objects, whose pillars are as crowded as a
    real sweep's.

    Args:
        image_hw: height and width of an image, pixels.
        points: of the LiDAR.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (1, 6, 3, *image_hw), dtype=np.uint8))
    batch = Batch(
        (Frame('random', 0, np.eye(4)),), images, *_ring(6, image_hw), torch.ones(1, 6, dtype=torch.bool),
        (torch.from_numpy(_sweep(points, rng)),), torch.ones(1, dtype=torch.bool))
    return Frames(lambda index: batch, 1)


def blank_batch(sensors: Sequence[str], inputs: Sequence[TensorSpec]) -> Batch:
    """One frame of black images and few points in the shapes of a graph: enough to run everything once."""
    fields: dict[str, Any] = {}

    if 'camera' in sensors:
        _, n, _, *image_hw = next(spec.shape for spec in inputs if spec.name == 'camera.images')
        fields['images_BN3HW'] = torch.zeros(1, n, 3, *image_hw, dtype=torch.uint8)
        fields['K_BN33'], fields['ego_T_cam_BN44'] = _ring(n, tuple(image_hw))
        fields['camera_present_BN'] = torch.ones(1, n, dtype=torch.bool)

    if 'lidar' in sensors:
        fields['lidar_points'] = (torch.from_numpy(_sweep(64, np.random.default_rng(0))),)
        fields['lidar_present_B'] = torch.ones(1, dtype=torch.bool)

    if 'radar' in sensors:
        # one point 10 m ahead for each radar, whose number is the last column
        rows = torch.zeros(len(RADARS), 8)
        rows[:, 0] = 10.0
        rows[:, 7] = torch.arange(len(RADARS))
        fields['radar_points'] = (rows,)
        fields['radar_present_BR'] = torch.ones(1, len(RADARS), dtype=torch.bool)

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
    """Points `(points, 6)` in ego of one turn of a 32-beam LiDAR; rays end at a wall or on the ground."""
    beam = np.arange(points) % _BEAMS
    elevation = np.radians(_LOWEST_DEG + (_HIGHEST_DEG - _LOWEST_DEG) * beam / (_BEAMS - 1))
    azimuth = 2 * np.pi * np.arange(points) / max(1, points)

    # a wall every three degrees, at its own distance
    walls_m = rng.uniform(6, 50, 120)[(azimuth / (2 * np.pi) * 120).astype(int)]
    ground_m = _MOUNT_M / np.maximum(-np.sin(elevation), 1e-3)
    reach_m = np.minimum(ground_m, walls_m / np.cos(elevation)) + rng.normal(0, 0.02, points)

    flat_m = reach_m * np.cos(elevation)
    columns = [
        flat_m * np.cos(azimuth),
        flat_m * np.sin(azimuth),
        _MOUNT_M + reach_m * np.sin(elevation),
        rng.uniform(0, 255, points),
        beam,
        np.zeros(points),
    ]
    return np.stack(columns, 1).astype(np.float32)
