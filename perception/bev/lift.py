"""Lift by gathering: each voxel reads the pixels that see it, instead of each pixel pushing into voxels.

`lift_tables` (outside the graph) lists, for every voxel, which pixels of which camera lie around its centre
and at which depth; `perception.bev.ops.gather` reads context times probability through these tables. Voxels
are numbered (y, x, z), heights innermost, so that what a ground cell holds lies together and becomes channels
without being moved.
"""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..core.grid import BEVGrid
from .ops.lift_index import index_voxels, index_voxels_reference
from .ops.rays import camera_rays
from .records import LiftGeometry


@dataclass(frozen=True)
class LiftTables:
    """Which pixels see which voxel; V = Y * X * Z voxels in (y, x, z) order, S pixels a voxel.

    Attributes:
        pixel_index: int32 `(B, V, S)` into N * h * w pixels; N * h * w, the padding index, in an empty slot.
        depth_index: int32 `(B, V, S)` into N * h * w * D probabilities (bins innermost), the nearer of two
            neighbouring bins; N * h * w * D, the padding index, in an empty slot.
        far_weight: float32 `(B, V, S)`, weight of the farther bin (index + 1): 0 reads the nearer one alone,
            1 the farther one.
        pixel_weight: float32 `(B, V, S)`, weight of a pixel among those read of its camera, 0 in an empty
            slot; None where one pixel a camera is read.
    """

    pixel_index: Tensor
    depth_index: Tensor
    far_weight: Tensor
    pixel_weight: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tables by name, those that there are."""
        tables = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: table for name, table in tables.items() if table is not None}


@lru_cache(maxsize=4)
def voxel_points(grid: BEVGrid) -> Tensor:
    """Centres of voxels in (y, x, z) order, float64 `(V, 3)` ego metres; cached, so not to be written to."""
    return torch.from_numpy(grid.voxel_centres_m().transpose(1, 2, 0, 3).reshape(-1, 3).astype(np.float64))


def lift_tables(
    K_BN33: Tensor,
    ego_T_cam_BN44: Tensor,
    present_BN: Tensor,
    geometry: LiftGeometry,
    lens_BN10: Tensor | None = None,
) -> LiftTables:
    """Index tables of a batch, by numba on the CPU and by torch elsewhere (equal, tested).

    Absent cameras see nothing, so that no table entry ever points into their features. Lenses bend the rays
    (`core.lens.rows`; None: all are pinholes): images stay as they are, and the graph knows nothing of it.
    """
    cameras = camera_rays(K_BN33, ego_T_cam_BN44, lens_BN10)
    index = index_voxels if K_BN33.device.type == 'cpu' else index_voxels_reference
    points = voxel_points(geometry.grid).to(K_BN33.device)

    rows = [
        index(points, rays_T_ego, lenses, present, geometry)
        for rays_T_ego, lenses, present in zip(*cameras, present_BN, strict=True)
    ]
    tables = [torch.stack(parts) for parts in zip(*rows, strict=True)]
    return LiftTables(*tables) if geometry.read == 'bilinear' else LiftTables(*tables[:3])


class LiftTableCache:
    """Tables of calibrations already seen, the latest `size` kept: one car drives with one calibration.

    A sample's tables depend on K, ego_T_cam, the lenses and which cameras are present; they are looked up by
    these bytes.
    """

    def __init__(self, size: int = 8) -> None:
        self.size = size
        self.hits = 0
        self.misses = 0
        self._known: OrderedDict[tuple, LiftTables] = OrderedDict()

    def __call__(
        self,
        K_BN33: Tensor,
        ego_T_cam_BN44: Tensor,
        present_BN: Tensor,
        geometry: LiftGeometry,
        lens_BN10: Tensor | None = None,
    ) -> LiftTables:
        """As `lift_tables`, each sample from memory where possible."""
        calibrations = [part for part in (K_BN33, ego_T_cam_BN44, present_BN, lens_BN10) if part is not None]
        rows = [
            self._of_sample(geometry, *(part[i:i + 1] for part in calibrations)) for i in range(len(K_BN33))]
        if len(rows) == 1:
            return rows[0]
        names = rows[0].tensors()
        return LiftTables(**{name: torch.cat([getattr(row, name) for row in rows]) for name in names})

    def _of_sample(
        self, geometry: LiftGeometry, K_BN33: Tensor, ego_T_cam_BN44: Tensor, present_BN: Tensor,
        *lens_BN10: Tensor
    ) -> LiftTables:
        parts = (K_BN33, ego_T_cam_BN44, present_BN, *lens_BN10)
        key = (geometry, str(K_BN33.device), *(part.detach().cpu().numpy().tobytes() for part in parts))
        if key in self._known:
            self.hits += 1
            self._known.move_to_end(key)
            return self._known[key]

        self.misses += 1
        tables = lift_tables(K_BN33, ego_T_cam_BN44, present_BN, geometry, *lens_BN10)
        self._known[key] = tables
        while len(self._known) > self.size:
            self._known.popitem(last=False)
        return tables
