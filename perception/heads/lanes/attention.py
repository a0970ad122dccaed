"""Attention between queries and to the map, in operators that every engine has.

Shape letters: B batch, Q queries, K keys, L instances, P points, C channels, Y X cells of the map.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...bev.ops.deformable_attention import deformable_attention


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017).

    Args:
        width: of queries and values.
        heads: divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`(B, Q, C)`, `(B, K, C)`, `(B, K, C)` -> `(B, Q, C)`."""
        # (B, heads, Q or K, C / heads)
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.key(keys).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        v = self.value(values).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        # torch's fused form is slower for so few keys
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class DecoupledSelfAttention(nn.Module):
    """Self-attention between points of the same index, then between the points of each instance.

    It costs O(P L^2 + L P^2) instead of O(L^2 P^2) (Liao et al. 2024, arXiv 2308.05736, section 3.3).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.inter_instance = Attention(width, heads)
        self.intra_instance = Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, content_BLPC: Tensor, position_BLPC: Tensor) -> Tensor:
        """Content and positional encoding `(B, L, P, C)` -> what each query gathers, same shape."""
        between_BLPC = _self_attention(
            self.inter_instance, content_BLPC.transpose(1, 2), position_BLPC.transpose(1, 2)
        ).transpose(1, 2)

        content_BLPC = self.norm(content_BLPC + between_BLPC)
        return between_BLPC + _self_attention(self.intra_instance, content_BLPC, position_BLPC)


class FullSelfAttention(nn.Module):
    """Self-attention between all points of all instances."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)

    def forward(self, content_BLPC: Tensor, position_BLPC: Tensor) -> Tensor:
        """As `DecoupledSelfAttention.forward`."""
        content_B1QC = content_BLPC.flatten(1, 2)[:, None]
        position_B1QC = position_BLPC.flatten(1, 2)[:, None]
        gathered_B1QC = _self_attention(self.attention, content_B1QC, position_B1QC)
        return gathered_B1QC[:, 0].unflatten(1, content_BLPC.shape[1:3])


def _self_attention(attention: Attention, content_BGQC: Tensor, position_BGQC: Tensor) -> Tensor:
    """Self-attention over the Q queries of each of G groups."""
    groups = content_BGQC.shape[1]
    values = content_BGQC.flatten(0, 1)
    located = (content_BGQC + position_BGQC).flatten(0, 1)
    return attention(located, located, values).unflatten(0, (-1, groups))


class MapAttention(nn.Module):
    """Plain cross-attention to every cell of the map, with a learned positional encoding of the cells."""

    def __init__(self, width: int, heads: int, samples: int, shape_YX: tuple[int, int]) -> None:
        super().__init__()
        del samples  # every cell is a key
        self.attention = Attention(width, heads)
        self.positions_CYX = nn.Parameter(torch.randn(width, *shape_YX) * 0.02)

    def forward(self, queries_BQC: Tensor, reference_BQ2: Tensor, memory_BCYX: Tensor) -> Tensor:
        """Queries `(B, Q, C)` and a map `(B, C, Y, X)` -> `(B, Q, C)`; `reference_BQ2` is not needed."""
        values = memory_BCYX.flatten(2).transpose(1, 2)
        keys = (memory_BCYX + self.positions_CYX).flatten(2).transpose(1, 2)
        return self.attention(queries_BQC, keys, values)


class DeformableMapAttention(nn.Module):
    """Cross-attention of each query to a few places around its reference point.

    One map is sampled by `bev.ops.deformable_attention` (Zhu et al. 2021, arXiv 2010.04159, equation 2).

    Args:
        width: of queries and map.
        heads: divides it.
        samples: places per head.
        shape_YX: cells of the map.
    """

    def __init__(self, width: int, heads: int, samples: int, shape_YX: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.samples = heads, samples
        self.offsets, self.weights = nn.Linear(width, heads * samples * 2), nn.Linear(width, heads * samples)
        self.value, self.out = nn.Conv2d(width, width, 1), nn.Linear(width, width)
        self.register_buffer(
            'cell_2', 1 / torch.tensor(shape_YX[::-1], dtype=torch.float32), persistent=False
        )

        # at first the places do not depend on the query, and all count the same
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        self.offsets.bias.data = _star(heads, samples).flatten()

    def forward(self, queries_BQC: Tensor, reference_BQ2: Tensor, memory_BCYX: Tensor) -> Tensor:
        """Sample a map `(B, C, Y, X)` for queries `(B, Q, C)` -> `(B, Q, C)`.

        Args:
            queries_BQC: content and position of the queries.
            reference_BQ2: their reference points (x, y), with the map at 0..1.
            memory_BCYX: the map.
        """
        offsets = self.offsets(queries_BQC).unflatten(-1, (self.heads, self.samples, 2))
        places = reference_BQ2[:, :, None, None] + offsets * self.cell_2
        weights = self.weights(queries_BQC).unflatten(-1, (self.heads, self.samples)).softmax(-1)

        # a single level: (B, Q, heads, 1, samples)
        sampled = deformable_attention(
            [self.value(memory_BCYX)], places[:, :, :, None], weights[:, :, :, None]
        )
        return self.out(sampled)


def _star(heads: int, samples: int) -> Tensor:
    """First offsets in cells `(heads, samples, 2)`: each head in its own direction, ever further."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    return direction[:, None] * torch.arange(1, samples + 1)[None, :, None]
