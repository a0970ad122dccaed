"""Maximum over the rows that a table names: plain operators to export, a numba loop to train on the CPU."""
from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .gather import exporting


def table_max(x_PC: Tensor, table_MT: Tensor) -> Tensor:
    """`(M, C)`: for each row of the table the largest of the named rows, channel by channel.

    The `(M, T, C)` intermediate never exists. A row of the table ends where its first entry comes again.
    Where several rows hold the maximum the gradient goes to the first of them (the reference divides it).
    """
    if exporting() or x_PC.device.type != 'cpu' or x_PC.dtype != torch.float32:
        return table_max_reference(x_PC, table_MT)
    return _TableMax.apply(x_PC, table_MT)


def table_max_reference(x_PC: Tensor, table_MT: Tensor) -> Tensor:
    """Reference implementation of `table_max`: Gather and ReduceMax; also the exported graph."""
    m, t = table_MT.shape
    return x_PC.index_select(0, table_MT.reshape(-1)).view(m, t, -1).amax(1)


class _TableMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor) -> Tensor:
        largest, source = _largest(x.detach().contiguous().numpy(), table.contiguous().numpy())
        ctx.source = source
        ctx.rows = len(x)
        return torch.from_numpy(largest)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(_spread(gradient.contiguous().numpy(), ctx.source, ctx.rows)), None


@njit(cache=True, nogil=True)
def _largest(x, table):
    m, t = table.shape
    c = x.shape[1]
    largest = np.empty((m, c), dtype=np.float32)
    source = np.empty((m, c), dtype=np.int32)

    for i in range(m):
        first = table[i, 0]
        for k in range(c):
            largest[i, k] = x[first, k]
            source[i, k] = first

        for j in range(1, t):
            p = table[i, j]
            if p == first:
                break
            for k in range(c):
                value = x[p, k]
                if value > largest[i, k] or value != value:  # NaN wins, as in torch
                    largest[i, k] = value
                    source[i, k] = p
    return largest, source


@njit(cache=True, nogil=True)
def _spread(gradient, source, rows):
    m, c = gradient.shape
    spread = np.zeros((rows, c), dtype=np.float32)
    for i in range(m):
        for k in range(c):
            spread[source[i, k], k] += gradient[i, k]
    return spread
