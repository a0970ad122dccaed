"""Exchange between the task branches: the interface of a bridge, and the cross-task attention bridge.

Cross-task attention bridge (Inanc & Erkent 2026, arXiv 2604.12918): two task branches in one shared
bird's-eye view exchange features in both directions by multi-scale deformable attention. The paper's public
text says no more and gives no formula. What is **inferred** here, and may differ from the authors' code: the
adapters, the pyramid {1, 1/2, 1/4} of stride-2 convolutions, the residual form, the gates that start at zero,
the feed-forward, the number of heads and points (the camera-radar fusion of Lin et al. 2024, RCBEVDet, arXiv
2403.16440, has 8 and 8), and that both directions read features from before the exchange:

    F_t' = F_t + g_t * MSDA(LN(F_t) + position, own cell, {F_s at level l : s in sources of t, l = 0..L-1})
    F_t' = F_t' + h_t * FFN(LN(F_t'))

with g_t = h_t = 0 (per channel) before training.

Where t has several sources, all their levels compete in one softmax (ours: the paper has two tasks).

Shape letters: B batch, Q queries (cells), C channels, Y X rows and columns.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bev.ops.blocks import conv_bn_relu
from ..bev.ops.deformable_attention import DeformableAttention, cell_centres
from ..core.grid import BEVGrid
from ..registry import MODELS


class TaskBridge(nn.Module, ABC):
    """Exchange between task branches: {task: map} -> {task: map}, on the same grid with the same width.

    In training the result may hold predictions too, named '<task>.<name>'; the model puts them among that
    task's raw outputs, where `loss` reads them. In evaluation there are none.

    Attributes:
        query_tasks: tasks that get a `heads.queried.QueriedMap` in the place of a map; their heads have
            `reads_queries`.
    """

    query_tasks: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, branches: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps `(B, C, Y, X)` by task -> maps by task."""

    def loss(self, raw: dict[str, dict[str, Tensor]], targets: dict[str, Any]) -> dict[str, Tensor]:
        """Compute named losses '<task>/<term>' of these predictions; by default there are none.

        `targets` are those of the tasks' heads.
        """
        return {}


class Exchange(nn.Module):
    """What one branch takes from the others: gated attention, then a gated feed-forward.

    Before training it changes nothing.

    Args:
        grid: of the maps.
        width: their channels.
        stride: cells per query along a side.
        feedforward: hidden width.
        heads: of the attention.
        points: places per head and map.
        maps: number of maps it reads.
    """

    def __init__(
        self, grid: BEVGrid, width: int, stride: int, feedforward: int, heads: int, points: int, maps: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.shape_YX = grid.scaled(stride).shape_YX
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.attention = DeformableAttention(width, heads, maps, points)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width)
        )
        self.gate_C, self.feedforward_gate_C = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.register_buffer('centres_1Q2', cell_centres(self.shape_YX), persistent=False)
        self.register_buffer('positions_1QC', sine_positions(self.centres_1Q2, width), persistent=False)

    def forward(self, bev_BCYX: Tensor, maps_BCYX: Sequence[Tensor]) -> Tensor:
        """A branch's map and the maps it reads -> the branch's map after the exchange."""
        # (B, Q, C): one query for `stride` x `stride` cells
        coarse_BCYX = bev_BCYX if self.stride == 1 else F.avg_pool2d(bev_BCYX, self.stride)
        queries_BQC = self.norms[0](coarse_BCYX.flatten(2).transpose(1, 2)) + self.positions_1QC

        gathered_BQC = self.attention(queries_BQC, self.centres_1Q2, maps_BCYX)
        gathered_BCYX = gathered_BQC.transpose(1, 2).unflatten(2, self.shape_YX)
        if self.stride > 1:
            gathered_BCYX = F.interpolate(
                gathered_BCYX, size=bev_BCYX.shape[-2:], mode='bilinear', align_corners=False
            )
        bev_BCYX = bev_BCYX + self.gate_C[:, None, None] * gathered_BCYX

        # norm and layers work on the last dimension
        hidden_BYXC = self.feedforward(self.norms[1](bev_BCYX.permute(0, 2, 3, 1)))
        return bev_BCYX + self.feedforward_gate_C[:, None, None] * hidden_BYXC.permute(0, 3, 1, 2)


