"""Weighted gathering of pixels into voxels: plain operators for the exported graph, fused loops to train."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor


def exporting() -> bool:
    """Whether a graph is being captured, where only plain operators may appear."""
    return (
        torch.compiler.is_compiling()
        or getattr(torch.compiler, 'is_exporting', bool)()
        or torch.jit.is_tracing()
    )


def depth_weights(probabilities_BLD: Tensor, depth_index_BVS: Tensor, far_weight_BVS: Tensor) -> Tensor:
    """Probability of each voxel's depth at each pixel that sees it, float32 `(B, V, S)`.

    Args:
        probabilities_BLD: depth distribution of L = N * h * w pixels over D bins.
        depth_index_BVS: nearer bin, as in `LiftTables`; the padding index L * D reads zero.
        far_weight_BVS: weight of the farther bin.
    """
    b, pixels, d = probabilities_BLD.shape

    # two zeros behind each sample: what the padding index and its neighbour read
    flat = F.pad(probabilities_BLD.float().reshape(b, pixels * d), (0, 2)).reshape(-1)
    index = with_offsets(depth_index_BVS, pixels * d + 2)
    near = flat.index_select(0, index)
    far = flat.index_select(0, index + 1)
    return (near + (far - near) * far_weight_BVS.reshape(-1)).view(depth_index_BVS.shape)


def layer_weights(probabilities_BLK: Tensor, pixel_index_BVS: Tensor) -> Tensor:
    """Probability of each voxel's height at each pixel that sees it, float32 `(B, V, S)`.

    Args:
        probabilities_BLK: distribution of L = N * h * w pixels over K = Z + 1: the heights, and none of them.
        pixel_index_BVS: as in `LiftTables`, heights innermost; the padding index L reads zero.
    """
    b, pixels, k = probabilities_BLK.shape
    z, v = k - 1, pixel_index_BVS.shape[1]

    # zeros behind each sample: what the padding index reads at any height
    flat = F.pad(probabilities_BLK.float().reshape(b, pixels * k), (0, z)).reshape(-1)
    height = torch.arange(z, device=flat.device, dtype=pixel_index_BVS.dtype).repeat(v // z)
    index = with_offsets(pixel_index_BVS * k + height[:, None], pixels * k + z)
    return flat.index_select(0, index).view(pixel_index_BVS.shape)


def with_offsets(index_BVS: Tensor, rows: int) -> Tensor:
    """Indices into each sample's `rows` -> flat indices into B * rows."""
    b = index_BVS.shape[0]
    if b == 1:
        return index_BVS.reshape(-1)
    offset = torch.arange(b, device=index_BVS.device, dtype=index_BVS.dtype) * rows
    return (index_BVS + offset[:, None, None]).reshape(-1)


def gather_sum(context_BLC: Tensor, index_BVS: Tensor, weight_BVS: Tensor) -> Tensor:
    """Sum over slots of weight times context, float32 `(B, V, C)`.

    The `(B, V, S, C)` intermediate never exists: on the CPU one pass over the voxels in either direction
    (measured: about twice the time of writing the result, a fifteenth of what `embedding_bag`'s backward
    needs), `embedding_bag` on other devices.

    Args:
        context_BLC: of L pixels.
        index_BVS: which pixels a voxel reads; the padding index L reads nothing.
        weight_BVS: of each slot.
    """
    if exporting():
        return gather_sum_reference(context_BLC, index_BVS, weight_BVS)

    with torch.autocast(context_BLC.device.type, enabled=False):
        context, weight = context_BLC.float(), weight_BVS.float()
        if context.device.type == 'cpu':
            return _GatherSum.apply(context, index_BVS, weight)
        return gather_sum_bag(context, index_BVS, weight)


def gather_sum_reference(context_BLC: Tensor, index_BVS: Tensor, weight_BVS: Tensor) -> Tensor:
    """Reference implementation of `gather_sum`: Gather, Mul and Add, slot by slot; also what is exported."""
    b, pixels, c = context_BLC.shape
    rows = F.pad(context_BLC, (0, 0, 0, 1)).reshape(-1, c)
    read = [
        rows.index_select(0, with_offsets(index_BV1, pixels + 1)).view(b, -1, c) * weight_BV1.to(rows.dtype)
        for index_BV1, weight_BV1 in zip(index_BVS.split(1, 2), weight_BVS.split(1, 2), strict=True)
    ]
    return sum(read[1:], read[0])


def gather_sum_bag(context_BLC: Tensor, index_BVS: Tensor, weight_BVS: Tensor) -> Tensor:
    """As `gather_sum`, by torch's `embedding_bag`, which has a padding index of its own; float32."""
    b, pixels, c = context_BLC.shape
    voxels, slots = index_BVS.shape[1:]
    rows = F.pad(context_BLC, (0, 0, 0, 1)).reshape(-1, c)

    # one padding index for the whole batch instead of one a sample
    padding = b * (pixels + 1) - 1
    flat = with_offsets(index_BVS, pixels + 1).view(b, voxels, slots)
    index = torch.where(index_BVS == pixels, padding, flat)
    bags = F.embedding_bag(
        index.view(-1, slots), rows, per_sample_weights=weight_BVS.view(-1, slots), mode='sum',
        padding_idx=padding)
    return bags.view(b, voxels, c)


class _GatherSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, context: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(context, index, weight)
        arrays = (t.detach().contiguous().numpy() for t in (context, index, weight))
        return torch.from_numpy(_gather(*arrays))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        arrays = (t.detach().contiguous().numpy() for t in (*ctx.saved_tensors, gradient))
        context_gradient, weight_gradient = _gather_backward(*arrays)
        return torch.from_numpy(context_gradient), None, torch.from_numpy(weight_gradient)


@njit(cache=True, nogil=True)
def _gather(context, index, weight):
    b, voxels, slots = index.shape
    padding, c = context.shape[1], context.shape[2]
    lifted = np.zeros((b, voxels, c), dtype=np.float32)
    for i in range(b):
        for v in range(voxels):
            for s in range(slots):
                p, w = index[i, v, s], weight[i, v, s]
                if p != padding:
                    for k in range(c):
                        lifted[i, v, k] += w * context[i, p, k]
    return lifted


@njit(cache=True, nogil=True, fastmath={'reassoc', 'contract'})
def _gather_backward(context, index, weight, gradient):
    b, voxels, slots = index.shape
    padding, c = context.shape[1], context.shape[2]
    to_context, to_weight = np.zeros_like(context), np.zeros_like(weight)
    for i in range(b):
        for v in range(voxels):
            for s in range(slots):
                p, w, match = index[i, v, s], weight[i, v, s], np.float32(0)
                if p != padding:
                    for k in range(c):
                        match += context[i, p, k] * gradient[i, v, k]
                    for k in range(c):
                        to_context[i, p, k] += w * gradient[i, v, k]
                    to_weight[i, v, s] = match
    return to_context, to_weight
