"""Instance x point queries that refine their own points layer by layer (Liao et al. 2023, arXiv 2208.14437).

Shape letters: B batch, L instances, P points, K classes, C channels, Y X cells of the map.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import prior_logit
from .attention import DecoupledSelfAttention, DeformableMapAttention, FullSelfAttention, MapAttention

SELF_ATTENTION = {'decoupled': DecoupledSelfAttention, 'full': FullSelfAttention}
CROSS_ATTENTION = {'deformable': DeformableMapAttention, 'plain': MapAttention}


@dataclass(frozen=True)
class LaneDecoderOptions:
    """Size and kind of the decoder.

    Args:
        instances: L, the largest number of elements.
        points: P of each element.
        layers: how often points are refined.
        heads: of the attention; divides the width.
        samples: places per head and query of the deformable cross-attention.
        feedforward: hidden width.
        self_attention: 'decoupled' or 'full'.
        cross_attention: 'deformable' or 'plain'; plain is affordable on coarse cells alone.

    Raises:
        ValueError: unknown kind of attention.
    """

    instances: int = 50
    points: int = 20
    layers: int = 3
    heads: int = 4
    samples: int = 8
    feedforward: int = 256
    self_attention: str = 'decoupled'
    cross_attention: str = 'deformable'

    def __post_init__(self) -> None:
        for name, known in (('self_attention', SELF_ATTENTION), ('cross_attention', CROSS_ATTENTION)):
            if getattr(self, name) not in known:
                raise ValueError(f'{name}: expected one of {sorted(known)}, found {getattr(self, name)!r}')


class LaneDecoder(nn.Module):
    """L instances of P points: their classes and places after every layer.

    Args:
        width: of queries and map.
        classes: K.
        shape_YX: cells of the map.
        options: see `LaneDecoderOptions`.
    """

    def __init__(
        self, width: int, classes: int, shape_YX: tuple[int, int], options: LaneDecoderOptions
    ) -> None:
        super().__init__()
        self.instance_LC = nn.Parameter(torch.randn(options.instances, width) * 0.5)
        self.point_PC = nn.Parameter(torch.randn(options.points, width) * 0.5)
        self.start_LP2 = nn.Parameter(start_lines(options.instances, options.points))
        self.position_encoding = PointEncoding(width)

        layers = range(options.layers)
        self.layers = nn.ModuleList([LaneDecoderLayer(width, shape_YX, options) for _ in layers])
        self.classifiers = nn.ModuleList([nn.Linear(width, classes) for _ in layers])
        self.refinements = nn.ModuleList([CurveRefinement(width, options.points) for _ in layers])

        for classifier in self.classifiers:
            nn.init.constant_(classifier.bias, prior_logit(0.05))

    def forward(self, memory_BCYX: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Predict class logits `(B, L, K)` and points `(B, L, P, 2)` after each layer.

        Points are (x, y) with the range of the map `(B, C, Y, X)` at 0..1.
        """
        batch = memory_BCYX.shape[0]
        content_BLPC = (self.instance_LC[:, None] + self.point_PC).expand(batch, -1, -1, -1)
        points_BLP2 = self.start_LP2.expand(batch, -1, -1, -1)

        predictions = []
        for i, layer in enumerate(self.layers):
            # a layer learns its own step alone, the first one the start lines too
            if i > 0:
                points_BLP2 = points_BLP2.detach()
            position_BLPC = self.position_encoding(points_BLP2)
            content_BLPC = layer(content_BLPC, position_BLPC, points_BLP2, memory_BCYX)
            points_BLP2 = points_BLP2 + self.refinements[i](content_BLPC)

            # an element has one class, its points' mean
            logits_BLK = self.classifiers[i](content_BLPC.mean(2))
            predictions.append((logits_BLK, points_BLP2))
        return predictions


