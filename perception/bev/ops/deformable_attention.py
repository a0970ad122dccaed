"""Multi-scale deformable attention: the implementations of one formula, and the layer made of it.

Each query samples K places per head on each of L maps and adds the samples up, weighted (Zhu et al., 2021,
arXiv 2010.04159, equation 3). `deformable_attention` chooses the implementation: mmcv's kernel on a GPU where
mmcv is installed, compiled loops on a CPU with few threads, torch's GridSample otherwise and in every
exported graph; `deformable_attention_reference` does the same place by place, for reading and for tests.

Shape letters here: Q queries, H heads, L maps ("levels", or sensors), K places per head and map.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deformable_loops import deformable_attention_loops
from .gather import exporting

FEW_THREADS = 2  # the compiled loops use one thread, and take about a third of GridSample's time there


def deformable_attention(
    values_BCYX: Sequence[Tensor], places_BQHLK2: Tensor, weights_BQHLK: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples: head h samples channels [h * C / H, (h + 1) * C / H) of every map.

    Args:
        values_BCYX: L maps of C channels, each with its own Y and X.
        places_BQHLK2: (x, y) in 0..1 of each map, 0 its low border and 1 its high border; samples beyond the
            border fade to zero.
        weights_BQHLK: of each place.

    Returns:
        `(B, Q, C)` in the type of the maps; the samples are taken in float32 (half precision cannot place a
        point on a wide map).

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check(values_BCYX, places_BQHLK2, weights_BQHLK)
    device = values_BCYX[0].device.type
    if not exporting() and device == 'cuda' and (kernel := mmcv_kernel()) is not None:
        return deformable_attention_mmcv(values_BCYX, places_BQHLK2, weights_BQHLK, kernel)
    if not exporting() and device == 'cpu' and torch.get_num_threads() <= FEW_THREADS:
        return deformable_attention_loops(values_BCYX, places_BQHLK2, weights_BQHLK)
    return deformable_attention_grid_sample(values_BCYX, places_BQHLK2, weights_BQHLK)


def _check(values: Sequence[Tensor], places: Tensor, weights: Tensor) -> None:
    heads, levels = places.shape[2:4]
    if len(values) != levels or places.shape != (*weights.shape, 2) or values[0].shape[1] % heads:
        raise ValueError(
            f'deformable_attention: {len(values)} maps {[tuple(v.shape) for v in values]}, places '
            f'{tuple(places.shape)} and weights {tuple(weights.shape)} do not belong together; expected L '
            f'maps (B, C, Y, X) with C a multiple of H, places (B, Q, H, L, K, 2), weights (B, Q, H, L, K)'
        )


def deformable_attention_reference(
    values_BCYX: Sequence[Tensor], places_BQHLK2: Tensor, weights_BQHLK: Tensor
) -> Tensor:
    """Reference implementation of `deformable_attention`, place by place."""
    b, q, heads, levels, points = weights_BQHLK.shape
    width = values_BCYX[0].shape[1] // heads

    rows = []
    for i in range(b):
        for j in range(q):
            for h in range(heads):
                channels = slice(h * width, (h + 1) * width)
                total = values_BCYX[0].new_zeros(width)
                for level in range(levels):
                    map_CYX = values_BCYX[level][i, channels]
                    for k in range(points):
                        sample = _bilinear(map_CYX, places_BQHLK2[i, j, h, level, k])
                        total = total + weights_BQHLK[i, j, h, level, k] * sample
                rows.append(total)
    return torch.stack(rows).view(b, q, heads * width)


def _bilinear(values_CYX: Tensor, place_2: Tensor) -> Tensor:
    """A map between its cell centres, zero around it: `(C,)`."""
    _, y_size, x_size = values_CYX.shape
    x, y = place_2[0] * x_size - 0.5, place_2[1] * y_size - 0.5
    column, row = math.floor(float(x.detach())), math.floor(float(y.detach()))

    total = values_CYX.new_zeros(len(values_CYX))
    for i in (row, row + 1):
        for j in (column, column + 1):
            if 0 <= i < y_size and 0 <= j < x_size:
                total = total + values_CYX[:, i, j] * (1 - (x - j).abs()) * (1 - (y - i).abs())
    return total


def deformable_attention_grid_sample(
    values_BCYX: Sequence[Tensor], places_BQHLK2: Tensor, weights_BQHLK: Tensor
) -> Tensor:
    """As `deformable_attention`, one 4-D GridSample per map.

    Heads go into the batch, queries are rows and places columns.
    """
    heads = places_BQHLK2.shape[2]
    with torch.autocast(values_BCYX[0].device.type, enabled=False):
        # GridSample counts from -1 to 1: (B * H, Q, L, K, 2)
        places = (places_BQHLK2.float() * 2 - 1).transpose(1, 2).flatten(0, 1)
        weights = weights_BQHLK.float().transpose(1, 2).flatten(0, 1)

        total = None
        for level, values in enumerate(values_BCYX):
            maps = values.float().unflatten(1, (heads, -1)).flatten(0, 1)  # (B * H, C / H, Y, X)
            samples = F.grid_sample(
                maps, places[:, :, level], mode='bilinear', padding_mode='zeros', align_corners=False
            )
            weighted = (samples * weights[:, None, :, level]).sum(-1)  # (B * H, C / H, Q)
            total = weighted if total is None else total + weighted
    return total.unflatten(0, (-1, heads)).flatten(1, 2).transpose(1, 2).to(values_BCYX[0].dtype)


@lru_cache(maxsize=1)
def mmcv_kernel() -> Callable[..., Tensor] | None:
    """CUDA function of mmcv, or None where mmcv (the full one, with operators) is not installed."""
    try:
        from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
    except Exception:  # a broken or CPU-only build must not stop a model that does without
        return None
    return MultiScaleDeformableAttnFunction.apply


def deformable_attention_mmcv(
    values_BCYX: Sequence[Tensor],
    places_BQHLK2: Tensor,
    weights_BQHLK: Tensor,
    kernel: Callable[..., Tensor],
) -> Tensor:
    """As `deformable_attention`, by mmcv's kernel (batches are cut into equal steps, as it needs them)."""
    with torch.autocast(values_BCYX[0].device.type, enabled=False):
        shapes, starts, stacked = _stack(values_BCYX, places_BQHLK2.shape[2])
        b = len(stacked)
        step = next(s for s in range(min(b, 64), 0, -1) if b % s == 0)
        places, weights = places_BQHLK2.float().contiguous(), weights_BQHLK.float().contiguous()
        summed = kernel(stacked, shapes, starts, places, weights, step)
    return summed.to(values_BCYX[0].dtype)


