"""M3Net's shared decoder as a bridge between task branches (Chen et al. 2025, AAAI, arXiv 2503.18100).

The decoder is shared by all tasks and stands between one map and the heads, which is this project's bridge:
maps in, maps out. What follows the publication: task-specific query initialisation with its losses, the
layers, channel scaling per task, cross-attention whose weights the tasks share, self-attention over all
queries. Tasks named in `query_heads` get what the publication's heads read: the queries, beside the branch
without `written_t`. For the others every head, loss and metric stays as it is, so that any decoder can be
compared with none, and ours is how queries are written back (below) and the occupancy lattice. Ours are also
the gates of tasks without queries (lanes), tokens at a coarser stride where asked for, and the task branch

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
from ...core.protocols import MAP_CLASSES, MAP_GRID, TASKS
from ...registry import MODELS
from ..bridge import TaskBridge
from ..queried import QueriedMap, Queries
from ..resample import GridResample
from .decoder import DeformableTokens, M3NetDecoderLayer, PointSampling, ScannedTokens, as_map
from .first_losses import first_focal_loss, first_heatmap_loss
from .queries import DetectionQueries, MapQueries, OccupancyQueries, sharp_classes
from .voxel_queries import VoxelQueries, first_voxels_loss
from .writers import CellWriter, LatticeWriter, MaskWriter

VARIANTS = ('transformer', 'mamba')
QUERY_TASKS = ('detection', 'map_segmentation', 'occupancy')
"""Tasks that have queries."""


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
        occupancy_stride: cells per query along a side, where occupancy has a lattice of queries.
        voxels: number of occupied voxels with a query, where the occupancy head reads queries (an engine
            takes fewer than 3840).
    """

    detection: int = 200
    map_strips: int = 5
    occupancy_stride: int = 8
    voxels: int = 2048


