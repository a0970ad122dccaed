"""Which pixels see a voxel: one numba loop on the CPU, torch elsewhere."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from ..records import LiftGeometry


def index_voxels(
    points_V3: Tensor, pixels_T_ego_N34: Tensor, present_N: Tensor, geometry: LiftGeometry
) -> tuple[Tensor, Tensor, Tensor]:
    """Tables of one sample, in one pass over the voxels without intermediate arrays (CPU).

    Arguments and results as `index_voxels_reference`.
    """
    bins = geometry.bins
    pixel, depth, far_weight = _index_voxels(
        points_V3.numpy(), np.ascontiguousarray(pixels_T_ego_N34.numpy()),
        np.ascontiguousarray(present_N.numpy()), *geometry.image_hw, *geometry.feature_hw, geometry.slots,
        geometry.interpolate, bins.low_m, bins.high_m, bins.count, bins.spacing == 'increasing')
    return torch.from_numpy(pixel), torch.from_numpy(depth), torch.from_numpy(far_weight)


def index_voxels_reference(
    points_V3: Tensor, pixels_T_ego_N34: Tensor, present_N: Tensor, geometry: LiftGeometry
) -> tuple[Tensor, Tensor, Tensor]:
    """Reference implementation of `index_voxels`, all voxels and cameras at once; runs on other devices.

    Args:
        points_V3: voxel centres, float64 ego metres.
        pixels_T_ego_N34: float64, ego -> (u * depth, v * depth, depth).
        present_N: bool.
        geometry: sizes, bins, slots.

    Returns:
        pixel_index int32 `(V, S)`, depth_index int32 `(V, S)`, far_weight float32 `(V, S)`; where more than
        S cameras see a voxel, those stay in whose image it is nearest to the middle column.
    """
    (height, width), (h, w) = geometry.image_hw, geometry.feature_hw
    bins = geometry.bins
    n, d = len(pixels_T_ego_N34), bins.count

    # every voxel in every camera: (N, V)
    homogeneous = points_V3 @ pixels_T_ego_N34[:, :, :3].transpose(1, 2) + pixels_T_ego_N34[:, None, :, 3]
    depth_m = homogeneous[..., 2]
    pixels = homogeneous[..., :2] / depth_m.clamp(min=1e-6)[..., None] + 0.5
    u, v = pixels.unbind(-1)
    coordinate = bins.coordinate(depth_m)
    seen = (depth_m > 1e-6) & (coordinate >= 0) & (coordinate < d) & present_N[:, None]
    seen &= (u >= 0) & (u < width) & (v >= 0) & (v < height)

    # the cameras that fill the slots: (S, V)
    off_centre = torch.where(seen, (u - width / 2).abs(), torch.inf)
    order = off_centre.argsort(dim=0, stable=True)[: geometry.slots]

    bin_index, far_weight = _split(coordinate, d, geometry.interpolate)
    column = (u * (w / width)).long().clamp(0, w - 1)
    row = (v * (h / height)).long().clamp(0, h - 1)
    camera = torch.arange(n, device=points_V3.device)[:, None]

    pixel_padding, depth_padding = n * h * w, n * h * w * d
    pixel = torch.where(seen, (camera * h + row) * w + column, pixel_padding)
    depth = torch.where(seen, pixel * d + bin_index, depth_padding)
    far_weight = torch.where(seen, far_weight, torch.zeros_like(far_weight))
    tables = [table.gather(0, order).T for table in (pixel.int(), depth.int(), far_weight.float())]

    missing = geometry.slots - tables[0].shape[1]  # fewer cameras than slots
    if missing > 0:
        fills = (pixel_padding, depth_padding, 0)
        tables = [
            F.pad(table, (0, missing), value=fill) for table, fill in zip(tables, fills, strict=True)
        ]
    return tables[0].contiguous(), tables[1].contiguous(), tables[2].contiguous()


def _split(coordinate: Tensor, d: int, interpolate: bool) -> tuple[Tensor, Tensor]:
    """Bin coordinate -> the nearer of two neighbouring bins and the weight of the farther one."""
    if not interpolate:
        index = coordinate.nan_to_num(0.0).clamp(0, d - 1).floor()
        return index.long(), torch.zeros_like(coordinate)
    centred = (coordinate.nan_to_num(0.0) - 0.5).clamp(0, d - 1)
    index = centred.floor().clamp(max=d - 2)
    return index.long(), centred - index


@njit(cache=True, nogil=True)
def _bin_coordinate(depth_m: float, low_m: float, high_m: float, d: int, increasing: bool) -> float:
    """As `DepthBins.coordinate`."""
    fraction = (depth_m - low_m) / (high_m - low_m)
    if not increasing:
        return fraction * d
    return (np.sqrt(1 + 4 * fraction * d * (d + 1)) - 1) / 2 if fraction >= 0 else -1.0


@njit(cache=True, nogil=True)
def _index_voxels(
    points, matrices, present, height, width, h, w, slots, interpolate, low_m, high_m, d, increasing
):
    count, n = len(points), len(matrices)
    pixel = np.full((count, slots), n * h * w, dtype=np.int32)
    depth = np.full((count, slots), n * h * w * d, dtype=np.int32)
    far_weight = np.zeros((count, slots), dtype=np.float32)
    best = np.empty(slots)

    for v in range(count):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        best[:] = np.inf
        for c in range(n):
            m = matrices[c]
            depth_m = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            if not present[c] or depth_m <= 1e-6:
                continue
            coordinate = _bin_coordinate(depth_m, low_m, high_m, d, increasing)
            if coordinate < 0 or coordinate >= d:
                continue

            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth_m + 0.5
            t = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth_m + 0.5
            off_centre = abs(u - width / 2)
            if u < 0 or u >= width or t < 0 or t >= height or off_centre >= best[slots - 1]:
                continue

            # insert the camera among the slots, the nearest to its middle column first
            s = slots - 1
            while s > 0 and off_centre < best[s - 1]:
                best[s] = best[s - 1]
                pixel[v, s] = pixel[v, s - 1]
                depth[v, s] = depth[v, s - 1]
                far_weight[v, s] = far_weight[v, s - 1]
                s -= 1

            if interpolate:
                centred = min(max(coordinate - 0.5, 0.0), d - 1.0)
                near = min(int(centred), d - 2)
            else:
                near = int(coordinate)
                centred = float(near)

            best[s] = off_centre
            pixel[v, s] = (c * h + min(int(t * (h / height)), h - 1)) * w + min(int(u * (w / width)), w - 1)
            depth[v, s] = pixel[v, s] * d + near
            far_weight[v, s] = centred - near
    return pixel, depth, far_weight
