"""Task-specific query initialisation (Chen et al. 2025, M3Net, arXiv 2503.18100).

The number of queries of each task is fixed at construction, so that the graph has fixed shapes. A query knows
the map's features at its cell, where that is, and for which class it looks.

Shape letters: B batch, Q queries, K classes, S strips, C channels, Y X rows and columns.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.blocks import BasicBlock, conv_bn_relu
from ...bev.ops.deformable_attention import cell_centres
from ...core.contracts import DetectionClasses
from ...core.protocols import DETECTION_CLASSES
from ..bridge import sine_positions
from ..layers import prior_logit
from ..queried import Queries

SHARP_CLASSES = ('pedestrian', 'traffic_cone')
"""Published as channels 8 and 9 of ten; which ones they are depends on the order of the channels."""

_NEVER = -1e4


def sharp_classes(classes: DetectionClasses) -> tuple[str, ...]:
    """Names of classes whose every cell may be a peak: the published two, of other sets the crowded ones."""
    return SHARP_CLASSES if classes.is_nuscenes else tuple(c.name for c in classes.classes if c.crowded)


class DetectionQueries(nn.Module):
    """The highest peaks of a first heatmap over classes and cells.

    As in TransFusion (Bai et al. 2022, arXiv 2203.11496).

    Args:
        width: of the map.
        shape_YX: its cells.
        count: Q.
        classes: names of the heatmap's channels.
        sharp: names of those whose every cell may be a peak: people and cones stand close together.

    Raises:
        ValueError: a sharp name is none of the classes.
    """

    def __init__(
        self,
        width: int,
        shape_YX: tuple[int, int],
        count: int = 200,
        classes: Sequence[str] = DETECTION_CLASSES,
        sharp: Sequence[str] = SHARP_CLASSES,
    ) -> None:
        super().__init__()
        if unknown := set(sharp) - set(classes):
            raise ValueError(f'sharp: expected names out of {tuple(classes)}, found {sorted(unknown)}')

        self.count, self.cells = count, shape_YX[0] * shape_YX[1]
        self.heatmap = nn.Sequential(BasicBlock(width, width), nn.Conv2d(width, len(classes), 3, padding=1))
        nn.init.constant_(self.heatmap[-1].bias, prior_logit())
        self.class_embedding = ClassEmbedding(len(classes), width)
        self.position_encoding = PositionEncoding(width)
        self.register_buffer('centres_1Q2', cell_centres(shape_YX), persistent=False)
        is_sharp_K = torch.tensor([name in sharp for name in classes])
        self.register_buffer('sharp_K11', is_sharp_K[:, None, None], persistent=False)

    def forward(self, bev_BCYX: Tensor) -> tuple[Queries, Tensor, Tensor, Tensor]:
        """Place the queries on a map.

        Returns:
            The queries, the heatmap logits `(B, K, Y, X)`, the cells taken, `(B, Q)` numbered row by row, and
            their probability `(B, Q, K)`, 0 at other classes than a query's own.
        """
        logits_BKYX = self.heatmap(bev_BCYX)

        # the index counts classes and cells as one
        score_BQ, index_BQ = self.peaks(logits_BKYX).flatten(1).topk(self.count, sorted=True)
        class_BQ = torch.div(index_BQ, self.cells, rounding_mode='floor')
        cell_BQ = index_BQ - class_BQ * self.cells
        is_own_BQK = class_BQ[..., None] == torch.arange(logits_BKYX.shape[1], device=class_BQ.device)

        content_BQC = gather_cells(bev_BCYX, cell_BQ) + self.class_embedding()[class_BQ]
        places_BQ2 = self.centres_1Q2[0][cell_BQ]
        queries = Queries(content_BQC, self.position_encoding(places_BQ2), places_BQ2)
        return queries, logits_BKYX, cell_BQ, score_BQ[..., None] * is_own_BQK.to(score_BQ.dtype)

    def peaks(self, logits_BKYX: Tensor) -> Tensor:
        """Probability where a cell is the highest of its 3 x 3 neighbours or its class is sharp, else 0."""
        scores_BKYX = logits_BKYX.detach().float().sigmoid()
        is_peak = (scores_BKYX >= F.max_pool2d(scores_BKYX, 3, 1, 1)) | self.sharp_K11
        return scores_BKYX * is_peak.to(scores_BKYX.dtype)


class MapQueries(nn.Module):
    """One query per class in each of several strips of rows: the strip's best cell of a first segmentation.

    Inside a strip the classes attend to each other, then each class attends along the strips.

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

        self.strips, self.classes = strips, classes
        self.cells_of_strip = shape_YX[0] * shape_YX[1] // strips
        self.features = nn.Sequential(conv_bn_relu(width, width), nn.Conv2d(width, width, 1))
        self.class_KC = nn.Parameter(torch.randn(classes, width) * width ** -0.5)
        self.bias_K = nn.Parameter(torch.full((classes,), prior_logit()))
        self.class_embedding = ClassEmbedding(classes, width)
        self.position_encoding = PositionEncoding(width)
        self.class_attention = SelfAttention(width, heads)
        self.strip_attention = SelfAttention(width, heads)
        self.register_buffer('centres_1Q2', cell_centres(shape_YX), persistent=False)
        self.register_buffer(
            'first_cell_S1', torch.arange(strips)[:, None] * self.cells_of_strip, persistent=False
        )

    def forward(self, bev_BCYX: Tensor, taken_BQ: Tensor | None) -> tuple[Queries, Tensor]:
        """Place the queries on a map, but not on the cells that other queries took.

        Returns:
            The queries, strip by strip, and the first logits `(B, K, Y, X)`.
        """
        logits_BKYX = torch.einsum('kc,bcyx->bkyx', self.class_KC, self.features(bev_BCYX))
        logits_BKYX = logits_BKYX + self.bias_K[:, None, None]
        cell_BQ = self._best_cells(logits_BKYX.detach().float(), taken_BQ)

        # (B, S, K, C)
        by_strip = (self.strips, self.classes)
        places_BQ2 = self.centres_1Q2[0][cell_BQ]
        content = gather_cells(bev_BCYX, cell_BQ).unflatten(1, by_strip) + self.class_embedding()
        position = self.position_encoding(places_BQ2).unflatten(1, by_strip)

        # over the classes, then with strips and classes exchanged over the strips
        content = self.class_attention(content, position)
        content = self.strip_attention(content.transpose(1, 2), position.transpose(1, 2)).transpose(1, 2)
        return Queries(content.flatten(1, 2), position.flatten(1, 2), places_BQ2), logits_BKYX

    def _best_cells(self, logits_BKYX: Tensor, taken_BQ: Tensor | None) -> Tensor:
        """The best free cell of each class in each strip, `(B, S * K)` numbered row by row."""
        scores = logits_BKYX.flatten(2)
        if taken_BQ is not None:
            scores = scores + _NEVER * mark_cells(taken_BQ, scores.shape[-1])[:, None]

        best_BKS = scores.unflatten(2, (self.strips, self.cells_of_strip)).argmax(-1)
        return (best_BKS.transpose(1, 2) + self.first_cell_S1).flatten(1)


