"""Boxes of a whole split as columns: predictions and truth of the detection metric.

Columns follow the nuScenes results format, in the global frame: size is width, length, height; yaw is the
heading's angle in the ground plane. One row is one box; rows of a sample follow each other in the order of
its file, and samples follow each other in the order of the file too, since ties in score are broken by that
order.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ...core.contracts import CENTRE, NUSCENES_CLASSES, VELOCITY, YAW, DetectionClasses
from ...core.geometry import invert, quaternion_to_matrix, transform_points
from ...core.protocols import ATTRIBUTES

WIDTH_LENGTH_HEIGHT = [1, 0, 2]
"""nuScenes' order of the three sizes among ours (length, width, height)."""
ATTRIBUTE_OF = {'': -1, **{name: index for index, name in enumerate(ATTRIBUTES)}}


@dataclass(frozen=True)
class BoxTable:
    """M boxes in the global frame as columns.

    Attributes:
        sample_M: int32 index of the sample, not decreasing in truth, in file order in predictions.
        centre_M3: float64 metres.
        size_M3: float64 width, length, height in metres.
        yaw_M: float64 rad.
        velocity_M2: float64 m/s, NaN where unknown.
        label_M: int8 into the classes of the truth.
        attribute_M: int8 into `ATTRIBUTES`, -1 none.
        score_M: float64, -1 for truth.
        points_M: int32 LiDAR + radar points inside, -1 where not counted.
        visibility_M: int8 level 1..4, 0 unknown.
    """

    sample_M: np.ndarray
    centre_M3: np.ndarray
    size_M3: np.ndarray
    yaw_M: np.ndarray
    velocity_M2: np.ndarray
    label_M: np.ndarray
    attribute_M: np.ndarray
    score_M: np.ndarray
    points_M: np.ndarray
    visibility_M: np.ndarray

    def __len__(self) -> int:
        return len(self.sample_M)

    def select(self, keep: np.ndarray) -> BoxTable:
        """The rows where `keep` (bool or indices) says so."""
        return BoxTable(*(getattr(self, f.name)[keep] for f in fields(self)))

    @staticmethod
    def join(tables: Sequence[BoxTable]) -> BoxTable:
        """Rows of several tables, one after the other."""
        return BoxTable(*(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(BoxTable)))

    @staticmethod
    def make(sample_M, centre_M3, size_M3, yaw_M, velocity_M2, label_M, attribute_M=None, score_M=None,
             points_M=None, visibility_M=None) -> BoxTable:
        """A table from anything array-like, each column in its own type.

        Columns that are absent say 'unknown'.
        """
        m = len(sample_M)

        def column(value, dtype, default, *shape):
            value = np.full((m, *shape), default) if value is None else np.asarray(value)
            return np.ascontiguousarray(value.reshape(m, *shape), dtype=dtype)

        return BoxTable(column(sample_M, np.int32, 0), column(centre_M3, np.float64, 0, 3),
                        column(size_M3, np.float64, 0, 3), column(yaw_M, np.float64, 0),
                        column(velocity_M2, np.float64, np.nan, 2), column(label_M, np.int8, 0),
                        column(attribute_M, np.int8, -1), column(score_M, np.float64, -1.0),
                        column(points_M, np.int32, -1), column(visibility_M, np.int8, 0))

    @staticmethod
    def empty() -> BoxTable:
        """No boxes."""
        return BoxTable.make(
            *([np.zeros(0)] * 2), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 2)), np.zeros(0)
        )


def yaw_of_quaternions(wxyz_M4: np.ndarray) -> np.ndarray:
    """Heading (rad) of the x axis of rotations, projected to the ground: `(M,)`.

    Args:
        wxyz_M4: quaternions w, x, y, z of any length.
    """
    wxyz_M4 = np.asarray(wxyz_M4, dtype=np.float64).reshape(-1, 4)
    largest = np.abs(wxyz_M4).max(1, initial=0, keepdims=True)
    w, x, y, z = (wxyz_M4 / np.where(largest > 1e100, largest, 1)).T  # squares stay finite
    return np.arctan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z)


def ego_to_global(global_T_ego: np.ndarray, boxes_M9: np.ndarray) -> np.ndarray:
    """Boxes `(M, 9)` in ego -> global, float64: the exact inverse of how labels come from global into ego.

    Boxes stand upright in both frames, so of a heading (and a velocity) only the part in the other frame's
    ground plane is kept: on a slope a way there and back by plain rotation would turn a box by up to 2e-3
    rad. Here the 2 x 2 part of the rotation is inverted instead, so a label that goes to ego and comes back
    is itself again.
    """
    global_T_ego, boxes = np.asarray(global_T_ego, dtype=np.float64), np.asarray(boxes_M9, dtype=np.float64)
    upright_22 = np.linalg.inv(invert(global_T_ego)[:2, :2])
    heading_M2 = np.stack([np.cos(boxes[:, YAW]), np.sin(boxes[:, YAW])], 1) @ upright_22.T

    moved = boxes.copy()
    moved[:, CENTRE] = transform_points(global_T_ego, boxes[:, CENTRE])
    moved[:, YAW] = np.arctan2(heading_M2[:, 1], heading_M2[:, 0])
    moved[:, VELOCITY] = boxes[:, VELOCITY] @ upright_22.T
    return moved


@dataclass(frozen=True)
class Rack:
    """A bicycle rack of one sample, in the global frame: the two-wheelers inside do not count.

    `rotation_4` is w, x, y, z.
    """

    sample: int
    centre_3: np.ndarray
    size_3: np.ndarray
    rotation_4: np.ndarray

    def contains(self, points_P3: np.ndarray) -> np.ndarray:
        """Which points `(P, 3)` lie inside, borders included: bool `(P,)`."""
        width, length, height = self.size_3
        axes_33 = quaternion_to_matrix(self.rotation_4).T * np.array([[length], [width], [height]])
        corner_3 = np.asarray(self.centre_3) + axes_33.sum(0) / 2
        along = (points_P3 - corner_3) @ -axes_33.T
        return np.all((along >= 0) & (along <= (axes_33 ** 2).sum(1)), axis=1)


def in_racks(
    boxes: BoxTable, racks: Sequence[Rack], classes: DetectionClasses = NUSCENES_CLASSES
) -> np.ndarray:
    """Which bicycles and motorcycles have their centre in a bicycle rack of the same sample: bool `(M,)`."""
    inside = np.zeros(len(boxes), dtype=bool)
    if not racks:
        return inside

    two_wheeled = np.flatnonzero(classes.is_two_wheeled[boxes.label_M])
    two_wheeled = two_wheeled[np.argsort(boxes.sample_M[two_wheeled], kind='stable')]
    samples = boxes.sample_M[two_wheeled]

    for rack in racks:
        first, end = np.searchsorted(samples, rack.sample), np.searchsorted(samples, rack.sample, 'right')
        rows = two_wheeled[first:end]
        inside[rows] |= rack.contains(boxes.centre_M3[rows])
    return inside
