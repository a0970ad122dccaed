"""Instance x point queries that refine their own points layer by layer (Liao et al. 2023, arXiv 2208.14437,
section 3.3)."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .attention import DecoupledSelfAttention, DeformableMapAttention, FullSelfAttention, MapAttention

SELF_ATTENTION = {'decoupled': DecoupledSelfAttention, 'full': FullSelfAttention}
CROSS_ATTENTION = {'deformable': DeformableMapAttention, 'plain': MapAttention}


def start_lines(instances: int, points: int) -> Tensor:
    """Where instances first look, `(L, P, 2)` in 0..1 (x, y): lines along the road, across it, and rings."""
    along = torch.linspace(0, 1, points)
    turn = torch.linspace(0, 2 * math.pi, points)
    lines = []
    for i in range(instances):
        turn_of_kind, kind = divmod(i, 5)
        place = (turn_of_kind * 0.618034 + kind * 0.13) % 1 * 0.94 + 0.03
        if kind < 3:
            length, start = ((1.0, 0.0), (0.5, 0.0), (0.5, 0.5))[kind]
            lines.append(torch.stack([start + along * length, torch.full((points,), place)], -1))
        elif kind == 3:
            lines.append(torch.stack([torch.full((points,), place), along], -1))
        else:
            centre = torch.tensor([place, (turn_of_kind * 0.381966) % 0.8 + 0.1])
            lines.append(centre + torch.stack([turn.cos() * 0.04, turn.sin() * 0.15], -1))
    return torch.stack(lines).clamp(0, 1)


class PointEncoding(nn.Module):
    """A point's place (x, y) in 0..1 as waves of several lengths, then two layers: `(*, 2)` -> `(*, C)`."""

    def __init__(self, width: int, waves: int = 6) -> None:
        super().__init__()
        self.register_buffer('frequencies_W', math.pi * 2.0 ** torch.arange(waves), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(waves * 4, width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )

    def forward(self, points: Tensor) -> Tensor:
        angles = (points[..., None] * self.frequencies_W).flatten(-2)
        return self.layers(torch.cat([angles.sin(), angles.cos()], -1))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the map, feed-forward; each added and normed."""

    def __init__(self, width: int, heads: int, samples: int, feedforward: int, shape_YX: tuple[int, int],
                 self_attention: str, cross_attention: str) -> None:
        super().__init__()
        self.meet = SELF_ATTENTION[self_attention](width, heads)
        self.look = CROSS_ATTENTION[cross_attention](width, heads, samples, shape_YX)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.ReLU(inplace=True), nn.Linear(feedforward, width)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])

    def forward(
        self, content_BLPC: Tensor, position_BLPC: Tensor, points_BLP2: Tensor, memory_BCYX: Tensor
    ) -> Tensor:
        """Content of the queries -> new content, same shape."""
        content = self.norms[0](content_BLPC + self.meet(content_BLPC, position_BLPC))
        queries = (content + position_BLPC).flatten(1, 2)
        seen = self.look(queries, points_BLP2.flatten(1, 2), memory_BCYX)
        content = self.norms[1](content + seen.unflatten(1, content.shape[1:3]))
        return self.norms[2](content + self.feedforward(content))


class CurveMove(nn.Module):
    """How far each point moves: a smooth part, a cubic along the element from what all its points saw, and
    its own part.

    Lines are smooth, so the cubic finds their place long before single points would; both start at zero.
    """

    def __init__(self, width: int, points: int) -> None:
        super().__init__()
        t = torch.linspace(-1, 1, points)
        self.register_buffer('powers_4P', torch.stack([t ** 0, t, t ** 2, t ** 3]), persistent=False)
        self.whole, self.single = _two_layers(width, 8), _two_layers(width, 2)

    def forward(self, content_BLPC: Tensor) -> Tensor:
        """Content `(B, L, P, C)` -> moves `(B, L, P, 2)` in parts of the range."""
        cubic = self.whole(content_BLPC.mean(2)).unflatten(-1, (2, 4)) @ self.powers_4P
        return cubic.transpose(-1, -2) + self.single(content_BLPC)


def _two_layers(width: int, out: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, out))
    nn.init.zeros_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return layers


class LaneDecoder(nn.Module):
    """L instances of P points: what they are and where they lie, after every layer.

    Args:
        width: of queries and map.
        instances, points: L and P.
        classes: K.
        layers: how often points are refined. Others: see `DecoderLayer`.
    """

    def __init__(
        self, width: int, instances: int, points: int, classes: int, layers: int, **layer: int | str | tuple
    ) -> None:
        super().__init__()
        self.instance_LC = nn.Parameter(torch.randn(instances, width) * 0.5)
        self.point_PC = nn.Parameter(torch.randn(points, width) * 0.5)
        self.start_LP2 = nn.Parameter(start_lines(instances, points))
        self.encode = PointEncoding(width)
        self.layers = nn.ModuleList([DecoderLayer(width, **layer) for _ in range(layers)])
        self.classify = nn.ModuleList([nn.Linear(width, classes) for _ in range(layers)])
        self.move = nn.ModuleList([CurveMove(width, points) for _ in range(layers)])
        for classify in self.classify:
            nn.init.constant_(classify.bias, -math.log((1 - 0.05) / 0.05))

    def forward(self, memory_BCYX: Tensor) -> list[tuple[Tensor, Tensor]]:
        """A map `(B, C, Y, X)` of the range -> per layer class logits `(B, L, K)` and points `(B, L, P, 2)`.

        Points are (x, y) with the range at 0..1.
        """
        batch = memory_BCYX.shape[0]
        content = (self.instance_LC[:, None] + self.point_PC).expand(batch, -1, -1, -1)
        points = self.start_LP2.expand(batch, -1, -1, -1)
        answers = []
        for i, (layer, classify, move) in enumerate(zip(self.layers, self.classify, self.move, strict=True)):
            points = points if i == 0 else points.detach()
            content = layer(content, self.encode(points), points, memory_BCYX)
            points = points + move(content)
            answers.append((classify(content.mean(2)), points))
        return answers
