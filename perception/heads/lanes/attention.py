"""How queries look at each other and at the map, in operators that every engine has."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...bev.ops.deformable_attention import deformable_attention


class Attention(nn.Module):
    """Scaled dot-product attention with several heads over the last but one dimension (Vaswani et al. 2017).

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
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for layer, x in ((self.query, queries), (self.key, keys), (self.value, values)))
        # torch's fused form is slower for so few keys
        shares = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return self.out((shares @ v).transpose(1, 2).flatten(2))


class DecoupledSelfAttention(nn.Module):
    """Points of different instances with the same index meet, then points of one instance: O(P L^2 + L P^2)
    instead of O(L^2 P^2) (Liao et al. 2024, arXiv 2308.05736, section 3.3).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.between, self.within = Attention(width, heads), Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, content_BLPC: Tensor, position_BLPC: Tensor) -> Tensor:
        """Content and positional encoding `(B, L, P, C)` -> what each query gathers, same shape."""
        by_point = _attend(
            self.between, content_BLPC.transpose(1, 2), position_BLPC.transpose(1, 2)
        ).transpose(1, 2)
        content_BLPC = self.norm(content_BLPC + by_point)
        return by_point + _attend(self.within, content_BLPC, position_BLPC)


class FullSelfAttention(nn.Module):
    """Every point of every instance meets every other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)

    def forward(self, content_BLPC: Tensor, position_BLPC: Tensor) -> Tensor:
        """As `DecoupledSelfAttention.forward`."""
        together = _attend(
            self.attention, content_BLPC.flatten(1, 2)[:, None], position_BLPC.flatten(1, 2)[:, None]
        )
        return together[:, 0].unflatten(1, content_BLPC.shape[1:3])


def _attend(attention: Attention, content: Tensor, position: Tensor) -> Tensor:
    """Self-attention over the third dimension of `(B, G, Q, C)`; the second is taken into the batch."""
    groups = content.shape[1]
    flat, where = content.flatten(0, 1), (content + position).flatten(0, 1)
    return attention(where, where, flat).unflatten(0, (-1, groups))


class MapAttention(nn.Module):
    """Plain cross-attention to every cell of the map, with a learned encoding of the cells' places."""

    def __init__(self, width: int, heads: int, samples: int, shape_YX: tuple[int, int]) -> None:
        super().__init__()
        del samples  # every cell is looked at
        self.attention = Attention(width, heads)
        self.places_CYX = nn.Parameter(torch.randn(width, *shape_YX) * 0.02)

    def forward(self, queries_BQC: Tensor, reference_BQ2: Tensor, memory_BCYX: Tensor) -> Tensor:
        """Queries `(B, Q, C)` and a map `(B, C, Y, X)` -> `(B, Q, C)`; `reference_BQ2` is not needed."""
        values = memory_BCYX.flatten(2).transpose(1, 2)
        return self.attention(queries_BQC, (memory_BCYX + self.places_CYX).flatten(2).transpose(1, 2), values)


class DeformableMapAttention(nn.Module):
    """Each query reads a few places around its reference point (Zhu et al. 2021, arXiv 2010.04159, equation
    2): the reading of `bev.ops.deformable_attention` on one map.

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
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        self.offsets.bias.data = _star(heads, samples).flatten()

    def forward(self, queries_BQC: Tensor, reference_BQ2: Tensor, memory_BCYX: Tensor) -> Tensor:
        """Queries `(B, Q, C)` at reference points (x, y) in 0..1 `(B, Q, 2)` of a map `(B, C, Y, X)` -> `(B,
        Q, C)`."""
        offsets = self.offsets(queries_BQC).unflatten(-1, (self.heads, self.samples, 2))
        places = reference_BQ2[:, :, None, None] + offsets * self.cell_2
        weights = self.weights(queries_BQC).unflatten(-1, (self.heads, self.samples)).softmax(-1)
        read = deformable_attention([self.value(memory_BCYX)], places[:, :, :, None], weights[:, :, :, None])
        return self.out(read)


def _star(heads: int, samples: int) -> Tensor:
    """First offsets in cells `(heads, samples, 2)`: each head looks in its own direction, ever further."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    return direction[:, None] * torch.arange(1, samples + 1)[None, :, None]
