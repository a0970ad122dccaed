"""The selective scan of Mamba (Gu & Dao 2023, arXiv 2312.00752, algorithm 2): in parallel, step by step, by
its kernel, and by compiled loops on a CPU.

For every channel d and state n, with steps of data-dependent length (discretised as in their equation 4, B to
first order):

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,   h_0 = 0
    y_t = sum_n C_t h_t + D u_t

The recursion h_t = a_t h_{t-1} + b_t is associative, so it is done in blocks of eight: all blocks step at
once, then the blocks' ends are joined by the same recursion, an eighth as long. Its gradient is the same
recursion backwards, so nothing but `a` and `h` is kept for it.

Shape letters: B batch, D channels, G groups of channels that share B and C, N states, T steps.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ...bev.ops.gather import exporting
from .scan_loops import selective_scan_loops

BLOCK = 8
EXPORTED_STATES = 2  # at a time: fewer nodes in the graph for more memory


def selective_scan(
    u_BDT: Tensor, delta_BDT: Tensor, A_DN: Tensor, B_BGNT: Tensor, C_BGNT: Tensor, D_D: Tensor
) -> Tensor:
    """Scan along T; computed in float32, by `mamba_ssm`'s kernel on a GPU where that package is installed, by
    compiled loops on a CPU where no gradient is asked for.

    Args:
        u_BDT: what comes in.
        delta_BDT: positive lengths of the steps.
        A_DN: negative.
        B_BGNT, C_BGNT: D must be a multiple of G.
        D_D: how much goes straight through.

    Returns:
        `(B, D, T)` in the type of `u_BDT`.
    """
    kernel = selective_scan_kernel() if u_BDT.is_cuda and not exporting() else None
    with torch.autocast(u_BDT.device.type, enabled=False):
        parts = [part.float() for part in (u_BDT, delta_BDT, A_DN, B_BGNT, C_BGNT, D_D)]
        if kernel is not None:
            y = kernel(*(part.contiguous() for part in parts))
        elif u_BDT.device.type == 'cpu' and not exporting() and not _learns(parts):
            y = selective_scan_loops(*parts)
        else:
            y = _selective_scan(*parts)
    return y.to(u_BDT.dtype)


def _learns(parts: list[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(part.requires_grad for part in parts)


def _selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """A few states at a time: what lies in memory at once is that part of all states, and the channels lie
    side by side."""
    grouped, at_once = (B.shape[1], -1), EXPORTED_STATES if exporting() else 1
    # (T, B, D), (T, B, G, D / G)
    lengths, pushed = delta.permute(2, 0, 1), (delta * u).permute(2, 0, 1).unflatten(2, grouped)
    read = torch.zeros_like(pushed)
    B_NTBG1, C_NTBG1 = (x.permute(2, 3, 0, 1)[..., None] for x in (B, C))
    for A_nD, B_nTBG1, C_nTBG1 in zip(*(x.split(at_once) for x in (A.T, B_NTBG1, C_NTBG1)), strict=True):
        decay, entering = lengths[:, None] * A_nD[:, None], pushed[:, None] * B_nTBG1.transpose(0, 1)
        states = linear_scan(decay.exp(), entering.flatten(3)).unflatten(3, grouped)  # (T, n, B, G, D / G)
        read = read + (states * C_nTBG1.transpose(0, 1)).sum(1)
    return read.flatten(2).permute(1, 2, 0) + u * D[:, None]


def selective_scan_reference(u_BDT: Tensor, delta_BDT: Tensor, A_DN: Tensor, B_BGNT: Tensor, C_BGNT: Tensor,
                             D_D: Tensor) -> Tensor:
    """As `selective_scan`, one step after the other. Slow."""
    per_group = A_DN.shape[0] // B_BGNT.shape[1]
    B_BDNT, C_BDNT = (x.repeat_interleave(per_group, 1) for x in (B_BGNT, C_BGNT))
    state, answers = torch.zeros_like(B_BDNT[..., 0]), []
    for t in range(u_BDT.shape[-1]):
        length = delta_BDT[:, :, t, None]
        state = (length * A_DN).exp() * state + length * B_BDNT[..., t] * u_BDT[:, :, t, None]
        answers.append((C_BDNT[..., t] * state).sum(-1) + D_D * u_BDT[:, :, t])
    return torch.stack(answers, -1)


@lru_cache(maxsize=1)
def selective_scan_kernel() -> Callable[..., Tensor] | None:
    """mamba_ssm's CUDA function (same arguments, same order), or None where the package is not installed or
    is broken."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception:  # its compiled part may fail in many ways; a model must not stop for that
        return None
    return selective_scan_fn


# ------------------------------------------------------------------------------------------------------- the
# recursion

def linear_scan(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t along the first dimension, h before the first step 0: `(T, *)`, `(T, *)` ->
    `(T, *)`."""
    return blocked_scan(a, b) if exporting() else _LinearScan.apply(a, b)


def blocked_scan(a: Tensor, b: Tensor) -> Tensor:
    """The recursion in blocks; depth O(log T), work O(T)."""
    steps = b.shape[0]
    if steps <= BLOCK:
        return torch.stack(_step_by_step(a, b)[1])
    missing = -steps % BLOCK
    if missing:
        a, b = (F.pad(x, (0, 0) * (x.ndim - 1) + (0, missing)) for x in (a, b))
    products, ends = _step_by_step(*(x.unflatten(0, (-1, BLOCK)).transpose(0, 1) for x in (a, b)))
    carried = blocked_scan(products[-1], ends[-1])
    before = torch.cat([torch.zeros_like(carried[:1]), carried[:-1]])
    joined = torch.stack([end + product * before for product, end in zip(products, ends, strict=True)], 1)
    return joined.flatten(0, 1)[:steps]


def _step_by_step(a: Tensor, b: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Running products of `a` and the recursion itself, after each step along the first dimension."""
    products, states = [a[0]], [b[0]]
    for t in range(1, a.shape[0]):
        products.append(products[-1] * a[t])
        states.append(states[-1] * a[t] + b[t])
    return products, states


class _LinearScan(torch.autograd.Function):
    """`blocked_scan` that remembers only what its gradient needs."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        states = blocked_scan(a, b)
        ctx.save_for_backward(a, states)
        return states

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        """g_t = grad_t + a_{t+1} g_{t+1}, the recursion from the end; then dL/db_t = g_t and dL/da_t = g_t
        h_{t-1}."""
        a, states = ctx.saved_tensors
        following = torch.cat([a[1:], torch.zeros_like(a[:1])])
        grad_b = blocked_scan(following.flip(0), grad.flip(0)).flip(0)
        before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        return grad_b * before, grad_b