@dataclass(frozen=True)
class M3NetLosses:
    """Weights of the losses of the predictions that place the queries.

    Args:
        first_heatmap: published 6, beside 2 for the last heatmap.
        first_focal: published 20, beside 40 for the last segmentation.
        first_voxels: of the occupancy that places the voxels' queries; ours, the publication's are where the
            LiDAR has points.
    """

    first_heatmap: float = 1.0
    first_focal: float = 1.0
    first_voxels: float = 1.0


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
        query_heads: tasks whose heads read the queries themselves, as published (`QueryBoxHead`,
            `QueryMapHead`, `QueryOccupancyHead`); those of the others are written back to their maps.
        voxel_grid: coarse voxels of the occupancy queries, those of `QueryOccupancyHead`, where that reads
            them.

    Raises:
        ValueError: unknown tasks, variant or options; a stride or a number of strips that does not divide the
            cells; query heads without queries; a voxel grid without need, or none where it is needed.
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
        query_heads: Sequence[str] = (),
        voxel_grid: BEVGrid | None = None,
    ) -> None:
        super().__init__()
        options = build_record(M3NetDecoderOptions, decoder, 'M3NetBridge.decoder')
        counts = build_record(M3NetQueryOptions, queries, 'M3NetBridge.queries')
        self.losses = build_record(M3NetLosses, losses, 'M3NetBridge.losses')
        boxes = DetectionClasses.of(classes, 'M3NetBridge.classes')
        _check(grid, tasks, options.stride)
        _check_query_heads(tasks, query_heads, voxel_grid)

        width = in_channels
        self.tasks, self.query_tasks = tuple(tasks), tuple(query_heads)
        self.out_channels, self.grid, self.voxel_grid = width, grid, voxel_grid
        self.shape_YX = grid.shape_YX
        self.token_shape_YX = grid.scaled(options.stride).shape_YX
        self.stride = options.stride

        self.input_projection, self.output_projection = conv_bn_relu(width, width), nn.Conv2d(width, width, 1)
        self.query_generators, self.writers = nn.ModuleDict(), nn.ModuleDict()
        for task in (task for task in QUERY_TASKS if task in tasks):
            generator = self._generator(task, counts, boxes, options.heads)
            self.query_generators[task] = generator
            if task not in query_heads:
                self.writers[task] = self._writer(task, counts.map_strips, generator)
        if 'map_segmentation' in tasks:
            self.map_grid = map_grid
            self.map_resample = GridResample(grid, map_grid, 'border')

        last = options.layers - 1
        self.layers = nn.ModuleList([self._layer(options, i == last) for i in range(options.layers)])

    def _generator(
        self, task: str, counts: M3NetQueryOptions, boxes: DetectionClasses, heads: int
    ) -> nn.Module:
        """What places the queries of a task."""
        width = self.out_channels
        if task == 'detection':
            return DetectionQueries(
                width, self.shape_YX, counts.detection, boxes.names, sharp_classes(boxes))
        if task == 'map_segmentation':
            return MapQueries(width, self.shape_YX, counts.map_strips, len(MAP_CLASSES), heads)
        if task in self.query_tasks:
            return VoxelQueries(width, self.grid, self.voxel_grid, counts.voxels)
        return OccupancyQueries(width, self.shape_YX, counts.occupancy_stride)

    def _writer(self, task: str, strips: int, generator: nn.Module) -> nn.Module:
        """What writes the queries of a task to the map of a head that reads maps."""
        if task == 'detection':
            return CellWriter(self.out_channels, self.shape_YX)
        if task == 'map_segmentation':
            return MaskWriter(self.out_channels, strips)
        return LatticeWriter(self.out_channels, generator.shape_YX)

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

    def forward(self, branches: dict[str, Tensor]) -> dict[str, Tensor | QueriedMap]:
        """Decode one map for all tasks: maps `(B, C, Y, X)` by task -> maps by task.

        The branches must be one and the same map, since the decoder is shared. Tasks of `query_heads` get
        their queries with their map. In training the result also has the predictions that placed the
        queries, 'detection.first_heatmap', 'map_segmentation.first_logits' and 'occupancy.first_voxels'.

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
        queries, taken, first_predictions = self._first_queries(bev_BCYX)

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

        # and to which it adds what its queries have gathered, or beside which it hands them over
        for task, task_queries in queries.items():
            if task in self.query_tasks:
                grid, content_BQC = self.grid_of(task), task_queries.content_BQC
                outputs[task] = QueriedMap(outputs[task], content_BQC, grid, **taken.get(task, {}))
            else:
                outputs[task] = outputs[task] + self.writers[task](task_queries, outputs[task])

        if self.training:
            outputs |= first_predictions
        return {**branches, **outputs}

    def _first_queries(
        self, bev_BCYX: Tensor
    ) -> tuple[dict[str, Queries], dict[str, dict[str, Tensor]], dict[str, Tensor]]:
        """Queries by task, fields of `QueriedMap` by task, and the predictions they were placed by."""
        generators = self.query_generators
        queries: dict[str, Queries] = {}
        taken: dict[str, dict[str, Tensor]] = {}
        predictions: dict[str, Tensor] = {}
        cell_BQ = None

        if 'detection' in generators:
            queries['detection'], heatmap, cell_BQ, scores_BQK = generators['detection'](bev_BCYX)
            taken['detection'] = dict(taken_BQ=cell_BQ, scores_BQK=scores_BQK)
            predictions['detection.first_heatmap'] = heatmap
        if 'map_segmentation' in generators:
            # among the cells that no object took
            queries['map_segmentation'], logits = generators['map_segmentation'](bev_BCYX, cell_BQ)
            predictions['map_segmentation.first_logits'] = logits

        if 'occupancy' in self.query_tasks:
            queries['occupancy'], logits, voxel_BQ = generators['occupancy'](bev_BCYX)
            taken['occupancy'] = dict(taken_BQ=voxel_BQ)
            predictions['occupancy.first_voxels'] = logits
        elif 'occupancy' in generators:
            queries['occupancy'] = generators['occupancy'](bev_BCYX)
        return queries, taken, predictions

    def grid_of(self, task: str) -> BEVGrid:
        """The cells, or voxels, that the queries of a task stand in."""
        return self.voxel_grid if task == 'occupancy' else self.grid

    def _full_size(self, tokens_BTC: Tensor) -> Tensor:
        """Tokens -> `(B, C, Y, X)` on the cells of the map."""
        coarse_BCYX = as_map(tokens_BTC, self.token_shape_YX)
        if self.stride == 1:
            return coarse_BCYX
        return F.interpolate(coarse_BCYX, size=self.shape_YX, mode='bilinear', align_corners=False)

    def loss(self, raw: dict[str, dict[str, Tensor]], targets: dict[str, Any]) -> dict[str, Tensor]:
        """Compute the losses of the predictions that placed the queries against the heads' targets.

        They are 'detection/first_heatmap', 'map_segmentation/first_focal' and 'occupancy/first_voxels'.

        Raises:
            ValueError: the detection head works on other cells than the bridge, the map's labels lie
                elsewhere than `map_grid`, or voxels are no whole parts of `voxel_grid`'s.
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

        if 'first_voxels' in (occupancy := raw.get('occupancy', {})):
            voxels = targets['occupancy']
            term = first_voxels_loss(occupancy['first_voxels'], voxels.labels_BZYX, voxels.weights_BZYX)
            losses['occupancy/first_voxels'] = self.losses.first_voxels * term
        return losses


def _check(grid: BEVGrid, tasks: Sequence[str], stride: int) -> None:
    if not tasks or set(tasks) - set(TASKS) or len(set(tasks)) != len(tasks):
        raise ValueError(f'tasks: expected different names out of {TASKS}, found {tuple(tasks)}')
    if any(size % stride for size in grid.shape_YX):
        raise ValueError(f'stride: expected a divisor of the {grid.shape_YX} cells, found {stride}')


def _check_query_heads(tasks: Sequence[str], query_heads: Sequence[str], voxel_grid: BEVGrid | None) -> None:
    able = tuple(task for task in QUERY_TASKS if task in tasks)
    if set(query_heads) - set(able) or len(set(query_heads)) != len(query_heads):
        raise ValueError(f'query_heads: expected different names out of {able}, found {tuple(query_heads)}')

    if ('occupancy' in query_heads) != (voxel_grid is not None):
        raise ValueError(
            'voxel_grid: expected where, and only where, query_heads has occupancy; found '
            f'{voxel_grid} with query_heads {tuple(query_heads)}')
    if voxel_grid is not None and not voxel_grid.has_heights:
        raise ValueError(f'voxel_grid: expected a grid with heights (height_cell_m), found {voxel_grid}')
