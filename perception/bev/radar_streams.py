"""The radar's dual-stream backbone: a point stream for what is near, a transformer stream for what belongs
together.

After Lin et al., CVPR 2024 (arXiv 2403.16440, section 3.2): blocks of both streams, with an injection from
the points into the transformer and an extraction back before each next block. Both exchanges enter through
gates that start at zero, and so does the point stream's own block (ours): a new dual stream changes nothing.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DualStream(nn.Module):
    """`blocks` pairs of a point block and a transformer block that exchange what they found; the points'
    stream is returned.

    Args:
        width: channels C of the points.
        blocks: at least one.
        heads: of every attention; divides the width.
    """

    def __init__(self, width: int, blocks: int, heads: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(width, width)
        self.blocks = nn.ModuleList(StreamBlock(width, heads) for _ in range(blocks))

    def forward(
        self, points_PC: Tensor, xy_P2: Tensor, sample_rows_BN: Tensor, row_places_P: Tensor
    ) -> Tensor:
        """Points of all samples, one after another, with their places in metres -> the same points, `(P, C)`.

        `sample_rows_BN`: rows of each sample, P where it has none; `row_places_P`: each row's place in that,
        flattened.
        """
        def by_sample(rows: Tensor) -> Tensor:
            flat = F.pad(rows, (0, 0, 0, 1)).index_select(0, sample_rows_BN.reshape(-1))
            return flat.view(*sample_rows_BN.shape, -1)

        there_BN = sample_rows_BN < points_PC.shape[0]
        points, xy = by_sample(points_PC), by_sample(xy_P2)
        squared_m2 = (xy[:, :, None] - xy[:, None]).square().sum(-1)
        transformed = self.enter(points)
        for block in self.blocks:
            points, transformed = block(points, transformed, squared_m2, there_BN)
        return points.flatten(0, 1).index_select(0, row_places_P)


class StreamBlock(nn.Module):
    """One block of both streams. Points see themselves and the maximum over all; the transformer sees
    distances."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True))
        self.join = nn.Linear(2 * width, width)
        self.inject, self.attend = (
            PointAttention(width, heads), PointAttention(width, heads, by_distance=True))
        self.extract = PointAttention(width, heads)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(6))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.gates = nn.Parameter(torch.zeros(3, width))

    def forward(
        self, points: Tensor, transformed: Tensor, squared_m2: Tensor, there_BN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both streams `(B, N, C)`, squared distances `(B, N, N)`, who is there `(B, N)` -> both streams."""
        norm = self.norms
        alone = self.local(points)
        together = torch.where(there_BN[..., None], alone, 0).amax(1, keepdim=True).expand_as(alone)
        points = points + self.gates[0] * self.join(torch.cat([alone, together], -1))
        transformed = transformed + self.gates[1] * self.inject(
            norm[0](transformed), norm[1](points), there_BN
        )
        own = norm[2](transformed)
        transformed = transformed + self.attend(own, own, there_BN, squared_m2)
        transformed = transformed + self.mlp(norm[3](transformed))
        points = points + self.gates[2] * self.extract(norm[4](points), norm[5](transformed), there_BN)
        return points, transformed


class PointAttention(nn.Module):
    """Attention over a sample's points; with `by_distance` a Gaussian of the distance weighs each pair
    (DMSA).

    softmax(Q K^T / sqrt(C / H) + log exp(-d^2 / s^2)) V with a learned s per head (Lin et al., section 3.2);
    s starts at 2, 4, 8, ... metres.
    """

    def __init__(self, width: int, heads: int, by_distance: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f'PointAttention: the width {width} is not a multiple of {heads} heads')
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        sigma_m = 2.0 ** torch.arange(1, heads + 1)
        self.log_sigma = nn.Parameter(sigma_m.log()) if by_distance else None

    def forward(
        self, queries: Tensor, keys: Tensor, there_BN: Tensor, squared_m2: Tensor | None = None
    ) -> Tensor:
        """`(B, N, C)` -> `(B, N, C)`; keys that are not there get no weight (where nobody is, all do, and
        nobody reads it)."""
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for layer, x in ((self.query, queries), (self.key, keys), (self.value, keys)))
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if self.log_sigma is not None:
            logits = logits - squared_m2[:, None] * (-2 * self.log_sigma).exp()[:, None, None]
        allowed = there_BN | ~there_BN.any(1, keepdim=True)
        weights = torch.where(allowed[:, None, None], logits, -torch.inf).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))
