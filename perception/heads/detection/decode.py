"""Raw heatmaps and box codes -> boxes in ego metres. Runs outside the exported graph."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.contracts import NUSCENES_CLASSES, SIZE, VELOCITY, YAW, Boxes3D, DetectionClasses
from ...core.grid import BEVGrid
from ...core.protocols import ATTRIBUTES
from .classes import MOVING_ATTRIBUTES, crowded_classes, nms_radius_m
from .nms import circle_nms, rotated_nms
from .targets import BOX_CODE

_KERNEL = 3


@dataclass(frozen=True)
class DecodeRule:
    """How raw outputs become boxes.

    Args:
        max_boxes: largest number of boxes per sample (nuScenes allows 500), and of peaks per group.
        score_threshold: peaks with a lower score are dropped.
        peak_kernel: odd side of the window of cells in which a peak must be the highest, one for all or by
            class name (the others have 3). None: 3, and where an NMS follows, which measures in metres, no
            window (1) for classes that are `crowded`.
        nms: 'circle' (radius per class), 'rotated' (IoU per class) or None.
        radius_m: for 'circle', per class name or one number for all; None: the `nms_radius_m` of the classes.
        iou: for 'rotated', per class name or one number for all.
        moving_mps: speed from which an object counts as moving; None leaves attributes to the logits alone.
        classes: those of the head, which gives them itself.

    Raises:
        ValueError: a number is out of range, or a name unknown.
    """

    max_boxes: int = 500
    score_threshold: float = 0.05
    peak_kernel: Mapping[str, int] | int | None = None
    nms: str | None = 'circle'
    radius_m: Mapping[str, float] | float | None = None
    iou: Mapping[str, float] | float = 0.2
    moving_mps: float | None = None
    classes: DetectionClasses = NUSCENES_CLASSES

    def __post_init__(self) -> None:
        if not 0 < self.max_boxes <= 500:
            raise ValueError(
                f'max_boxes: expected 1..500 (nuScenes takes 500 boxes a sample), found {self.max_boxes}'
            )
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f'score_threshold: expected 0 to 1, found {self.score_threshold!r}')
        if self.nms not in ('circle', 'rotated', None):
            raise ValueError(f"nms: expected 'circle', 'rotated' or None, found {self.nms!r}")

        if self.radius_m is None:
            object.__setattr__(self, 'radius_m', nms_radius_m(self.classes))

        names = self.classes.names
        if unknown := set(self._kernels()) - set(names):
            raise ValueError(f'peak_kernel: expected names out of {names}, found {sorted(unknown)}')
        if any(kernel < 1 or kernel % 2 != 1 for kernel in self._kernels().values()):
            raise ValueError(f'peak_kernel: expected odd numbers of cells, found {self.peak_kernel}')

        per_class('radius_m', self.radius_m, names)
        per_class('iou', self.iou, names)

    def kernel_of_label(self) -> np.ndarray:
        """Side of the window of each class, int64 `(K,)`."""
        kernels = self._kernels()
        return np.array([kernels.get(name, _KERNEL) for name in self.classes.names])

    def _kernels(self) -> dict[str, int]:
        if isinstance(self.peak_kernel, int):
            return dict.fromkeys(self.classes.names, self.peak_kernel)
        if self.peak_kernel is None:
            return dict.fromkeys(crowded_classes(self.classes) if self.nms else (), 1)
        return dict(self.peak_kernel)


def decode_boxes(
    raw: dict[str, Tensor],
    grid: BEVGrid,
    label_of_channel: np.ndarray,
    group_of_channel: np.ndarray,
    rule: DecodeRule,
) -> list[Boxes3D]:
    """Decode the raw outputs of a batch to boxes per sample, best first, in ego metres."""
    heatmap_BCYX = raw['heatmap'].detach().float()
    kernel_of_channel = rule.kernel_of_label()[label_of_channel]
    scores_BK, channels_BK, rows_BK, columns_BK = find_peaks(
        heatmap_BCYX, kernel_of_channel, group_of_channel, rule.max_boxes)
    batch_B1 = torch.arange(len(scores_BK), device=scores_BK.device)[:, None]
    groups_BK = torch.as_tensor(group_of_channel, device=scores_BK.device)[channels_BK]

    def at_peaks(name: str, channels: int) -> np.ndarray:
        maps_BGCYX = raw[name].detach().unflatten(1, (-1, channels))
        return maps_BGCYX[batch_B1, groups_BK, :, rows_BK, columns_BK].float().cpu().numpy()

    # (B, K, 10), (B, K, 8)
    codes = at_peaks('box', len(BOX_CODE))
    attributes = at_peaks('attribute', len(ATTRIBUTES))

    labels = label_of_channel[channels_BK.cpu().numpy()]
    cells = torch.stack([columns_BK, rows_BK], -1).cpu().numpy()
    scores = scores_BK.cpu().numpy()
    return [
        select_boxes(scores[b], labels[b], decode_codes(codes[b], cells[b], grid), attributes[b], rule)
        for b in range(len(scores))
    ]


def find_peaks(
    heatmap_BCYX: Tensor,
    kernel_of_channel: np.ndarray,
    group_of_channel: np.ndarray,
    most: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the best cells that are the highest of their window, `most` of each group (as published).

    Returns:
        Scores, channels, rows and columns, each `(B, K)`, best first.
    """
    rows, columns = heatmap_BCYX.shape[2:]
    peaks_BCYX = heatmap_BCYX.clone()
    for kernel in set(kernel_of_channel.tolist()) - {1}:
        same = np.flatnonzero(kernel_of_channel == kernel)
        part = heatmap_BCYX[:, same]
        highest = F.max_pool2d(part, kernel, stride=1, padding=kernel // 2)
        peaks_BCYX[:, same] = part.masked_fill(highest != part, -torch.inf)

    best = []
    for group in np.unique(group_of_channel):
        of_group = torch.as_tensor(group_of_channel == group, device=peaks_BCYX.device)
        scores = peaks_BCYX.masked_fill(~of_group[:, None, None], -torch.inf).flatten(1)
        best.append(scores.topk(min(most, int(of_group.sum()) * rows * columns), dim=1))

    # all groups together, best first
    all_BK = torch.cat([scores_BK for scores_BK, _ in best], 1)
    logits_BK, order_BK = all_BK.sort(dim=1, descending=True, stable=True)
    index_BK = torch.cat([index for _, index in best], 1).gather(1, order_BK)

    # the index counts channels, rows and columns as one
    cell_BK = index_BK % (rows * columns)
    return torch.sigmoid(logits_BK), index_BK // (rows * columns), cell_BK // columns, cell_BK % columns


def decode_codes(codes_K10: np.ndarray, cells_K2: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """Decode box codes at integer cells (column, row) to boxes float32 `(K, 9)` in ego metres."""
    offset_K2, z_K1, log_size_K3, sin_K1, cos_K1, velocity_K2 = np.split(codes_K10, [2, 3, 6, 7, 8], axis=1)

    centre_K2 = grid.to_metres(cells_K2 + offset_K2.astype(np.float64))
    # an untrained network may predict any size: e^5 is 148 m
    size_K3 = np.exp(np.clip(log_size_K3, -5, 5))
    yaw_K1 = np.arctan2(sin_K1, cos_K1)
    return np.concatenate([centre_K2, z_K1, size_K3, yaw_K1, velocity_K2], 1).astype(np.float32)


def choose_attributes(
    logits_M8: np.ndarray,
    labels_M: np.ndarray,
    velocity_M2: np.ndarray,
    rule: DecodeRule,
) -> np.ndarray:
    """Choose the likeliest attribute that the class may have, -1 where it has none.

    With `rule.moving_mps`, speed decides first between the attributes of moving and of standing objects.
    """
    allowed_M8 = rule.classes.valid_attributes[labels_M]
    if rule.moving_mps is not None:
        is_moving_M = np.linalg.norm(velocity_M2, axis=1) > rule.moving_mps
        allowed_M8 = allowed_M8 & (is_moving_M[:, None] == MOVING_ATTRIBUTES[None])

    best_M = np.where(allowed_M8, logits_M8, -np.inf).argmax(1)
    return np.where(allowed_M8.any(1), best_M, -1)


def select_boxes(
    scores_K: np.ndarray,
    labels_K: np.ndarray,
    boxes_K9: np.ndarray,
    attributes_K8: np.ndarray,
    rule: DecodeRule,
) -> Boxes3D:
    """Select the boxes of one sample by score and non-maximum suppression.

    Args:
        scores_K: best first.
        labels_K: index into the classes.
        boxes_K9: in ego metres.
        attributes_K8: logits of `ATTRIBUTES`.
        rule: what is kept.
    """
    names = rule.classes.names
    keep = np.flatnonzero((scores_K >= rule.score_threshold) & np.isfinite(boxes_K9).all(1))
    boxes, scores, labels = boxes_K9[keep], scores_K[keep], labels_K[keep]

    if rule.nms == 'circle':
        kept = circle_nms(boxes[:, :2], scores, labels, per_class('radius_m', rule.radius_m, names))
    elif rule.nms == 'rotated':
        rectangles_M5 = np.concatenate([boxes[:, :2], boxes[:, SIZE][:, :2], boxes[:, YAW, None]], 1)
        kept = rotated_nms(rectangles_M5, scores, labels, per_class('iou', rule.iou, names))
    else:
        kept = np.arange(len(keep))
    kept = kept[:rule.max_boxes]

    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    attributes = choose_attributes(attributes_K8[keep[kept]], labels, boxes[:, VELOCITY], rule)
    return Boxes3D(
        boxes, scores.astype(np.float32), labels.astype(np.int64), attributes.astype(np.int64), rule.classes)


def per_class(name: str, value: Mapping[str, float] | float, names: Sequence[str]) -> np.ndarray:
    """float64 `(K,)` in the order of the classes' names; `name` is the option's, for the message."""
    if not isinstance(value, Mapping):
        return np.full(len(names), float(value))

    wrong = set(value) ^ set(names)
    if wrong:
        raise ValueError(
            f'{name}: expected one number for each detection class; missing or unknown: {sorted(wrong)}'
        )
    return np.array([value[c] for c in names], dtype=np.float64)
