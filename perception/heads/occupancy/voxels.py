"""Which voxels the losses look at, and what the network says there."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORED

CLASSES = len(OCCUPANCY_CLASSES)


@dataclass(frozen=True)
class VoxelSample:
    """S voxels for the losses: logits_SC float32, labels_S int64, weights_S: how many voxels each one stands
    for.

    density_S: float32 in 0..1, how densely the LiDAR saw each one; None where that is not asked for.
    """

    logits_SC: Tensor
    labels_S: Tensor
    weights_S: Tensor
    density_S: Tensor | None = None


def sample_voxels(logits_BCYX: Tensor, labels_BZYX: Tensor, per_sample: int | None,
                  density_BZYX: Tensor | None = None) -> VoxelSample:
    """Read the logits at all labelled voxels, or at a fair random part of them.

    Args:
        logits_BCYX: `(B, Z * 18, Y', X')`, channel z * 18 + class; where Y', X' are fewer than the labels' Y,
            X the logits are read as bilinear upsampling (align_corners=False) gives them; with `per_sample`
            that map is never made.
        labels_BZYX: uint8, 255 ignored.
        per_sample: about how many voxels a sample to look at, half of them occupied, half free. Each stands
            for as many voxels as its kind has per pick, so that weighted sums expect the full sums. None:
            every voxel, weight 1.
        density_BZYX: read at the same voxels.
    """
    flat = labels_BZYX.flatten()
    if per_sample is None:
        if logits_BCYX.shape[-2:] != labels_BZYX.shape[-2:]:
            logits_BCYX = F.interpolate(
                logits_BCYX, size=labels_BZYX.shape[-2:], mode='bilinear', align_corners=False
            )
        index = (flat != OCCUPANCY_IGNORED).nonzero()[:, 0]
        weights = torch.ones(len(index), device=flat.device)
    else:
        half = per_sample * len(labels_BZYX) // 2
        kinds = [(flat < OCCUPANCY_FREE).nonzero()[:, 0], (flat == OCCUPANCY_FREE).nonzero()[:, 0]]
        picks = [_pick(kind, half) for kind in kinds]
        index = torch.cat([pick for pick, _ in picks])
        weights = torch.cat([torch.full((len(pick),), weight, device=flat.device) for pick, weight in picks])
    places = torch.unravel_index(index, labels_BZYX.shape)
    logits = read_logits(logits_BCYX, places, (labels_BZYX.shape[2], labels_BZYX.shape[3]))
    density = None if density_BZYX is None else density_BZYX.flatten()[index].float()
    return VoxelSample(logits, flat[index].long(), weights, density)


def _pick(index_K: Tensor, count: int) -> tuple[Tensor, float]:
    if len(index_K) <= count:
        return index_K, 1.0
    chosen = torch.randint(len(index_K), (count,), device=index_K.device)
    return index_K[chosen], len(index_K) / count


def read_logits(logits_BCYX: Tensor, places: tuple[Tensor, ...], shape_YX: tuple[int, int]) -> Tensor:
    """Logits `(S, 18)` float32 at voxels (sample, z, y, x) of a `shape_YX` map, upsampled on the fly where
    needed."""
    sample, z, y, x = places
    rows, columns = logits_BCYX.shape[-2:]
    if (rows, columns) == tuple(shape_YX):
        return _gather(logits_BCYX, sample, z, y, x)
    y0, y1, down = _neighbours(y, rows, shape_YX[0])
    x0, x1, right = _neighbours(x, columns, shape_YX[1])
    top = (
        _gather(logits_BCYX, sample, z, y0, x0) * (1 - right)
        + _gather(logits_BCYX, sample, z, y0, x1) * right
    )
    bottom = (
        _gather(logits_BCYX, sample, z, y1, x0) * (1 - right)
        + _gather(logits_BCYX, sample, z, y1, x1) * right
    )
    return top * (1 - down) + bottom * down


def _neighbours(fine_S: Tensor, coarse_size: int, fine_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse cells before and after the centre of a fine cell, and the share `(S, 1)` of the one after."""
    position = ((fine_S + 0.5) * (coarse_size / fine_size) - 0.5).clamp(min=0)
    before = position.long()
    return before, (before + 1).clamp(max=coarse_size - 1), (position - before)[:, None]


def _gather(logits_BCYX: Tensor, sample: Tensor, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    _, channels, rows, columns = logits_BCYX.shape
    first = ((sample * channels + z * CLASSES) * rows + y) * columns + x
    index = first[:, None] + torch.arange(CLASSES, device=first.device) * (rows * columns)
    return logits_BCYX.flatten().index_select(0, index.flatten()).unflatten(0, (-1, CLASSES)).float()
