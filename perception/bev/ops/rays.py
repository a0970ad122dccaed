"""Cameras as the compiled loops take them: a matrix that makes rays of points, and what bends the rays.

The loops use `core.lens.loops.pixel_of_ray`.
"""
from __future__ import annotations

import torch
from torch import Tensor

from ...core.geometry import invert
from ...core.lens import LENS_ROW, PINHOLE_ROW
from ...core.lens.formulas import bend, with_ones


def camera_rays(
    K_BN33: Tensor, ego_T_cam_BN44: Tensor, lens_BN10: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How points in ego come to pixels.

    Args:
        K_BN33: pixels.
        ego_T_cam_BN44: places of the cameras.
        lens_BN10: rows of `core.lens.rows`; None: all are pinholes.

    Returns:
        Two tensors in float64. rays_T_ego `(B, N, 3, 4)`: through a pinhole (u * depth, v * depth, depth),
        through another lens the ray in the camera's frame. lenses `(B, N, 16)`, on the CPU whatever the
        device, since every step asks what they are: the row of the lens, then the upper two rows of what
        brings its image plane to pixels: K, or the identity for a pinhole.
    """
    cam_T_ego = invert(ego_T_cam_BN44.double())[..., :3, :]
    K = K_BN33.double()
    identity = torch.eye(3, dtype=torch.float64).expand_as(K)
    if lens_BN10 is None:
        rows = torch.tensor(PINHOLE_ROW, dtype=torch.float64).expand(*K.shape[:-2], LENS_ROW)
        return K @ cam_T_ego, torch.cat([rows, identity[..., :2, :].flatten(-2)], -1)

    rows = lens_BN10.double().cpu()
    pinhole = rows[..., :1, None] == 0  # (B, N, 1, 1)
    rays_T_ego = torch.where(pinhole.to(K.device), K @ cam_T_ego, cam_T_ego)
    pixels_T_plane = torch.where(pinhole, identity, K.cpu())
    return rays_T_ego, torch.cat([rows, pixels_T_plane[..., :2, :].flatten(-2)], -1)


def pixels_of_rays(rays_NP3: Tensor, lenses_N16: Tensor) -> tuple[Tensor, Tensor]:
    """Rays of N cameras -> pixels `(N, P, 2)` and depth `(N, P)`, zero or less where one is not seen."""
    rows = lenses_N16.tolist()
    if not any(row[0] for row in rows):
        return bend(PINHOLE_ROW, rays_NP3)

    pixels, depths = [], []
    for rays, row in zip(rays_NP3, rows, strict=True):
        plane, depth_m = bend(row[:LENS_ROW], rays)
        pixels.append(with_ones(plane) @ plane.new_tensor(row[LENS_ROW:]).reshape(2, 3).T)
        depths.append(depth_m)
    return torch.stack(pixels), torch.stack(depths)
