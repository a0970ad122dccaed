"""The meta-BEV decoder: dense learned queries read any subset of the sensors.

MetaBEV: Ge et al., ICCV 2023, arXiv 2304.09801.

    q = learned queries, one per cell (the meta-BEV)
    4 times: q = q + CrossModal(LN(q) + position, present sensors' maps);  q = q + FFN(LN(q))
    2 times: q = q + SelfAttention(LN(q) + position, q's own map);         q = q + FFN(LN(q))
    result = LN(q), brought to the output grid

An absent sensor is no zero map but no map: its points have no weight in the joint softmax and its values
never arrive. Presence is a mask per sample at run time, so that one exported graph serves every subset.
Extended to any set of sensors (the paper has camera and LiDAR) and to a query grid coarser than the maps
(ours, for small machines).
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..bev.ops.blocks import conv_bn_relu
from ..bev.ops.deformable_attention import (
    DeformableAttention,
    PlaceSampler,
    cell_centres,
    deformable_attention,
    softmax_of_few,
)
from ..bev.records import SensorFeature
from ..core.grid import BEVGrid
from ..registry import MODELS
from .base import Fuser
from .experts import FFNKind, PlainFFN


class CrossModalAttention(nn.Module):
    """Deformable attention over any subset of the sensors.

        sum over heads m of W_m [ sum over present sensors x and points k of A^x_mk W'_m x(p + dp^x_mk) ]

    Each sensor has heads of its own for offsets and logits; W and W' are shared; one softmax goes over all
    present sensors' points.

    Args:
        width: channels C.
        sensors: names.
        heads: M, divides the width.
        points: K per head and sensor.
    """

    def __init__(self, width: int, sensors: Sequence[str], heads: int = 8, points: int = 4) -> None:
        super().__init__()
        self.samplers = nn.ModuleDict({sensor: PlaceSampler(width, heads, 1, points) for sensor in sensors})
        self.value = nn.Conv2d(width, width, 1)
        self.out = nn.Linear(width, width)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight.data.flatten(1))
            nn.init.zeros_(layer.bias)

    def forward(
        self, queries_BQC: Tensor, reference_BQ2: Tensor, maps: dict[str, Tensor], present: dict[str, Tensor]
    ) -> Tensor:
        """Queries at (x, y) in 0..1 of the maps -> what they gather, `(B, Q, C)`.

        Args:
            queries_BQC: with their positions added.
            reference_BQ2: may have a batch of 1.
            maps: {sensor: `(B, C, Y, X)`, finite}. It may lack sensors: the operator is then the one without
                them.
            present: {sensor: bool `(B,)`}.
        """
        shapes = {sensor: bev.shape[-2:] for sensor, bev in maps.items()}
        places, weights = self.places_and_weights(queries_BQC, reference_BQ2, shapes, present)
        return self.out(deformable_attention([self.value(m) for m in maps.values()], places, weights))

    def places_and_weights(
        self,
        queries_BQC: Tensor,
        reference_BQ2: Tensor,
        shapes_YX: dict[str, tuple[int, int]],
        present: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Places `(B, Q, M, S, K, 2)` and weights `(B, Q, M, S, K)` over S sensors.

        The weights sum to one over the present sensors. A sample with no sensor at all has weights too, over
        whatever finite values stand in the maps' place.
        """
        sampled = [
            self.samplers[sensor](queries_BQC, reference_BQ2, [shape]) for sensor, shape in shapes_YX.items()
        ]
        places = torch.cat([place for place, _ in sampled], 3)
        logits = torch.cat([logit for _, logit in sampled], 3).float()  # (B, Q, M, S, K)

        # an absent sensor's logits become minus infinity; all of them would make NaN, so none does then
        present_BS = torch.stack([present[sensor] for sensor in shapes_YX], 1)
        allowed_BS = present_BS | ~present_BS.any(1, keepdim=True)
        mask_BSK = torch.where(allowed_BS[:, :, None], 0.0, -torch.inf).expand(-1, -1, logits.shape[-1])

        weights = softmax_of_few(logits.flatten(3) + mask_BSK.flatten(1)[:, None, None])
        return places, weights.view(logits.shape)


class EvolvingLayer(nn.Module):
    """One layer of the BEV-evolving decoder: attention and a feed-forward part, both residual, pre-norm.

    Args:
        width: see `CrossModalAttention`.
        heads: see `CrossModalAttention`.
        points: see `CrossModalAttention`.
        ffn: the feed-forward part.
        sensors: of a cross-modal layer; None makes a self-attention layer.
    """

    def __init__(
        self, width: int, heads: int, points: int, ffn: nn.Module, sensors: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.norm_ffn = nn.LayerNorm(width)
        self.cross = sensors is not None
        if self.cross:
            self.attention = CrossModalAttention(width, sensors, heads, points)
        else:
            self.attention = DeformableAttention(width, heads, 1, points)
        self.ffn = ffn

    def forward(
        self,
        x_BQC: Tensor,
        position_1QC: Tensor,
        shape_YX: tuple[int, int],
        maps: dict[str, Tensor],
        present: dict[str, Tensor],
        task: str | None = None,
    ) -> Tensor:
        """Queries row by row of `shape_YX` and their position embedding -> evolved queries of a task."""
        normed = self.norm_attention(x_BQC)
        reference = cell_centres(shape_YX, x_BQC.device)
        if self.cross:
            gathered = self.attention(normed + position_1QC, reference, maps, present)
        else:
            query_map = normed.transpose(1, 2).unflatten(2, shape_YX)  # (B, C, Y, X)
            gathered = self.attention(normed + position_1QC, reference, [query_map])

        x_BQC = x_BQC + gathered
        return x_BQC + self.ffn(self.norm_ffn(x_BQC), task)


@MODELS.register_module()
class MetaBEV(Fuser):
    """The meta-BEV decoder as a fuser.

    Args:
        in_channels: {sensor: channels of its map}.
        out_channels: of the fused map.
        grid: of the maps and the result.
        width: C of the queries.
        heads: of the attentions.
        points: of the attentions.
        cross_layers: how many cross-modal layers.
        self_layers: how many self-attention layers after them.
        ffn: kind of feed-forward part (`experts.PlainFFN`, `RoutedFFN`, `HardFFN`). The last layers, as many
            as its `task_layers`, run once a task, with that task's gate or expert, for a map of its own.
        query_stride: cells of the grid per query along an axis; above 1 each query stands for stride x stride
            cells (1x1 convolution, PixelShuffle, 3x3 convolution).

    Raises:
        ValueError: no cross layer, more task layers than layers, or a stride that does not divide the grid.
    """

    def __init__(
        self,
        in_channels: dict[str, int],
        out_channels: int,
        grid: BEVGrid,
        width: int = 256,
        heads: int = 8,
        points: int = 4,
        cross_layers: int = 4,
        self_layers: int = 2,
        ffn: FFNKind | None = None,
        query_stride: int = 1,
    ) -> None:
        super().__init__()
        y_size, x_size = grid.shape_YX
        if cross_layers < 1:
            raise ValueError(f'MetaBEV: expected at least one cross-modal layer, found {cross_layers}')
        if y_size % query_stride or x_size % query_stride:
            raise ValueError(
                f'MetaBEV: query_stride {query_stride} does not divide a grid of {y_size} x {x_size} cells'
            )
        ffn = ffn or PlainFFN()
        count = cross_layers + self_layers
        if ffn.task_layers > count:
            raise ValueError(f'MetaBEV: expected at most {count} task_layers, found {ffn.task_layers}')
        self.tasks = tuple(ffn.tasks) if ffn.task_layers else ()
        self.first_task_layer = count - ffn.task_layers
        self.out_channels = out_channels
        self.query_shape_YX = (y_size // query_stride, x_size // query_stride)
        self.input_projections = nn.ModuleDict(
            {sensor: nn.Conv2d(c, width, 1) for sensor, c in in_channels.items()}
        )

        # a query per cell, and its position as the sum of a row's and a column's embedding
        self.queries_CYX = nn.Parameter(torch.randn(width, *self.query_shape_YX) * 0.02)
        self.rows_CY = nn.Parameter(torch.randn(width, self.query_shape_YX[0]) * 0.02)
        self.columns_CX = nn.Parameter(torch.randn(width, self.query_shape_YX[1]) * 0.02)

        sensors_of_layer = [tuple(in_channels)] * cross_layers + [None] * self_layers
        self.layers = nn.ModuleList(
            EvolvingLayer(width, heads, points, ffn(width, i >= self.first_task_layer), sensors)
            for i, sensors in enumerate(sensors_of_layer)
        )
        self.norm = nn.LayerNorm(width)
        self.output_projection = _output_projection(width, out_channels, query_stride)

    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """See `Fuser.forward`; a sensor missing from `bevs` is one that is absent from every sample.

        Raises:
            ValueError: layers of this decoder run once a task, so that there is no one map.
        """
        if self.tasks:
            raise ValueError(f'MetaBEV: a map for each of {self.tasks} comes from fuse_by_task, none for all')
        return self._decode(bevs, present, (None,))[None]

    def fuse_by_task(
        self, features: dict[str, SensorFeature], present: dict[str, Tensor], tasks: Sequence[str]
    ) -> dict[str, Tensor]:
        """See `Fuser.fuse_by_task`; with layers that run once a task each has its own map."""
        if not self.tasks:
            return super().fuse_by_task(features, present, tasks)
        return self._decode({sensor: f.bev_BCYX for sensor, f in features.items()}, present, tasks)

    def _decode(
        self, bevs: dict[str, Tensor], present: dict[str, Tensor], tasks: Sequence[str | None]
    ) -> dict[str | None, Tensor]:
        """The layers that all tasks share, then those of each task."""
        maps = {}
        for sensor, projection in self.input_projections.items():
            if sensor not in bevs:
                continue
            # a hole in the data must not reach a product: zero times NaN is NaN
            whole = torch.where(present[sensor][:, None, None, None], bevs[sensor], 0)
            # channels last is cheaper to project and to read
            maps[sensor] = projection(whole).contiguous(memory_format=torch.channels_last)

        batch = next(iter(bevs.values())).shape[0]
        position = (self.rows_CY[:, :, None] + self.columns_CX[:, None, :]).flatten(1).T[None]  # (1, Q, C)
        shared = self.queries_CYX.flatten(1).T[None].expand(batch, -1, -1)
        for layer in self.layers[:self.first_task_layer]:
            shared = layer(shared, position, self.query_shape_YX, maps, present)

        outputs = {}
        for task in tasks:
            x = shared
            for layer in self.layers[self.first_task_layer:]:
                x = layer(x, position, self.query_shape_YX, maps, present, task)
            evolved = self.norm(x).transpose(1, 2).unflatten(2, self.query_shape_YX)  # (B, C, Y, X)
            outputs[task] = self.output_projection(evolved)
        return outputs


def _output_projection(width: int, out_channels: int, stride: int) -> nn.Module:
    """Queries' map -> output map, `stride` times as fine."""
    if stride == 1:
        return conv_bn_relu(width, out_channels, 1)
    return nn.Sequential(
        nn.Conv2d(width, out_channels * stride ** 2, 1),
        nn.PixelShuffle(stride),
        conv_bn_relu(out_channels, out_channels, 3),
    )
