"""M3Net's shared decoder as a bridge between task branches (Chen et al. 2025, AAAI, arXiv 2503.18100).

The decoder is shared by all tasks and stands between one map and the heads, which is this project's bridge:
maps in, maps out. So every head, every loss and every metric stays as it is, and any decoder can be compared
with none. What follows the publication: task-specific query initialisation with its losses, the layers,
channel scaling per task, cross-attention whose weights the tasks share, self-attention over all queries. What
is ours, because our heads read maps where the publication's read queries: how queries are written back
(below), the occupancy lattice, the gates of tasks without queries (lanes), tokens at a coarser stride where
asked for, and the task branch

    F_t = Conv(F + up(X)) * up(g_t) + written_t

with X the tokens after the last layer and g_t the last gates of task t.

* Detection queries are added to their own cells;
* map queries are added to the cells of their strip by the publication's class masks:
  sum_k sigmoid(<MLP(LN(q_k)), F_t>) q_k;
* occupancy queries fill their lattice and are interpolated.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...bev.ops.blocks import conv_bn_relu
from ...bev.ops.deformable_attention import DeformableAttention
from ...core.config import build_record
from ...core.contracts import DetectionClasses
from ...core.grid import BEVGrid
from ...core.processes import shared_count
from ...core.protocols import MAP_CLASSES, MAP_GRID, TASKS
from ...registry import MODELS
from ..bridge import TaskBridge
from ..losses import gaussian_focal_loss, sigmoid_focal_loss
from ..resample import GridResample
from .decoder import DeformableTokens, M3NetDecoderLayer, PointSampling, ScannedTokens, as_map
from .queries import DetectionQueries, MapQueries, OccupancyQueries, Queries, sharp_classes
from .writers import CellWriter, LatticeWriter, MaskWriter

VARIANTS = ('transformer', 'mamba')


@dataclass(frozen=True)
class M3NetDecoderOptions:
    """Size and kind of the decoder.

    Args:
        variant: 'transformer' or 'mamba'.
        layers: published 6.
        heads: of its attention, published 8.
        points: places per head of the deformable attention, published 4.
        feedforward: hidden width, published 1024 at width 256; None is four times the width.
        stride: cells per token along a side, published 1.
        states: of the scan, published 16.
        channel_scaling: False leaves the gates out (the publication's ablation).

    Raises:
        ValueError: unknown variant.
    """

    variant: str = 'transformer'
    layers: int = 6
    heads: int = 8
    points: int = 4
    feedforward: int | None = None
    stride: int = 1
    states: int = 16
    channel_scaling: bool = True

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f'variant: expected one of {VARIANTS}, found {self.variant!r}')


@dataclass(frozen=True)
class M3NetQueryOptions:
    """How many queries each task has.

    Args:
        detection: number of queries, published 200.
        map_strips: strips of rows with one query per class each, published 5 of 6 classes.
        occupancy_stride: cells per query along a side.
    """

    detection: int = 200
    map_strips: int = 5
    occupancy_stride: int = 8


@dataclass(frozen=True)
class M3NetLosses:
    """Weights of the losses of the predictions that place the queries.

    Args:
        first_heatmap: published 6, beside 2 for the last heatmap.
        first_focal: published 20, beside 40 for the last segmentation.
    """

    first_heatmap: float = 1.0
    first_focal: float = 1.0


@MODELS.register_module()
class M3NetBridge(TaskBridge):
    """Shared decoder with task queries; see the head of this file.

    Args:
        grid: of the maps.
        in_channels: their width, which is the decoder's.
        tasks: branches that have a gate; detection, map_segmentation and occupancy among them have queries
            too.
        decoder: options of `M3NetDecoderOptions`.
        queries: options of `M3NetQueryOptions`.
        losses: weights of `M3NetLosses`.
        map_grid: where the map's labels lie.
        classes: of the detection head.

    Raises:
        ValueError: unknown tasks, variant or options; a stride or a number of strips that does not divide the
            cells.
    """

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        tasks: Sequence[str] = TASKS,
        decoder: Mapping[str, Any] | None = None,
        queries: Mapping[str, Any] | None = None,
        losses: Mapping[str, Any] | None = None,
        map_grid: BEVGrid = MAP_GRID,
        classes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        options = build_record(M3NetDecoderOptions, decoder, 'M3NetBridge.decoder')
        counts = build_record(M3NetQueryOptions, queries, 'M3NetBridge.queries')
        self.losses = build_record(M3NetLosses, losses, 'M3NetBridge.losses')
        boxes = DetectionClasses.of(classes, 'M3NetBridge.classes')
        _check(grid, tasks, options.stride)

        width = in_channels
        self.tasks = tuple(tasks)
        self.out_channels = width
        self.shape_YX = grid.shape_YX
        self.token_shape_YX = grid.scaled(options.stride).shape_YX
        self.stride = options.stride

        self.input_projection, self.output_projection = conv_bn_relu(width, width), nn.Conv2d(width, width, 1)
        self.query_generators = nn.ModuleDict()
        self.writers = nn.ModuleDict()
        if 'detection' in tasks:
            self.query_generators['detection'] = DetectionQueries(
                width, self.shape_YX, counts.detection, boxes.names, sharp_classes(boxes))
            self.writers['detection'] = CellWriter(width, self.shape_YX)
        if 'map_segmentation' in tasks:
            self.query_generators['map_segmentation'] = MapQueries(
                width, self.shape_YX, counts.map_strips, len(MAP_CLASSES), options.heads
            )
            self.writers['map_segmentation'] = MaskWriter(width, counts.map_strips)
            self.map_grid = map_grid
            self.map_resample = GridResample(grid, map_grid, 'border')
        if 'occupancy' in tasks:
            lattice = OccupancyQueries(width, self.shape_YX, counts.occupancy_stride)
            self.query_generators['occupancy'] = lattice
            self.writers['occupancy'] = LatticeWriter(width, lattice.shape_YX)

        last = options.layers - 1
        self.layers = nn.ModuleList([self._layer(options, i == last) for i in range(options.layers)])

    def _layer(self, options: M3NetDecoderOptions, is_last: bool) -> M3NetDecoderLayer:
        width, shape_YX = self.out_channels, self.token_shape_YX
        hidden = options.feedforward or 4 * width
        if options.variant == 'mamba':
            token_mixer = ScannedTokens(width, shape_YX, options.states)
            cross_attention = PointSampling(width)
        else:
            token_mixer = DeformableTokens(width, shape_YX, options.heads, options.points, hidden)
            cross_attention = DeformableAttention(width, options.heads, 1, options.points)

        # of a task without queries only the last gate is used
        scaled = [t for t in self.tasks if is_last or t in self.query_generators]
        if not options.channel_scaling:
            scaled = []
        return M3NetDecoderLayer(token_mixer, cross_attention, scaled, width, shape_YX, options.heads, hidden)

    def forward(self, branches: dict[str, Tensor]) -> dict[str, Tensor]:
        """Decode one map for all tasks: maps `(B, C, Y, X)` by task -> maps by task.

        The branches must be one and the same map, since the decoder is shared. In training the result also
        has the predictions that placed the queries, 'detection.first_heatmap' and
        'map_segmentation.first_logits'.

        Raises:
            ValueError: a task of the bridge has no branch, or branches are different maps.
        """
        if missing := [t for t in self.tasks if t not in branches]:
            raise ValueError(
                f'M3NetBridge: no branch for {", ".join(missing)}; the model has {", ".join(branches)}'
            )

        if len({id(branches[t]) for t in self.tasks}) > 1:
            raise ValueError('M3NetBridge: expected one map for all tasks, found a fuser that routes by task')

        # each task places its queries on the full map
        bev_BCYX = self.input_projection(branches[self.tasks[0]])
        queries, first_predictions = self._first_queries(bev_BCYX)

        # (B, T, C): one token for `stride` x `stride` cells
        coarse_BCYX = bev_BCYX if self.stride == 1 else F.avg_pool2d(bev_BCYX, self.stride)
        tokens_BTC = coarse_BCYX.flatten(2).transpose(1, 2)

        # the gates of the last layer are those of the branches
        gates: dict[str, Tensor] = {}
        for layer in self.layers:
            tokens_BTC, queries, gates = layer(tokens_BTC, queries)

        # one decoded map, which each task scales by its gates
        decoded_BCYX = self.output_projection(bev_BCYX + self._full_size(tokens_BTC))
        outputs = {
            task: decoded_BCYX * self._full_size(gates[task]) if task in gates else decoded_BCYX
            for task in self.tasks
        }

        # and to which it adds what its queries have gathered
        for task, task_queries in queries.items():
            outputs[task] = outputs[task] + self.writers[task](task_queries, outputs[task])

        if self.training:
            outputs |= first_predictions
        return {**branches, **outputs}

    def _first_queries(self, bev_BCYX: Tensor) -> tuple[dict[str, Queries], dict[str, Tensor]]:
        """Queries by task, and the predictions they were placed by."""
        generators = self.query_generators
        queries: dict[str, Queries] = {}
        predictions: dict[str, Tensor] = {}
        taken_BQ = None

        if 'detection' in generators:
            queries['detection'], heatmap, taken_BQ = generators['detection'](bev_BCYX)
            predictions['detection.first_heatmap'] = heatmap
        if 'map_segmentation' in generators:
            # among the cells that no object took
            queries['map_segmentation'], logits = generators['map_segmentation'](bev_BCYX, taken_BQ)
            predictions['map_segmentation.first_logits'] = logits
        if 'occupancy' in generators:
            queries['occupancy'] = generators['occupancy'](bev_BCYX)
        return queries, predictions

    def _full_size(self, tokens_BTC: Tensor) -> Tensor:
        """Tokens -> `(B, C, Y, X)` on the cells of the map."""
        coarse_BCYX = as_map(tokens_BTC, self.token_shape_YX)
        if self.stride == 1:
            return coarse_BCYX
        return F.interpolate(coarse_BCYX, size=self.shape_YX, mode='bilinear', align_corners=False)

    def loss(self, raw: dict[str, dict[str, Tensor]], targets: dict[str, Any]) -> dict[str, Tensor]:
        """Compute 'detection/first_heatmap' and 'map_segmentation/first_focal' against the heads' targets.

        Raises:
            ValueError: the detection head works on other cells than the bridge, or the map's labels lie
                elsewhere than `map_grid`.
        """
        losses = {}
        if 'first_heatmap' in (detection := raw.get('detection', {})):
            boxes = targets['detection']
            heatmap_BKYX = boxes.heatmap_BCYX[:, boxes.channel_of_label_K]
            weights = boxes.weight_BCYX
            weights = None if weights is None else weights[:, boxes.channel_of_label_K]
            term = first_heatmap_loss(detection['first_heatmap'], heatmap_BKYX, boxes.labelled_B, weights)
            losses['detection/first_heatmap'] = self.losses.first_heatmap * term

        if 'first_logits' in (segmentation := raw.get('map_segmentation', {})):
            layers = targets['map_segmentation']
            if layers.grid != self.map_grid:
                raise ValueError(
                    f"M3NetBridge.map_grid: expected the map head's task_grid {layers.grid}, found "
                    f'{self.map_grid}')

            logits_B6YX = self.map_resample(segmentation['first_logits'])
            weights = layers.weights_B6YX
            weights = None if weights is None else weights[:, :len(MAP_CLASSES)]
            term = first_focal_loss(
                logits_B6YX, layers.masks_B6YX[:, :len(MAP_CLASSES)], layers.labelled_B, weights)
            losses['map_segmentation/first_focal'] = self.losses.first_focal * term
        return losses


def first_heatmap_loss(
    logits_BKYX: Tensor, heatmap_BKYX: Tensor, labelled_B: Tensor, weights_BKYX: Tensor | None = None
) -> Tensor:
    """Gaussian focal loss per object of all processes over the labelled samples.

    Classes in the order of the labels, whatever the groups of the head. Cells and objects count by weights
    where there are any.

    Raises:
        ValueError: logits and heatmap have different cells.
    """
    if logits_BKYX.shape != heatmap_BKYX.shape:
        raise ValueError(
            f'M3NetBridge: the detection head works on {tuple(heatmap_BKYX.shape[1:])} (classes, rows, '
            f'columns), the bridge on {tuple(logits_BKYX.shape[1:])}; expected a head with upsample=1 on the '
            'same grid'
        )
    cells = gaussian_focal_loss(logits_BKYX, heatmap_BKYX) * labelled_B[:, None, None, None]
    is_object = heatmap_BKYX == 1
    if weights_BKYX is None:
        return cells.sum() / shared_count(is_object.sum())
    return (cells * weights_BKYX).sum() / shared_count((is_object * weights_BKYX).sum())


def first_focal_loss(
    logits_B6YX: Tensor, masks_B6YX: Tensor, labelled_B: Tensor, weights_B6YX: Tensor | None = None
) -> Tensor:
    """Sigmoid focal loss, mean over the cells of all processes' labelled samples, summed over the classes.

    With weights of cells it is their weighted mean, the classes' weights together.
    """
    cells_B6YX = sigmoid_focal_loss(logits_B6YX, masks_B6YX)
    if weights_B6YX is None:
        counted = labelled_B.sum()
    else:
        cells_B6YX = cells_B6YX * weights_B6YX
        counted = (weights_B6YX.mean((1, 2, 3)) * labelled_B).sum()
    return (cells_B6YX.mean((2, 3)) * labelled_B[:, None]).sum() / shared_count(counted)


def _check(grid: BEVGrid, tasks: Sequence[str], stride: int) -> None:
    if not tasks or set(tasks) - set(TASKS) or len(set(tasks)) != len(tasks):
        raise ValueError(f'tasks: expected different names out of {TASKS}, found {tuple(tasks)}')
    if any(size % stride for size in grid.shape_YX):
        raise ValueError(f'stride: expected a divisor of the {grid.shape_YX} cells, found {stride}')
