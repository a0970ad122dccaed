"""Deformable attention on a CPU: compiled loops over queries, heads and places, in either direction.

No sample is kept: a place is read, weighted and added at once, from rows of cells whose channels lie side by
side. The loops are compiled for one number of channels per head, so that the inner ones become a few vector
instructions.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numba import njit
from torch import Tensor


def deformable_attention_loops(
    values_BCYX: Sequence[Tensor], places_BQHLK2: Tensor, weights_BQHLK: Tensor
) -> Tensor:
    """As `deformable_attention`, on a CPU; maps in channels-last memory save a copy."""
    with torch.autocast('cpu', enabled=False):
        return _Sample.apply(
            places_BQHLK2.float().contiguous(), weights_BQHLK.float().contiguous(), *values_BCYX
        )


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, places: Tensor, weights: Tensor, *values: Tensor) -> Tensor:
        """Weighted sums of what lies at the places, `(B, Q, C)`."""
        heads = places.shape[2]
        # (B, Y, X, H, C / H)
        maps = [v.float().permute(0, 2, 3, 1).unflatten(-1, (heads, -1)).contiguous() for v in values]
        ctx.save_for_backward(places, weights, *maps)
        ctx.dtype = values[0].dtype

        out = places.new_zeros(*places.shape[:3], maps[0].shape[-1])
        for level, cells in enumerate(maps):
            forward_loop, _ = _loops(cells.shape[-1])
            forward_loop(*_arrays(cells, places, weights), level, out.numpy())
        return out.flatten(2).to(ctx.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the places, the weights and every map."""
        places, weights, *maps = ctx.saved_tensors
        gradient = gradient.float().contiguous().view(*places.shape[:3], -1)
        to_places = torch.empty_like(places)
        to_weights = torch.empty_like(weights)
        to_maps = [torch.zeros_like(m) for m in maps]

        for level, (cells, to_cells) in enumerate(zip(maps, to_maps, strict=True)):
            _, backward_loop = _loops(cells.shape[-1])
            backward_loop(*_arrays(cells, places, weights, gradient), level,
                          *_arrays(to_cells, to_places, to_weights))

        to_values = (m.flatten(3).permute(0, 3, 1, 2).to(ctx.dtype) for m in to_maps)
        return to_places, to_weights, *to_values


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().numpy() for t in tensors]


@njit(nogil=True, inline='always', error_model='numpy')
def _between(place, size):
    """The two cells around a place along one axis, their weights, and how these change with the place."""
    at = place * size - np.float32(0.5)
    floor = np.floor(at)
    fraction, low = np.float32(at - floor), int(floor)

    # a cell beyond the border has no weight
    low_inside, high_inside = np.float32(0 <= low < size), np.float32(-1 <= low < size - 1)
    cells = min(max(low, 0), size - 1), min(max(low + 1, 0), size - 1)
    weights = low_inside * (np.float32(1) - fraction), high_inside * fraction
    slopes = -low_inside * size, high_inside * size
    return cells, weights, slopes


@lru_cache
def _loops(channels: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The forward loop, which adds one map to `out`, and the backward loop, for heads of `channels`."""

    @njit(cache=True, nogil=True, error_model='numpy', fastmath={'reassoc', 'contract', 'nsz'})
    def sample_forward(cells, places, weights, level, out):
        """Add what one map gives to `out`."""
        batch, queries, heads, _, points = weights.shape
        y_size, x_size = cells.shape[1:3]

        for i in range(batch):
            for q in range(queries):
                for h in range(heads):
                    total = out[i, q, h]
                    for k in range(points):
                        (x0, x1), (left, right), _ = _between(places[i, q, h, level, k, 0], x_size)
                        (y0, y1), (low, high), _ = _between(places[i, q, h, level, k, 1], y_size)
                        a = cells[i, y0, x0, h]
                        b = cells[i, y0, x1, h]
                        c = cells[i, y1, x0, h]
                        d = cells[i, y1, x1, h]

                        weight = weights[i, q, h, level, k]
                        wa = weight * low * left
                        wb = weight * low * right
                        wc = weight * high * left
                        wd = weight * high * right
                        for j in range(channels):
                            total[j] += wa * a[j] + wb * b[j] + wc * c[j] + wd * d[j]

    @njit(cache=True, nogil=True, error_model='numpy', fastmath={'reassoc', 'contract', 'nsz'})
    def sample_backward(cells, places, weights, gradient, level, to_cells, to_places, to_weights):
        """Write the gradients of one map, of its places and of its weights."""
        batch, queries, heads, _, points = weights.shape
        y_size, x_size = cells.shape[1:3]

        for i in range(batch):
            for q in range(queries):
                for h in range(heads):
                    g = gradient[i, q, h]
                    for k in range(points):
                        (x0, x1), (left, right), (dleft, dright) = _between(
                            places[i, q, h, level, k, 0], x_size
                        )
                        (y0, y1), (low, high), (dlow, dhigh) = _between(places[i, q, h, level, k, 1], y_size)
                        a = cells[i, y0, x0, h]
                        b = cells[i, y0, x1, h]
                        c = cells[i, y1, x0, h]
                        d = cells[i, y1, x1, h]

                        # the gradient along each of the four cells
                        ga = gb = gc = gd = np.float32(0)
                        for j in range(channels):
                            ga += g[j] * a[j]
                            gb += g[j] * b[j]
                            gc += g[j] * c[j]
                            gd += g[j] * d[j]

                        weight = weights[i, q, h, level, k]
                        to_weights[i, q, h, level, k] = low * (left * ga + right * gb) + high * (
                            left * gc + right * gd
                        )
                        to_places[i, q, h, level, k, 0] = weight * (
                            low * (dleft * ga + dright * gb) + high * (dleft * gc + dright * gd)
                        )
                        to_places[i, q, h, level, k, 1] = weight * (
                            left * (dlow * ga + dhigh * gc) + right * (dlow * gb + dhigh * gd)
                        )

                        for y, x, cell_weight in (
                            (y0, x0, low * left),
                            (y0, x1, low * right),
                            (y1, x0, high * left),
                            (y1, x1, high * right),
                        ):
                            to_cell, scale = to_cells[i, y, x, h], weight * cell_weight
                            for j in range(channels):
                                to_cell[j] += scale * g[j]

    return sample_forward, sample_backward
