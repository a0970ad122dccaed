"""A convolution over rows that a rule book names: for each place of its kernel a gather, a product, a sum.

At one place of the kernel no row is written twice, and places come in their order: the same numbers on every
run. Only pairs that exist are computed.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .places import RuleBook


def rule_conv(rows_MC: Tensor, weight: Tensor, book: RuleBook) -> Tensor:
    """`(M', O)`: for each output row the sum over the kernel's places of weight times the row it reads there.

    Args:
        rows_MC: values of the active cells.
        weight: of an ordinary convolution, `(O, C, kernel)`, the kernel with two or three axes.
        book: who reads whom.
    """
    device = rows_MC.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
        rows_MC, weight = rows_MC.to(kind), weight.to(kind)
    weight_KCO = weight.flatten(2).permute(2, 1, 0)
    return _RuleConv.apply(rows_MC, weight_KCO, book)


def rule_conv_reference(rows_MC: Tensor, weight: Tensor, book: RuleBook) -> Tensor:
    """Reference implementation of `rule_conv`: a table of all rows and places, the gradient by autograd."""
    weight_OCK = weight.flatten(2)
    table = torch.full((book.rows, weight_OCK.shape[2]), len(rows_MC), device=rows_MC.device)
    for k, (read, written) in enumerate(book.by_place()):
        table[written, k] = read
    padded = F.pad(rows_MC, (0, 0, 0, 1))  # what nothing reads
    return torch.einsum('mkc,ock->mo', padded[table], weight_OCK)


class _RuleConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, weight_KCO: Tensor, book: RuleBook) -> Tensor:
        ctx.save_for_backward(rows, weight_KCO)
        ctx.book = book
        outputs = _sums(rows, book.rows, weight_KCO.shape[2])
        for (read, written), weight in zip(book.by_place(), weight_KCO, strict=True):
            outputs.index_add_(0, written, (rows.index_select(0, read) @ weight).to(outputs.dtype))
        return outputs.to(rows.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weight_KCO = ctx.saved_tensors
        of_rows = _sums(rows, len(rows), rows.shape[1]) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight_KCO) if ctx.needs_input_grad[1] else None

        for k, (read, written) in enumerate(ctx.book.by_place()):
            arrived = gradient.index_select(0, written)
            if of_rows is not None:
                of_rows.index_add_(0, read, (arrived @ weight_KCO[k].T).to(of_rows.dtype))
            if of_weight is not None:
                of_weight[k] = rows.index_select(0, read).T @ arrived
        return None if of_rows is None else of_rows.to(rows.dtype), of_weight, None


def _sums(like: Tensor, rows: int, channels: int) -> Tensor:
    """Zeros to add to: of half precision the sum is kept in float32."""
    kind = torch.promote_types(like.dtype, torch.float32)
    return torch.zeros(rows, channels, dtype=kind, device=like.device)
