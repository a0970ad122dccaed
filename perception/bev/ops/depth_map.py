"""Nearest LiDAR point in each cell of each camera's feature map: numba on the CPU, torch elsewhere."""
from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor


def nearest_depth(
    points_P3: Tensor, pixels_T_ego_N34: Tensor, image_hw: tuple[int, int], feature_hw: tuple[int, int]
) -> Tensor:
    """Depth of the nearest point in each cell, in one pass over the points on the CPU.

    Arguments and results as `nearest_depth_reference`, which runs on other devices.
    """
    if points_P3.device.type != 'cpu':
        return nearest_depth_reference(points_P3, pixels_T_ego_N34, image_hw, feature_hw)
    points = np.ascontiguousarray(points_P3.numpy(), dtype=np.float64)
    matrices = np.ascontiguousarray(pixels_T_ego_N34.numpy())
    return torch.from_numpy(_nearest_depth(points, matrices, *image_hw, *feature_hw))


def nearest_depth_reference(
    points_P3: Tensor, pixels_T_ego_N34: Tensor, image_hw: tuple[int, int], feature_hw: tuple[int, int]
) -> Tensor:
    """Reference implementation of `nearest_depth`.

    Args:
        points_P3: ego metres.
        pixels_T_ego_N34: float64, ego -> (u * depth, v * depth, depth) in pixels of `image_hw`.
        image_hw: pixels of an image.
        feature_hw: cells of its feature map.

    Returns:
        float32 `(N, h * w)` metres, infinity where there is no point.
    """
    (height, width), (h, w) = image_hw, feature_hw

    # every point in every camera: (N, P)
    homogeneous = (
        points_P3.double() @ pixels_T_ego_N34[:, :, :3].transpose(1, 2) + pixels_T_ego_N34[:, None, :, 3]
    )
    depth_m = homogeneous[..., 2]
    in_front = depth_m > 1e-6
    divisor = torch.where(in_front, depth_m, torch.ones_like(depth_m))
    pixels = homogeneous[..., :2] / divisor[..., None] + 0.5

    column = (pixels[..., 0] * (w / width)).floor()
    row = (pixels[..., 1] * (h / height)).floor()
    seen = in_front & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    cell = torch.where(seen, row * w + column, torch.zeros_like(row)).long()

    nearest = torch.full((len(pixels_T_ego_N34), h * w), torch.inf, device=points_P3.device)
    return nearest.scatter_reduce_(1, cell, torch.where(seen, depth_m, torch.inf).float(), 'amin')


@njit(cache=True, nogil=True)
def _nearest_depth(points, matrices, height, width, h, w):
    nearest = np.full((len(matrices), h * w), np.inf, dtype=np.float32)
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        for c in range(len(matrices)):
            m = matrices[c]
            depth_m = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if depth_m <= 1e-6:
                continue

            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth_m + 0.5
            v = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth_m + 0.5
            column = np.floor(u * (w / width))
            row = np.floor(v * (h / height))
            if 0 <= column < w and 0 <= row < h:
                cell = int(row) * w + int(column)
                nearest[c, cell] = min(nearest[c, cell], np.float32(depth_m))
    return nearest
