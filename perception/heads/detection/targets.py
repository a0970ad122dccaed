"""Boxes in metres -> heatmaps and box codes in cells (Yin et al. 2021, arXiv 2006.11275, section 4.1)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Annotations, BoxLabels
from ...core.grid import BEVGrid

BOX_CODE = (
    'offset_x', 'offset_y', 'z_m', 'log_length', 'log_width', 'log_height', 'sin_yaw', 'cos_yaw', 'vx_mps',
    'vy_mps')


@dataclass(frozen=True)
class DetectionTargets:
    """What the detection loss compares with. P objects of the whole batch, one per (sample, group, cell).

    Attributes:
        heatmap_BCYX: float32 0..1, channels in the head's class order, exactly 1 at the objects' cells.
        labelled_B: bool, False where a sample has no box annotation at all.
        sample_P, group_P, row_P, column_P: int64, where each object lies.
        channel_P: its heatmap channel.
        label_P: its index into `DETECTION_CLASSES`.
        attribute_P: into `ATTRIBUTES`, -1 none.
        code_P10: float32 in the order of `BOX_CODE`; velocity NaN where unknown.
    """

    heatmap_BCYX: Tensor
    labelled_B: Tensor
    sample_P: Tensor
    group_P: Tensor
    row_P: Tensor
    column_P: Tensor
    channel_P: Tensor
    label_P: Tensor
    attribute_P: Tensor
    code_P10: Tensor

    def to(self, device: Any) -> DetectionTargets:
        """The same targets on another device."""
        return DetectionTargets(
            **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__}
        )


@dataclass(frozen=True)
class TargetRule:
    """How boxes become targets.

    Args:
        grid: of the heatmap.
        channel_of_label, group_of_label: int64 `(10,)`.
        min_overlap: IoU that a shifted box of the same size must still have inside the radius.
        min_radius_cells: floor.
        min_points: boxes with fewer LiDAR and radar points are left out (a negative count means unknown and
            is kept).
    """

    grid: BEVGrid
    channel_of_label: np.ndarray
    group_of_label: np.ndarray
    min_overlap: float = 0.1
    min_radius_cells: int = 2
    min_points: int = 1


def build_targets(annotations: Sequence[Annotations], rule: TargetRule) -> DetectionTargets:
    """Targets of a batch, on the CPU. Samples whose `boxes` is None are marked as not labelled."""
    labels = [keep_boxes(a.boxes, rule) for a in annotations]
    sample = np.repeat(np.arange(len(labels)), [len(b.labels_M) for b in labels])
    boxes = np.concatenate([b.boxes_M9 for b in labels]).astype(np.float64)
    label = np.concatenate([b.labels_M for b in labels]).astype(np.int64)
    attribute = np.concatenate([b.attributes_M for b in labels]).astype(np.int64)
    cells = rule.grid.to_cells(boxes[:, :2])
    column, row = np.floor(cells).astype(np.int64).T
    heatmap = _heatmap(len(labels), sample, label, row, column, boxes, rule)
    group = rule.group_of_label[label]
    _, first = np.unique(np.stack([sample, group, row, column]), axis=1, return_index=True)
    arrays = dict(
        sample_P=sample, group_P=group, row_P=row, column_P=column, channel_P=rule.channel_of_label[label],
        label_P=label, attribute_P=attribute, code_P10=encode_boxes(boxes, cells))
    return DetectionTargets(
        torch.from_numpy(heatmap), torch.tensor([a.boxes is not None for a in annotations]),
        **{name: torch.from_numpy(value[first]) for name, value in arrays.items()})


def keep_boxes(boxes: BoxLabels | None, rule: TargetRule) -> BoxLabels:
    """The boxes that can be learned: centre on the grid, positive finite size, enough points."""
    if boxes is None:
        nothing = np.zeros(0, dtype=np.int64)
        return BoxLabels(np.zeros((0, 9), dtype=np.float32), *[nothing] * 5)
    points = boxes.num_lidar_points_M.astype(np.int64) + boxes.num_radar_points_M
    geometry = np.asarray(boxes.boxes_M9)[:, :7]
    sound = np.isfinite(geometry).all(1) & (geometry[:, 3:6] > 0).all(1)
    return boxes.select(
        sound & rule.grid.contains(geometry[:, :2]) & ((points >= rule.min_points) | (points < 0))
    )


def encode_boxes(boxes_M9: np.ndarray, cells_M2: np.ndarray) -> np.ndarray:
    """Boxes and their continuous cell coordinates (column, row) -> float32 codes `(M, 10)`, see
    `BOX_CODE`."""
    yaw = boxes_M9[:, 6:7]
    parts = [
        cells_M2 - np.floor(cells_M2), boxes_M9[:, 2:3], np.log(boxes_M9[:, 3:6]), np.sin(yaw), np.cos(yaw),
        boxes_M9[:, 7:9]]
    return np.concatenate(parts, 1).astype(np.float32)


def gaussian_radius(length: np.ndarray, width: np.ndarray, min_overlap: float) -> np.ndarray:
    """Largest shift of corners (same unit as the sides) that keeps IoU >= `min_overlap` (Law & Deng 2018,
    arXiv 1808.01244).

    Three cases are bounded, the smallest wins: the box moved diagonally, shrunk on all sides, grown on all
    sides.
    """
    total, area = length + width, length * width
    moved = (total - np.sqrt(total ** 2 - 4 * area * (1 - min_overlap) / (1 + min_overlap))) / 2
    shrunk = (total - np.sqrt(total ** 2 - 4 * area * (1 - min_overlap))) / 4
    grown = (np.sqrt(total ** 2 + 4 * area * (1 - min_overlap) / min_overlap) - total) / 4
    return np.minimum(np.minimum(moved, shrunk), grown)


def _heatmap(
    batch: int,
    sample: np.ndarray,
    label: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    boxes: np.ndarray,
    rule: TargetRule,
) -> np.ndarray:
    channels = len(rule.channel_of_label)
    radius = gaussian_radius(boxes[:, 3] / rule.grid.cell_m, boxes[:, 4] / rule.grid.cell_m, rule.min_overlap)
    radius = np.maximum(radius.astype(np.int64), rule.min_radius_cells)
    maps = np.zeros((batch * channels, *rule.grid.shape_YX), dtype=np.float32)
    draw_gaussians(maps, sample * channels + rule.channel_of_label[label], row, column, radius)
    return maps.reshape(batch, channels, *rule.grid.shape_YX)


@numba.njit(cache=True)
def draw_gaussians(
    maps: np.ndarray,
    plane_M: np.ndarray,
    row_M: np.ndarray,
    column_M: np.ndarray,
    radius_M: np.ndarray,
) -> None:
    """Draw M bumps into `maps` `(planes, Y, X)` in place, each cell keeping the highest: see
    `draw_gaussians_readable`."""
    rows, columns = maps.shape[1:]
    for m in range(len(plane_M)):
        radius = radius_M[m]
        sigma = (2 * radius + 1) / 6.0
        for i in range(max(0, row_M[m] - radius), min(rows, row_M[m] + radius + 1)):
            for j in range(max(0, column_M[m] - radius), min(columns, column_M[m] + radius + 1)):
                value = np.exp(-((i - row_M[m]) ** 2 + (j - column_M[m]) ** 2) / (2 * sigma * sigma))
                if value > maps[plane_M[m], i, j]:
                    maps[plane_M[m], i, j] = value


def draw_gaussians_readable(maps: np.ndarray, plane_M: np.ndarray, row_M: np.ndarray, column_M: np.ndarray,
                            radius_M: np.ndarray) -> None:
    """Slow twin of `draw_gaussians`: a bump of sigma = diameter / 6, cut to a square of side 2 * radius +
    1."""
    i, j = np.mgrid[:maps.shape[1], :maps.shape[2]]
    for plane, row, column, radius in zip(plane_M, row_M, column_M, radius_M, strict=True):
        sigma = (2 * radius + 1) / 6
        bump = np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma ** 2))
        inside = (abs(i - row) <= radius) & (abs(j - column) <= radius)
        maps[plane] = np.maximum(maps[plane], np.where(inside, bump, 0))


def as_raw(targets: DetectionTargets, groups: int, confidence_logit: float = 20.0) -> dict[str, Tensor]:
    """The raw outputs of a head that knows the truth: its loss is about zero and its decoding gives the boxes
    back."""
    batch, _, rows, columns = targets.heatmap_BCYX.shape
    box = torch.zeros(batch, groups, len(BOX_CODE), rows, columns)
    attribute = torch.zeros(batch, groups, 8, rows, columns)
    at = (targets.sample_P, targets.group_P, slice(None), targets.row_P, targets.column_P)
    box[at] = torch.nan_to_num(targets.code_P10)
    known = targets.attribute_P >= 0
    attribute[
        targets.sample_P[known], targets.group_P[known], targets.attribute_P[known], targets.row_P[known],
        targets.column_P[known]] = confidence_logit
    heatmap = torch.where(targets.heatmap_BCYX == 1, confidence_logit, -confidence_logit)
    return {'heatmap': heatmap, 'box': box.flatten(1, 2), 'attribute': attribute.flatten(1, 2)}
