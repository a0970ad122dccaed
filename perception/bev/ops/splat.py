"""The scatter twin of the lift: every pixel pushes its context into the voxels along its ray. Slow, for tests
and reading."""
from __future__ import annotations

import torch
from torch import Tensor

from ...core.geometry import transform_points, unproject
from ...core.grid import BEVGrid
from ..records import DepthBins


def splat(context_NChw: Tensor, depth_NDhw: Tensor, K_N33: Tensor, ego_T_cam_N44: Tensor, present_N: Tensor,
          image_hw: tuple[int, int], grid: BEVGrid, bins: DepthBins) -> Tensor:
    """Lift-Splat (Philion and Fidler, 2020, arXiv 2008.05711, section 3) for one sample.

    Args:
        context_NChw: what pixels show.
        depth_NDhw: their depth distribution.
        K_N33, ego_T_cam_N44: calibration of the images of size `image_hw` that the feature maps belong to.

    Returns:
        `(C, Z, Y, X)` sums of context times probability at the voxel that holds each (pixel centre, bin
        centre).
    """
    (n, c, h, w), d, (height, width) = context_NChw.shape, depth_NDhw.shape[1], image_hw
    row, column = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing='ij')
    pixels = torch.stack([column * (width / w), row * (height / h)], -1).reshape(-1, 2).double() - 0.5
    depth_m = torch.as_tensor(bins.centres_m()).double()
    rays = torch.cat(
        [unproject(K_N33.double(), pixels.expand(n, -1, 2), torch.full((n, h * w), z)) for z in depth_m], 1
    )
    points = transform_points(ego_T_cam_N44.double(), rays).view(n, d, h * w, 3)
    cells = grid.to_cells(points[..., :2]).floor().long()
    level = ((points[..., 2] - grid.z_range_m[0]) / grid.z_cell_m).floor().long()
    z_size, y_size, x_size = grid.shape_ZYX
    inside = grid.contains(points[..., :2]) & (level >= 0) & (level < z_size) & present_N[:, None, None]
    voxel = ((level * y_size + cells[..., 1]) * x_size + cells[..., 0])[inside]
    pushed = context_NChw.flatten(2).transpose(1, 2)[:, None] * depth_NDhw.flatten(2)[..., None]
    volume = context_NChw.new_zeros(z_size * y_size * x_size, c).index_add(0, voxel, pushed[inside])
    return volume.T.reshape(c, z_size, y_size, x_size)
