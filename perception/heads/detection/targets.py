"""Boxes in metres -> heatmaps and box codes in cells (Yin et al. 2021, arXiv 2006.11275, section 4.1)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ...core.contracts import (
    CENTRE,
    NUSCENES_CLASSES,
    SIZE,
    VELOCITY,
    YAW,
    Annotations,
    BoxLabels,
    DetectionClasses,
    LabelledArea,
    check_same_classes,
)
from ...core.grid import BEVGrid
from ...core.protocols import ATTRIBUTES

BOX_CODE = (
    'offset_x', 'offset_y', 'z_m', 'log_length', 'log_width', 'log_height', 'sin_yaw', 'cos_yaw', 'vx_mps',
    'vy_mps')
"""What each number of a box code is; offsets are in cells, from the corner of the object's cell."""

HEADING = slice(6, 8)
"""Sine and cosine in a box code."""
CODE_VELOCITY = slice(8, 10)
"""Velocity in a box code."""


@dataclass(frozen=True)
class TargetOptions:
    """Which boxes are learned, and how wide their peaks are.

    Args:
        min_overlap: IoU that a shifted box of the same size must still have inside the peak's radius.
        min_radius_cells: smallest radius.
        min_points: boxes with fewer LiDAR and radar points are left out (a negative count means unknown and
            is kept).
    """

    min_overlap: float = 0.1
    min_radius_cells: int = 2
    min_points: int = 1


@dataclass(frozen=True)
class TargetRule:
    """How boxes become targets.

    Args:
        grid: of the heatmap.
        channel_of_label: heatmap channel of each class, int64 `(K,)`.
        group_of_label: regression branch of each class, int64 `(K,)`.
        options: see `TargetOptions`.
        classes: K, those of the head.
        one_per_cell: of several objects of a branch in one cell only the first is regressed, since a dense
            branch predicts one code a cell; False keeps all, for heads that match them with queries.
    """

    grid: BEVGrid
    channel_of_label: np.ndarray
    group_of_label: np.ndarray
    options: TargetOptions = TargetOptions()
    classes: DetectionClasses = NUSCENES_CLASSES
    one_per_cell: bool = True


@dataclass(frozen=True)
class DetectionTargets:
    """What the detection loss compares with. P objects of the whole batch, one per (sample, group, cell).

    With `TargetRule.one_per_cell` False there may be several.

    Attributes:
        heatmap_BCYX: float32 0..1, channels in the head's class order, exactly 1 at the objects' cells.
        labelled_B: bool, False where a sample has no box annotation at all.
        channel_of_label_K: int64, the heatmap's channel of each class.
        half_turn_K: bool, classes that look the same from both ends.
        attributes_K8: bool, which of `ATTRIBUTES` each class may have.
        sample_P: int64, the sample of each object.
        group_P: its regression branch.
        row_P: its cell's row.
        column_P: its cell's column.
        channel_P: its heatmap channel.
        label_P: its index into the classes.
        attribute_P: its index into `ATTRIBUTES`, -1 none.
        code_P10: float32 in the order of `BOX_CODE`; velocity NaN where unknown.
        weight_P: float32 above 0, how much each object counts; None: all 1.
        weight_BCYX: float32, how much each cell of the heatmap counts; None: all 1.
    """

    heatmap_BCYX: Tensor
    labelled_B: Tensor
    channel_of_label_K: Tensor
    half_turn_K: Tensor
    attributes_K8: Tensor
    sample_P: Tensor
    group_P: Tensor
    row_P: Tensor
    column_P: Tensor
    channel_P: Tensor
    label_P: Tensor
    attribute_P: Tensor
    code_P10: Tensor
    weight_P: Tensor | None = None
    weight_BCYX: Tensor | None = None

    def to(self, device: Any) -> DetectionTargets:
        """Copy the targets to another device."""
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return DetectionTargets(
            **{name: None if tensor is None else tensor.to(device) for name, tensor in tensors.items()})


