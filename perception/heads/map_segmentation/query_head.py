"""Map masks from queries (Chen et al. 2025, M3Net, arXiv 2503.18100)."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.config import build_record
from ...core.grid import BEVGrid
from ...core.protocols import MAP_CLASSES, MAP_GRID
from ...registry import MODELS
from ..layers import prior_logit
from ..queried import QueriedMap, expect_queries
from ..resample import GridResample
from .loss import MapLosses
from .task import MapTask


@MODELS.register_module()
class QueryMapHead(MapTask):
    """Probability of each map class per cell of `task_grid`: the product of a class's query and the map.

    A bridge hands over one query for each class, or one for each class in each of several strips of the
    trunk's rows, which says where in its strip the class is:

        logit_k(cell) = <MLP(LN(q_k)), F(cell)> / sqrt(C) + b_k

    (the division and b_k are ours). Raw output: `logits` `(B, 6, Y, X)` on `task_grid`, in the order of
    `MAP_CLASSES`, as those of `MapSegmentationHead`.

    Args:
        grid: the trunk's grid.
        in_channels: its width C, which is the queries'.
        losses: options of `MapLosses`.
        task_grid: where the predictions lie.

    Raises:
        ValueError: an option is unknown.
    """

    reads_queries = True

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        losses: Mapping[str, Any] | None = None,
        task_grid: BEVGrid = MAP_GRID,
    ) -> None:
        super().__init__()
        self.grid, self.task_grid, self.classes = grid, task_grid, MAP_CLASSES
        self.losses = build_record(MapLosses, losses, 'QueryMapHead.losses')
        self.resample = GridResample(grid, task_grid, 'border')

        width = in_channels
        self.embedding = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width),
            nn.ReLU(inplace=True), nn.Linear(width, width))
        self.bias_K = nn.Parameter(torch.full((len(MAP_CLASSES),), prior_logit()))

    def forward(self, branch: QueriedMap) -> dict[str, Tensor]:
        """Compute `logits` on the task's grid from the queries and the map that a bridge hands over."""
        queried = expect_queries(branch, 'QueryMapHead', self.grid)
        cells_BCYX = self.resample(queried.map_BCYX)
        embedding_BSKC = self.embedding(queried.content_BQC).unflatten(1, (-1, len(MAP_CLASSES)))
        embedding_BSKC = embedding_BSKC * cells_BCYX.shape[1] ** -0.5

        # each strip's rows by its own queries: (B, K, rows of the strip * X)
        edges = self.strip_edges(embedding_BSKC.shape[1])
        strips = [
            embedding_BSKC[:, s] @ cells_BCYX[:, :, edges[s]:edges[s + 1]].flatten(2)
            for s in range(len(edges) - 1)
        ]
        logits_BKYX = torch.cat(strips, 2).unflatten(2, self.task_grid.shape_YX)
        return {'logits': logits_BKYX + self.bias_K[:, None, None]}

    def strip_edges(self, strips: int) -> list[int]:
        """First rows of the task's grid in each of `strips` equal strips of the trunk's rows, and their end.

        A row belongs to the strip that its centre lies in, beyond the trunk's grid to the nearest.
        """
        low_m, high_m = self.grid.y_range_m
        y_m = self.task_grid.centres_m()[:, 0, 1].astype(np.float64)
        strip_Y = np.floor((y_m - low_m) / (high_m - low_m) * strips).clip(0, strips - 1)
        return [*np.searchsorted(strip_Y, np.arange(strips)).tolist(), len(y_m)]
