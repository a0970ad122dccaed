"""Weighted gathering of pixel contexts into voxels: plain operators for the exported graph, a fused bag for training."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def exporting() -> bool:
    """Whether a graph is being captured, where only plain operators may appear."""
    return torch.compiler.is_compiling() or getattr(torch.compiler, 'is_exporting', bool)() or torch.jit.is_tracing()


def depth_weights(probabilities_BLD: Tensor, depth_index_BVS: Tensor, depth_share_BVS: Tensor) -> Tensor:
    """Probability of each voxel's depth at each pixel that sees it, float32 `(B, V, S)`.

    Args:
        probabilities_BLD: depth distribution of L = N * h * w pixels over D bins.
        depth_index_BVS, depth_share_BVS: as in `LiftTables`; index L * D reads zero.
    """
    b, pixels, d = probabilities_BLD.shape
    flat = F.pad(probabilities_BLD.float().reshape(b, pixels * d), (0, 2)).reshape(-1)
    index = with_offsets(depth_index_BVS, pixels * d + 2)
    near, far = flat.index_select(0, index), flat.index_select(0, index + 1)
    share = depth_share_BVS.reshape(-1)
    return torch.lerp(near, far, share).view(depth_index_BVS.shape) if not exporting() else \
        (near + (far - near) * share).view(depth_index_BVS.shape)


def with_offsets(index_BVS: Tensor, rows: int) -> Tensor:
    """Indices into each sample's `rows` -> flat indices into B * rows."""
    b = index_BVS.shape[0]
    if b == 1:
        return index_BVS.reshape(-1)
    offset = torch.arange(b, device=index_BVS.device, dtype=index_BVS.dtype) * rows
    return (index_BVS + offset[:, None, None]).reshape(-1)


def gather_sum_reference(context_BLC: Tensor, index_BVS: Tensor, weight_BVS: Tensor) -> Tensor:
    """Sum over slots of weight times context, `(B, V, C)`: Gather, Mul, ReduceSum. Index L reads zero."""
    (b, pixels, c), (_, voxels, slots) = context_BLC.shape, index_BVS.shape
    rows = F.pad(context_BLC, (0, 0, 0, 1)).reshape(-1, c)
    read = rows.index_select(0, with_offsets(index_BVS, pixels + 1)).view(b, voxels, slots, c)
    return (read * weight_BVS.to(read.dtype)[..., None]).sum(2)


def gather_sum(context_BLC: Tensor, index_BVS: Tensor, weight_BVS: Tensor) -> Tensor:
    """Same as `gather_sum_reference` in float32, without the `(B, V, S, C)` intermediate; the zero row is never read."""
    (b, pixels, c), (_, voxels, slots) = context_BLC.shape, index_BVS.shape
    if exporting():
        return gather_sum_reference(context_BLC, index_BVS, weight_BVS)
    with torch.autocast(context_BLC.device.type, enabled=False):
        rows = F.pad(context_BLC.float(), (0, 0, 0, 1)).reshape(-1, c)
        index = torch.where(index_BVS == pixels, b * (pixels + 1) - 1, with_offsets(index_BVS, pixels + 1).view(b, voxels, slots))
        bags = F.embedding_bag(index.view(-1, slots), rows, per_sample_weights=weight_BVS.float().view(-1, slots), mode='sum',
                               padding_idx=b * (pixels + 1) - 1)
    return bags.view(b, voxels, c)
