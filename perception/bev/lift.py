"""Lift by gathering: each voxel asks the pixels that see it, instead of each pixel pushing into voxels.

`lift_tables` (outside the graph) writes down, for every voxel, which pixel of which camera sees its centre
and at which depth; `perception.bev.ops.gather` reads context times depth probability through these tables.
Voxels are numbered (y, x, z), heights innermost, so that what a ground cell holds lies together and becomes
channels without being moved.
"""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..core.geometry import invert
from ..core.grid import BEVGrid
from .depth import DepthBins
from .ops.lift_index import index_voxels, index_voxels_reference


@dataclass(frozen=True)
class LiftTables:
    """Who sees which voxel; V = Y * X * Z voxels in (y, x, z) order, S slots a voxel.

    Attributes:
        pixel_index: int32 `(B, V, S)` into N * h * w pixels; N * h * w where nobody sees the voxel.
        depth_index: int32 `(B, V, S)` into N * h * w * D probabilities (bins innermost), the nearer of two
            neighbouring bins; N * h * w * D for nobody.
        depth_share: float32 `(B, V, S)`, how much of the farther bin (index + 1) is read: 0 nearer only, 1
            farther only.
    """

    pixel_index: Tensor
    depth_index: Tensor
    depth_share: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class LiftGeometry:
    """What the tables depend on besides calibration.

    Args:
        grid: with heights.
        bins: depth bins.
        image_hw, feature_hw: pixels of an image, cells of its feature map.
        slots: S, how many cameras a voxel may read (2 covers the overlap of a ring of cameras).
        interpolate: read two neighbouring depth bins linearly; False reads the one that holds the voxel's
            centre.
    """

    grid: BEVGrid
    bins: DepthBins
    image_hw: tuple[int, int]
    feature_hw: tuple[int, int]
    slots: int = 2
    interpolate: bool = True


@lru_cache(maxsize=4)
def voxel_points(grid: BEVGrid) -> Tensor:
    """Centres of voxels in (y, x, z) order, float64 `(V, 3)` ego metres; made once for a grid, not to be
    written to."""
    return torch.from_numpy(grid.voxel_centres_m().transpose(1, 2, 0, 3).reshape(-1, 3).astype(np.float64))


def lift_tables(
    K_BN33: Tensor, ego_T_cam_BN44: Tensor, present_BN: Tensor, geometry: LiftGeometry
) -> LiftTables:
    """Index tables of a batch, by numba on the CPU and by torch elsewhere (equal, tested).

    Absent cameras see nothing, so that no table entry ever points into their features.
    """
    pixels_T_ego_BN34 = (K_BN33.double() @ invert(ego_T_cam_BN44.double())[..., :3, :])
    index = index_voxels if K_BN33.device.type == 'cpu' else index_voxels_reference
    points = voxel_points(geometry.grid).to(K_BN33.device)
    rows = [
        index(points, matrix, present, geometry)
        for matrix, present in zip(pixels_T_ego_BN34, present_BN, strict=True)
    ]
    return LiftTables(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


class LiftTableCache:
    """Tables of calibrations already seen, the latest `size` kept: one car drives with one calibration.

    A sample's tables depend on K, ego_T_cam and which cameras are present; they are looked up by these bytes.
    """

    def __init__(self, size: int = 8) -> None:
        self.size = size
        self.hits = self.misses = 0
        self._known: OrderedDict[tuple, LiftTables] = OrderedDict()

    def __call__(
        self, K_BN33: Tensor, ego_T_cam_BN44: Tensor, present_BN: Tensor, geometry: LiftGeometry
    ) -> LiftTables:
        """As `lift_tables`, each sample from memory where possible."""
        rows = [
            self._one(K_BN33[i : i + 1], ego_T_cam_BN44[i : i + 1], present_BN[i : i + 1], geometry)
            for i in range(len(K_BN33))
        ]
        if len(rows) == 1:
            return rows[0]
        return LiftTables(
            *(torch.cat([getattr(row, field.name) for row in rows]) for field in fields(LiftTables))
        )

    def _one(
        self, K_BN33: Tensor, ego_T_cam_BN44: Tensor, present_BN: Tensor, geometry: LiftGeometry
    ) -> LiftTables:
        key = (geometry, str(K_BN33.device),
               *(part.detach().cpu().numpy().tobytes() for part in (K_BN33, ego_T_cam_BN44, present_BN)))
        if key in self._known:
            self.hits += 1
            self._known.move_to_end(key)
            return self._known[key]
        self.misses += 1
        tables = self._known[key] = lift_tables(K_BN33, ego_T_cam_BN44, present_BN, geometry)
        while len(self._known) > self.size:
            self._known.popitem(last=False)
        return tables
