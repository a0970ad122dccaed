"""Occ3D voxels -> labels in the order of the raw logits."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Annotations, OccupancyLabels
from ...core.grid import BEVGrid
from ...core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_IGNORED

MASKS = ('camera', 'lidar', None)


@dataclass(frozen=True)
class OccupancyTargets:
    """labels_BZYX: uint8 into `OCCUPANCY_CLASSES`, 255 where nothing is to be learned (also whole unlabelled
    samples).

    density_BZYX: float16 in 0..1, how densely the LiDAR saw each voxel (0 where the labels do not say); None
    where not asked for.
    """

    labels_BZYX: Tensor
    density_BZYX: Tensor | None = None

    def to(self, device: Any) -> OccupancyTargets:
        """The same targets on another device."""
        return OccupancyTargets(self.labels_BZYX.to(device),
                                None if self.density_BZYX is None else self.density_BZYX.to(device))


def build_targets(
    annotations: Sequence[Annotations], grid: BEVGrid, mask: str | None, density: bool = False
) -> OccupancyTargets:
    """Labels of a batch, on the CPU; voxels that `mask` ('camera', 'lidar' or None) does not see are ignored.

    Args:
        density: also the local densities.

    Raises:
        ValueError: a sample's voxels are not those of `grid`.
    """
    labels = [_one_sample(a.occupancy, a.token, grid, mask) for a in annotations]
    densities = (
        torch.from_numpy(np.stack([_density(a.occupancy, grid) for a in annotations])) if density else None
    )
    return OccupancyTargets(torch.from_numpy(np.stack(labels)), densities)


def _density(occupancy: OccupancyLabels | None, grid: BEVGrid) -> np.ndarray:
    if occupancy is None or occupancy.density_XYZ is None:
        return np.zeros(grid.shape_ZYX, dtype=np.float16)
    return np.ascontiguousarray(occupancy.density_XYZ.transpose(2, 1, 0), dtype=np.float16)


def _one_sample(occupancy: OccupancyLabels | None, token: str, grid: BEVGrid, mask: str | None) -> np.ndarray:
    if occupancy is None:
        return np.full(grid.shape_ZYX, OCCUPANCY_IGNORED, dtype=np.uint8)
    labels_XYZ = occupancy.semantics_XYZ
    if labels_XYZ.shape != grid.shape_ZYX[::-1]:
        raise ValueError(f'sample {token}: occupancy: expected voxels (X, Y, Z) {grid.shape_ZYX[::-1]}, '
                         f'found {labels_XYZ.shape}')
    if mask is not None:
        seen = occupancy.mask_camera_XYZ if mask == 'camera' else occupancy.mask_lidar_XYZ
        labels_XYZ = np.where(seen.astype(bool), labels_XYZ, OCCUPANCY_IGNORED)
    return np.ascontiguousarray(labels_XYZ.transpose(2, 1, 0), dtype=np.uint8)


def as_raw(targets: OccupancyTargets, confidence_logit: float = 20.0) -> dict[str, Tensor]:
    """The raw outputs of a head that knows the truth; ignored voxels answer with class 0."""
    labels = targets.labels_BZYX.long()
    labels = labels.where(labels != OCCUPANCY_IGNORED, 0)
    one_hot = torch.nn.functional.one_hot(labels, len(OCCUPANCY_CLASSES)).movedim(-1, 2)
    return {'logits': one_hot.flatten(1, 2).float() * confidence_logit}
