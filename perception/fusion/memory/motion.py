"""The car's own motion between two frames: whether it is known, and where the last map lies in this one.

All of it happens outside the exported graph, which gets the places to read as an input.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.contracts import Frame
from ...core.geometry import invert
from ...core.grid import BEVGrid

OUTSIDE = 2.0
"""A `grid_sample` coordinate beyond every map."""

RESETS = ('new drive', 'no pose', 'order', 'age', 'pose jump', 'not finite')
"""Why a memory starts over: another drive (stream) came; a pose is not finite; a frame is not later than the
one before; the memory is too old; the car would have driven faster than any; the map held NaN."""


@dataclass(frozen=True)
class MemoryLimits:
    """What is still believed of a memory.

    Args:
        max_age_s: the oldest that is used; lost frames only make it older until then.
        max_speed_mps: a car that moved faster than that did not move: its pose or its clock jumped.

    Raises:
        ValueError: a limit that is not a positive number.
    """

    max_age_s: float = 2.0
    max_speed_mps: float = 60.0

    def __post_init__(self) -> None:
        for name in ('max_age_s', 'max_speed_mps'):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 < value < float('inf')):
                raise ValueError(f'MemoryLimits.{name}: expected a positive number, found {value!r}')


def age_s(before: Frame, now: Frame) -> float:
    """Seconds from one frame to a later one."""
    return (now.timestamp_ns - before.timestamp_ns) * 1e-9


def has_pose(frame: Frame) -> bool:
    """Whether a frame's pose can be used: finite, and one that can be inverted."""
    pose = frame.global_T_ego
    return bool(np.isfinite(pose).all()) and abs(np.linalg.det(pose[:3, :3])) > 1e-6


def reset_reason(before: Frame, now: Frame, limits: MemoryLimits) -> str | None:
    """Why what was seen at `before` says nothing about `now`, one of `RESETS`; None where it does."""
    if before.run != now.run:
        return 'new drive'
    if not (has_pose(before) and has_pose(now)):
        return 'no pose'

    seconds = age_s(before, now)
    if seconds <= 0:
        return 'order'
    if seconds > limits.max_age_s:
        return 'age'
    moved_m = np.linalg.norm(now.global_T_ego[:3, 3] - before.global_T_ego[:3, 3])
    return 'pose jump' if moved_m > limits.max_speed_mps * seconds else None


def before_T_now(before: Frame, now: Frame) -> np.ndarray:
    """`(4, 4)` from this frame's ego to the earlier one's.

    An augmentation moves `global_T_ego` with it, so one that differs between the two frames (a turn, a scale,
    a mirror) is undone here as well.
    """
    return invert(before.global_T_ego) @ now.global_T_ego


def sampling_grid(grid: BEVGrid, before_T_now_44: np.ndarray) -> np.ndarray:
    """Where each cell of this frame's map lies in the earlier one.

    Ground points stay on the ground: pitch and roll between two frames are left out.

    Args:
        grid: of both maps.
        before_T_now_44: `(4, 4)`, see `before_T_now`.

    Returns:
        `grid_sample` coordinates (align_corners=False), float32 `(Y, X, 2)`, cut at `OUTSIDE`.
    """
    centres = grid.centres_m().astype(np.float64)
    x_X, y_Y = centres[0, :, 0], centres[:, 0, 1]

    # row by row and column by column: an affine map of a grid is a sum of two lines
    (xx, xy), (yx, yy) = before_T_now_44[:2, :2]
    x_YX = xx * x_X + (xy * y_Y + before_T_now_44[0, 3])[:, None]
    y_YX = yx * x_X + (yy * y_Y + before_T_now_44[1, 3])[:, None]
    places = np.stack([x_YX, y_YX], -1)
    return grid.normalised(places).clip(-OUTSIDE, OUTSIDE).astype(np.float32)


def warp_maps(maps_BCYX: Tensor, grid_BYX2: Tensor) -> Tensor:
    """Maps read at other places, bilinearly, zero where they did not reach; in float32."""
    return F.grid_sample(
        maps_BCYX.float(), grid_BYX2.float(), mode='bilinear', padding_mode='zeros', align_corners=False)


def warp_maps_reference(maps_BCYX: Tensor, grid_BYX2: Tensor) -> Tensor:
    """Reference implementation of `warp_maps`, cell by cell."""
    b, c, y_size, x_size = maps_BCYX.shape
    warped = torch.zeros(b, c, *grid_BYX2.shape[1:3])
    for i in range(b):
        for row in range(grid_BYX2.shape[1]):
            for column in range(grid_BYX2.shape[2]):
                u, v = grid_BYX2[i, row, column].double().tolist()
                x, y = (u + 1) * x_size / 2 - 0.5, (v + 1) * y_size / 2 - 0.5

                for y_near in (int(np.floor(y)), int(np.floor(y)) + 1):
                    for x_near in (int(np.floor(x)), int(np.floor(x)) + 1):
                        weight = (1 - abs(x - x_near)) * (1 - abs(y - y_near))
                        if 0 <= x_near < x_size and 0 <= y_near < y_size:
                            warped[i, :, row, column] += weight * maps_BCYX[i, :, y_near, x_near]
    return warped