class OccupancyQueries(nn.Module):
    """One query per cell of a coarse lattice.

    The publication has a query per voxel that a sparse LiDAR encoder left non-empty, a number that changes
    with every frame. A lattice covers everything, serves cameras too, and keeps the graph's shapes.

    Args:
        width: of the map.
        shape_YX: its cells.
        stride: cells per query along a side.
    """

    def __init__(self, width: int, shape_YX: tuple[int, int], stride: int = 8) -> None:
        super().__init__()
        if any(size % stride for size in shape_YX):
            raise ValueError(f'occupancy_stride: expected a divisor of the {shape_YX} cells, found {stride}')

        self.stride, self.position_encoding = stride, PositionEncoding(width)
        self.shape_YX = tuple(size // stride for size in shape_YX)
        self.register_buffer('centres_1Q2', cell_centres(self.shape_YX), persistent=False)

    def forward(self, bev_BCYX: Tensor) -> Queries:
        """A map -> queries row by row."""
        content_BQC = F.avg_pool2d(bev_BCYX, self.stride).flatten(2).transpose(1, 2)
        places_BQ2 = self.centres_1Q2.expand(len(content_BQC), -1, -1)
        return Queries(content_BQC, self.position_encoding(places_BQ2), places_BQ2)


class PositionEncoding(nn.Module):
    """Sines and cosines of a place, then two layers.

    Args:
        width: C.
        waves: number of sines and cosines.
    """

    def __init__(self, width: int, waves: int = 32) -> None:
        super().__init__()
        self.waves = waves
        self.layers = nn.Sequential(nn.Linear(waves, width), nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self, places: Tensor) -> Tensor:
        """Places (x, y) in 0..1 `(B, Q, 2)` -> `(B, Q, C)`."""
        return self.layers(sine_positions(places, self.waves))


class ClassEmbedding(nn.Module):
    """A learned vector per class, normed, through three layers."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_KC = nn.Parameter(torch.randn(classes, width))
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width),
            nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self) -> Tensor:
        """Embeddings of all classes `(K, C)`."""
        return self.layers(self.embedding_KC)


class SelfAttention(nn.Module):
    """Self-attention over the last dimension but one; added and normed (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key = nn.Linear(width, 2 * width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, content: Tensor, position: Tensor) -> Tensor:
        """`(*, Q, C)` and encodings of their places -> the same shape."""
        query, key = self.query_key(content + position).chunk(2, -1)

        # all dimensions before the queries make one batch: (N, heads, Q, C / heads)
        q, k, v = (
            x.flatten(0, -3).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (query, key, self.value(content))
        )
        gathered = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(content.shape)
        return self.norm(content + self.out(gathered))


def gather_cells(bev_BCYX: Tensor, cell_BQ: Tensor) -> Tensor:
    """Gather a map's features `(B, Q, C)` at cells numbered row by row."""
    index_BCQ = cell_BQ[:, None].expand(-1, bev_BCYX.shape[1], -1)
    return bev_BCYX.flatten(2).gather(2, index_BCQ).transpose(1, 2)


def mark_cells(cell_BQ: Tensor, cells: int) -> Tensor:
    """Mark the cells that occur in `cell_BQ` with 1, the others with 0: float `(B, cells)`.

    By comparison, since engines have no reduction in a scatter.
    """
    return (cell_BQ[:, :, None] == torch.arange(cells, device=cell_BQ.device)).any(1).float()
