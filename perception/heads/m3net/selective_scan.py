"""The selective scan of Mamba (Gu & Dao 2023, arXiv 2312.00752, algorithm 2).

For every channel d and state n, with steps of data-dependent length (discretised as in their equation 4, B to
first order):

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,   h_0 = 0
    y_t = sum_n C_t h_t + D u_t

It is here in parallel, step by step as a reference, by Mamba's own kernel, and by compiled loops on a CPU.

The recursion h_t = a_t h_{t-1} + b_t is associative, so it is done in blocks of eight: all blocks step at
once, then the blocks' ends are joined by the same recursion, an eighth as long. Its gradient is the same
recursion backwards, so `a` and `h` are all that is kept for it; where these are large (`KEPT_BYTES`) nothing
is kept, and each state is computed again on the way back. In an exported graph such a scan is ONNX's Scan
over blocks of `EXPORTED_STEPS`, so that an engine holds the states of one block at a time.

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
KEPT_BYTES = 2 ** 30
"""Of `a` and `h` of all states together, from which on they are computed again for the gradient."""

EXPORTED_STATES = 2  # at a time: fewer nodes in the graph for more memory
SCAN_SINCE = (2, 9)
"""Version of torch; `torch.compiler.is_exporting` is of 2.7."""
EXPORTED_STEPS = BLOCK ** 3  # at a time, where all steps would need more than `KEPT_BYTES`


def selective_scan(
    u_BDT: Tensor, delta_BDT: Tensor, A_DN: Tensor, B_BGNT: Tensor, C_BGNT: Tensor, D_D: Tensor
) -> Tensor:
    """Scan along T, computed in float32.

    On a GPU `mamba_ssm`'s kernel does it where that package is installed, on a CPU compiled loops where no
    gradient is needed.

    Args:
        u_BDT: the input.
        delta_BDT: positive lengths of the steps.
        A_DN: negative.
        B_BGNT: input matrix of each step; D must be a multiple of G.
        C_BGNT: output matrix of each step.
        D_D: skip connection.

    Returns:
        `(B, D, T)` in the type of `u_BDT`.
    """
    kernel = selective_scan_kernel() if u_BDT.is_cuda and not exporting() else None
    with torch.autocast(u_BDT.device.type, enabled=False):
        parts = [part.float() for part in (u_BDT, delta_BDT, A_DN, B_BGNT, C_BGNT, D_D)]
        if kernel is not None:
            y = kernel(*(part.contiguous() for part in parts))
        elif u_BDT.device.type == 'cpu' and not exporting() and not _needs_gradient(parts):
            y = selective_scan_loops(*parts)
        else:
            y = _parallel_scan(*parts)
    return y.to(u_BDT.dtype)


def exports_loops() -> bool:
    """Whether a graph is being exported by a torch that writes its scan as ONNX's; older ones unroll."""
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    return version >= SCAN_SINCE and torch.compiler.is_exporting()


