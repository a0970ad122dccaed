"""Detection losses: heatmap, box code, attribute."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.processes import shared_count
from ...core.protocols import ATTRIBUTES
from ..losses import gaussian_focal_loss
from .targets import BOX_CODE, CODE_VELOCITY, HEADING, DetectionTargets

MOVING_M_PER_S = 0.5
"""What is faster moves; people walk at 1.3 m/s."""


@dataclass(frozen=True)
class DetectionLosses:
    """Weights of the detection losses.

    Args:
        heatmap: of the Gaussian focal loss.
        box: of the L1 loss.
        attribute: of the cross-entropy.
        code: of each number of `BOX_CODE` inside the L1 loss.
        moving: how often the velocity of an object counts that is faster than `MOVING_M_PER_S`. Few objects
            move: the L1 loss of a velocity that says nothing yet is least at zero, and a short training stays
            there. 1 as published.

    Raises:
        ValueError: not one weight for each number of the box code, or a negative one of what moves.
    """

    heatmap: float = 1.0
    box: float = 0.25
    attribute: float = 0.2
    code: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2)
    moving: float = 1.0

    def __post_init__(self) -> None:
        if len(self.code) != len(BOX_CODE):
            raise ValueError(
                f'losses.code: expected {len(BOX_CODE)} numbers {BOX_CODE}, found {len(self.code)}'
            )
        if not self.moving >= 0:
            raise ValueError(f'losses.moving: expected a number from 0 on, found {self.moving!r}')


def heatmap_loss(logits_BCYX: Tensor, targets: DetectionTargets, group_of_channel_C: Tensor) -> Tensor:
    """Gaussian focal loss: each group's sum divided by its number of objects, the groups added.

    Unlabelled samples are left out. Here and below, objects are counted over all training processes
    (`shared_count`), each as often as its weight says; cells and objects count by their weights.
    """
    cells = gaussian_focal_loss(logits_BCYX, targets.heatmap_BCYX) * targets.labelled_B[:, None, None, None]
    if targets.weight_BCYX is not None:
        cells = cells * targets.weight_BCYX

    groups = int(group_of_channel_C.max()) + 1
    per_group_G = cells.new_zeros(groups).index_add(0, group_of_channel_C, cells.sum((0, 2, 3)))
    return (per_group_G / _objects_per_group(targets, groups)).sum()


def box_loss(
    box_BCYX: Tensor, targets: DetectionTargets, code_weights: Sequence[float], moving: float = 1.0
) -> Tensor:
    """Weighted L1 at the objects' cells, divided by the number of objects of their group.

    Unknown velocities (NaN) cost nothing. Of the two headings of a class without a front the one
    nearer to the prediction is learned. `moving`: see `DetectionLosses`.
    """
    code_P10 = _at_objects(box_BCYX, targets, len(code_weights))
    distance_P = code_distance(
        code_P10, targets.code_P10, targets.half_turn_K[targets.label_P], code_weights, moving)

    if targets.weight_P is not None:
        distance_P = distance_P * targets.weight_P

    groups = box_BCYX.shape[1] // len(code_weights)
    return (distance_P / _objects_per_group(targets, groups)[targets.group_P]).sum()


def code_distance(
    code_P10: Tensor, target_P10: Tensor, is_half_turn_P: Tensor, code_weights: Sequence[float],
    moving: float = 1.0,
) -> Tensor:
    """Weighted L1 between box codes and true ones, `(P,)`.

    Args:
        code_P10: predicted, float32.
        target_P10: true; what is NaN costs nothing.
        is_half_turn_P: whose class has no front: of its two headings the one nearer to the prediction counts.
        code_weights: of each number.
        moving: how often the velocity of an object that moves counts.
    """
    target_P10 = _nearer_heading(target_P10, is_half_turn_P, code_P10)

    # NaN is replaced before the subtraction as well: its gradient would be NaN behind a mask alone
    known = torch.isfinite(target_P10)
    difference = torch.where(known, code_P10 - torch.where(known, target_P10, 0), 0).abs()
    weighted_P10 = difference * difference.new_tensor(code_weights)
    if moving != 1:
        faster_P = target_P10[:, CODE_VELOCITY].norm(dim=1) > MOVING_M_PER_S  # unknown: not faster
        often_P2 = torch.where(faster_P, moving, 1.0)[:, None]
        weighted_P10 = torch.cat(
            [weighted_P10[:, :CODE_VELOCITY.start], weighted_P10[:, CODE_VELOCITY] * often_P2], 1)
    return weighted_P10.sum(1)


def _nearer_heading(target_P10: Tensor, is_half_turn_P: Tensor, code_P10: Tensor) -> Tensor:
    """The true codes; a class without a front is turned to the prediction: -sin and -cos are yaw + pi."""
    predicted_P2, true_P2 = code_P10[:, HEADING].detach(), target_P10[:, HEADING]
    is_nearer_turned_P = (predicted_P2 + true_P2).abs().sum(1) < (predicted_P2 - true_P2).abs().sum(1)

    sign_P10 = torch.ones_like(target_P10)
    sign_P10[:, HEADING] = torch.where(is_half_turn_P & is_nearer_turned_P, -1.0, 1.0)[:, None]
    return target_P10 * sign_P10


def attribute_loss(attribute_BCYX: Tensor, targets: DetectionTargets) -> Tensor:
    """Cross-entropy among the attributes the object's class may have, mean over objects that have one."""
    logits_P8 = _at_objects(attribute_BCYX, targets, len(ATTRIBUTES))
    valid_P8 = targets.attributes_K8[targets.label_P]
    return attribute_entropy(logits_P8, targets.attribute_P, valid_P8, targets.weight_P)


def attribute_entropy(
    logits_P8: Tensor, attribute_P: Tensor, valid_P8: Tensor, weight_P: Tensor | None = None
) -> Tensor:
    """Cross-entropy among the attributes that are valid, mean over objects that have one (of all processes).

    Args:
        logits_P8: float32.
        attribute_P: index into `ATTRIBUTES`, -1 none.
        valid_P8: which attributes an object's class may have.
        weight_P: how much each object counts; None: all 1.
    """
    # an attribute that the class may not have is a labelling error
    is_valid_P = valid_P8.gather(1, attribute_P.clamp(min=0)[:, None])[:, 0]
    known_P = (attribute_P >= 0) & is_valid_P

    logits, attributes = logits_P8.masked_fill(~valid_P8, -1e4)[known_P], attribute_P[known_P]
    if weight_P is None:
        return F.cross_entropy(logits, attributes, reduction='sum') / shared_count(known_P.sum())
    weights = weight_P[known_P]
    total = (F.cross_entropy(logits, attributes, reduction='none') * weights).sum()
    return total / shared_count(weights.sum())


def _at_objects(maps_BCYX: Tensor, targets: DetectionTargets, channels: int) -> Tensor:
    """Read `(P, channels)` float32 at the objects' group, row and column."""
    grouped = maps_BCYX.unflatten(1, (-1, channels))
    return grouped[targets.sample_P, targets.group_P, :, targets.row_P, targets.column_P].float()


def _objects_per_group(targets: DetectionTargets, groups: int) -> Tensor:
    return shared_count(torch.bincount(targets.group_P, targets.weight_P, minlength=groups))
