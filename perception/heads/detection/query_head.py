"""Boxes from queries: TransFusion (Bai et al. 2022, arXiv 2203.11496), M3Net (arXiv 2503.18100)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.config import build_record
from ...core.contracts import Annotations, Boxes3D, DetectionClasses
from ...core.grid import BEVGrid
from ...core.protocols import ATTRIBUTES
from ...registry import MODELS
from ..base import TaskHead
from ..layers import prior_logit
from ..losses import binary_entropy
from ..queried import QueriedMap, expect_queries
from .decode import DecodeRule, decode_codes, select_boxes
from .query_loss import MatchingCosts, QueryBoxLosses, query_losses
from .targets import BOX_CODE, DetectionTargets, TargetOptions, TargetRule, build_targets

_PARTS = {'offset': 2, 'height': 1, 'size': 3, 'heading': 2, 'velocity': 2}


@MODELS.register_module()
class QueryBoxHead(TaskHead):
    """3-D boxes with velocity and attribute, one for each query that a bridge hands over.

    A query says of which class the object at its cell is, and what its box is; each true box belongs to one
    query (Hungarian), all other queries to none. Raw outputs, of Q queries:
        * `logits` `(B, Q, K)`: of the classes;
        * `box` `(B, Q, 10)`: the numbers of `BOX_CODE`, offsets from the corner of the query's cell;
        * `attribute` `(B, Q, 8)`: logits of `ATTRIBUTES`;
        * `cell` `(B, Q, 2)`: column and row of the query, whole numbers;
        * `first_score` `(B, Q, K)`: the probability by which it was placed, at its own class alone.

    Args:
        grid: the trunk's grid.
        in_channels: its width, which is the queries'.
        channels: hidden width of each branch, published 64.
        targets: options of `TargetOptions`; its heatmap is that of the bridge, which places the queries.
        losses: weights of `QueryBoxLosses`.
        costs: weights of `MatchingCosts`.
        decoding: options of `DecodeRule` but `peak_kernel`; without an `nms` none follows, as published.
        classes: {name: fields of `core.contracts.DetectionClass`}, K of them; None: nuScenes' ten.

    Raises:
        ValueError: an option is unknown, or a number out of range.
    """

    task = 'detection'
    reads_queries = True

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        channels: int = 64,
        targets: Mapping[str, Any] | None = None,
        losses: Mapping[str, Any] | None = None,
        costs: Mapping[str, Any] | None = None,
        decoding: Mapping[str, Any] | None = None,
        classes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.classes = DetectionClasses.of(classes, 'QueryBoxHead.classes')
        self.losses = build_record(QueryBoxLosses, losses, 'QueryBoxHead.losses')
        self.costs = build_record(MatchingCosts, costs, 'QueryBoxHead.costs')
        if 'peak_kernel' in (decoding or {}):
            raise ValueError('QueryBoxHead.decoding: peak_kernel is for heads with a heatmap; leave it out')
        self.decoding = build_record(
            DecodeRule, {'nms': None, **(decoding or {}), 'classes': self.classes}, 'QueryBoxHead.decoding')

        # a channel for each class, in their order, and one branch
        count = len(self.classes.names)
        self.target_rule = TargetRule(
            grid, np.arange(count), np.zeros(count, dtype=np.int64),
            build_record(TargetOptions, targets, 'QueryBoxHead.targets'), self.classes, one_per_cell=False)

        self.classifier = _branch(in_channels, channels, count)
        nn.init.constant_(self.classifier[-1].bias, prior_logit())
        sizes = [*_PARTS.values(), len(ATTRIBUTES)]
        self.regression = nn.ModuleList([_branch(in_channels, channels, size) for size in sizes])

    def forward(self, branch: QueriedMap) -> dict[str, Tensor]:
        """Compute the raw outputs, see the class, of the queries that a bridge hands over."""
        queried = expect_queries(branch, 'QueryBoxHead', self.grid)
        content_BQC, cell_BQ = queried.content_BQC, queried.taken_BQ
        numbers = torch.cat([part(content_BQC) for part in self.regression], -1)

        row_BQ = torch.div(cell_BQ, self.grid.x_size, rounding_mode='floor')
        column_BQ = cell_BQ - row_BQ * self.grid.x_size
        return {
            'logits': self.classifier(content_BQC), 'box': numbers[..., :len(BOX_CODE)],
            'attribute': numbers[..., len(BOX_CODE):],
            'cell': torch.stack([column_BQ, row_BQ], -1).float(), 'first_score': queried.scores_BQK}

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> DetectionTargets:
        """Turn the boxes of B samples into the first heatmap's targets and box codes."""
        return build_targets(annotations, self.target_rule).to(device)

    def loss(self, raw: dict[str, Tensor], targets: DetectionTargets) -> dict[str, Tensor]:
        """Compute the weighted losses `classification`, `box` and `attribute`."""
        return query_losses(raw, targets, self.grid, self.losses, self.costs)

    def entropy(self, raw: dict[str, Tensor]) -> Tensor:
        """Whether each query is a box of each class."""
        return binary_entropy(raw['logits'])

    def decode(self, raw: dict[str, Tensor]) -> list[Boxes3D]:
        """Decode raw outputs to boxes in ego metres, best first.

        The score is the class's probability times the one by which the query was placed, and the class the
        query's own, as published.
        """
        values = {name: raw[name].detach().float() for name in raw}
        scores_BQK = (values['logits'].sigmoid() * values['first_score']).cpu().numpy()
        labels_BQ = scores_BQK.argmax(2)
        codes, attributes, cells = (values[name].cpu().numpy() for name in ('box', 'attribute', 'cell'))

        boxes = []
        for b, labels_Q in enumerate(labels_BQ):
            scores_Q = scores_BQK[b].max(1)
            order_Q = np.argsort(-scores_Q, kind='stable')
            boxes_Q9 = decode_codes(codes[b], cells[b], self.grid)[order_Q]
            boxes.append(select_boxes(
                scores_Q[order_Q], labels_Q[order_Q], boxes_Q9, attributes[b][order_Q], self.decoding))
        return boxes


def _branch(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    """A hidden layer and the last one, for each query by itself."""
    return nn.Sequential(
        nn.Linear(in_channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, out_channels))
