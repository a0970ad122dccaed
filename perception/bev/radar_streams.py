"""The radar's dual-stream backbone: a stream of points and a stream of a transformer over them.

After Lin et al., CVPR 2024 (arXiv 2403.16440, section 3.2): blocks of both streams, with an injection from
the points into the transformer and an extraction back before each next block. Both exchanges pass through
gates that start at zero, and so does the point stream's own block (ours): a new dual stream changes nothing.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DualStream(nn.Module):
    """Pairs of a point block and a transformer block that exchange features; returns the point stream.

    Args:
        width: channels C of the points.
        blocks: how many pairs, at least one.
        heads: of every attention; divides the width.
    """

    def __init__(self, width: int, blocks: int, heads: int = 2) -> None:
        super().__init__()
        self.input_projection = nn.Linear(width, width)
        self.blocks = nn.ModuleList(StreamBlock(width, heads) for _ in range(blocks))

    def forward(
        self, points_PC: Tensor, xy_P2: Tensor, sample_rows_BN: Tensor, row_places_P: Tensor
    ) -> Tensor:
        """Points of all samples, one after another, with their places in metres -> the same points, `(P, C)`.

        Args:
            points_PC: features.
            xy_P2: ego metres.
            sample_rows_BN: rows of each sample, P where it has none.
            row_places_P: each row's place in `sample_rows_BN`, flattened.
        """
        present_BN = sample_rows_BN < points_PC.shape[0]
        points = rows_by_sample(points_PC, sample_rows_BN)
        xy = rows_by_sample(xy_P2, sample_rows_BN)
        squared_m2 = (xy[:, :, None] - xy[:, None]).square().sum(-1)  # (B, N, N)

        tokens = self.input_projection(points)
        for block in self.blocks:
            points, tokens = block(points, tokens, squared_m2, present_BN)
        return points.flatten(0, 1).index_select(0, row_places_P)


def rows_by_sample(rows_PC: Tensor, sample_rows_BN: Tensor) -> Tensor:
    """Rows of all samples -> `(B, N, C)`, zeros where the index is P."""
    flat = F.pad(rows_PC, (0, 0, 0, 1)).index_select(0, sample_rows_BN.reshape(-1))
    return flat.view(*sample_rows_BN.shape, -1)


class StreamBlock(nn.Module):
    """One block of both streams.

    A point sees itself and the maximum over all points; the transformer sees distances.

    Args:
        width: channels C.
        heads: of every attention; divides the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True))
        self.local_output = nn.Linear(2 * width, width)
        self.injection = PointAttention(width, heads)
        self.self_attention = PointAttention(width, heads, by_distance=True)
        self.extraction = PointAttention(width, heads)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(6))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.gates = nn.Parameter(torch.zeros(3, width))

    def forward(
        self, points: Tensor, tokens: Tensor, squared_m2: Tensor, present_BN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both streams `(B, N, C)`, squared distances `(B, N, N)`, real points `(B, N)` -> both streams."""
        norm = self.norms

        # point stream: each point beside the maximum over all present ones
        local = self.local(points)
        highest = torch.where(present_BN[..., None], local, 0).amax(1, keepdim=True).expand_as(local)
        points = points + self.gates[0] * self.local_output(torch.cat([local, highest], -1))

        # transformer stream: what the points inject, then attention by distance
        injected = self.injection(norm[0](tokens), norm[1](points), present_BN)
        tokens = tokens + self.gates[1] * injected
        normed = norm[2](tokens)
        tokens = tokens + self.self_attention(normed, normed, present_BN, squared_m2)
        tokens = tokens + self.mlp(norm[3](tokens))

        # and back to the points
        extracted = self.extraction(norm[4](points), norm[5](tokens), present_BN)
        return points + self.gates[2] * extracted, tokens


class PointAttention(nn.Module):
    """Attention over a sample's points; with `by_distance` a Gaussian of the distance weighs each pair.

    DMSA: softmax(Q K^T / sqrt(C / H) + log exp(-d^2 / s^2)) V with a learned s per head (Lin et al., section
    3.2); s starts at 2, 4, 8, ... metres.

    Args:
        width: channels C.
        heads: H, divides the width.
        by_distance: the Gaussian.

    Raises:
        ValueError: heads do not divide the width.
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
        self, queries: Tensor, keys: Tensor, present_BN: Tensor, squared_m2: Tensor | None = None
    ) -> Tensor:
        """`(B, N, C)` -> `(B, N, C)`; keys that are padding get no weight."""
        q = self._by_head(self.query(queries))
        k = self._by_head(self.key(keys))
        v = self._by_head(self.value(keys))

        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, H, N, N)
        if self.log_sigma is not None:
            logits = logits - squared_m2[:, None] * (-2 * self.log_sigma).exp()[:, None, None]

        # a softmax over nothing would be NaN: in a sample of padding alone, never read, all keys count
        allowed = present_BN | ~present_BN.any(1, keepdim=True)
        weights = torch.where(allowed[:, None, None], logits, -torch.inf).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        """`(B, N, C)` -> `(B, H, N, C / H)`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
