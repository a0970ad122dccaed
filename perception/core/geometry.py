"""Rigid transforms, projection, yaw and box geometry, for numpy arrays and torch tensors alike.

Leading `*` dimensions are batch dimensions. A transform's name says both frames, inner names meet: `ego_T_cam
@ cam_T_point`. Points are row vectors `(*, P, 3)`; matrices are `(*, 4, 4)`. Boxes are `(*, M, 9)`: x, y, z
of the centre, length, width, height (m), yaw (rad, counter-clockwise from +x), vx, vy (m/s).
"""
from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch

from .contracts.columns import CENTRE, SIZE, VELOCITY, XY, XYZ, YAW

Array = TypeVar('Array', np.ndarray, torch.Tensor)

_CORNER_SIGNS = np.array([[1, 1, -1], [1, -1, -1], [-1, -1, -1], [-1, 1, -1],
                          [1, 1, 1], [1, -1, 1], [-1, -1, 1], [-1, 1, 1]], dtype=np.float64) / 2


def _stack(parts: list, like: Array, dim: int) -> Array:
    return torch.stack(parts, dim) if isinstance(like, torch.Tensor) else np.stack(parts, dim)


def _swap_last(matrix: Array) -> Array:
    return matrix.transpose(-1, -2) if isinstance(matrix, torch.Tensor) else np.swapaxes(matrix, -1, -2)


def make_transform(rotation_33: np.ndarray, translation_3: np.ndarray) -> np.ndarray:
    """Put a rotation `(3, 3)` and a translation `(3,)` together into a `(4, 4)` float64 transform."""
    transform = np.eye(4)
    transform[:3, :3] = rotation_33
    transform[:3, 3] = translation_3
    return transform


def quaternion_to_matrix(wxyz: np.ndarray) -> np.ndarray:
    """Turn a quaternion (w, x, y, z), of any non-zero length, into a `(3, 3)` rotation.

    Raises:
        ValueError: the quaternion is zero, not finite, or has not four numbers.
    """
    q = np.asarray(wxyz, dtype=np.float64)
    norm = np.linalg.norm(q)
    if q.shape != (4,) or not np.isfinite(norm) or norm < 1e-9:
        raise ValueError(
            f'a rotation needs four finite numbers (w, x, y, z) that are not all zero, found {wxyz}'
        )
    w, x, y, z = q / norm
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def transform_from_record(record: dict) -> np.ndarray:
    """`(4, 4)` transform of a nuScenes record with `rotation` (w, x, y, z) and `translation` (m).

    An `ego_pose` record gives `global_T_ego`, a `calibrated_sensor` record gives `ego_T_sensor`.
    """
    return make_transform(
        quaternion_to_matrix(record['rotation']), np.asarray(record['translation'], dtype=np.float64)
    )


def rotation_z(yaw_rad: float) -> np.ndarray:
    """`(4, 4)` rotation about +z by `yaw_rad`, counter-clockwise seen from above."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return make_transform(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]), np.zeros(3))


def invert(a_T_b: Array) -> Array:
    """Inverse `b_T_a` of affine transforms `(*, 4, 4)`; exact for mirrored and scaled ones too."""
    return torch.linalg.inv(a_T_b) if isinstance(a_T_b, torch.Tensor) else np.linalg.inv(a_T_b)


def transform_points(a_T_b: Array, points_b: Array) -> Array:
    """Move points `(*, P, 3)` from frame b to frame a with `a_T_b` `(*, 4, 4)`."""
    return points_b @ _swap_last(a_T_b[..., :3, :3]) + a_T_b[..., None, :3, 3]


def project(K: Array, points_cam: Array) -> tuple[Array, Array]:
    """Pinhole projection (`K` may hold any image-plane affine map: resize, crop, flip, rotation).

    Args:
        K: `(*, 3, 3)` pixels.
        points_cam: `(*, P, 3)` metres, camera frame (x right, y down, z forward).

    Returns:
        pixels `(*, P, 2)` (u to the right, v down; the centre of the top-left pixel is (0, 0))
        and depth_m `(*, P)`. Where depth <= 0 the pixels mean nothing: mask with the depth.
    """
    depth_m = points_cam[..., 2]
    homogeneous = points_cam @ _swap_last(K)
    divisor = homogeneous[..., 2:3]
    if isinstance(divisor, torch.Tensor):
        divisor = torch.where(divisor.abs() < 1e-6, torch.full_like(divisor, 1e-6), divisor)
    else:
        divisor = np.where(np.abs(divisor) < 1e-6, 1e-6, divisor)
    return homogeneous[..., :2] / divisor, depth_m


def unproject(K: Array, pixels: Array, depth_m: Array) -> Array:
    """Inverse of `project`: pixels `(*, P, 2)` at depth_m `(*, P)` -> points_cam `(*, P, 3)`."""
    if isinstance(pixels, torch.Tensor):
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
    else:
        homogeneous = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    return homogeneous @ _swap_last(invert(K)) * depth_m[..., None]


def wrap_yaw(yaw_rad: Array) -> Array:
    """Wrap angles into [-pi, pi)."""
    return (yaw_rad + math.pi) % (2 * math.pi) - math.pi


def yaw_of(a_T_b: np.ndarray) -> np.ndarray:
    """Heading (rad) of b's x axis in frame a, for `(*, 4, 4)`."""
    return np.arctan2(a_T_b[..., 1, 0], a_T_b[..., 0, 0])


