"""Lane polylines in metres -> point sequences in the range, in every order that draws the same line."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Annotations, LanePolylines
from ...core.grid import BEVGrid
from ...core.protocols import LANE_CLASSES
from ...core.raster import clip_polyline, draw_lines, resample_polyline


@dataclass(frozen=True)
class LaneElements:
    """G elements of one sample.

    Attributes:
        orders_VP2: float32 points in 0..1 of the range, every equivalent order of every element, element by
            element.
        first_G: where each element's orders begin.
        labels_G: int64 into the head's own classes.
    """

    orders_VP2: np.ndarray
    first_G: np.ndarray
    labels_G: np.ndarray


@dataclass(frozen=True)
class LaneTargets:
    """Elements per sample, the same elements as masks `(B, K, Y, X)` uint8, and which samples are
    labelled."""

    elements: tuple[LaneElements, ...]
    masks_BKYX: Tensor
    labelled_B: Tensor

    def to(self, device: Any) -> LaneTargets:
        """The same targets with masks on another device; elements stay on the CPU, where matching runs."""
        return LaneTargets(self.elements, self.masks_BKYX.to(device), self.labelled_B.to(device))


@dataclass(frozen=True)
class LaneRule:
    """How polylines become targets: `grid` gives the range (and the masks' cells), `points` their number,
    `classes` the names that count, `min_length_m` what is too short to learn.
    """

    grid: BEVGrid
    classes: tuple[str, ...]
    points: int = 20
    min_length_m: float = 0.5


def build_targets(annotations: Sequence[Annotations], rule: LaneRule) -> LaneTargets:
    """Targets of a batch, on the CPU."""
    pieces = [cut_to_range(a.lanes, rule) for a in annotations]
    masks = [[draw_lines([line for line, name, _ in sample if name == k], rule.grid) for k in rule.classes]
             for sample in pieces]
    return LaneTargets(tuple(_elements(sample, rule) for sample in pieces), torch.from_numpy(np.array(masks)),
                       torch.tensor([a.lanes is not None for a in annotations]))


def cut_to_range(lanes: LanePolylines | None, rule: LaneRule) -> list[tuple[np.ndarray, str, bool]]:
    """The pieces inside the range: (points `(Q, 2)` metres, class name, closed). A closed line cut open is
    open."""
    if lanes is None:
        return []
    pieces = []
    for line, label, closed in zip(lanes.points, lanes.labels_L, lanes.closed_L, strict=True):
        if LANE_CLASSES[label] not in rule.classes:
            continue
        cut = clip_polyline(np.asarray(line), rule.grid.x_range_m, rule.grid.y_range_m)
        for piece in _sewn(cut, line) if closed else cut:
            if np.linalg.norm(np.diff(piece, axis=0), axis=1).sum() >= rule.min_length_m:
                pieces.append(
                    (piece, LANE_CLASSES[label], bool(closed and np.allclose(piece[0], piece[-1], atol=1e-3)))
                )
    return pieces


def _sewn(cut: list[np.ndarray], ring: np.ndarray) -> list[np.ndarray]:
    """Join the last and the first piece of a ring where the ring's own seam, not the range, parted them."""
    at_seam = (
        len(cut) > 1
        and np.allclose(cut[0][0], ring[0], atol=1e-3)
        and np.allclose(cut[-1][-1], ring[-1], atol=1e-3)
    )
    return [np.concatenate([cut[-1], cut[0][1:]]), *cut[1:-1]] if at_seam else cut


def equivalent_orders(points_P2: np.ndarray, closed: bool) -> np.ndarray:
    """Every order of the points that draws the same element: `(V, P, 2)` (Liao et al. 2023, arXiv 2208.14437,
    section 3.2).

    An open line: both directions. A closed one (first point = last): every start, both directions, 2 * (P -
    1) orders.
    """
    if not closed:
        return np.stack([points_P2, points_P2[::-1]])
    ring = points_P2[:-1]
    starts = (np.arange(len(ring))[:, None] + np.arange(len(points_P2))) % len(ring)
    return np.concatenate([ring[starts], ring[starts][:, ::-1]])


def _elements(pieces: list[tuple[np.ndarray, str, bool]], rule: LaneRule) -> LaneElements:
    low = np.array([rule.grid.x_range_m[0], rule.grid.y_range_m[0]])
    size = np.array([rule.grid.x_range_m[1], rule.grid.y_range_m[1]]) - low
    orders = [
        equivalent_orders((resample_polyline(line, rule.points) - low) / size, closed)
        for line, _, closed in pieces
    ]
    counts = np.array([len(o) for o in orders], dtype=np.int64)
    together = np.concatenate(orders) if orders else np.zeros((0, rule.points, 2))
    labels = np.array([rule.classes.index(name) for _, name, _ in pieces], dtype=np.int64)
    return LaneElements(together.astype(np.float32), np.cumsum(counts) - counts, labels)


def as_raw(targets: LaneTargets, instances: int, confidence_logit: float = 20.0) -> dict[str, Tensor]:
    """The raw outputs of a head that knows the truth: element i is instance i."""
    batch, classes = targets.masks_BKYX.shape[:2]
    points = targets.elements[0].orders_VP2.shape[1]
    raw_points = torch.full((batch, instances, points, 2), 0.5)
    logits = torch.full((batch, instances, classes), -confidence_logit)
    for b, elements in enumerate(targets.elements):
        for g, (first, label) in enumerate(zip(elements.first_G, elements.labels_G, strict=True)):
            raw_points[b, g] = torch.from_numpy(elements.orders_VP2[first])
            logits[b, g, label] = confidence_logit
    return {'logits': logits, 'points': raw_points}
