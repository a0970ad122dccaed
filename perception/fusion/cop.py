"""Collaborative Perceiver's way from voxels to the fused map (Yuan et al. 2025, arXiv 2507.21358).

Published in words: voxel-height-guided sampling (VHS) distils fine local features by the properties of
objects; global-local collaborative fusion (CFF) joins them with the global bird's-eye view; occupancy is
learned beside detection. No formula is public. **Inferred** here: a band of heights per kind of object with
weights softmax(z) that are learned from the band onwards; the fusion

    F = F_g + a * s * Conv([F_g ; F_l])
    a = sigmoid(MLP(mean over cells [F_g ; F_l]))
    s = sigmoid(Conv7x7([mean_c ; max_c]))

where the last norm of Conv starts at zero, so that training starts from F_g alone. F_g is what another fuser
makes of all sensors; the paper has cameras only.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..bev.ops.blocks import conv_bn_relu
from ..bev.records import SensorFeature
from ..core.grid import BEVGrid
from ..registry import MODELS
from .base import Fuser

HEIGHT_BANDS_M = {'ground': (-1.0, 0.4), 'low': (0.0, 1.2), 'vehicle': (0.0, 2.2), 'tall': (0.6, 5.4)}
"""Heights above the road (ego z) at which kinds of objects are seen: road marks and kerbs; cones, barriers
and legs; cars and people; trucks, buses and what stands beside the road."""


class HeightGuidedSampling(nn.Module):
    """VHS: each band reads the voxel columns where its kind of object is, and makes a map of it.

    Args:
        grid: of the voxels, with heights.
        in_channels: of a voxel.
        channels: of each band's map.
        bands_m: {name: (low, high)}, ego z.
        leak: how much less (in the softmax's exponent) heights outside a band count at first.

    Raises:
        ValueError: the grid has no heights, or a band none of its voxels.
    """

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        channels: int,
        bands_m: Mapping[str, Sequence[float]] = HEIGHT_BANDS_M,
        leak: float = 4.0,
    ) -> None:
        super().__init__()
        if not grid.has_heights:
            raise ValueError(
                'HeightGuidedSampling.grid: expected a grid with heights (height_cell_m or heights_m), '
                'found neither')
        self.out_channels = channels * len(bands_m)
        self.logits_KZ = nn.Parameter(
            torch.stack([band_logits(grid, name, band, leak) for name, band in bands_m.items()])
        )
        self.convolutions = nn.ModuleList([conv_bn_relu(in_channels, channels) for _ in bands_m])

    def forward(self, voxels_BCZYX: Tensor) -> Tensor:
        """Voxels -> the bands' maps side by side, `(B, bands * channels, Y, X)`."""
        b, c, z, y, x = voxels_BCZYX.shape
        columns = voxels_BCZYX.transpose(1, 2).reshape(b, z, c * y * x)
        weights_KZ = self.logits_KZ.softmax(-1).to(columns.dtype)
        bands = (weights_KZ @ columns).view(b, len(self.convolutions), c, y, x)  # each a mean over heights
        return torch.cat([convolution(bands[:, k]) for k, convolution in enumerate(self.convolutions)], 1)


def band_logits(grid: BEVGrid, name: str, band_m: Sequence[float], leak: float) -> Tensor:
    """0 for voxels whose heights overlap the band, -leak for the others: `(Z,)`."""
    edges = torch.from_numpy(grid.z_edges_m)
    inside = (edges[:-1] < band_m[1] - 1e-6) & (edges[1:] > band_m[0] + 1e-6)
    if not inside.any():
        raise ValueError(
            f'bands_m[{name!r}]: expected heights within {grid.z_range_m} m, found {tuple(band_m)}'
        )
    return torch.where(inside, 0.0, -leak)


class CollaborativeFusion(nn.Module):
    """CFF: what the local map adds to the global one, chosen by channel and by cell.

    Args:
        global_channels: of the global map.
        local_channels: of the local map.
        reduction: of the channel gate's hidden width.
    """

    def __init__(self, global_channels: int, local_channels: int, reduction: int = 4) -> None:
        super().__init__()
        joined = global_channels + local_channels
        hidden = max(8, joined // reduction)
        self.channel_gate = nn.Sequential(
            nn.Linear(joined, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, global_channels)
        )
        self.cell_gate = nn.Conv2d(2, 1, 7, padding=3)
        self.joint = nn.Sequential(
            conv_bn_relu(joined, global_channels),
            nn.Conv2d(global_channels, global_channels, 1, bias=False),
            nn.BatchNorm2d(global_channels),
        )
        nn.init.zeros_(self.joint[-1].weight)

    def forward(self, global_BCYX: Tensor, local_BCYX: Tensor) -> Tensor:
        """Global and local map -> the global map with what was added."""
        joined = torch.cat([global_BCYX, local_BCYX], 1)
        by_channel = self.channel_gate(joined.mean((2, 3))).sigmoid()[:, :, None, None]  # (B, C, 1, 1)
        over_channels = torch.cat([joined.mean(1, keepdim=True), joined.amax(1, keepdim=True)], 1)
        by_cell = self.cell_gate(over_channels).sigmoid()  # (B, 1, Y, X)
        return global_BCYX + by_channel * by_cell * self.joint(joined)


@MODELS.register_module()
class CollaborativeFuser(Fuser):
    """Any fuser's map, and what the camera's voxels add to it by height.

    Args:
        fuser: makes the global map.
        grid: of the voxels.
        voxel_channels: of a voxel.
        band_channels: of each band's map.
        bands_m: see `HEIGHT_BANDS_M`.
        sensor: whose voxels.

    Raises:
        ValueError: the inner fuser makes a map for each task.
    """

    def __init__(
        self,
        fuser: Fuser,
        grid: BEVGrid,
        voxel_channels: int,
        band_channels: int = 16,
        bands_m: Mapping[str, Sequence[float]] = HEIGHT_BANDS_M,
        sensor: str = 'camera',
    ) -> None:
        super().__init__()
        if fuser.tasks:
            raise ValueError(f'CollaborativeFuser.fuser: expected one map for all tasks, found {fuser.tasks}')
        self.fuser = fuser
        self.sensor = sensor
        self.out_channels = fuser.out_channels
        self.sampling = HeightGuidedSampling(grid, voxel_channels, band_channels, bands_m)
        self.fusion = CollaborativeFusion(fuser.out_channels, self.sampling.out_channels)

    def fuse(self, features: dict[str, SensorFeature], present: dict[str, Tensor]) -> Tensor:
        """As `Fuser.fuse`; where the sensor is absent its voxels are not read and count as empty.

        Raises:
            ValueError: the sensor's encoder gives no voxels.
        """
        voxels = features[self.sensor].voxels_BCZYX
        if voxels is None:
            raise ValueError(f'CollaborativeFuser: the encoder of {self.sensor!r} gives no voxels')
        present_B1111 = present[self.sensor][:, None, None, None, None]
        local = self.sampling(torch.where(present_B1111, voxels, voxels.new_zeros(())))
        return self.fusion(self.fuser.fuse(features, present), local)

    def forward(self, bevs: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """The global map alone: flat maps hold no heights. The model calls `fuse`."""
        return self.fuser(bevs, present)