def build_targets(annotations: Sequence[Annotations], rule: TargetRule) -> DetectionTargets:
    """Build the targets of a batch, on the CPU. Samples whose `boxes` is None are marked as not labelled.

    Raises:
        ValueError: boxes have labels of other classes than the head's.
    """
    labels = [keep_boxes(a.boxes, rule) for a in annotations]

    # the boxes of all samples in one array, and the sample of each
    boxes_M9 = np.concatenate([b.boxes_M9 for b in labels]).astype(np.float64)
    label_M = np.concatenate([b.labels_M for b in labels]).astype(np.int64)
    attribute_M = np.concatenate([b.attributes_M for b in labels]).astype(np.int64)
    sample_M = np.repeat(np.arange(len(labels)), [len(b.labels_M) for b in labels])
    weight_M = np.concatenate([box_weights(b) for b in labels])

    # from here on in cells
    cells_M2 = rule.grid.to_cells(boxes_M9[:, :2])
    column_M, row_M = np.floor(cells_M2).astype(np.int64).T
    channel_M = rule.channel_of_label[label_M]
    group_M = rule.group_of_label[label_M]
    peaks = PeakPlaces(len(labels), sample_M, channel_M, row_M, column_M, boxes_M9[:, SIZE], weight_M)

    # a branch predicts one code a cell, so of several objects in a cell only the first is regressed
    counts_M = np.flatnonzero(weight_M > 0)
    kept = counts_M
    if rule.one_per_cell:
        places = np.stack([sample_M, group_M, row_M, column_M])
        kept = counts_M[np.unique(places[:, counts_M], axis=1, return_index=True)[1]]
    objects = dict(
        sample_P=sample_M, group_P=group_M, row_P=row_M, column_P=column_M, channel_P=channel_M,
        label_P=label_M, attribute_P=attribute_M, code_P10=encode_boxes(boxes_M9, cells_M2))

    is_weighted = (weight_M[kept] != 1).any()
    return DetectionTargets(
        torch.from_numpy(_draw_heatmap(peaks.select(counts_M), rule)),
        torch.tensor([a.boxes is not None for a in annotations]),
        torch.from_numpy(rule.channel_of_label),
        torch.from_numpy(rule.classes.is_half_turn),
        torch.from_numpy(rule.classes.valid_attributes),
        **{name: torch.from_numpy(value[kept]) for name, value in objects.items()},
        weight_P=torch.from_numpy(weight_M[kept]) if is_weighted else None,
        weight_BCYX=_cell_weights(peaks, [b.area for b in labels], rule))


def keep_boxes(boxes: BoxLabels | None, rule: TargetRule) -> BoxLabels:
    """Select the boxes that can be learned: centre on the grid, positive finite size, enough points.

    Raises:
        ValueError: the boxes have labels of other classes than the head's.
    """
    if boxes is None:
        none = np.zeros(0, dtype=np.int64)
        return BoxLabels(np.zeros((0, 9), dtype=np.float32), *[none] * 5, classes=rule.classes)
    check_same_classes(boxes.classes, rule.classes, ('annotated boxes', 'the detection head'))

    # the velocity is left out: it may be unknown
    geometry_M7 = np.asarray(boxes.boxes_M9)[:, :YAW + 1]
    is_sound = np.isfinite(geometry_M7).all(1) & (geometry_M7[:, SIZE] > 0).all(1)

    points_M = boxes.num_lidar_points_M.astype(np.int64) + boxes.num_radar_points_M
    is_seen = (points_M >= rule.options.min_points) | (points_M < 0)

    return boxes.select(is_sound & is_seen & rule.grid.contains(geometry_M7[:, :2]))


def encode_boxes(boxes_M9: np.ndarray, cells_M2: np.ndarray) -> np.ndarray:
    """Encode boxes and their continuous cell coordinates (column, row) as float32 `(M, 10)`: `BOX_CODE`."""
    z_M1 = boxes_M9[:, CENTRE][:, 2:]
    yaw_M1 = boxes_M9[:, YAW, None]
    parts = [
        cells_M2 - np.floor(cells_M2), z_M1, np.log(boxes_M9[:, SIZE]), np.sin(yaw_M1), np.cos(yaw_M1),
        boxes_M9[:, VELOCITY]]
    return np.concatenate(parts, 1).astype(np.float32)