@MODELS.register_module()
class CrossTaskBridge(TaskBridge):
    """Cross-task attention bridge for any set of dense branches.

    The head of this file says what of it is published. Branches of tasks that are not in `tasks` stay as they
    are.

    Args:
        grid: of the maps.
        in_channels: their width.
        tasks: branches with an adapter of their own.
        exchange: 'both' (every task reads all others), 'off' (adapters alone: the joint baseline), or {task:
            tasks it reads}.
        adapters: a 3x3 convolution per task, by which branches differ at all; without, the bridge starts as
            no bridge.
        levels: of the pyramid that the attention reads, each by a stride of 2.
        heads: of the attention.
        points: places per head and map.
        stride: cells per query along a side, 1 as inferred from the paper; 2 has a quarter of the queries.
        feedforward: hidden width (twice the maps' by default).

    Raises:
        ValueError: a task twice or unknown to `tasks`, heads that do not divide the width, a stride that does
            not divide the cells.
    """

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        tasks: Sequence[str] = ('detection', 'map_segmentation'),
        exchange: str | Mapping[str, Sequence[str]] = 'both',
        adapters: bool = True,
        levels: int = 3,
        heads: int = 8,
        points: int = 4,
        stride: int = 1,
        feedforward: int | None = None,
    ) -> None:
        super().__init__()
        self.reads = exchange_plan(tasks, exchange)
        if in_channels % heads:
            raise ValueError(f'heads: expected a divisor of the width {in_channels}, found {heads}')
        if any(size % stride for size in grid.shape_YX):
            raise ValueError(f'stride: expected a divisor of the {grid.shape_YX} cells, found {stride}')

        width = in_channels
        self.tasks, self.out_channels = tuple(tasks), width
        self.adapters = nn.ModuleDict(
            {task: conv_bn_relu(width, width) if adapters else nn.Identity() for task in tasks}
        )

        # a task that several others read has one pyramid
        sources = sorted({s for read in self.reads.values() for s in read}, key=self.tasks.index)
        self.pyramids = nn.ModuleDict()
        for source in sources:
            steps = [conv_bn_relu(width, width, stride=2) for _ in range(levels - 1)]
            self.pyramids[source] = nn.ModuleList(steps)

        self.exchanges = nn.ModuleDict()
        for task, read in self.reads.items():
            self.exchanges[task] = Exchange(
                grid, width, stride, feedforward or 2 * width, heads=heads, points=points,
                maps=levels * len(read))

    def forward(self, branches: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps `(B, in_channels, Y, X)` by task -> maps by task; all read the maps before the exchange.

        Raises:
            ValueError: a task of the bridge has no branch.
        """
        if missing := [t for t in self.tasks if t not in branches]:
            raise ValueError(
                f'CrossTaskBridge: no branch for {", ".join(missing)}; the model has {", ".join(branches)}'
            )
        before = {task: self.adapters[task](branches[task]) for task in self.tasks}
        pyramids = {source: self._pyramid(source, before[source]) for source in self.pyramids}

        after = {}
        for task, read in self.reads.items():
            levels = [level for source in read for level in pyramids[source]]
            after[task] = self.exchanges[task](before[task], levels)
        return {**branches, **before, **after}

    def _pyramid(self, task: str, bev_BCYX: Tensor) -> list[Tensor]:
        """Maps of a task, each with half the rows and columns of the one before."""
        levels = [bev_BCYX]
        for step in self.pyramids[task]:
            levels.append(step(levels[-1]))
        return levels


def exchange_plan(
    tasks: Sequence[str], exchange: str | Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Work out {task: tasks it reads}; tasks that read no other are left out.

    Raises:
        ValueError: unknown word or task, a task twice, or one that reads itself.
    """
    if len(set(tasks)) != len(tasks) or not tasks:
        raise ValueError(f'tasks: expected different names, found {tuple(tasks)}')
    if exchange == 'off':
        return {}
    if exchange == 'both':
        return {t: tuple(s for s in tasks if s != t) for t in tasks if len(tasks) > 1}
    if not isinstance(exchange, Mapping):
        raise ValueError(f"exchange: expected 'both', 'off' or {{task: tasks it reads}}, found {exchange!r}")
    for task, read in exchange.items():
        if unknown := {task, *read} - set(tasks):
            raise ValueError(f'exchange: expected tasks of {tuple(tasks)}, found {sorted(unknown)}')
        if task in read or len(set(read)) != len(read):
            raise ValueError(f'exchange[{task!r}]: expected different other tasks, found {tuple(read)}')
    return {task: tuple(read) for task, read in exchange.items() if read}


def sine_positions(places: Tensor, width: int) -> Tensor:
    """Encode places (x, y) in 0..1 `(*, 2)` by sines and cosines of ever shorter waves, `(*, width)`.

    As in Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
    """
    waves = torch.logspace(0, 5, -(-width // 4), base=2.0, device=places.device)
    frequencies = 2 * math.pi * waves
    angles = places[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)[..., :width]
