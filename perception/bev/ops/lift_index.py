"""Which pixels see a voxel: one numba loop on the CPU, torch elsewhere."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from ...core.lens.loops import pixel_of_ray
from ..records import LiftGeometry
from .rays import pixels_of_rays


def index_voxels(
    points_V3: Tensor, rays_T_ego_N34: Tensor, lenses_N16: Tensor, present_N: Tensor, geometry: LiftGeometry
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tables of one sample, in one pass over the voxels without intermediate arrays (CPU).

    Arguments and results as `index_voxels_reference`.
    """
    bins = geometry.bins
    tables = _index_voxels(
        points_V3.numpy(), np.ascontiguousarray(rays_T_ego_N34.numpy()),
        np.ascontiguousarray(lenses_N16.numpy()), np.ascontiguousarray(present_N.numpy()),
        *geometry.image_hw, *geometry.feature_hw, geometry.slots,
        geometry.read == 'bilinear', geometry.interpolate, bins.low_m, bins.high_m, bins.count,
        bins.spacing == 'increasing')
    return tuple(torch.from_numpy(table) for table in tables)


def index_voxels_reference(
    points_V3: Tensor, rays_T_ego_N34: Tensor, lenses_N16: Tensor, present_N: Tensor, geometry: LiftGeometry
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reference implementation of `index_voxels`, all voxels and cameras at once; runs on other devices.

    Args:
        points_V3: voxel centres, float64 ego metres.
        rays_T_ego_N34: float64, see `rays.camera_rays`.
        lenses_N16: float64, likewise, on the CPU.
        present_N: bool.
        geometry: sizes, bins, slots.

    Returns:
        pixel_index int32 `(V, S)`, depth_index int32 `(V, S)`, far_weight float32 `(V, S)`, pixel_weight
        float32 `(V, S)`, as in `LiftTables`; S is one read for each of the geometry's slots, or the four
        neighbouring pixels of each. Where more cameras see a voxel than there are slots, those stay in whose
        image it is nearest to the middle column.
    """
    (height, width), (h, w) = geometry.image_hw, geometry.feature_hw
    bins = geometry.bins
    n, d = len(rays_T_ego_N34), bins.count

    # every voxel in every camera: (N, V)
    rays = points_V3 @ rays_T_ego_N34[:, :, :3].transpose(1, 2) + rays_T_ego_N34[:, None, :, 3]
    pixels, depth_m = pixels_of_rays(rays, lenses_N16)
    u, v = (pixels + 0.5).unbind(-1)
    coordinate = bins.coordinate(depth_m)
    seen = (depth_m > 0) & (coordinate >= 0) & (coordinate < d) & present_N[:, None]
    seen &= (u >= 0) & (u < width) & (v >= 0) & (v < height)

    # the cameras that fill the slots: (slots, V)
    off_centre = torch.where(seen, (u - width / 2).abs(), torch.inf)
    order = off_centre.argsort(dim=0, stable=True)[: geometry.slots]

    # their pixels (R, slots, V), R = 1 or 4
    bin_index, far_weight = _split(coordinate, d, geometry.interpolate)
    places, weights = _pixels_around(u * (w / width), v * (h / height), (h, w), geometry.read)
    camera = torch.arange(n, device=points_V3.device)[:, None]
    pixel = torch.where(seen, camera * h * w + places, n * h * w)
    depth = torch.where(seen, pixel * d + bin_index, n * h * w * d)
    far_weight = torch.where(seen, far_weight, 0.0).expand_as(pixel)
    weights = torch.where(seen, weights, 0.0)

    # fewer cameras than slots leave padding
    fills = (n * h * w, n * h * w * d, 0, 0)
    missing = geometry.slots - len(order)
    every = (pixel.int(), depth.int(), far_weight.float(), weights.float())
    tables = []
    for table, fill in zip(every, fills, strict=True):
        chosen = table.gather(1, order.expand(len(table), -1, -1)).permute(2, 1, 0)  # (V, slots, R)
        tables.append(F.pad(chosen, (0, 0, 0, missing), value=fill).flatten(1).contiguous())
    return tuple(tables)


def _pixels_around(
    column: Tensor, row: Tensor, feature_hw: tuple[int, int], read: str
) -> tuple[Tensor, Tensor]:
    """Continuous places `(N, V)` in a map -> the R pixels to read of one camera and their weights."""
    h, w = feature_hw
    if read == 'nearest':
        place = row.nan_to_num(0.0).long().clamp(0, h - 1) * w + column.nan_to_num(0.0).long().clamp(0, w - 1)
        return place[None], torch.ones_like(column)[None]

    # beyond the outermost pixel centres as there
    column, row = ((x.nan_to_num(0.0) - 0.5).clamp(0, size - 1) for x, size in ((column, w), (row, h)))
    left, top = column.long(), row.long()
    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    across, down = column - left, row - top
    places = [top * w + left, top * w + right, bottom * w + left, bottom * w + right]
    weights = [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
    return torch.stack(places), torch.stack(weights)


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
    points, matrices, lenses, present, height, width, h, w, slots, bilinear, interpolate, low_m, high_m, d,
    increasing
):
    count, n, reads = len(points), len(matrices), 4 if bilinear else 1
    pixel = np.full((count, slots * reads), n * h * w, dtype=np.int32)
    depth = np.full((count, slots * reads), n * h * w * d, dtype=np.int32)
    far_weight = np.zeros((count, slots * reads), dtype=np.float32)
    pixel_weight = np.zeros((count, slots * reads), dtype=np.float32)

    # of each slot: distance from the middle column, camera, depth coordinate, column, row
    chosen = np.empty((slots, 5))
    for v in range(count):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        chosen[:, 0] = np.inf
        for c in range(n):
            m = matrices[c]
            if not present[c]:
                continue
            u, t, depth_m = pixel_of_ray(
                lenses[c], m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
                m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
                m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
            if depth_m <= 0:
                continue
            coordinate = _bin_coordinate(depth_m, low_m, high_m, d, increasing)
            if coordinate < 0 or coordinate >= d:
                continue

            u, t = u + 0.5, t + 0.5
            off_centre = abs(u - width / 2)
            if u < 0 or u >= width or t < 0 or t >= height or off_centre >= chosen[slots - 1, 0]:
                continue

            # insert the camera among the slots, the nearest to its middle column first
            s = slots - 1
            while s > 0 and off_centre < chosen[s - 1, 0]:
                chosen[s] = chosen[s - 1]
                s -= 1
            chosen[s, 0], chosen[s, 1], chosen[s, 2] = off_centre, c, coordinate
            chosen[s, 3], chosen[s, 4] = u * (w / width), t * (h / height)

        for s in range(slots):
            if chosen[s, 0] == np.inf:
                break
            near, far = _bins_around(chosen[s, 2], d, interpolate)
            first = int(chosen[s, 1]) * h * w
            column, row = chosen[s, 3], chosen[s, 4]
            if not bilinear:
                pixel[v, s] = first + min(int(row), h - 1) * w + min(int(column), w - 1)
                depth[v, s] = pixel[v, s] * d + near
                far_weight[v, s], pixel_weight[v, s] = far, 1
                continue

            # beyond the outermost pixel centres as there
            column, row = min(max(column - 0.5, 0.0), w - 1.0), min(max(row - 0.5, 0.0), h - 1.0)
            left, top = int(column), int(row)
            for k in range(4):
                right, below = k % 2, k // 2
                place = min(top + below, h - 1) * w + min(left + right, w - 1)
                across = column - left if right else 1 - (column - left)
                down = row - top if below else 1 - (row - top)
                pixel[v, 4 * s + k] = first + place
                depth[v, 4 * s + k] = (first + place) * d + near
                far_weight[v, 4 * s + k], pixel_weight[v, 4 * s + k] = far, across * down
    return pixel, depth, far_weight, pixel_weight


@njit(cache=True, nogil=True)
def _bins_around(coordinate, d, interpolate):
    if not interpolate:
        return int(coordinate), 0.0
    centred = min(max(coordinate - 0.5, 0.0), d - 1.0)
    near = min(int(centred), d - 2)
    return near, centred - near