def transform_boxes(a_T_b: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Move boxes `(M, 9)` from frame b to frame a; centres, heading, velocity and size all follow.

    `a_T_b` `(4, 4)` is a rotation with translation, possibly mirrored in x or y and uniformly scaled (what
    the bird's-eye view augmentation makes). Boxes stay upright: roll and pitch move the centre and the
    heading's ground projection only.
    """
    boxes_b = np.asarray(boxes_b)
    if boxes_b.ndim != 2 or boxes_b.shape[1] != 9:
        raise ValueError(f'boxes: expected shape (M, 9), found {boxes_b.shape}')

    # directions in 3-D (M, 3); of what comes out only the part along the ground is kept
    yaw_b = boxes_b[:, YAW]
    level = np.zeros(len(boxes_b))
    linear = a_T_b[:3, :3]
    heading = np.stack([np.cos(yaw_b), np.sin(yaw_b), level], 1) @ linear.T
    velocity = np.concatenate([boxes_b[:, VELOCITY], level[:, None]], 1) @ linear.T

    centre = boxes_b[:, CENTRE] @ linear.T + a_T_b[:3, 3]
    size = boxes_b[:, SIZE] * abs(np.linalg.det(linear)) ** (1 / 3)
    yaw = np.arctan2(heading[:, 1], heading[:, 0])[:, None]
    boxes_a = np.concatenate([centre, size, yaw, velocity[:, XY]], 1)
    return boxes_a.astype(np.result_type(boxes_b.dtype, np.float32))


def box_corners(boxes: Array) -> Array:
    """Eight corners `(*, M, 8, 3)` of boxes `(*, M, 7+)`.

    ::

           5 ------- 4          x forward (length): 0, 1, 4, 5 are the front
          /|        /|          y left    (width):  0, 3, 4, 7 are the left
         6 ------- 7 |          z up      (height): 4 to 7 are the top
         | 1 ------|-0
         |/        |/
         2 ------- 3
    """
    if isinstance(boxes, torch.Tensor):
        signs = torch.as_tensor(_CORNER_SIGNS, dtype=boxes.dtype, device=boxes.device)
    else:
        signs = _CORNER_SIGNS.astype(np.result_type(boxes.dtype, np.float32))
    local = boxes[..., None, SIZE] * signs

    cos, sin = (torch.cos, torch.sin) if isinstance(boxes, torch.Tensor) else (np.cos, np.sin)
    c, s = cos(boxes[..., YAW])[..., None], sin(boxes[..., YAW])[..., None]
    x = local[..., 0] * c - local[..., 1] * s + boxes[..., None, 0]
    y = local[..., 0] * s + local[..., 1] * c + boxes[..., None, 1]
    z = local[..., 2] + boxes[..., None, 2]
    return _stack([x, y, z], boxes, -1)


def points_in_boxes(points: Array, boxes: Array, margin_m: float = 0.0) -> Array:
    """Which points `(P, 3+)` lie in which boxes `(M, 7+)`: bool `(P, M)`, borders included."""
    cos, sin = (torch.cos, torch.sin) if isinstance(boxes, torch.Tensor) else (np.cos, np.sin)
    c, s = cos(boxes[:, YAW]), sin(boxes[:, YAW])

    # offsets (P, M, 3), turned into each box's own axes
    offset = points[:, None, XYZ] - boxes[None, :, CENTRE]
    forward = offset[..., 0] * c + offset[..., 1] * s
    left = offset[..., 1] * c - offset[..., 0] * s
    half = boxes[:, SIZE] / 2 + margin_m
    return (abs(forward) <= half[:, 0]) & (abs(left) <= half[:, 1]) & (abs(offset[..., 2]) <= half[:, 2])