def _needs_gradient(parts: list[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(part.requires_grad for part in parts)


def _parallel_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Scan a few states at a time, so that memory holds these alone; channels lie side by side."""
    states_at_once = EXPORTED_STATES if exporting() else 1

    # (T, B, D), (T, B, G, D / G)
    lengths = delta.permute(2, 0, 1)
    inputs = (delta * u).permute(2, 0, 1).unflatten(2, (B.shape[1], -1))

    # by states: (N, D), (N, T, B, G, 1)
    matrices = (A.T, B.permute(2, 3, 0, 1)[..., None], C.permute(2, 3, 0, 1)[..., None])
    kept_bytes = 2 * A.shape[1] * lengths.numel() * lengths.element_size()
    if exports_loops() and kept_bytes > KEPT_BYTES:
        y = _blocks_in_turn(lengths, inputs, *matrices)
        return y.flatten(2).permute(1, 2, 0) + u * D[:, None]

    part_of_states = _states_read if exporting() or kept_bytes <= KEPT_BYTES else _RecomputedStates.apply
    y = torch.zeros_like(inputs)
    for few in zip(*(x.split(states_at_once) for x in matrices), strict=True):
        y = y + part_of_states(lengths, inputs, *few)
    return y.flatten(2).permute(1, 2, 0) + u * D[:, None]


def _states_read(
    lengths_TBD: Tensor, inputs_TBGd: Tensor, A_nD: Tensor, B_nTBG1: Tensor, C_nTBG1: Tensor
) -> Tensor:
    """What the outputs read of n states: `(T, B, G, D / G)`."""
    decay = (lengths_TBD[:, None] * A_nD[:, None]).exp()
    entering = inputs_TBGd[:, None] * B_nTBG1.transpose(0, 1)

    # (T, n, B, G, D / G)
    states = linear_scan(decay, entering.flatten(3)).unflatten(3, inputs_TBGd.shape[2:])
    return (states * C_nTBG1.transpose(0, 1)).sum(1)


def _blocks_in_turn(
    lengths_TBD: Tensor, inputs_TBGd: Tensor, A_ND: Tensor, B_NTBG1: Tensor, C_NTBG1: Tensor
) -> Tensor:
    """What the outputs read of all states, one block of steps after the other: `(T, B, G, D / G)`.

    Unrolled, nothing in a graph forbids to begin with every block or state at once, and engines do.
    """
    steps = lengths_TBD.shape[0]
    missing = -steps % EXPORTED_STEPS

    # (blocks, steps of a block, ...), padded at the end where nothing depends on it
    by_steps = (lengths_TBD, inputs_TBGd, B_NTBG1.transpose(0, 1), C_NTBG1.transpose(0, 1))
    blocks = [
        F.pad(x, (0, 0) * (x.ndim - 1) + (0, missing)).unflatten(0, (-1, EXPORTED_STEPS)) for x in by_steps]

    first = lengths_TBD.new_zeros(A_ND.shape[0], *lengths_TBD.shape[1:])
    # A goes along as a state: OpenVINO reads no body that takes a value from outside
    _, _, read = torch.ops.higher_order.scan(_next_block, [first, A_ND], blocks, ())
    return read.flatten(0, 1)[:steps]


def _next_block(
    before_NBD: Tensor, A_ND: Tensor, lengths_tBD: Tensor, inputs_tBGd: Tensor, B_tNBG1: Tensor,
    C_tNBG1: Tensor,
) -> list[Tensor]:
    """The states after a block of steps, A, and what the block's outputs read."""
    decay = (lengths_tBD[:, None] * A_ND[:, None]).exp()
    entering = (inputs_tBGd[:, None] * B_tNBG1).flatten(3)

    # what was before enters with the first step
    carried = decay[:1] * before_NBD
    states = blocked_scan(decay, torch.cat([entering[:1] + carried, entering[1:]]))

    read = (states.unflatten(3, inputs_tBGd.shape[2:]) * C_tNBG1).sum(1)
    return [states[-1].clone(), A_ND.clone(), read]


class _RecomputedStates(torch.autograd.Function):
    """`_states_read` that keeps its arguments alone, which all states share, and computes the rest twice."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *arguments: Tensor) -> Tensor:
        ctx.save_for_backward(*arguments)
        return _states_read(*arguments)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        arguments = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        with torch.enable_grad():
            read = _states_read(*arguments)
        return torch.autograd.grad(read, arguments, grad)


def selective_scan_reference(
    u_BDT: Tensor, delta_BDT: Tensor, A_DN: Tensor, B_BGNT: Tensor, C_BGNT: Tensor, D_D: Tensor
) -> Tensor:
    """Reference implementation of `selective_scan`: one step after the other."""
    channels_per_group = A_DN.shape[0] // B_BGNT.shape[1]
    B_BDNT = B_BGNT.repeat_interleave(channels_per_group, 1)
    C_BDNT = C_BGNT.repeat_interleave(channels_per_group, 1)

    state_BDN = torch.zeros_like(B_BDNT[..., 0])
    outputs = []
    for t in range(u_BDT.shape[-1]):
        length = delta_BDT[:, :, t, None]
        state_BDN = (length * A_DN).exp() * state_BDN + length * B_BDNT[..., t] * u_BDT[:, :, t, None]
        outputs.append((C_BDNT[..., t] * state_BDN).sum(-1) + D_D * u_BDT[:, :, t])
    return torch.stack(outputs, -1)


@lru_cache(maxsize=1)
def selective_scan_kernel() -> Callable[..., Tensor] | None:
    """Import mamba_ssm's CUDA function, which has the same arguments in the same order.

    None where the package is not installed or is broken.
    """
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception:  # its compiled part may fail in many ways; a model must not stop for that
        return None
    return selective_scan_fn


def linear_scan(a: Tensor, b: Tensor) -> Tensor:
    """Compute h_t = a_t h_{t-1} + b_t along the first dimension, from 0: `(T, *)`, `(T, *)` -> `(T, *)`."""
    return blocked_scan(a, b) if exporting() else _LinearScan.apply(a, b)


def blocked_scan(a: Tensor, b: Tensor) -> Tensor:
    """Compute the same recursion in blocks: depth O(log T), work O(T)."""
    steps = b.shape[0]
    if steps <= BLOCK:
        return torch.stack(_step_by_step(a, b)[1])

    # whole blocks, padded at the end where nothing depends on it
    missing = -steps % BLOCK
    if missing:
        a, b = (F.pad(x, (0, 0) * (x.ndim - 1) + (0, missing)) for x in (a, b))

    # all blocks at once, as if each began from 0
    products, ends = _step_by_step(*(x.unflatten(0, (-1, BLOCK)).transpose(0, 1) for x in (a, b)))

    # the state before each block, by the same recursion over the blocks, decays through the block's steps
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
    """`blocked_scan` that keeps only what its gradient needs."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        states = blocked_scan(a, b)
        ctx.save_for_backward(a, states)
        return states

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Scan from the end: g_t = grad_t + a_{t+1} g_{t+1}, dL/db_t = g_t, dL/da_t = g_t h_{t-1}."""
        a, states = ctx.saved_tensors
        following = torch.cat([a[1:], torch.zeros_like(a[:1])])
        grad_b = blocked_scan(following.flip(0), grad.flip(0)).flip(0)
        before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        return grad_b * before, grad_b
