"""Lane elements of several forwards -> one set: mirrored back, then joined where they are the same line."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.grid import BEVGrid
from ...core.protocols import DIRECTED_LANE_CLASSES
from ..averaging import Mirror
from .decode import LaneDecoding
from .targets import equivalent_orders

SAME_LINE_M = 1.0
"""Largest Chamfer distance of elements that are one line: the middle threshold of the metric."""
RING_GAP = 0.1
"""An element whose ends are nearer than this part of its length is a ring."""
_NEVER = -50.0
_SURELY = 40.0


@dataclass
class _Line:
    """One line as the forwards so far see it: members are points (metres) in the order of the first."""

    label: int
    members: list[np.ndarray]
    scores: list[float]
    forwards: set[int]


def mirror_lines(raw: dict[str, Tensor], grid: BEVGrid, mirror: Mirror) -> dict[str, Tensor]:
    """Logits and points of the mirrored world -> of the world as it is; points may leave 0..1."""
    points = raw['points'].clone()
    flips, ranges_m = (mirror.flip_x, mirror.flip_y), (grid.x_range_m, grid.y_range_m)
    for axis, (flip, at_m, (low_m, high_m)) in enumerate(zip(flips, mirror.at_m, ranges_m, strict=True)):
        if flip:
            points[..., axis] = 2 * (at_m - low_m) / (high_m - low_m) - points[..., axis]
    return {'logits': raw['logits'], 'points': points}


def average_lines(
    raws: Sequence[dict[str, Tensor]], grid: BEVGrid, classes: Sequence[str], options: LaneDecoding
) -> dict[str, Tensor]:
    """Join the elements that each of V forwards would predict, sample by sample.

    From the surest element to the least sure, each joins the nearest line of its class within `SAME_LINE_M`
    (Chamfer) that has none of its forward yet, or begins a new one; elements with a direction join those that
    run their way alone. The points of a line are its members' mean, weighted by their scores, each in the
    order that fits the first; its score is the sum of theirs over V, so that a line that few forwards see
    sinks (as in weighted boxes fusion, Solovyev et al. 2021, arXiv 1910.13302; for lines it is ours).

    Returns:
        `logits` `(B, N, K)` and `points` `(B, N, P, 2)` of the N surest lines, as `decode_lanes` reads them.
    """
    low_2 = np.array([grid.x_range_m[0], grid.y_range_m[0]], np.float32)
    size_2 = np.array([grid.x_range_m[1], grid.y_range_m[1]], np.float32) - low_2
    directed = {label for label, name in enumerate(classes) if name in DIRECTED_LANE_CLASSES}

    device = raws[0]['points'].device
    scores = [torch.sigmoid(raw['logits'].detach().float()).cpu().numpy() for raw in raws]
    points = [raw['points'].detach().float().clamp(0, 1).cpu().numpy() * size_2 + low_2 for raw in raws]
    count = min(options.max_lanes, scores[0][0].size)

    samples = []
    for b in range(len(points[0])):
        lines = _joined([one[b] for one in scores], [one[b] for one in points], count, directed)
        samples.append(_as_raw(lines[:count], len(raws), len(classes), low_2, size_2))
    return {
        name: torch.stack([sample[name] for sample in samples]).to(device) for name in ('logits', 'points')}


def _joined(
    scores: list[np.ndarray], points: list[np.ndarray], count: int, directed: set[int]
) -> list[_Line]:
    """The lines of one sample, those with the largest sum of scores first."""
    elements = []
    for forward, (scores_LK, points_LP2) in enumerate(zip(scores, points, strict=True)):
        best = np.argsort(-scores_LK, axis=None, kind='stable')[:count]
        for instance, label in zip(*np.divmod(best, scores_LK.shape[1]), strict=True):
            elements.append((float(scores_LK[instance, label]), forward, int(label), points_LP2[instance]))

    lines: list[_Line] = []
    for score, forward, label, points_P2 in sorted(elements, key=lambda element: -element[0]):
        open_lines = [line for line in lines if line.label == label and forward not in line.forwards]
        found = _same_line(points_P2, open_lines, label in directed)
        if found is None:
            lines.append(_Line(label, [points_P2], [score], {forward}))
            continue
        line, ordered_P2 = found
        line.members.append(ordered_P2)
        line.scores.append(score)
        line.forwards.add(forward)
    return sorted(lines, key=lambda line: -sum(line.scores))


def _same_line(
    points_P2: np.ndarray, lines: list[_Line], directed: bool
) -> tuple[_Line, np.ndarray] | None:
    """The nearest line that an element belongs to, and its points in that line's order; None without."""
    if not lines:
        return None
    firsts_NP2 = np.stack([line.members[0] for line in lines])
    distance_N = chamfer_m(points_P2, firsts_NP2)

    for n in np.argsort(distance_N, kind='stable'):
        if distance_N[n] > SAME_LINE_M:
            return None
        first_P2 = firsts_NP2[n]
        if directed and _apart(points_P2, first_P2) > _apart(points_P2[::-1], first_P2):
            continue  # the lane of the other direction
        closed = is_ring(points_P2) and is_ring(first_P2)
        orders_VP2 = equivalent_orders(points_P2, closed, directed)
        return lines[n], min(orders_VP2, key=lambda order_P2: _apart(order_P2, first_P2))
    return None


def chamfer_m(line_P2: np.ndarray, lines_NP2: np.ndarray) -> np.ndarray:
    """Mean distance to the other line's nearest point, of both directions: `(N,)`."""
    x_NPP, y_NPP = (line_P2[:, None, axis] - lines_NP2[:, None, :, axis] for axis in (0, 1))
    square_NPP = x_NPP * x_NPP + y_NPP * y_NPP
    return (np.sqrt(square_NPP.min(2)).mean(1) + np.sqrt(square_NPP.min(1)).mean(1)) / 2


def is_ring(points_P2: np.ndarray) -> bool:
    """Whether the ends of an element nearly meet."""
    length = np.linalg.norm(np.diff(points_P2, axis=0), axis=1).sum()
    return bool(np.linalg.norm(points_P2[0] - points_P2[-1]) < RING_GAP * length)


def _apart(one_P2: np.ndarray, other_P2: np.ndarray) -> float:
    return float(np.linalg.norm(one_P2 - other_P2, axis=1).mean())


def _as_raw(
    lines: list[_Line], forwards: int, classes: int, low_2: np.ndarray, size_2: np.ndarray
) -> dict[str, Tensor]:
    """Lines as raw outputs of as many instances, each of one class."""
    logits_NK = torch.full((len(lines), classes), _NEVER)
    points = []
    for n, line in enumerate(lines):
        mean = torch.tensor(sum(line.scores) / forwards, dtype=torch.float64)
        logits_NK[n, line.label] = mean.logit().clamp(-_SURELY, _SURELY)
        points.append(np.average(np.stack(line.members), axis=0, weights=np.array(line.scores) + 1e-12))
    points_NP2 = (np.stack(points) - low_2) / size_2
    return {'logits': logits_NK, 'points': torch.from_numpy(points_NP2).float()}