def gaussian_radius(length: np.ndarray, width: np.ndarray, min_overlap: float) -> np.ndarray:
    """Compute the largest shift of corners, in the unit of the sides, that keeps IoU >= `min_overlap`.

    Three cases are bounded and the smallest bound wins: the box moved diagonally, shrunk on all sides, grown
    on all sides (Law & Deng 2018, CornerNet, arXiv 1808.01244).
    """
    total = length + width
    area = length * width

    moved = (total - np.sqrt(total ** 2 - 4 * area * (1 - min_overlap) / (1 + min_overlap))) / 2
    shrunk = (total - np.sqrt(total ** 2 - 4 * area * (1 - min_overlap))) / 4
    grown = (np.sqrt(total ** 2 + 4 * area * (1 - min_overlap) / min_overlap) - total) / 4
    return np.minimum(np.minimum(moved, shrunk), grown)


@dataclass(frozen=True)
class PeakPlaces:
    """Where M peaks lie on the heatmaps of a batch, how large their objects are and how much each counts."""

    batch: int
    sample_M: np.ndarray
    channel_M: np.ndarray
    row_M: np.ndarray
    column_M: np.ndarray
    size_M3: np.ndarray
    weight_M: np.ndarray

    def select(self, index: np.ndarray) -> PeakPlaces:
        """Some of the peaks."""
        arrays = {name: getattr(self, name)[index] for name in self.__dataclass_fields__ if name != 'batch'}
        return PeakPlaces(self.batch, **arrays)


def box_weights(boxes: BoxLabels) -> np.ndarray:
    """How much each box counts, float32 `(M,)`."""
    weights_M = np.ones(len(boxes.labels_M)) if boxes.weights_M is None else boxes.weights_M
    return weights_M.astype(np.float32)


def _draw_heatmap(peaks: PeakPlaces, rule: TargetRule) -> np.ndarray:
    """Draw one peak per object on float32 `(B, C, Y, X)`, as wide as the object's size allows."""
    channels = len(rule.channel_of_label)
    planes = np.zeros((peaks.batch * channels, *rule.grid.shape_YX), dtype=np.float32)
    draw_gaussians(planes, *_drawn(peaks, rule))
    return planes.reshape(peaks.batch, channels, *rule.grid.shape_YX)


def _drawn(peaks: PeakPlaces, rule: TargetRule) -> tuple[np.ndarray, ...]:
    """Plane, row, column and radius of each peak."""
    length, width = peaks.size_M3[:, 0] / rule.grid.cell_m, peaks.size_M3[:, 1] / rule.grid.cell_m
    radius_M = gaussian_radius(length, width, rule.options.min_overlap).astype(np.int64)
    plane_M = peaks.sample_M * len(rule.channel_of_label) + peaks.channel_M
    return plane_M, peaks.row_M, peaks.column_M, np.maximum(radius_M, rule.options.min_radius_cells)


def _cell_weights(
    peaks: PeakPlaces, areas: Sequence[LabelledArea | None], rule: TargetRule
) -> Tensor | None:
    """How much each cell of the heatmap counts, float32 `(B, C, Y, X)`; None where all count 1.

    An object of weight w whose peak has the height g gives a cell 1 - g (1 - w): w at the object itself, 1
    where nothing of its peak is left. Of several objects the lightest decides; in the cell of an object its
    own weight does, the heaviest's of several. Cells outside the labelled area count nothing.
    """
    if (peaks.weight_M == 1).all() and all(area is None for area in areas):
        return None

    shape = (peaks.batch, len(rule.channel_of_label), *rule.grid.shape_YX)
    weights_BCYX = np.ones(shape, np.float32)
    lower_weights(weights_BCYX.reshape(-1, *shape[2:]), *_drawn(peaks, rule), peaks.weight_M)

    objects = peaks.select(np.argsort(peaks.weight_M, kind='stable'))
    weights_BCYX[objects.sample_M, objects.channel_M, objects.row_M, objects.column_M] = objects.weight_M

    centres_P2 = rule.grid.centres_m().reshape(-1, 2)
    for b, area in enumerate(areas):
        if area is not None:
            weights_BCYX[b] *= area.covers(centres_P2).reshape(rule.grid.shape_YX)
    return torch.from_numpy(weights_BCYX)


