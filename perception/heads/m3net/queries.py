"""Task-specific query initialisation: where each task first looks (Chen et al. 2025, M3Net, arXiv
2503.18100).

Every task asks with as many queries as is fixed at construction, so that the graph has fixed shapes. A query
knows what is at its cell, where that is, and for which class it looks.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.blocks import BasicBlock, conv_bn_relu
from ...bev.ops.deformable_attention import cell_centres
from ..bridge import sine_positions

_NEVER = -1e4


@dataclass(frozen=True)
class Queries:
    """Q queries of one task: content_BQC; position_BQC, an encoding of places_BQ2, which are (x, y) in 0..1
    of the map."""

    content_BQC: Tensor
    position_BQC: Tensor
    places_BQ2: Tensor

    def with_content(self, content_BQC: Tensor) -> Queries:
        return replace(self, content_BQC=content_BQC)


class PositionEncoding(nn.Module):
    """Places (x, y) in 0..1 as waves, then two layers: `(B, Q, 2)` -> `(B, Q, C)`."""

    def __init__(self, width: int, waves: int = 32) -> None:
        super().__init__()
        self.waves = waves
        self.layers = nn.Sequential(nn.Linear(waves, width), nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self, places: Tensor) -> Tensor:
        return self.layers(sine_positions(places, self.waves))


class ClassEmbedding(nn.Module):
    """What it means to look for a class: a learned vector, normed, through three layers; `(K, C)`."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_KC = nn.Parameter(torch.randn(classes, width))
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width),
            nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self) -> Tensor:
        return self.layers(self.embedding_KC)


class DetectionQueries(nn.Module):
    """The highest peaks of a first heatmap over classes and cells (as Bai et al. 2022, TransFusion, arXiv
    2203.11496).

    Args:
        width: of the map.
        shape_YX: its cells.
        count: Q.
        classes: channels of the heatmap, in the order of the head's.
        sharp: classes whose every cell may be a peak (pedestrians and cones stand close together).
    """

    def __init__(self, width: int, shape_YX: tuple[int, int], count: int = 200, classes: int = 10,
                 sharp: Sequence[int] = (5, 8)) -> None:
        super().__init__()
        self.count, self.cells = count, shape_YX[0] * shape_YX[1]
        self.heatmap = nn.Sequential(BasicBlock(width, width), nn.Conv2d(width, classes, 3, padding=1))
        nn.init.constant_(self.heatmap[-1].bias, -2.19)
        self.embed, self.locate = ClassEmbedding(classes, width), PositionEncoding(width)
        self.register_buffer('centres_1Q2', cell_centres(shape_YX), persistent=False)
        self.register_buffer('sharp_K11', torch.zeros(classes, 1, 1, dtype=torch.bool), persistent=False)
        self.sharp_K11[list(sharp)] = True

    def forward(self, bev_BCYX: Tensor) -> tuple[Queries, Tensor, Tensor]:
        """A map -> queries, heatmap logits `(B, K, Y, X)`, and the cells taken, `(B, Q)` numbered row by
        row."""
        logits = self.heatmap(bev_BCYX)
        index = self.peaks(logits).flatten(1).topk(self.count, sorted=True).indices
        kind = torch.div(index, self.cells, rounding_mode='floor')
        cell = index - kind * self.cells
        places = self.centres_1Q2[0][cell]
        return Queries(take(bev_BCYX, cell) + self.embed()[kind], self.locate(places), places), logits, cell

    def peaks(self, logits_BKYX: Tensor) -> Tensor:
        """Probabilities where a cell is the highest of its 3 x 3 neighbours (or its class is sharp), 0
        elsewhere."""
        scores = logits_BKYX.detach().float().sigmoid()
        is_peak = (scores >= F.max_pool2d(scores, 3, 1, 1)) | self.sharp_K11
        return scores * is_peak.to(scores.dtype)


