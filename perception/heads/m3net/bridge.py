"""M3Net's shared decoder as a bridge between task branches (Chen et al. 2025, AAAI, arXiv 2503.18100).

The decoder is shared by all tasks and stands between one map and many answers, which is this project's
bridge: maps in, maps out. So every head, every loss and every metric stays as it is, and any decoder can be
compared with none. What follows the publication: task-specific query initialisation with its losses, the
layers, channel scaling per task, cross-attention whose weights the tasks share, self-attention over all
queries. What is ours, because our heads read maps where the publication's read queries: how queries are
written back (below), the occupancy lattice, the gates of tasks without queries (lanes), tokens at a coarser
stride where asked for, and the task branch

    F_t = Conv(F + up(X)) * up(g_t) + written_t          X tokens after the last layer, g_t the last gates of
    task t

* detection queries are laid onto their own cells;
* map queries multiply the branch as the publication's class masks do: sum_k sigmoid(<MLP(LN(q_k)), F_t>) q_k
  in their strip;
* occupancy queries fill their lattice and are read bilinearly.
The projections that write back start at zero.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.blocks import conv_bn_relu
from ...bev.ops.deformable_attention import DeformableAttention
from ...core.grid import BEVGrid
from ...core.protocols import DETECTION_CLASSES, MAP_CLASSES, MAP_GRID, TASKS
from ...registry import MODELS
from ..bridge import TaskBridge
from ..losses import gaussian_focal_loss, sigmoid_focal_loss
from ..resample import GridResample
from .decoder import DecoderLayer, DeformableTokens, QueryRead, ScannedTokens, as_map
from .queries import DetectionQueries, MapQueries, OccupancyQueries, Queries

VARIANTS = ('transformer', 'mamba')


class WriteCells(nn.Module):
    """Lay queries onto their own cells: a product of row and column one-hots, so that nothing is
    scattered."""

    def __init__(self, width: int, shape_YX: tuple[int, int]) -> None:
        super().__init__()
        self.shape_YX, self.project = shape_YX, zero_linear(width)

    def forward(self, queries: Queries, branch_BCYX: Tensor) -> Tensor:
        """Queries -> what is added to the branch `(B, C, Y, X)`."""
        columns, rows = (
            self._one_hot(queries.places_BQ2[..., axis], size)
            for axis, size in enumerate(self.shape_YX[::-1])
        )
        content = self.project(queries.content_BQC)
        lifted = (
            content.transpose(1, 2)[:, :, None] * rows.transpose(1, 2)[:, None].to(content.dtype)
        ).flatten(1, 2)
        return (lifted @ columns.to(content.dtype)).unflatten(1, (-1, self.shape_YX[0]))

    @staticmethod
    def _one_hot(place_BQ: Tensor, size: int) -> Tensor:
        """Which of `size` cells a place in 0..1 lies in: float `(B, Q, size)`."""
        offset = place_BQ[..., None] * size - torch.arange(size, device=place_BQ.device)
        return ((offset >= 0) & (offset < 1)).float()


class WriteMasks(nn.Module):
    """Each query of a strip claims cells by a dot product and leaves its content there."""

    def __init__(self, width: int, strips: int) -> None:
        super().__init__()
        self.strips, self.project = strips, zero_linear(width)
        self.ask = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )

    def forward(self, queries: Queries, branch_BCYX: Tensor) -> Tensor:
        """Queries and the branch -> what is added to it `(B, C, Y, X)`."""
        y, x = branch_BCYX.shape[-2:]
        # (B, S, K, C)
        content = queries.content_BQC.unflatten(1, (self.strips, -1))
        # (B, S, cells, C)
        cells = branch_BCYX.flatten(2).unflatten(2, (self.strips, -1)).permute(0, 2, 3, 1)
        masks = (cells @ self.ask(content).transpose(-1, -2) * cells.shape[-1] ** -0.5).sigmoid()
        written = masks @ self.project(content)
        return written.permute(0, 3, 1, 2).reshape(*branch_BCYX.shape[:2], y, x)


class WriteLattice(nn.Module):
    """Queries of a lattice, read between them."""

    def __init__(self, width: int, shape_YX: tuple[int, int]) -> None:
        super().__init__()
        self.shape_YX, self.project = shape_YX, zero_linear(width)

    def forward(self, queries: Queries, branch_BCYX: Tensor) -> Tensor:
        """Queries -> what is added to the branch `(B, C, Y, X)`."""
        lattice = as_map(self.project(queries.content_BQC), self.shape_YX)
        return F.interpolate(lattice, size=branch_BCYX.shape[-2:], mode='bilinear', align_corners=False)


@MODELS.register_module()
class M3NetBridge(TaskBridge):
    """Shared decoder with task queries; see the head of this file.

    Args:
        grid: of the maps.
        in_channels: their width, which is the decoder's.
        tasks: branches that get a gate; detection, map_segmentation and occupancy among them also ask with
            queries.
        variant: 'transformer' or 'mamba'.
        layers: of the decoder (published 6).
        heads, points, feedforward: of its attention (published 8, 4, 1024 at width 256).
        stride: cells per token along a side (published 1). detection_queries (published 200), map_strips
            (published 5 of 6 classes), occupancy_stride: numbers of queries.
        states: of the scan (published 16).
        channel_scaling: False leaves the gates out (the paper's ablation).
        guess_weights: of the losses of the first heatmap and the first segmentation (published 6 and 20,
            beside 2 and 40 for the last ones).
        map_grid: where the map's labels lie.

    Raises:
        ValueError: unknown tasks or variant; a stride or a number of strips that does not divide the cells.
    """

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        tasks: Sequence[str] = TASKS,
        variant: str = 'transformer',
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        feedforward: int | None = None,
        stride: int = 1,
        detection_queries: int = 200,
        map_strips: int = 5,
        occupancy_stride: int = 8,
        states: int = 16,
        channel_scaling: bool = True,
        guess_weights: Mapping[str, float] | None = None,
        map_grid: BEVGrid = MAP_GRID,
    ) -> None:
        super().__init__()
        _check(grid, tasks, variant, stride)
        self.tasks = tuple(tasks)
        self.out_channels = in_channels
        self.stride = stride
        width = in_channels
        self.guess_weights = {'detection': 1.0, 'map_segmentation': 1.0, **(guess_weights or {})}
        self.shape_YX, coarse = grid.shape_YX, grid.scaled(stride).shape_YX
        self.enter, self.leave = conv_bn_relu(width, width), nn.Conv2d(width, width, 1)
        self.ask, self.write = nn.ModuleDict(), nn.ModuleDict()
        if 'detection' in tasks:
            self.ask['detection'] = DetectionQueries(
                width, grid.shape_YX, detection_queries, len(DETECTION_CLASSES)
            )
            self.write['detection'] = WriteCells(width, grid.shape_YX)
        if 'map_segmentation' in tasks:
            self.ask['map_segmentation'] = MapQueries(
                width, grid.shape_YX, map_strips, len(MAP_CLASSES), heads
            )
            self.write['map_segmentation'] = WriteMasks(width, map_strips)
            self.to_map_grid = GridResample(grid, map_grid, 'border')
        if 'occupancy' in tasks:
            self.ask['occupancy'] = OccupancyQueries(width, grid.shape_YX, occupancy_stride)
            self.write['occupancy'] = WriteLattice(width, self.ask['occupancy'].shape_YX)
        hidden = feedforward or 4 * width

        def layer(last: bool) -> DecoderLayer:
            mamba = variant == 'mamba'
            tokens = (
                ScannedTokens(width, coarse, states)
                if mamba
                else DeformableTokens(width, coarse, heads, points, hidden)
            )
            read = QueryRead(width) if mamba else DeformableAttention(width, heads, 1, points)
            # without queries: the last one's
            scaled = [t for t in self.tasks if channel_scaling and (last or t in self.ask)]
            return DecoderLayer(tokens, read, scaled, width, coarse, heads, hidden)

        self.layers = nn.ModuleList([layer(i == layers - 1) for i in range(layers)])

    def forward(self, branches: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps `(B, C, Y, X)` by task -> maps by task, in training also 'detection.first_heatmap' and
        'map_segmentation.first_logits'. The branches must be one and the same map: the decoder is shared.

        Raises:
            ValueError: a task of the bridge has no branch.
        """
        if missing := [t for t in self.tasks if t not in branches]:
            raise ValueError(
                f'M3NetBridge: no branch for {", ".join(missing)}; the model has {", ".join(branches)}'
            )
        bev = self.enter(branches[self.tasks[0]])
        queries, guesses = self._first_queries(bev)
        tokens = (bev if self.stride == 1 else F.avg_pool2d(bev, self.stride)).flatten(2).transpose(1, 2)
        gates: dict[str, Tensor] = {}
        for layer in self.layers:
            tokens, queries, gates = layer(tokens, queries)
        decoded = self.leave(bev + self._full_size(tokens))
        answers = {t: decoded * self._full_size(gates[t]) if t in gates else decoded for t in self.tasks}
        answers |= {t: answers[t] + self.write[t](q, answers[t]) for t, q in queries.items()}
        return {**branches, **answers, **(guesses if self.training else {})}

    def _first_queries(self, bev_BCYX: Tensor) -> tuple[dict[str, Queries], dict[str, Tensor]]:
        queries, guesses, taken = {}, {}, None
        if 'detection' in self.ask:
            queries['detection'], guesses['detection.first_heatmap'], taken = self.ask['detection'](bev_BCYX)
        if 'map_segmentation' in self.ask:
            queries['map_segmentation'], guesses['map_segmentation.first_logits'] = self.ask[
                'map_segmentation'
            ](bev_BCYX, taken)
        if 'occupancy' in self.ask:
            queries['occupancy'] = self.ask['occupancy'](bev_BCYX)
        return queries, guesses

    def _full_size(self, tokens_BTC: Tensor) -> Tensor:
        coarse = as_map(tokens_BTC, tuple(size // self.stride for size in self.shape_YX))
        return (
            coarse
            if self.stride == 1
            else F.interpolate(coarse, size=self.shape_YX, mode='bilinear', align_corners=False)
        )

    def loss(self, raw: dict[str, dict[str, Tensor]], targets: dict[str, Any]) -> dict[str, Tensor]:
        """'detection/first_heatmap' and 'map_segmentation/first_focal', against the targets of these tasks'
        heads.

        Raises:
            ValueError: the detection head works on other cells than the bridge.
        """
        losses = {}
        if 'first_heatmap' in (boxes := raw.get('detection', {})):
            losses['detection/first_heatmap'] = self.guess_weights['detection'] * heatmap_loss(
                boxes['first_heatmap'], targets['detection'].heatmap_BCYX, targets['detection'].labelled_B)
        if 'first_logits' in (layers := raw.get('map_segmentation', {})):
            losses['map_segmentation/first_focal'] = self.guess_weights['map_segmentation'] * focal_loss(
                self.to_map_grid(layers['first_logits']), targets['map_segmentation'].masks_B6YX,
                targets['map_segmentation'].labelled_B)
        return losses


def heatmap_loss(logits_BKYX: Tensor, heatmap_BKYX: Tensor, labelled_B: Tensor) -> Tensor:
    """Gaussian focal loss per object over the labelled samples."""
    if logits_BKYX.shape != heatmap_BKYX.shape:
        raise ValueError(
            f'M3NetBridge: the detection head works on {tuple(heatmap_BKYX.shape[1:])} (classes, rows, columns), '
            f'the bridge on {tuple(logits_BKYX.shape[1:])}; expected a head with upsample=1 on the same grid'
        )
    cells = gaussian_focal_loss(logits_BKYX, heatmap_BKYX) * labelled_B[:, None, None, None]
    return cells.sum() / (heatmap_BKYX == 1).sum().clamp(min=1)


def focal_loss(logits_B6YX: Tensor, masks_B6YX: Tensor, labelled_B: Tensor) -> Tensor:
    """Sigmoid focal loss, mean over the cells of labelled samples, summed over the classes."""
    per_class = sigmoid_focal_loss(logits_B6YX, masks_B6YX).mean((2, 3)) * labelled_B[:, None]
    return per_class.sum() / labelled_B.sum().clamp(min=1)


def zero_linear(width: int) -> nn.Linear:
    """A projection that starts as nothing."""
    layer = nn.Linear(width, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _check(grid: BEVGrid, tasks: Sequence[str], variant: str, stride: int) -> None:
    if not tasks or set(tasks) - set(TASKS) or len(set(tasks)) != len(tasks):
        raise ValueError(f'tasks: expected different names out of {TASKS}, found {tuple(tasks)}')
    if variant not in VARIANTS:
        raise ValueError(f'variant: expected one of {VARIANTS}, found {variant!r}')
    if any(size % stride for size in grid.shape_YX):
        raise ValueError(f'stride: expected a divisor of the {grid.shape_YX} cells, found {stride}')
