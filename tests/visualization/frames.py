"""One frame for all tests of this room: a sample, a prediction and labels that partly agree."""
from __future__ import annotations

import numpy as np

from perception.core.contracts import (
    Annotations,
    Boxes3D,
    BoxLabels,
    CameraRig,
    Frame,
    LanePolylines,
    Lanes,
    LidarPoints,
    MapLayers,
    MapSegmentation,
    Occupancy,
    OccupancyLabels,
    Sample,
    TaskOutput,
)
from perception.core.geometry import rotation_z
from perception.core.protocols import CAMERAS

FRAME = Frame('token', 0, np.eye(4))
BOXES = np.array([[20, 10, 1, 4, 2, 1.5, 0, 0, 0], [-20, -10, 1, 4, 2, 1.5, 0, 0, 0]], np.float32)
FORWARD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
YAW_DEG = dict(zip(CAMERAS, (0, -55, -110, 180, 110, 55), strict=True))


def make_rig(names: tuple[str, ...] = CAMERAS, size_hw: tuple[int, int] = (40, 80)) -> CameraRig:
    """Cameras that look where nuScenes' do; the image of the n-th has the grey value 20 * n + 20."""
    n, (h, w) = len(names), size_hw
    images = np.stack([np.full((h, w, 3), 20 * i + 20, np.uint8) for i in range(n)])
    K = np.tile(np.array([[0.6 * w, 0, (w - 1) / 2], [0, 0.6 * w, (h - 1) / 2], [0, 0, 1]]), (n, 1, 1))
    poses = np.stack([rotation_z(np.deg2rad(YAW_DEG.get(name, 0))) @ FORWARD for name in names])
    return CameraRig(names, images, K, poses, np.ones(n, bool), np.zeros(n))


def make_sample(**parts: object) -> Sample:
    """Six cameras and a LiDAR with two points of the newest sweep and one older."""
    points = np.array([[10.0, 5, 0, 1, 1, 0], [15, -5, 0, 1, 1, 0], [30, 0, 0, 1, 1, 0.05]], np.float32)
    return Sample(FRAME, **{'camera': make_rig(), 'lidar': LidarPoints(points), **parts})


def make_output() -> TaskOutput:
    """Of each task something sure and something unsure."""
    probabilities = np.zeros((6, 200, 200), np.float32)
    probabilities[0, 120:140, 150:170] = 0.6  # y in [10, 20), x in [25, 35)
    probabilities[1, 60:80, 150:170] = 0.4

    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[100:110, 100:110, 1:4] = 4

    x_m = np.linspace(0, 20, 20)
    lines = np.stack([np.stack([x_m, np.full(20, y)], 1) for y in (3.0, -3.0)]).astype(np.float32)
    return TaskOutput(
        FRAME,
        Boxes3D(BOXES, np.array([0.9, 0.2]), np.array([0, 5]), np.array([5, -1])),
        MapSegmentation(probabilities, (-50.0, 50.0), (-50.0, 50.0)),
        Occupancy(semantics),
        Lanes(lines, np.array([0.8, 0.1]), np.array([0, 2])),
    )


def make_annotations() -> Annotations:
    """Labels of all four tasks; the map agrees with `make_output`."""
    square = np.array([[25.0, 10], [35, 10], [35, 20], [25, 20]])
    boxes = BoxLabels(
        BOXES, np.array([0, 5]), np.array([5, -1]), np.array([9, 9]), np.array([0, 0]), np.array([4, 4])
    )
    long_line = np.array([[-60.0, 3], [60, 3]], np.float32)

    semantics = np.full((200, 200, 16), 17, np.uint8)
    semantics[100, 100, 3] = 4
    return Annotations(
        'token',
        boxes,
        MapLayers({'drivable_area': ((square, ()),)}, {}, 75.0),
        OccupancyLabels(semantics, np.ones_like(semantics), np.zeros_like(semantics)),
        LanePolylines((long_line,), np.array([3]), 65.0),
    )


def painted(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(row, column) of the pixels of exactly this colour."""
    return np.argwhere((image == colour).all(-1))