class MapQueries(nn.Module):
    """One query per class in each of several strips of rows: the strip's best cell of a first segmentation.

    Inside a strip the classes look at each other, then each class looks along the strips.

    Args:
        width: of the map.
        shape_YX: its cells.
        strips: divides Y (five in the publication, on 180 rows).
        classes: K.
        heads: of the self-attention.
    """

    def __init__(
        self, width: int, shape_YX: tuple[int, int], strips: int = 5, classes: int = 6, heads: int = 8
    ) -> None:
        super().__init__()
        if shape_YX[0] % strips:
            raise ValueError(f'strips: expected a divisor of {shape_YX[0]} rows, found {strips}')
        self.strips, self.classes, self.cells_of_strip = strips, classes, shape_YX[0] * shape_YX[1] // strips
        self.features = nn.Sequential(conv_bn_relu(width, width), nn.Conv2d(width, width, 1))
        self.class_KC = nn.Parameter(torch.randn(classes, width) * width ** -0.5)
        self.bias_K = nn.Parameter(torch.full((classes,), -2.19))
        self.embed, self.locate = ClassEmbedding(classes, width), PositionEncoding(width)
        self.between_classes, self.between_strips = SelfAttention(width, heads), SelfAttention(width, heads)
        self.register_buffer('centres_1Q2', cell_centres(shape_YX), persistent=False)
        self.register_buffer(
            'first_cell_S1', torch.arange(strips)[:, None] * self.cells_of_strip, persistent=False
        )

    def forward(self, bev_BCYX: Tensor, taken_BQ: Tensor | None) -> tuple[Queries, Tensor]:
        """A map and the cells that other queries took -> queries (strip by strip), first logits `(B, K, Y,
        X)`."""
        logits = (
            torch.einsum('kc,bcyx->bkyx', self.class_KC, self.features(bev_BCYX)) + self.bias_K[:, None, None]
        )
        scores = logits.detach().float().flatten(2)
        if taken_BQ is not None:
            scores = scores + _NEVER * occupied(taken_BQ, scores.shape[-1])[:, None]
        best = scores.unflatten(2, (self.strips, self.cells_of_strip)).argmax(-1).transpose(1, 2)  # (B, S, K)
        cell = (best + self.first_cell_S1).flatten(1)
        content = (take(bev_BCYX, cell).unflatten(1, (self.strips, self.classes)) + self.embed())
        position = self.locate(self.centres_1Q2[0][cell]).unflatten(1, (self.strips, self.classes))
        content = self.between_classes(content, position)
        content = self.between_strips(content.transpose(1, 2), position.transpose(1, 2)).transpose(1, 2)
        return Queries(content.flatten(1, 2), position.flatten(1, 2), self.centres_1Q2[0][cell]), logits


class OccupancyQueries(nn.Module):
    """One query per cell of a coarse lattice.

    The publication asks once per voxel that a sparse LiDAR encoder left non-empty, a number that changes with
    every frame. A lattice asks everywhere, serves cameras too, and keeps the graph's shapes.

    Args:
        width: of the map.
        shape_YX: its cells.
        stride: cells per query along a side.
    """

    def __init__(self, width: int, shape_YX: tuple[int, int], stride: int = 8) -> None:
        super().__init__()
        if any(size % stride for size in shape_YX):
            raise ValueError(f'occupancy_stride: expected a divisor of the {shape_YX} cells, found {stride}')
        self.stride, self.locate = stride, PositionEncoding(width)
        self.shape_YX = tuple(size // stride for size in shape_YX)
        self.register_buffer('centres_1Q2', cell_centres(self.shape_YX), persistent=False)

    def forward(self, bev_BCYX: Tensor) -> Queries:
        """A map -> queries row by row."""
        content = F.avg_pool2d(bev_BCYX, self.stride).flatten(2).transpose(1, 2)
        places = self.centres_1Q2.expand(len(content), -1, -1)
        return Queries(content, self.locate(places), places)


class SelfAttention(nn.Module):
    """Queries of the last dimension but one look at each other; added and normed (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key, self.value, self.out = (
            nn.Linear(width, 2 * width), nn.Linear(width, width), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, content: Tensor, position: Tensor) -> Tensor:
        """`(*, Q, C)` and encodings of their places -> the same shape."""
        query, key = self.query_key(content + position).chunk(2, -1)
        q, k, v = (
            x.flatten(0, -3).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (query, key, self.value(content))
        )
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(content.shape)
        return self.norm(content + self.out(seen))


def take(bev_BCYX: Tensor, cell_BQ: Tensor) -> Tensor:
    """What a map holds at cells numbered row by row: `(B, Q, C)`."""
    index = cell_BQ[:, None].expand(-1, bev_BCYX.shape[1], -1)
    return bev_BCYX.flatten(2).gather(2, index).transpose(1, 2)


def occupied(cell_BQ: Tensor, cells: int) -> Tensor:
    """1 at cells that occur in `cell_BQ`, 0 elsewhere: float `(B, cells)`, by comparing, since engines cannot
    add up scatters."""
    return (cell_BQ[:, :, None] == torch.arange(cells, device=cell_BQ.device)).any(1).float()
