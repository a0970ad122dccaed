"""Lane elements as ordered points (Liao et al. 2023, MapTR, arXiv 2208.14437; 2024, MapTRv2, arXiv
2308.05736)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...core.contracts import Annotations, Lanes
from ...core.grid import BEVGrid
from ...core.protocols import LANE_CLASSES, LANE_RANGES_M
from ...registry import MODELS
from ..base import TaskHead
from ..layers import conv_stack
from ..resample import GridResample
from .decode import decode_lanes
from .decoder import CROSS_ATTENTION, SELF_ATTENTION, LaneDecoder
from .loss import LaneWeights, element_losses, segmentation_loss
from .targets import LaneRule, LaneTargets, build_targets


@MODELS.register_module()
class LaneHead(TaskHead):
    """Up to `instances` elements with a class and `points` points in the range around the car.

    Raw outputs: `logits` `(B, L, K)` in the order of `classes`; `points` `(B, L, P, 2)`, (x, y) with the
    range at 0..1. While training also those of the earlier layers, `aux_logits` `(B, D, L, K)` and
    `aux_points` `(B, D, L, P, 2)`, and `segmentation` `(B, K, Y, X)` logits.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        width: of the map and the queries.
        map_layers: 3x3 convolutions.
        instances, points: L and P.
        layers: decoder layers.
        heads, samples, feedforward: see `DecoderLayer`.
        self_attention: 'decoupled' or 'full'.
        cross_attention: 'deformable' or 'plain'; plain wants coarse map cells.
        classes: names out of `LANE_CLASSES`.
        x_range_m, y_range_m: the range.
        map_cell_m: cells of the map inside it.
        weights: keywords of `LaneWeights`.
        auxiliary_repeats: instances that may answer for one element in the earlier layers, which then learn
            from more of them; the last layer is always one to one.
        min_length_m: shorter pieces are not learned.
        max_lanes, score_threshold: of the answer.

    Raises:
        ValueError: a name or a count is wrong.
    """

    task = 'lanes'

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        width: int = 128,
        map_layers: int = 2,
        instances: int = 50,
        points: int = 20,
        layers: int = 3,
        heads: int = 4,
        samples: int = 8,
        feedforward: int = 256,
        self_attention: str = 'decoupled',
        cross_attention: str = 'deformable',
        classes: Sequence[str] = ('divider', 'ped_crossing', 'boundary'),
        x_range_m: tuple[float, float] = LANE_RANGES_M['60x30'][0],
        y_range_m: tuple[float, float] = LANE_RANGES_M['60x30'][1],
        map_cell_m: float = 0.5,
        weights: Mapping[str, float] | None = None,
        auxiliary_repeats: int = 1,
        min_length_m: float = 0.5,
        max_lanes: int = 50,
        score_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        _check(classes, width, heads, self_attention, cross_attention)
        self.task_grid = BEVGrid(x_range_m, y_range_m, map_cell_m)
        self.classes, self.weights, self.auxiliary_repeats = (
            tuple(classes), LaneWeights(**(weights or {})), auxiliary_repeats)
        self.max_lanes, self.score_threshold = max_lanes, score_threshold
        self.target_rule = LaneRule(self.task_grid, self.classes, points, min_length_m)
        self.to_map = nn.Sequential(
            GridResample(grid, self.task_grid), conv_stack(in_channels, width, map_layers)
        )
        self.decoder = LaneDecoder(
            width, instances, points, len(self.classes), layers, heads=heads, samples=samples,
            feedforward=feedforward, shape_YX=self.task_grid.shape_YX, self_attention=self_attention,
            cross_attention=cross_attention)
        self.segment = nn.Conv2d(width, len(self.classes), 1) if self.weights.segmentation else None

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """`(B, in_channels, Y, X)` on the trunk's grid -> raw outputs, see the class."""
        memory = self.to_map(bev_BCYX)
        answers = self.decoder(memory)
        raw = dict(zip(('logits', 'points'), answers[-1], strict=True))
        if self.training and len(answers) > 1:
            raw |= {'aux_logits': torch.stack([logits for logits, _ in answers[:-1]], 1),
                    'aux_points': torch.stack([points for _, points in answers[:-1]], 1)}
        if self.training and self.segment is not None:
            raw['segmentation'] = self.segment(memory)
        return raw

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> LaneTargets:
        """Polylines of B samples -> point sequences and masks."""
        return build_targets(annotations, self.target_rule).to(device)

    def loss(self, raw: dict[str, Tensor], targets: LaneTargets) -> dict[str, Tensor]:
        """`classification`, `points`, `direction` of the last layer, the earlier layers' summed as
        `auxiliary_...`, and `segmentation`; what `raw` does not have is left out.
        """
        losses = self._layer_losses(raw['logits'], raw['points'], targets, 1)
        for i in range(raw['aux_logits'].shape[1] if 'aux_logits' in raw else 0):
            earlier = self._layer_losses(
                raw['aux_logits'][:, i], raw['aux_points'][:, i], targets, self.auxiliary_repeats
            )
            for name, term in earlier.items():
                losses[f'auxiliary_{name}'] = losses.get(f'auxiliary_{name}', 0) + term
        if 'segmentation' in raw:
            losses['segmentation'] = self.weights.segmentation * segmentation_loss(
                raw['segmentation'], targets, self.weights.segmentation_positive)
        return losses

    def decode(self, raw: dict[str, Tensor]) -> list[Lanes]:
        """Raw outputs -> elements in ego metres, best first."""
        return decode_lanes(raw, self.task_grid, self.classes, self.max_lanes, self.score_threshold)

    def _layer_losses(
        self, logits: Tensor, points: Tensor, targets: LaneTargets, repeats: int
    ) -> dict[str, Tensor]:
        (x0, x1), (y0, y1) = self.task_grid.x_range_m, self.task_grid.y_range_m
        return element_losses(logits, points, targets, self.weights, (x1 - x0, y1 - y0), repeats)


def _check(classes: Sequence[str], width: int, heads: int, self_attention: str, cross_attention: str) -> None:
    if not classes or set(classes) - set(LANE_CLASSES) or len(set(classes)) != len(classes):
        raise ValueError(f'classes: expected different names out of {LANE_CLASSES}, found {tuple(classes)}')
    if width % heads:
        raise ValueError(f'heads: expected a divisor of the width {width}, found {heads}')
    for name, value, known in (('self_attention', self_attention, SELF_ATTENTION),
                               ('cross_attention', cross_attention, CROSS_ATTENTION)):
        if value not in known:
            raise ValueError(f'{name}: expected one of {sorted(known)}, found {value!r}')
