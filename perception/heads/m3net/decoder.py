"""M3Net's decoder layers, in the Transformer and in the Mamba form (Chen et al. 2025, arXiv 2503.18100).

A layer has tokens of the shared map, task-oriented channel scaling, and queries of every task.

Shape letters: B batch, T tokens, Q queries, C channels, Y X rows and columns of the tokens.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.deformable_attention import DeformableAttention, cell_centres
from ..bridge import sine_positions
from ..layers import NormedFeedForward
from ..queried import Queries
from .queries import SelfAttention
from .ss2d import SS2D


class M3NetDecoderLayer(nn.Module):
    """One layer of either form.

    Args:
        token_mixer: `DeformableTokens` or `ScannedTokens`.
        cross_attention: how a query reads its task's map, `DeformableAttention` or `PointSampling`; its
            weights are shared over the tasks, only the map differs.
        scaled: tasks with a gate.
        width: C.
        shape_YX: rows and columns of the tokens.
        heads: of the self-attention.
        feedforward: hidden width.
    """

    def __init__(
        self,
        token_mixer: nn.Module,
        cross_attention: nn.Module,
        scaled: Sequence[str],
        width: int,
        shape_YX: tuple[int, int],
        heads: int,
        feedforward: int,
    ) -> None:
        super().__init__()
        self.shape_YX = shape_YX
        self.token_mixer, self.cross_attention = token_mixer, cross_attention
        self.channel_scaling = nn.ModuleDict({task: TaskChannelScaling(width) for task in scaled})
        self.norm, self.self_attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.feedforward = NormedFeedForward(width, feedforward)

    def forward(
        self, tokens_BTC: Tensor, queries: dict[str, Queries]
    ) -> tuple[Tensor, dict[str, Queries], dict[str, Tensor]]:
        """Tokens and each task's queries -> tokens, queries, and each task's gates `(B, T, C)`."""
        tokens_BTC = self.token_mixer(tokens_BTC)
        gates = {task: scaling(tokens_BTC) for task, scaling in self.channel_scaling.items()}

        # the queries of a task read the tokens as its gates scale them
        content: dict[str, Tensor] = {}
        for task, q in queries.items():
            scaled_BTC = tokens_BTC * gates[task] if task in gates else tokens_BTC
            memory_BCYX = as_map(scaled_BTC, self.shape_YX)
            gathered_BQC = self.cross_attention(
                q.content_BQC + q.position_BQC, q.places_BQ2, [memory_BCYX]
            )
            content[task] = self.norm(q.content_BQC + gathered_BQC)

        return tokens_BTC, self._attend_across_tasks(queries, content), gates

    def _attend_across_tasks(
        self, queries: dict[str, Queries], content: dict[str, Tensor]
    ) -> dict[str, Queries]:
        """Self-attention over the queries of all tasks together, then the feed-forward."""
        if not queries:
            return queries

        position_BQC = torch.cat([q.position_BQC for q in queries.values()], 1)
        content_BQC = torch.cat(list(content.values()), 1)
        content_BQC = self.feedforward(self.self_attention(content_BQC, position_BQC))

        counts = [c.shape[1] for c in content.values()]
        by_task = zip(queries.items(), content_BQC.split(counts, 1), strict=True)
        return {task: q.with_content(task_content) for (task, q), task_content in by_task}


class TaskChannelScaling(nn.Module):
    """Task-oriented channel scaling: one task's gate per token and channel, W_2 GELU(W_1 x), no sigmoid.

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


class DeformableTokens(nn.Module):
    """Transformer form: tokens attend to a few places of their own map, then a feed-forward."""

    def __init__(
        self, width: int, shape_YX: tuple[int, int], heads: int, points: int, feedforward: int
    ) -> None:
        super().__init__()
        self.shape_YX = shape_YX
        self.attention, self.norm = DeformableAttention(width, heads, 1, points), nn.LayerNorm(width)
        self.feedforward = NormedFeedForward(width, feedforward)
        self.register_buffer('centres_1T2', cell_centres(shape_YX), persistent=False)
        self.register_buffer('positions_1TC', sine_positions(self.centres_1T2, width), persistent=False)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        """Tokens row by row -> the same shape."""
        maps = [as_map(tokens_BTC, self.shape_YX)]
        gathered_BTC = self.attention(tokens_BTC + self.positions_1TC, self.centres_1T2, maps)
        return self.feedforward(self.norm(tokens_BTC + gathered_BTC))


class ScannedTokens(nn.Module):
    """Mamba form: four scans cross the map; normed before, added after, and no feed-forward."""

    def __init__(self, width: int, shape_YX: tuple[int, int], states: int) -> None:
        super().__init__()
        self.norm, self.scan = nn.LayerNorm(width), SS2D(width, shape_YX, states)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        """Tokens row by row -> the same shape."""
        return tokens_BTC + self.scan(self.norm(tokens_BTC))


class PointSampling(nn.Module):
    """Mamba form of cross-attention: the map's features at the query's own place, normed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, queries_BQC: Tensor, places_BQ2: Tensor, maps_BCYX: list[Tensor]) -> Tensor:
        """As `DeformableAttention.forward`; `queries_BQC` are not needed."""
        places_BQ12 = places_BQ2[:, :, None].float() * 2 - 1
        sampled_BCQ = F.grid_sample(maps_BCYX[0].float(), places_BQ12, align_corners=False)[..., 0]
        return self.norm(sampled_BCQ.to(maps_BCYX[0].dtype).transpose(1, 2))


def as_map(tokens_BTC: Tensor, shape_YX: tuple[int, int]) -> Tensor:
    """Arrange tokens, row by row, as `(B, C, Y, X)`."""
    return tokens_BTC.transpose(1, 2).unflatten(2, shape_YX)
