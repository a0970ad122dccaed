"""M3Net's decoder layers: tokens of the shared map, task-oriented channel scaling, queries of every task
(Chen et al. 2025, arXiv 2503.18100), in the Transformer and in the Mamba form.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.deformable_attention import DeformableAttention, cell_centres
from ..bridge import sine_positions
from .queries import Queries, SelfAttention
from .ss2d import SS2D


class TaskChannelScaling(nn.Module):
    """Task-oriented channel scaling: one task's gate per token and channel, W_2 GELU(W_1 x), without a
    sigmoid.

    It starts with W_2 = 0 and a bias of 1, that is, as no scaling at all.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.ones_(self.layers[-1].bias)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        """Tokens `(B, T, C)` -> gates of the same shape."""
        return self.layers(tokens_BTC)


class FeedForward(nn.Module):
    """Two layers, added and normed."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.layers(x))


class DeformableTokens(nn.Module):
    """Transformer form: tokens read a few places of their own map, then think; each added and normed."""

    def __init__(
        self, width: int, shape_YX: tuple[int, int], heads: int, points: int, feedforward: int
    ) -> None:
        super().__init__()
        self.shape_YX = shape_YX
        self.attention, self.norm = DeformableAttention(width, heads, 1, points), nn.LayerNorm(width)
        self.feedforward = FeedForward(width, feedforward)
        self.register_buffer('centres_1T2', cell_centres(shape_YX), persistent=False)
        self.register_buffer('positions_1TC', sine_positions(self.centres_1T2, width), persistent=False)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        maps = [as_map(tokens_BTC, self.shape_YX)]
        seen = self.attention(tokens_BTC + self.positions_1TC, self.centres_1T2, maps)
        return self.feedforward(self.norm(tokens_BTC + seen))


class ScannedTokens(nn.Module):
    """Mamba form: four scans cross the map; normed before, added after, and no feed-forward."""

    def __init__(self, width: int, shape_YX: tuple[int, int], states: int) -> None:
        super().__init__()
        self.norm, self.scan = nn.LayerNorm(width), SS2D(width, shape_YX, states)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        return tokens_BTC + self.scan(self.norm(tokens_BTC))


class QueryRead(nn.Module):
    """Mamba form of reading: what the scaled map holds at the query's own place, normed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, queries_BQC: Tensor, places_BQ2: Tensor, maps_BCYX: list[Tensor]) -> Tensor:
        """As `DeformableAttention.forward`; `queries_BQC` are not needed."""
        read = F.grid_sample(
            maps_BCYX[0].float(), places_BQ2[:, :, None].float() * 2 - 1, align_corners=False
        )[..., 0]
        return self.norm(read.to(maps_BCYX[0].dtype).transpose(1, 2))


class DecoderLayer(nn.Module):
    """One layer of either form.

    Args:
        tokens: `DeformableTokens` or `ScannedTokens`.
        read: how a query reads its task's map, `DeformableAttention` or `QueryRead`; its weights are shared
            over the tasks, only what is read differs.
        scaled: tasks with a gate.
    """

    def __init__(
        self,
        tokens: nn.Module,
        read: nn.Module,
        scaled: Sequence[str],
        width: int,
        shape_YX: tuple[int, int],
        heads: int,
        feedforward: int,
    ) -> None:
        super().__init__()
        self.shape_YX, self.tokens, self.read = shape_YX, tokens, read
        self.scale = nn.ModuleDict({task: TaskChannelScaling(width) for task in scaled})
        self.norm, self.meet = nn.LayerNorm(width), SelfAttention(width, heads)
        self.feedforward = FeedForward(width, feedforward)

    def forward(
        self, tokens_BTC: Tensor, queries: dict[str, Queries]
    ) -> tuple[Tensor, dict[str, Queries], dict[str, Tensor]]:
        """Tokens and each task's queries -> tokens, queries, and each task's gates `(B, T, C)`."""
        tokens = self.tokens(tokens_BTC)
        gates = {task: scale(tokens) for task, scale in self.scale.items()}
        memory = {
            task: as_map(tokens * gates[task] if task in gates else tokens, self.shape_YX) for task in queries
        }
        content = {
            task: self.norm(
                q.content_BQC + self.read(q.content_BQC + q.position_BQC, q.places_BQ2, [memory[task]])
            )
            for task, q in queries.items()
        }
        return tokens, self._all_meet(queries, content), gates

    def _all_meet(self, queries: dict[str, Queries], content: dict[str, Tensor]) -> dict[str, Queries]:
        """Self-attention over the queries of all tasks together, then the feed-forward."""
        if not queries:
            return queries
        position = torch.cat([q.position_BQC for q in queries.values()], 1)
        together = self.feedforward(self.meet(torch.cat(list(content.values()), 1), position))
        shares = together.split([c.shape[1] for c in content.values()], 1)
        return {task: q.with_content(share) for (task, q), share in zip(queries.items(), shares, strict=True)}


def as_map(tokens_BTC: Tensor, shape_YX: tuple[int, int]) -> Tensor:
    """Tokens row by row -> `(B, C, Y, X)`."""
    return tokens_BTC.transpose(1, 2).unflatten(2, shape_YX)