class LaneDecoderLayer(nn.Module):
    """Self-attention, cross-attention to the map, feed-forward; each added and normed."""

    def __init__(self, width: int, shape_YX: tuple[int, int], options: LaneDecoderOptions) -> None:
        super().__init__()
        self.self_attention = SELF_ATTENTION[options.self_attention](width, options.heads)
        self.cross_attention = CROSS_ATTENTION[options.cross_attention](
            width, options.heads, options.samples, shape_YX
        )
        self.feedforward = nn.Sequential(
            nn.Linear(width, options.feedforward), nn.ReLU(inplace=True),
            nn.Linear(options.feedforward, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])

    def forward(
        self, content_BLPC: Tensor, position_BLPC: Tensor, points_BLP2: Tensor, memory_BCYX: Tensor
    ) -> Tensor:
        """Content of the queries -> new content, same shape."""
        content_BLPC = self.norms[0](content_BLPC + self.self_attention(content_BLPC, position_BLPC))

        # the map is read by all L * P queries alike
        queries_BQC = (content_BLPC + position_BLPC).flatten(1, 2)
        gathered_BQC = self.cross_attention(queries_BQC, points_BLP2.flatten(1, 2), memory_BCYX)
        content_BLPC = self.norms[1](content_BLPC + gathered_BQC.unflatten(1, content_BLPC.shape[1:3]))

        return self.norms[2](content_BLPC + self.feedforward(content_BLPC))


class PointEncoding(nn.Module):
    """Sines and cosines of several wavelengths of a point, then two layers.

    Args:
        width: C.
        waves: number of wavelengths.
    """

    def __init__(self, width: int, waves: int = 6) -> None:
        super().__init__()
        self.register_buffer('frequencies_W', math.pi * 2.0 ** torch.arange(waves), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(waves * 4, width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Points (x, y) in 0..1 `(*, 2)` -> `(*, C)`."""
        angles = (points[..., None] * self.frequencies_W).flatten(-2)
        return self.layers(torch.cat([angles.sin(), angles.cos()], -1))


class CurveRefinement(nn.Module):
    """The step of each point: a smooth part for the whole element, and a part of the point's own.

    The smooth part is a cubic along the element, computed from the mean of its points. Lines are smooth, so
    the cubic finds their place long before single points would; both parts start at zero.
    """

    def __init__(self, width: int, points: int) -> None:
        super().__init__()
        t = torch.linspace(-1, 1, points)
        self.register_buffer('powers_4P', torch.stack([t ** 0, t, t ** 2, t ** 3]), persistent=False)
        self.curve, self.offsets = _two_layers(width, 8), _two_layers(width, 2)

    def forward(self, content_BLPC: Tensor) -> Tensor:
        """Content of the queries -> steps `(B, L, P, 2)`, as fractions of the range."""
        coefficients_BL24 = self.curve(content_BLPC.mean(2)).unflatten(-1, (2, 4))
        cubic_BL2P = coefficients_BL24 @ self.powers_4P
        return cubic_BL2P.transpose(-1, -2) + self.offsets(content_BLPC)


def _two_layers(width: int, out: int) -> nn.Sequential:
    """Two layers whose output starts at zero."""
    layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, out))
    nn.init.zeros_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return layers


def start_lines(instances: int, points: int) -> Tensor:
    """Lay out the instances' first points, `(L, P, 2)` (x, y) in 0..1.

    Of every five instances three are lines along the road (one whole, two half as long), one lies across it
    and one is a ring. Steps of the golden ratio spread each kind evenly, however many there are.
    """
    along = torch.linspace(0, 1, points)
    angle = torch.linspace(0, 2 * math.pi, points)

    lines = []
    for i in range(instances):
        turn, kind = divmod(i, 5)
        place = (turn * 0.618034 + kind * 0.13) % 1 * 0.94 + 0.03

        if kind < 3:
            length, start = ((1.0, 0.0), (0.5, 0.0), (0.5, 0.5))[kind]
            x, y = start + along * length, torch.full((points,), place)
        elif kind == 3:
            x, y = torch.full((points,), place), along
        else:
            x = torch.tensor(place) + angle.cos() * 0.04
            y = torch.tensor((turn * 0.381966) % 0.8 + 0.1) + angle.sin() * 0.15
        lines.append(torch.stack([x, y], -1))
    return torch.stack(lines).clamp(0, 1)