@numba.njit(cache=True)
def lower_weights(
    maps: np.ndarray,
    plane_M: np.ndarray,
    row_M: np.ndarray,
    column_M: np.ndarray,
    radius_M: np.ndarray,
    weight_M: np.ndarray,
) -> None:
    """Lower the cells of `maps` `(planes, Y, X)` around M peaks g to at most 1 - g (1 - weight), in place."""
    rows, columns = maps.shape[1:]
    for m in range(len(plane_M)):
        radius = radius_M[m]
        sigma = (2 * radius + 1) / 6.0
        for i in range(max(0, row_M[m] - radius), min(rows, row_M[m] + radius + 1)):
            for j in range(max(0, column_M[m] - radius), min(columns, column_M[m] + radius + 1)):
                peak = np.exp(-((i - row_M[m]) ** 2 + (j - column_M[m]) ** 2) / (2 * sigma * sigma))
                value = 1 - peak * (1 - weight_M[m])
                if value < maps[plane_M[m], i, j]:
                    maps[plane_M[m], i, j] = value


@numba.njit(cache=True)
def draw_gaussians(
    maps: np.ndarray,
    plane_M: np.ndarray,
    row_M: np.ndarray,
    column_M: np.ndarray,
    radius_M: np.ndarray,
) -> None:
    """Draw M Gaussian peaks into `maps` `(planes, Y, X)` in place; each cell keeps the highest.

    `draw_gaussians_reference` is the reference implementation.
    """
    rows, columns = maps.shape[1:]
    for m in range(len(plane_M)):
        radius = radius_M[m]
        sigma = (2 * radius + 1) / 6.0

        for i in range(max(0, row_M[m] - radius), min(rows, row_M[m] + radius + 1)):
            for j in range(max(0, column_M[m] - radius), min(columns, column_M[m] + radius + 1)):
                value = np.exp(-((i - row_M[m]) ** 2 + (j - column_M[m]) ** 2) / (2 * sigma * sigma))
                if value > maps[plane_M[m], i, j]:
                    maps[plane_M[m], i, j] = value


def draw_gaussians_reference(
    maps: np.ndarray,
    plane_M: np.ndarray,
    row_M: np.ndarray,
    column_M: np.ndarray,
    radius_M: np.ndarray,
) -> None:
    """Reference implementation of `draw_gaussians`.

    A peak has sigma = diameter / 6 and is cut to a square of side 2 * radius + 1.
    """
    i, j = np.mgrid[:maps.shape[1], :maps.shape[2]]
    for plane, row, column, radius in zip(plane_M, row_M, column_M, radius_M, strict=True):
        sigma = (2 * radius + 1) / 6
        peak = np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma ** 2))
        inside = (abs(i - row) <= radius) & (abs(j - column) <= radius)
        maps[plane] = np.maximum(maps[plane], np.where(inside, peak, 0))


def as_raw(targets: DetectionTargets, groups: int, confidence_logit: float = 20.0) -> dict[str, Tensor]:
    """Make the raw outputs of a perfect head: its loss is about zero, its decoding gives the boxes back."""
    batch, _, rows, columns = targets.heatmap_BCYX.shape
    heatmap = torch.where(targets.heatmap_BCYX == 1, confidence_logit, -confidence_logit)

    box = torch.zeros(batch, groups, len(BOX_CODE), rows, columns)
    at_objects = (targets.sample_P, targets.group_P, slice(None), targets.row_P, targets.column_P)
    box[at_objects] = torch.nan_to_num(targets.code_P10)

    # (B, G, 8, Y, X), raised at the attributes that are known
    attribute = torch.zeros(batch, groups, len(ATTRIBUTES), rows, columns)
    known = targets.attribute_P >= 0
    at_attributes = (targets.sample_P, targets.group_P, targets.attribute_P, targets.row_P, targets.column_P)
    attribute[tuple(index[known] for index in at_attributes)] = confidence_logit

    return {'heatmap': heatmap, 'box': box.flatten(1, 2), 'attribute': attribute.flatten(1, 2)}
