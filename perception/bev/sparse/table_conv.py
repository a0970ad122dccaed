"""A 3x3 convolution over rows that a rule book names: gathers and one product, forward and backward.

Both directions gather, so that no row is added to by several at once: the same numbers on every run.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .places import KERNEL, ConvTables


def table_conv(rows_MC: Tensor, weight_OCKK: Tensor, tables: ConvTables) -> Tensor:
    """`(M', O)`: for each output row the sum over the kernel's places of weight times the row it reads there.

    Args:
        rows_MC: values of the active cells.
        weight_OCKK: of an ordinary convolution, `(O, C, 3, 3)`.
        tables: who reads whom.
    """
    device = rows_MC.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
        rows_MC, weight_OCKK = rows_MC.to(kind), weight_OCKK.to(kind)
    return _TableConv.apply(rows_MC, weight_OCKK, tables.read, tables.written)


def table_conv_reference(rows_MC: Tensor, weight_OCKK: Tensor, tables: ConvTables) -> Tensor:
    """Reference implementation of `table_conv`: place by place of the kernel, the gradient by autograd."""
    padded = F.pad(rows_MC, (0, 0, 0, 1))
    weights = weight_OCKK.flatten(2).unbind(2)
    return sum(padded[tables.read[:, k]] @ weight.T for k, weight in enumerate(weights))


class _TableConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, read: Tensor, written: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight, read, written)
        return _gather(rows, read) @ weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        rows, weight, read, written = ctx.saved_tensors
        outputs, inputs = weight.shape[:2]
        of_rows = of_weight = None

        if ctx.needs_input_grad[0]:
            of_rows = _gather(gradient, written) @ weight.permute(2, 3, 0, 1).reshape(-1, inputs)
        if ctx.needs_input_grad[1]:
            # gathered again: nine times the rows would be kept for each layer
            of_weight = _gather(rows, read).T @ gradient
            of_weight = of_weight.view(KERNEL, KERNEL, inputs, outputs).permute(3, 2, 0, 1)
        return of_rows, of_weight, None, None


def _gather(rows_MC: Tensor, table: Tensor) -> Tensor:
    """`(M', 9 * C)`: the rows that the table names, side by side; its padding index reads zeros."""
    padded = F.pad(rows_MC, (0, 0, 0, 1))
    return padded.index_select(0, table.reshape(-1)).view(len(table), table.shape[1] * rows_MC.shape[1])
