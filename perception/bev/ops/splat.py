"""The lift by scattering, for tests: every pixel pushes its context into the voxels along its ray."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.geometry import transform_points
from ...core.grid import BEVGrid
from ...core.lens import Distortion
from ...core.lens.projection import lens_unproject
from ..records import DepthBins


def splat(
    context_NChw: Tensor,
    depth_NDhw: Tensor,
    K_N33: Tensor,
    ego_T_cam_N44: Tensor,
    present_N: Tensor,
    image_hw: tuple[int, int],
    grid: BEVGrid,
    bins: DepthBins,
    distortions: Sequence[Distortion | None] | None = None,
) -> Tensor:
    """Lift-Splat (Philion and Fidler, 2020, arXiv 2008.05711, section 3) for one sample.

    Args:
        context_NChw: what pixels show.
        depth_NDhw: their depth distribution.
        K_N33: calibration of the images that the feature maps belong to.
        ego_T_cam_N44: their places.
        present_N: bool; absent cameras push nothing.
        image_hw: size of the images.
        grid: with heights.
        bins: depth bins.
        distortions: lenses of the cameras; None: all are pinholes.

    Returns:
        `(C, Z, Y, X)` sums of context times probability at the voxel that holds each (pixel centre, bin
        centre).
    """
    c = context_NChw.shape[1]
    lenses = [None] * len(K_N33) if distortions is None else distortions
    points = _ray_points(depth_NDhw.shape, K_N33, ego_T_cam_N44, image_hw, bins, lenses)

    z_size, y_size, x_size = grid.shape_ZYX
    cells = grid.to_cells(points[..., :2]).floor().long()
    edges = torch.from_numpy(grid.z_edges_m).to(points)
    level = torch.bucketize(points[..., 2].contiguous(), edges, right=True) - 1
    inside = grid.contains(points[..., :2]) & (level >= 0) & (level < z_size) & present_N[:, None, None]
    voxel = ((level * y_size + cells[..., 1]) * x_size + cells[..., 0])[inside]

    # (N, D, h * w, C): what each of them pushes
    pushed = context_NChw.flatten(2).transpose(1, 2)[:, None] * depth_NDhw.flatten(2)[..., None]
    volume = context_NChw.new_zeros(z_size * y_size * x_size, c).index_add(0, voxel, pushed[inside])
    return volume.T.reshape(c, z_size, y_size, x_size)


def _ray_points(
    shape_NDhw: tuple[int, ...], K_N33: Tensor, ego_T_cam_N44: Tensor, image_hw: tuple[int, int],
    bins: DepthBins, lenses: Sequence[Distortion | None],
) -> Tensor:
    """Every bin of every ray in ego, `(N, D, h * w, 3)`."""
    n, d, h, w = shape_NDhw
    height, width = image_hw

    # centres of the feature cells in pixels of the image: (h * w, 2)
    row, column = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing='ij')
    pixels = torch.stack([column * (width / w), row * (height / h)], -1).reshape(-1, 2).double() - 0.5

    depth_m = torch.as_tensor(bins.centres_m()).double()
    one = torch.ones(h * w, dtype=torch.float64)
    cameras = zip(K_N33.double(), lenses, strict=True)
    rays = torch.stack([lens_unproject(K, pixels, one, lens) for K, lens in cameras])
    points = (rays[:, None] * depth_m[:, None, None]).reshape(n, d * h * w, 3)
    return transform_points(ego_T_cam_N44.double(), points).view(n, d, h * w, 3)
