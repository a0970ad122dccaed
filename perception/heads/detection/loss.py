"""Detection losses: heatmap, box code, attribute."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.processes import shared_count
from ..losses import gaussian_focal_loss
from .classes import VALID_ATTRIBUTES
from .targets import DetectionTargets


def heatmap_loss(logits_BCYX: Tensor, targets: DetectionTargets, group_of_channel_C: Tensor) -> Tensor:
    """Gaussian focal loss, each group's sum divided by its number of objects, groups added; unlabelled
    samples left out.

    Here and below, objects are counted over all training processes (`shared_count`).
    """
    cells = gaussian_focal_loss(logits_BCYX, targets.heatmap_BCYX) * targets.labelled_B[:, None, None, None]
    groups = int(group_of_channel_C.max()) + 1
    per_group = cells.new_zeros(groups).index_add(0, group_of_channel_C, cells.sum((0, 2, 3)))
    return (per_group / _objects_per_group(targets, groups)).sum()


def box_loss(box_BCYX: Tensor, targets: DetectionTargets, code_weights: Sequence[float]) -> Tensor:
    """Weighted L1 at the objects' cells, divided by the objects of their group; unknown velocities (NaN) cost
    nothing."""
    code = _at_objects(box_BCYX, targets, len(code_weights))
    known = torch.isfinite(targets.code_P10)
    difference = torch.where(known, code - torch.where(known, targets.code_P10, 0), 0).abs()
    weights = difference.new_tensor(code_weights)
    return ((difference * weights).sum(1) / _share(box_BCYX, targets, len(code_weights))).sum()


def attribute_loss(attribute_BCYX: Tensor, targets: DetectionTargets) -> Tensor:
    """Cross-entropy among the attributes that the object's class may carry, mean over objects that have
    one."""
    logits = _at_objects(attribute_BCYX, targets, VALID_ATTRIBUTES.shape[1])
    valid = torch.as_tensor(VALID_ATTRIBUTES, device=logits.device)[targets.label_P]
    known = (targets.attribute_P >= 0) & valid.gather(1, targets.attribute_P.clamp(min=0)[:, None])[:, 0]
    logits = logits.masked_fill(~valid, -1e4)[known]
    return F.cross_entropy(logits, targets.attribute_P[known], reduction='sum') / shared_count(known.sum())


def _at_objects(maps_BCYX: Tensor, targets: DetectionTargets, channels: int) -> Tensor:
    """Read `(P, channels)` float32 at the objects' group, row and column."""
    grouped = maps_BCYX.unflatten(1, (-1, channels))
    return grouped[targets.sample_P, targets.group_P, :, targets.row_P, targets.column_P].float()


def _objects_per_group(targets: DetectionTargets, groups: int) -> Tensor:
    return shared_count(torch.bincount(targets.group_P, minlength=groups))


def _share(box_BCYX: Tensor, targets: DetectionTargets, channels: int) -> Tensor:
    return _objects_per_group(targets, box_BCYX.shape[1] // channels)[targets.group_P]
