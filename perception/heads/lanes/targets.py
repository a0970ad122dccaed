"""Lane polylines in metres -> point sequences in the range, in every order that is the same element."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Annotations, LabelledArea, LanePolylines
from ...core.grid import BEVGrid
from ...core.protocols import DIRECTED_LANE_CLASSES, LANE_CLASSES, LANE_PROTOCOLS
from ...core.raster import clip_polyline, clip_ring, draw_lines, resample_polyline

_SAME_POINT_M = 1e-3


@dataclass(frozen=True)
class LaneElements:
    """G elements of one sample.

    Attributes:
        orders_VP2: float32 points in 0..1 of the range, every equivalent order of every element, element by
            element.
        first_G: where each element's orders begin.
        labels_G: int64 into the head's own classes.
        weights_G: float32, how much each element counts; None: all 1.
        area: where the elements were looked for; None: everywhere.
        range_m: (x, y), the ranges that points at 0..1 lie in, where there is an area.
    """

    orders_VP2: np.ndarray
    first_G: np.ndarray
    labels_G: np.ndarray
    weights_G: np.ndarray | None = None
    area: LabelledArea | None = None
    range_m: tuple[tuple[float, float], tuple[float, float]] | None = None


@dataclass(frozen=True)
class LaneTargets:
    """What the lane losses compare with.

    Attributes:
        elements: of each sample.
        masks_BKYX: uint8, the same elements as masks per class.
        labelled_B: bool, False where a sample has no lane annotation at all.
        weights_BKYX: float32 0..1, how much each cell of the masks counts; None: all 1.
    """

    elements: tuple[LaneElements, ...]
    masks_BKYX: Tensor
    labelled_B: Tensor
    weights_BKYX: Tensor | None = None

    def to(self, device: Any) -> LaneTargets:
        """Copy masks to another device; elements stay on the CPU, where matching runs."""
        weights = None if self.weights_BKYX is None else self.weights_BKYX.to(device)
        return LaneTargets(self.elements, self.masks_BKYX.to(device), self.labelled_B.to(device), weights)


@dataclass(frozen=True)
class LaneTargetOptions:
    """Which elements are learned, and by how many instances.

    Args:
        min_length_m: shorter pieces are not learned.
        auxiliary_repeats: instances matched with one element in the earlier decoder layers, which then learn
            from more of them; the last layer is always one to one.
    """

    min_length_m: float = 0.5
    auxiliary_repeats: int = 1


@dataclass(frozen=True)
class LaneRule:
    """How polylines become targets.

    Args:
        grid: its extent is the range, its cells are those of the masks.
        classes: names that are learned.
        points: number of points per element.
        min_length_m: shorter pieces are not learned.
    """

    grid: BEVGrid
    classes: tuple[str, ...]
    points: int = 20
    min_length_m: float = 0.5


class LanePiece(NamedTuple):
    """A part of a line inside the range: points `(Q, 2)` in metres, class, whether it is closed, weight."""

    points_Q2: np.ndarray
    name: str
    closed: bool
    weight: float = 1.0


def build_targets(annotations: Sequence[Annotations], rule: LaneRule) -> LaneTargets:
    """Build the targets of a batch, on the CPU. Samples whose `lanes` is None are marked as not labelled."""
    pieces = [cut_to_range(a.lanes, rule) for a in annotations]

    areas = [None if a.lanes is None else a.lanes.area for a in annotations]
    masks = [draw_pieces([p for p in sample if p.weight > 0], rule) for sample in pieces]
    return LaneTargets(
        tuple(_elements(sample, rule, area) for sample, area in zip(pieces, areas, strict=True)),
        torch.from_numpy(np.stack(masks)),
        torch.tensor([a.lanes is not None for a in annotations]),
        _cell_weights(pieces, areas, rule))


def draw_pieces(pieces: Sequence[LanePiece], rule: LaneRule) -> np.ndarray:
    """Draw pieces as masks per class, uint8 `(K, Y, X)`."""
    return np.stack([
        draw_lines([p.points_Q2 for p in pieces if p.name == name], rule.grid) for name in rule.classes])


def _cell_weights(
    pieces: Sequence[Sequence[LanePiece]], areas: Sequence[LabelledArea | None], rule: LaneRule
) -> Tensor | None:
    """How much each cell of the masks counts, float32 `(B, K, Y, X)`; None where all count 1.

    On a line its weight, the heaviest's of several, beside lines 1, outside the labelled area 0.
    """
    if all(p.weight == 1 for sample in pieces for p in sample) and all(area is None for area in areas):
        return None

    weights_BKYX = np.ones((len(pieces), len(rule.classes), *rule.grid.shape_YX), np.float32)
    centres_P2 = rule.grid.centres_m().reshape(-1, 2)
    for weights_KYX, sample, area in zip(weights_BKYX, pieces, areas, strict=True):
        for piece in sorted(sample, key=lambda p: p.weight):
            weights_KYX[draw_pieces([piece], rule) > 0] = piece.weight
        if area is not None:
            weights_KYX *= area.covers(centres_P2).reshape(rule.grid.shape_YX)
    return torch.from_numpy(weights_BKYX)


def cut_to_range(lanes: LanePolylines | None, rule: LaneRule) -> list[LanePiece]:
    """Cut the lines of the learned classes to the range.

    A closed line that is cut open is open; a crossing of a published protocol is closed along the border of
    the range, as its truth is.
    """
    if lanes is None:
        return []

    closes_crossings = LANE_PROTOCOLS[lanes.protocol].published
    weights_L = np.ones(len(lanes.points)) if lanes.weights_L is None else lanes.weights_L
    pieces = []
    for line, label, closed, weight in zip(
        lanes.points, lanes.labels_L, lanes.closed_L, weights_L.tolist(), strict=True
    ):
        name = LANE_CLASSES[label]
        if name not in rule.classes:
            continue

        if closed and closes_crossings and name == 'ped_crossing':
            parts = clip_ring(line, rule.grid.x_range_m, rule.grid.y_range_m)
        else:
            parts = clip_polyline(np.asarray(line), rule.grid.x_range_m, rule.grid.y_range_m)
            parts = _join_at_seam(parts, line) if closed else parts

        for part in parts:
            if np.linalg.norm(np.diff(part, axis=0), axis=1).sum() >= rule.min_length_m:
                is_closed = bool(closed and _same_point(part[0], part[-1]))
                pieces.append(LanePiece(part, name, is_closed, weight))
    return pieces


def _join_at_seam(parts: list[np.ndarray], ring: np.ndarray) -> list[np.ndarray]:
    """Join the last and the first part of a ring where its own seam, not the range, divides them."""
    if len(parts) < 2 or not _same_point(parts[0][0], ring[0]) or not _same_point(parts[-1][-1], ring[-1]):
        return parts
    return [np.concatenate([parts[-1], parts[0][1:]]), *parts[1:-1]]


def _same_point(a_2: np.ndarray, b_2: np.ndarray) -> bool:
    return np.allclose(a_2, b_2, atol=_SAME_POINT_M)


def _elements(pieces: list[LanePiece], rule: LaneRule, area: LabelledArea | None) -> LaneElements:
    """Resample the pieces of one sample and lay all their equivalent orders one after the other."""
    low_2 = np.array([rule.grid.x_range_m[0], rule.grid.y_range_m[0]])
    high_2 = np.array([rule.grid.x_range_m[1], rule.grid.y_range_m[1]])

    orders = []
    for piece in pieces:
        points_P2 = (resample_polyline(piece.points_Q2, rule.points) - low_2) / (high_2 - low_2)
        orders.append(equivalent_orders(points_P2, piece.closed, piece.name in DIRECTED_LANE_CLASSES))

    orders_VP2 = np.concatenate(orders) if orders else np.zeros((0, rule.points, 2))
    counts_G = np.array([len(o) for o in orders], dtype=np.int64)
    labels_G = np.array([rule.classes.index(piece.name) for piece in pieces], dtype=np.int64)
    weights_G = np.array([piece.weight for piece in pieces], dtype=np.float32)
    return LaneElements(
        orders_VP2.astype(np.float32), np.cumsum(counts_G) - counts_G, labels_G,
        None if (weights_G == 1).all() else weights_G, area, (rule.grid.x_range_m, rule.grid.y_range_m))


def equivalent_orders(points_P2: np.ndarray, closed: bool, directed: bool = False) -> np.ndarray:
    """Make every order of the points that is the same element: `(V, P, 2)`.

    An open line has two, one per direction. A closed one (first point = last) has 2 * (P - 1): every start in
    both directions (Liao et al. 2023, MapTR, arXiv 2208.14437, section 3.2). A directed element has its own
    direction alone (MapTRv2, arXiv 2308.05736, class centerline).
    """
    if not closed:
        return points_P2[None] if directed else np.stack([points_P2, points_P2[::-1]])

    # row s begins at point s of the ring and ends there too
    ring = points_P2[:-1]
    index_VP = (np.arange(len(ring))[:, None] + np.arange(len(points_P2))) % len(ring)
    return ring[index_VP] if directed else np.concatenate([ring[index_VP], ring[index_VP][:, ::-1]])


def as_raw(targets: LaneTargets, instances: int, confidence_logit: float = 20.0) -> dict[str, Tensor]:
    """Make the raw outputs of a perfect head: element i is instance i."""
    batch, classes = targets.masks_BKYX.shape[:2]
    points = targets.elements[0].orders_VP2.shape[1]

    points_BLP2 = torch.full((batch, instances, points, 2), 0.5)
    logits_BLK = torch.full((batch, instances, classes), -confidence_logit)
    for b, elements in enumerate(targets.elements):
        for g, (first, label) in enumerate(zip(elements.first_G, elements.labels_G, strict=True)):
            points_BLP2[b, g] = torch.from_numpy(elements.orders_VP2[first])
            logits_BLK[b, g, label] = confidence_logit
    return {'logits': logits_BLK, 'points': points_BLP2}
