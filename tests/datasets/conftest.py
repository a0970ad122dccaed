"""A small, complete sample with its annotations, made by hand, for the tests of transforms and samplers."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perception.core.contracts import (
    Annotations,
    BoxLabels,
    CameraRig,
    Frame,
    LanePolylines,
    LidarPoints,
    MapLayers,
    OccupancyLabels,
    RadarPoints,
    Sample,
)
from perception.core.geometry import make_transform, rotation_z

# camera axes (right, down, forward) written in ego axes (forward, left, up)
FORWARD_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def camera_rig(size_hw: tuple[int, int] = (90, 160), cameras: int = 2) -> CameraRig:
    """Cameras around the car; their pictures tell each pixel its own address (red: column, green: row)."""
    h, w = size_hw
    rows, columns = np.mgrid[:h, :w]
    picture = np.stack([columns * 255 / w, rows * 255 / h, np.full((h, w), 128)], -1).astype(np.uint8)
    K = np.array([[0.8 * w, 0, (w - 1) / 2], [0, 0.8 * w, (h - 1) / 2], [0, 0, 1]])
    poses = [rotation_z(np.deg2rad(-70.0 * i)) @ make_transform(FORWARD_CAMERA, np.array([1.5, 0.1 * i, 1.6]))
             for i in range(cameras)]
    return CameraRig(
        tuple(f'CAM_{i}' for i in range(cameras)), np.stack([picture] * cameras), np.stack([K] * cameras),
        np.stack(poses), np.ones(cameras, bool), np.zeros(cameras))


def box_labels() -> BoxLabels:
    boxes = np.array([[10, 3, 0.8, 4.5, 1.9, 1.6, 0.3, 5, 1.5], [-8, -6, 1, 8, 2.5, 3, -2.0, 0, 0],
                      [20, -10, 0.9, 0.7, 0.6, 1.8, 1.2, np.nan, np.nan]], np.float32)
    return BoxLabels(
        boxes, np.array([0, 1, 5]), np.array([5, 6, -1]), np.array([40, 0, 3]), np.array([2, 0, 0]),
        np.array([4, 3, 0]), ('a', 'b', 'c'))


def points_around(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`(P, 3)` points: some in each box, well away from its sides, and some anywhere."""
    inside = []
    for x, y, z, length, width, height, yaw in boxes[:, :7]:
        local = rng.uniform(-0.45, 0.45, (30, 3)) * [length, width, height]
        c, s = np.cos(yaw), np.sin(yaw)
        across = np.stack(
            [local[:, 0] * c - local[:, 1] * s, local[:, 0] * s + local[:, 1] * c, local[:, 2]], 1
        )
        inside.append(across + [x, y, z])
    return np.concatenate([*inside, rng.uniform([-50, -50, -2], [50, 50, 3], (300, 3))])


def make_pair(
    size_hw: tuple[int, int] = (90, 160), cameras: int = 2, seed: int = 0
) -> tuple[Sample, Annotations]:
    """A whole sample with every sensor and every kind of label."""
    rng = np.random.default_rng(seed)
    labels = box_labels()
    xyz = points_around(labels.boxes_M9, rng)
    lidar = np.concatenate([xyz, rng.uniform(0, 255, (len(xyz), 2)), np.zeros((len(xyz), 1))], 1).astype(
        np.float32
    )
    radar = np.concatenate(
        [
            rng.uniform(-40, 40, (25, 2)), np.full((25, 1), 0.5), rng.normal(size=(25, 2)) * 5,
            rng.normal(size=(25, 2)), np.arange(25)[:, None] % 5],
        1,
    ).astype(np.float32)
    square = np.array([[5.0, 2], [15, 2], [15, 12], [5, 12]])
    layers = MapLayers(
        {'drivable_area': ((square * 2, (square * 1.2 + 3,)),), 'walkway': ((square - 20, ()),)},
        {'divider': (np.array([[-30.0, 1], [0, 2], [30, 8]]),)}, 80.0)
    lines = (
        np.array([[0, 0], [10, 1], [20, 4]], np.float32),
        np.array([[1, 1], [3, 1], [3, 4], [1, 1]], np.float32))
    lanes = LanePolylines(lines, np.array([0, 1]), 50.0)
    voxels = rng.integers(0, 18, (200, 200, 16)).astype(np.uint8)
    seen = rng.integers(0, 2, (2, 200, 200, 16)).astype(np.uint8)
    frame = Frame('token', 1_000, make_transform(rotation_z(0.7)[:3, :3], np.array([600.0, 1200, 0])))
    sample = Sample(
        frame, camera_rig(size_hw, cameras), LidarPoints(lidar), RadarPoints(radar, np.ones(5, bool))
    )
    return sample, Annotations('token', labels, layers, OccupancyLabels(voxels, seen[0], seen[1]), lanes)


@pytest.fixture(scope='session')
def pair() -> tuple[Sample, Annotations]:
    """One whole sample; transforms never change records in place, so all tests may share it."""
    return make_pair()


@pytest.fixture(scope='session')
def new_pair() -> Callable[..., tuple[Sample, Annotations]]:
    """Makes samples of other sizes: `new_pair(size_hw, cameras, seed)`."""
    return make_pair
