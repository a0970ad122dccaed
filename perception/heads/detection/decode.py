"""Raw heatmaps and box codes -> boxes in ego metres. Runs outside the exported graph."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.contracts import Boxes3D
from ...core.grid import BEVGrid
from ...core.protocols import DETECTION_CLASSES
from .classes import MOVING_ATTRIBUTES, NMS_RADIUS_M, VALID_ATTRIBUTES
from .nms import circle_nms, rotated_nms
from .targets import BOX_CODE


@dataclass(frozen=True)
class DecodeRule:
    """How raw outputs become boxes.

    Args:
        max_boxes: at most this many a sample (nuScenes allows 500).
        score_threshold: below it a peak is dropped.
        peak_kernel: odd side of the window in which a peak must be the highest.
        nms: 'circle' (radius per class), 'rotated' (IoU per class) or None.
        radius_m, iou: per class name, one number for all, or the default.
        moving_mps: speed from which a thing is said to move; None leaves attributes to the logits alone.

    Raises:
        ValueError: a number is out of range, or a name unknown.
    """

    max_boxes: int = 500
    score_threshold: float = 0.05
    peak_kernel: int = 3
    nms: str | None = 'circle'
    radius_m: Mapping[str, float] | float = field(default_factory=lambda: NMS_RADIUS_M)
    iou: Mapping[str, float] | float = 0.2
    moving_mps: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_boxes <= 500:
            raise ValueError(
                f'max_boxes: expected 1..500 (nuScenes takes 500 boxes a sample), found {self.max_boxes}'
            )
        if self.nms not in ('circle', 'rotated', None):
            raise ValueError(f"nms: expected 'circle', 'rotated' or None, found {self.nms!r}")
        if self.peak_kernel % 2 != 1:
            raise ValueError(f'peak_kernel: expected an odd number of cells, found {self.peak_kernel}')
        _per_class('radius_m', self.radius_m)
        _per_class('iou', self.iou)


def decode_boxes(
    raw: dict[str, Tensor],
    grid: BEVGrid,
    label_of_channel: np.ndarray,
    group_of_channel: np.ndarray,
    rule: DecodeRule,
) -> list[Boxes3D]:
    """Raw outputs of a batch -> boxes a sample, best first, in ego metres."""
    scores, channels, rows, columns = find_peaks(raw['heatmap'].detach().float(), rule)
    batch = torch.arange(len(scores), device=scores.device)[:, None]
    groups = torch.as_tensor(group_of_channel, device=scores.device)[channels]

    def read(name: str, size: int) -> np.ndarray:
        maps = raw[name].detach().unflatten(1, (-1, size))
        return maps[batch, groups, :, rows, columns].float().cpu().numpy()

    codes, attributes = read('box', len(BOX_CODE)), read('attribute', VALID_ATTRIBUTES.shape[1])
    labels = label_of_channel[channels.cpu().numpy()]
    cells = torch.stack([columns, rows], -1).cpu().numpy()
    scores = scores.cpu().numpy()
    return [_one_sample(scores[b], labels[b], decode_codes(codes[b], cells[b], grid), attributes[b], rule)
            for b in range(len(scores))]


def find_peaks(heatmap_BCYX: Tensor, rule: DecodeRule) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best cells that are the highest of their window: scores, channels, rows, columns, each `(B, K)`,
    best first."""
    highest = F.max_pool2d(heatmap_BCYX, rule.peak_kernel, stride=1, padding=rule.peak_kernel // 2)
    peaks = heatmap_BCYX.masked_fill(highest != heatmap_BCYX, -torch.inf).flatten(1)
    logits, index = peaks.topk(min(rule.max_boxes, peaks.shape[1]), dim=1)
    cells_per_channel, columns = heatmap_BCYX.shape[-2] * heatmap_BCYX.shape[-1], heatmap_BCYX.shape[-1]
    cell = index % cells_per_channel
    return torch.sigmoid(logits), index // cells_per_channel, cell // columns, cell % columns


def decode_codes(codes_K10: np.ndarray, cells_K2: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """Box codes at integer cells (column, row) -> boxes float32 `(K, 9)` in ego metres."""
    centre = grid.to_metres(cells_K2 + codes_K10[:, :2].astype(np.float64))
    size = np.exp(np.clip(codes_K10[:, 3:6], -5, 5))
    yaw = np.arctan2(codes_K10[:, 6:7], codes_K10[:, 7:8])
    return np.concatenate([centre, codes_K10[:, 2:3], size, yaw, codes_K10[:, 8:10]], 1).astype(np.float32)


def choose_attributes(
    logits_M8: np.ndarray,
    labels_M: np.ndarray,
    velocity_M2: np.ndarray,
    moving_mps: float | None,
) -> np.ndarray:
    """The likeliest attribute that the class may carry, -1 where it carries none.

    With `moving_mps`, speed decides between moving and not moving first, then the logits among what is left.
    """
    allowed = VALID_ATTRIBUTES[labels_M]
    if moving_mps is not None:
        moves = np.linalg.norm(velocity_M2, axis=1) > moving_mps
        allowed = allowed & (moves[:, None] == MOVING_ATTRIBUTES[None])
    best = np.where(allowed, logits_M8, -np.inf).argmax(1)
    return np.where(allowed.any(1), best, -1)


def _one_sample(
    scores: np.ndarray,
    labels: np.ndarray,
    boxes: np.ndarray,
    attributes: np.ndarray,
    rule: DecodeRule,
) -> Boxes3D:
    keep = np.flatnonzero((scores >= rule.score_threshold) & np.isfinite(boxes).all(1))
    if rule.nms == 'circle':
        keep = keep[
            circle_nms(boxes[keep, :2], scores[keep], labels[keep], _per_class('radius_m', rule.radius_m))
        ]
    elif rule.nms == 'rotated':
        keep = keep[
            rotated_nms(
                boxes[keep][:, [0, 1, 3, 4, 6]], scores[keep], labels[keep], _per_class('iou', rule.iou)
            )
        ]
    chosen = choose_attributes(attributes[keep], labels[keep], boxes[keep, 7:9], rule.moving_mps)
    return Boxes3D(
        boxes[keep], scores[keep].astype(np.float32), labels[keep].astype(np.int64), chosen.astype(np.int64)
    )


def _per_class(name: str, value: Mapping[str, float] | float) -> np.ndarray:
    if not isinstance(value, Mapping):
        return np.full(len(DETECTION_CLASSES), float(value))
    wrong = set(value) ^ set(DETECTION_CLASSES)
    if wrong:
        raise ValueError(
            f'{name}: expected one number for each detection class; missing or unknown: {sorted(wrong)}'
        )
    return np.array([value[c] for c in DETECTION_CLASSES], dtype=np.float64)
