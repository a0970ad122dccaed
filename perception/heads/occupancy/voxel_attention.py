"""Deformable self-attention in space: coarse voxels look at a few places around themselves.

Zhu et al. 2021, arXiv 2010.04159, equation 3, with a third coordinate. Between heights a sample is linear,
as between cells, so that a trilinear sample is the sum over heights of bilinear ones, each weighted by how
near its height is: flat maps are all that it reads, with the operators and loops of the flat attention.

Shape letters: B batch, V voxels (Z Y X of them, height by height), H heads, K places per head, C channels.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ...bev.ops.deformable_attention import cell_centres, deformable_attention, softmax_of_few, star
from ..bridge import sine_positions
from ..layers import NormedFeedForward


class VoxelLayer(nn.Module):
    """Attention among voxels, then a feed-forward, each added and normed.

    Args:
        width: C.
        shape_ZYX: of the voxels.
        heads: divides the width, published 8.
        points: places per head, published 4.
        feedforward: hidden width, published 1024 at width 256.
    """

    def __init__(
        self, width: int, shape_ZYX: tuple[int, int, int], heads: int, points: int, feedforward: int
    ) -> None:
        super().__init__()
        z, y, x = shape_ZYX
        self.attention, self.norm = VoxelAttention(width, shape_ZYX, heads, points), nn.LayerNorm(width)
        self.feedforward = NormedFeedForward(width, feedforward)

        # where a voxel is: a wave for its cell, a vector for its height
        self.height_Z1C = nn.Parameter(torch.randn(z, 1, width) * width ** -0.5)
        self.register_buffer('cells_1GC', sine_positions(cell_centres((y, x)), width), persistent=False)

    def forward(self, voxels_BVC: Tensor) -> Tensor:
        """Voxels `(B, V, C)` -> the same shape."""
        positions_VC = (self.cells_1GC + self.height_Z1C).flatten(0, 1)
        gathered_BVC = self.attention(voxels_BVC + positions_VC, voxels_BVC)
        return self.feedforward(self.norm(voxels_BVC + gathered_BVC))


class VoxelAttention(nn.Module):
    """Each voxel samples K places per head around itself.

    At first all sample the same star of places around their own, half a voxel below, at, or above their own
    height, with one weight.

    Args:
        width: C.
        shape_ZYX: of the voxels.
        heads: divides the width.
        points: places per head.

    Raises:
        ValueError: heads do not divide the width.
    """

    def __init__(
        self, width: int, shape_ZYX: tuple[int, int, int], heads: int = 8, points: int = 4
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f'heads: expected a divisor of the width {width}, found {heads}')
        self.shape_ZYX, self.shape = shape_ZYX, (heads, points)
        self.offsets, self.logits = nn.Linear(width, heads * points * 3), nn.Linear(width, heads * points)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

        for layer in (self.offsets, self.logits):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        rise_K = (torch.arange(points) % 3 - 1) * 0.5
        first_HK3 = torch.cat([star(heads, points), rise_K[None, :, None].expand(heads, -1, -1)], -1)
        self.offsets.bias.data = first_HK3.flatten().clone()

        z, y, x = shape_ZYX
        # a buffer: a recorded graph of a GPU may not copy from the CPU
        self.register_buffer('cell_2', torch.tensor([1 / x, 1 / y]), persistent=False)
        self.register_buffer('centres_V2', cell_centres((y, x))[0].repeat(z, 1), persistent=False)
        self.register_buffer('height_V', torch.arange(z).repeat_interleave(y * x).float(), persistent=False)

    def forward(self, queries_BVC: Tensor, voxels_BVC: Tensor) -> Tensor:
        """Voxels as queries, and as what they read -> what they gather, `(B, V, C)`."""
        z, y, x = self.shape_ZYX
        offsets_BVHK3 = self.offsets(queries_BVC).float().unflatten(-1, (*self.shape, 3))
        places_BVHK2 = self.centres_V2[:, None, None] + offsets_BVHK3[..., :2] * self.cell_2

        # (B, V, H, Z, K): a place between two heights reads both, and nothing beyond the lowest and highest
        height_BVHK = self.height_V[:, None, None] + offsets_BVHK3[..., 2]
        away = height_BVHK[:, :, :, None] - torch.arange(z, device=height_BVHK.device)[:, None]
        weights_BVHK = softmax_of_few(self.logits(queries_BVC).unflatten(-1, self.shape))
        weights = weights_BVHK[:, :, :, None] * (1 - away.abs()).clamp(min=0)

        maps = self.value(voxels_BVC).transpose(1, 2).unflatten(2, (z, y, x)).unbind(2)
        places = places_BVHK2[:, :, :, None].expand(-1, -1, -1, z, -1, -1)
        return self.out(deformable_attention(maps, places, weights))