def _stack(values_BCYX: Sequence[Tensor], heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps as mmcv takes them.

    Returns:
        shapes: (L, 2) of (Y, X); starts: first row of each; rows: the cells of all maps one after another,
        `(B, V, H, C / H)` float32.
    """
    shapes = filled([v.shape[-2:] for v in values_BCYX], values_BCYX[0].device)
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    rows = torch.cat([v.float().flatten(2).transpose(1, 2) for v in values_BCYX], 1)
    return shapes, starts, rows.unflatten(-1, (heads, -1)).contiguous()


def filled(rows: Sequence[Sequence[float]], device: torch.device) -> Tensor:
    """A small table of numbers, made on the device: copying it there is what a CUDA graph may refuse."""
    return torch.stack([torch.full((), number, device=device) for row in rows for number in row]).view(
        len(rows), -1)


# -------------------------------------------------------------------- the layer

class DeformableAttention(nn.Module):
    """Multi-scale deformable attention with its projections (Zhu et al., 2021, section 4.1).

    Args:
        width: channels C of queries, maps and result.
        heads: divides it.
        levels: maps.
        points: places per head and map.

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, width: int, heads: int = 8, levels: int = 1, points: int = 4) -> None:
        super().__init__()
        self.sampler = PlaceSampler(width, heads, levels, points)
        self.value = nn.Conv2d(width, width, 1)
        self.out = nn.Linear(width, width)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight.data.flatten(1))
            nn.init.zeros_(layer.bias)

    def forward(self, queries_BQC: Tensor, reference_BQ2: Tensor, maps_BCYX: Sequence[Tensor]) -> Tensor:
        """Queries at (x, y) in 0..1 of the maps -> what they gather, `(B, Q, C)`.

        `reference_BQ2` may have a batch of 1. Add positions to the queries before.
        """
        places, logits = self.sampler(queries_BQC, reference_BQ2, [m.shape[-2:] for m in maps_BCYX])
        weights = softmax_of_few(logits.flatten(3)).view(logits.shape)  # over all levels and points
        return self.out(deformable_attention([self.value(m) for m in maps_BCYX], places, weights))


class PlaceSampler(nn.Module):
    """Where a query samples and how much each place counts before the softmax: two linear heads.

    At first every query samples the same star of places around its reference point, all with one weight.

    Args:
        width: channels C of the queries.
        heads: divides it.
        levels: maps.
        points: places per head and map.

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f'deformable attention: the width {width} is not a multiple of {heads} heads')
        self.shape = (heads, levels, points)
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.logits = nn.Linear(width, heads * levels * points)
        for layer in (self.offsets, self.logits):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.offsets.bias.data = star(heads, points)[:, None].expand(-1, levels, -1, -1).flatten().clone()

    def forward(
        self, queries_BQC: Tensor, reference_BQ2: Tensor, shapes_YX: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Places `(B, Q, H, L, K, 2)` in 0..1, float32, and logits `(B, Q, H, L, K)`."""
        # offsets are in cells of each map
        cell_L2 = filled([(1 / x, 1 / y) for y, x in shapes_YX], queries_BQC.device)
        offsets = self.offsets(queries_BQC).float().unflatten(-1, (*self.shape, 2))
        places = reference_BQ2[:, :, None, None, None].float() + offsets * cell_L2[:, None]
        return places, self.logits(queries_BQC).unflatten(-1, self.shape)


def softmax_of_few(logits: Tensor) -> Tensor:
    """Softmax over a short last axis, float32.

    Torch's own takes more than twice as long on a CPU for rows of eight.
    """
    if exporting():
        return logits.float().softmax(-1)
    exponentials = (logits.float() - logits.detach().float().amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


def star(heads: int, points: int) -> Tensor:
    """First offsets in cells `(H, K, 2)`: a direction for each head, the k-th place k + 1 cells away."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    return direction[:, None] * torch.arange(1, points + 1)[None, :, None]


def cell_centres(shape_YX: tuple[int, int], device: torch.device | str | None = None) -> Tensor:
    """Reference points of a map's own cells, row by row: `(1, Y * X, 2)` of (x, y) in 0..1."""
    y = (torch.arange(shape_YX[0], device=device) + 0.5) / shape_YX[0]
    x = (torch.arange(shape_YX[1], device=device) + 0.5) / shape_YX[1]
    row, column = torch.meshgrid(y, x, indexing='ij')
    return torch.stack([column, row], -1).view(1, -1, 2)
