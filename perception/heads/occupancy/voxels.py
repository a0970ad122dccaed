"""Which voxels the losses look at, and the network's logits there."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORED

CLASSES = len(OCCUPANCY_CLASSES)


@dataclass(frozen=True)
class VoxelSample:
    """S voxels for the losses.

    Attributes:
        logits_SC: float32.
        labels_S: int64.
        weights_S: how many voxels each one stands for, times how much it counts.
        density_S: float32 in 0..1, how densely the LiDAR saw each one; None where that is not asked for.
    """

    logits_SC: Tensor
    labels_S: Tensor
    weights_S: Tensor
    density_S: Tensor | None = None


def sample_voxels(
    logits_BCYX: Tensor,
    labels_BZYX: Tensor,
    per_sample: int | None,
    density_BZYX: Tensor | None = None,
    weights_BZYX: Tensor | None = None,
) -> VoxelSample:
    """Read the logits at all labelled voxels, or at a random part of them.

    Args:
        logits_BCYX: `(B, Z * 18, Y', X')`, channel z * 18 + class; where Y', X' are fewer than the labels' Y,
            X the logits are those of bilinear upsampling (align_corners=False); with `per_sample` that map is
            never made.
        labels_BZYX: uint8, 255 ignored.
        per_sample: about how many voxels of a sample to look at, half of them occupied, half free. The weight
            of each is the number of voxels of its kind per picked one, so that weighted sums expect the full
            sums. None: every voxel, weight 1.
        density_BZYX: read at the same voxels.
        weights_BZYX: likewise; multiply the voxels' own weights.
    """
    shape_YX = labels_BZYX.shape[2:]
    labels_V = labels_BZYX.flatten()
    if per_sample is None:
        index_S = (labels_V != OCCUPANCY_IGNORED).nonzero()[:, 0]
        weights_S = torch.ones(len(index_S), device=labels_V.device)
        # one interpolation of the whole map is cheaper than four reads of every voxel
        if logits_BCYX.shape[-2:] != shape_YX:
            logits_BCYX = F.interpolate(logits_BCYX, size=shape_YX, mode='bilinear', align_corners=False)
    else:
        index_S, weights_S = _pick_balanced(labels_V, per_sample * len(labels_BZYX) // 2)

    if weights_BZYX is not None:
        weights_S = weights_S * weights_BZYX.flatten()[index_S].float()
    places = torch.unravel_index(index_S, labels_BZYX.shape)
    logits_SC = read_logits(logits_BCYX, places, (shape_YX[0], shape_YX[1]))
    density_S = None if density_BZYX is None else density_BZYX.flatten()[index_S].float()
    return VoxelSample(logits_SC, labels_V[index_S].long(), weights_S, density_S)


def _pick_balanced(labels_V: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices and weights of up to `count` occupied and up to `count` free voxels."""
    kinds = [(labels_V < OCCUPANCY_FREE).nonzero()[:, 0], (labels_V == OCCUPANCY_FREE).nonzero()[:, 0]]
    picks = [_pick(index, count) for index in kinds]
    weights = [torch.full((len(index),), weight, device=labels_V.device) for index, weight in picks]
    return torch.cat([index for index, _ in picks]), torch.cat(weights)


def _pick(index_K: Tensor, count: int) -> tuple[Tensor, float]:
    """`count` random entries with repetition, or all where there are no more, and the weight of each."""
    if len(index_K) <= count:
        return index_K, 1.0
    chosen = torch.randint(len(index_K), (count,), device=index_K.device)
    return index_K[chosen], len(index_K) / count


def read_logits(logits_BCYX: Tensor, places: tuple[Tensor, ...], shape_YX: tuple[int, int]) -> Tensor:
    """Read logits `(S, 18)` float32 at voxels of a map of `shape_YX`, upsampled at those voxels where needed.

    Args:
        logits_BCYX: `(B, Z * 18, Y', X')`, as coarse as `shape_YX` or coarser.
        places: sample, z, y and x of S voxels.
        shape_YX: the cells that y and x count.
    """
    sample, z, y, x = places
    rows, columns = logits_BCYX.shape[-2:]
    if (rows, columns) == tuple(shape_YX):
        return _gather(logits_BCYX, sample, z, y, x)

    y0, y1, down = _neighbours(y, rows, shape_YX[0])
    x0, x1, right = _neighbours(x, columns, shape_YX[1])
    left = 1 - right

    # (S, 18) of the two coarse rows, then between them
    top = _gather(logits_BCYX, sample, z, y0, x0) * left + _gather(logits_BCYX, sample, z, y0, x1) * right
    bottom = _gather(logits_BCYX, sample, z, y1, x0) * left + _gather(logits_BCYX, sample, z, y1, x1) * right
    return top * (1 - down) + bottom * down


def _neighbours(fine_S: Tensor, coarse_size: int, fine_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse cells before and after the centre of a fine cell, and the weight `(S, 1)` of the one after."""
    position_S = ((fine_S + 0.5) * (coarse_size / fine_size) - 0.5).clamp(min=0)
    before_S = position_S.long()
    return before_S, (before_S + 1).clamp(max=coarse_size - 1), (position_S - before_S)[:, None]


def _gather(logits_BCYX: Tensor, sample: Tensor, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """All classes of S voxels by one flat index: `(S, 18)` float32."""
    _, channels, rows, columns = logits_BCYX.shape
    first_S = ((sample * channels + z * CLASSES) * rows + y) * columns + x
    classes_C = torch.arange(CLASSES, device=first_S.device) * (rows * columns)
    index_SC = first_S[:, None] + classes_C
    return logits_BCYX.flatten().index_select(0, index_SC.flatten()).unflatten(0, (-1, CLASSES)).float()
