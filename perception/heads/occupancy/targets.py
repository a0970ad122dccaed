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
    """What the occupancy losses compare with.

    Attributes:
        labels_BZYX: uint8 into `OCCUPANCY_CLASSES`, 255 where nothing is to be learned (also whole unlabelled
            samples).
        density_BZYX: float16 in 0..1, how densely the LiDAR saw each voxel (0 where the labels do not say);
            None where not asked for.
        weights_BZYX: float16 in 0..1, how much each voxel counts; None: all 1.
    """

    labels_BZYX: Tensor
    density_BZYX: Tensor | None = None
    weights_BZYX: Tensor | None = None

    def to(self, device: Any) -> OccupancyTargets:
        """Copy the targets to another device."""
        more = (self.density_BZYX, self.weights_BZYX)
        return OccupancyTargets(
            self.labels_BZYX.to(device), *(None if one is None else one.to(device) for one in more))


def build_targets(
    annotations: Sequence[Annotations], grid: BEVGrid, mask: str | None, density: bool = False
) -> OccupancyTargets:
    """Build the labels of a batch, on the CPU.

    Args:
        annotations: of B samples.
        grid: its voxels are those of the labels.
        mask: voxels that 'camera' or 'lidar' does not see are ignored; None ignores no voxel.
        density: also the local densities.

    Raises:
        ValueError: a sample's voxels are not those of `grid`.
    """
    labels = [_sample_labels(a.occupancy, a.token, grid, mask) for a in annotations]
    densities = None
    if density:
        densities = torch.from_numpy(np.stack([_sample_density(a.occupancy, grid) for a in annotations]))

    weights = [None if a.occupancy is None else a.occupancy.weights_XYZ for a in annotations]
    if all(one is None or (one == 1).all() for one in weights):
        return OccupancyTargets(torch.from_numpy(np.stack(labels)), densities)
    full_ZYX = np.ones(grid.shape_ZYX, np.float16)
    weights_BZYX = np.stack(
        [full_ZYX if one is None else one.transpose(2, 1, 0).astype(np.float16) for one in weights])
    return OccupancyTargets(torch.from_numpy(np.stack(labels)), densities, torch.from_numpy(weights_BZYX))


def _sample_labels(
    occupancy: OccupancyLabels | None, token: str, grid: BEVGrid, mask: str | None
) -> np.ndarray:
    if occupancy is None:
        return np.full(grid.shape_ZYX, OCCUPANCY_IGNORED, dtype=np.uint8)

    labels_XYZ = occupancy.semantics_XYZ
    if labels_XYZ.shape != grid.shape_ZYX[::-1]:
        raise ValueError(f'sample {token}: occupancy: expected voxels (X, Y, Z) {grid.shape_ZYX[::-1]}, '
                         f'found {labels_XYZ.shape}')

    if occupancy.weights_XYZ is not None:
        labels_XYZ = np.where(occupancy.weights_XYZ > 0, labels_XYZ, OCCUPANCY_IGNORED)
    if mask is not None:
        seen_XYZ = occupancy.mask_camera_XYZ if mask == 'camera' else occupancy.mask_lidar_XYZ
        labels_XYZ = np.where(seen_XYZ.astype(bool), labels_XYZ, OCCUPANCY_IGNORED)
    return np.ascontiguousarray(labels_XYZ.transpose(2, 1, 0), dtype=np.uint8)


def _sample_density(occupancy: OccupancyLabels | None, grid: BEVGrid) -> np.ndarray:
    if occupancy is None or occupancy.density_XYZ is None:
        return np.zeros(grid.shape_ZYX, dtype=np.float16)
    return np.ascontiguousarray(occupancy.density_XYZ.transpose(2, 1, 0), dtype=np.float16)


def as_raw(targets: OccupancyTargets, confidence_logit: float = 20.0) -> dict[str, Tensor]:
    """Make the raw outputs of a perfect head; ignored voxels are predicted as class 0."""
    labels = targets.labels_BZYX.long()
    labels = labels.where(labels != OCCUPANCY_IGNORED, 0)

    # (B, Z, C, Y, X)
    one_hot = torch.nn.functional.one_hot(labels, len(OCCUPANCY_CLASSES)).movedim(-1, 2)
    return {'logits': one_hot.flatten(1, 2).float() * confidence_logit}
