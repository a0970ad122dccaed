"""Nearest LiDAR point in each cell of each camera's feature map: numba on the CPU, torch elsewhere."""
from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ...core.lens.loops import pixel_of_ray
from .rays import pixels_of_rays


def nearest_depth(
    points_P3: Tensor,
    rays_T_ego_N34: Tensor,
    lenses_N16: Tensor,
    image_hw: tuple[int, int],
    feature_hw: tuple[int, int],
) -> Tensor:
    """Depth of the nearest point in each cell, in one pass over the points on the CPU.

    Arguments and results as `nearest_depth_reference`, which runs on other devices.
    """
    if points_P3.device.type != 'cpu':
        return nearest_depth_reference(points_P3, rays_T_ego_N34, lenses_N16, image_hw, feature_hw)
    points = np.ascontiguousarray(points_P3.numpy(), dtype=np.float64)
    cameras = (np.ascontiguousarray(part.numpy()) for part in (rays_T_ego_N34, lenses_N16))
    return torch.from_numpy(_nearest_depth(points, *cameras, *image_hw, *feature_hw))


def nearest_depth_reference(
    points_P3: Tensor,
    rays_T_ego_N34: Tensor,
    lenses_N16: Tensor,
    image_hw: tuple[int, int],
    feature_hw: tuple[int, int],
) -> Tensor:
    """Reference implementation of `nearest_depth`.

    Args:
        points_P3: ego metres.
        rays_T_ego_N34: float64, see `rays.camera_rays`, in pixels of `image_hw`.
        lenses_N16: float64, likewise.
        image_hw: pixels of an image.
        feature_hw: cells of its feature map.

    Returns:
        float32 `(N, h * w)` metres, infinity where there is no point.
    """
    (height, width), (h, w) = image_hw, feature_hw

    # every point in every camera: (N, P)
    rays = points_P3.double() @ rays_T_ego_N34[:, :, :3].transpose(1, 2) + rays_T_ego_N34[:, None, :, 3]
    pixels, depth_m = pixels_of_rays(rays, lenses_N16)
    pixels = pixels + 0.5

    column = (pixels[..., 0] * (w / width)).floor()
    row = (pixels[..., 1] * (h / height)).floor()
    seen = (depth_m > 0) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    cell = torch.where(seen, row * w + column, torch.zeros_like(row)).long()

    nearest = torch.full((len(rays_T_ego_N34), h * w), torch.inf, device=points_P3.device)
    return nearest.scatter_reduce_(1, cell, torch.where(seen, depth_m, torch.inf).float(), 'amin')


@njit(cache=True, nogil=True)
def _nearest_depth(points, matrices, lenses, height, width, h, w):
    nearest = np.full((len(matrices), h * w), np.inf, dtype=np.float32)
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        for c in range(len(matrices)):
            m = matrices[c]
            u, v, depth_m = pixel_of_ray(
                lenses[c], m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
                m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
                m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
            if depth_m <= 0:
                continue

            column = np.floor((u + 0.5) * (w / width))
            row = np.floor((v + 0.5) * (h / height))
            if 0 <= column < w and 0 <= row < h:
                cell = int(row) * w + int(column)
                nearest[c, cell] = min(nearest[c, cell], np.float32(depth_m))
    return nearest
