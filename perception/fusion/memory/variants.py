"""The memories: one map that is carried on, a short queue of single maps, and a gated update."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bev.ops.blocks import conv_bn_relu
from ...core.grid import BEVGrid
from ...registry import MODELS
from .base import BEVMemory, age_maps
from .motion import MemoryLimits


@MODELS.register_module()
class MapQueue(BEVMemory):
    """The fused maps of the last K frames as they were, each brought here by one step of motion.

    As BEVDet4D joins one (Huang and Huang 2022, arXiv 2203.17054) and SOLOFusion many (Park et al. 2023,
    arXiv 2210.02443):

        out = new + Conv1x1_0(ConvBNReLU([new ; warped_1 ; .. ; warped_K ; ages]))

    where Conv1x1_0 starts at zero and ConvBNReLU has half the channels: what a memory adds to the cost of a
    frame is hardly to be seen. What is older than the queue is forgotten.

    The convolution of one cell and the motion are linear and change places: each earlier map goes through its
    part of the weights first, so that half of the channels are moved.

    Args:
        grid, channels, slots, limits: see `BEVMemory`.
        motion_channels: of the trunk's map, to which a `MotionPath` adds what moved since; 0: none. A trunk
            that has learned on single moments hardly lets through where a thing was before.
    """

    carried = False

    def __init__(
        self,
        grid: BEVGrid,
        channels: int,
        slots: int = 3,
        limits: MemoryLimits | Mapping[str, Any] | None = None,
        motion_channels: int = 0,
    ) -> None:
        super().__init__(grid, channels, slots, limits)
        width = max(1, channels // 2)
        self.motion_channels = motion_channels
        self.motion = MotionPath(width, motion_channels) if motion_channels else None
        self.of_new = nn.Conv2d(channels, width, 1, bias=False)
        self.of_earlier = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=False) for _ in range(slots))
        self.of_age = nn.Conv2d(slots, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.gate = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def read(self, maps_BKCYX: Tensor) -> Tensor:
        """See `BEVMemory.read`."""
        maps = maps_BKCYX.unbind(1)
        return torch.stack([conv(one) for conv, one in zip(self.of_earlier, maps, strict=True)], 1)

    def added(
        self, new_BCYX: Tensor, warped_BKCYX: Tensor, age_BK: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See `BEVMemory.added`."""
        mixed = self.of_new(new_BCYX) + warped_BKCYX.sum(1) + self.of_age(age_BK[:, :, None, None])
        mixed = self.norm(mixed).relu()
        return self.gate(mixed), None if self.motion is None else self.motion(mixed)

    def remember(self, new_BCYX: Tensor, joined_BCYX: Tensor) -> Tensor:
        """The new map alone: nothing older than the queue lives on in it."""
        return new_BCYX


@MODELS.register_module()
class MapMemory(MapQueue):
    """One map that holds all that was seen, carried from frame to frame (the default).

    The formula of `MapQueue` with one earlier map, which is the joined one: recurrent as in VideoBEV (Han et
    al. 2024, arXiv 2303.05970), at the cost of one past frame.

    Args:
        grid, channels, limits: see `BEVMemory`.
        motion_channels: see `MapQueue`.
    """

    carried = True

    def __init__(
        self,
        grid: BEVGrid,
        channels: int,
        limits: MemoryLimits | Mapping[str, Any] | None = None,
        motion_channels: int = 0,
    ) -> None:
        super().__init__(grid, channels, 1, limits, motion_channels)

    def remember(self, new_BCYX: Tensor, joined_BCYX: Tensor) -> Tensor:
        """The joined map."""
        return joined_BCYX


@MODELS.register_module()
class GatedMemory(BEVMemory):
    """One map, of which every cell and channel chooses how much to keep.

    The update gate of a gated recurrent unit (Cho et al. 2014, arXiv 1406.1078) by a convolution:

        z = tanh(strength) * sigmoid(Conv([new ; warped ; age]))
        out = new + z * (warped - new)

    with one strength a channel, zero at first.

    Args:
        grid, channels, limits: see `BEVMemory`.
        kernel: of the gate's convolution.
    """

    def __init__(
        self,
        grid: BEVGrid,
        channels: int,
        kernel: int = 1,
        limits: MemoryLimits | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(grid, channels, 1, limits)
        self.gate = nn.Conv2d(2 * channels + 1, channels, kernel, padding=kernel // 2)
        self.strength = nn.Parameter(torch.zeros(channels))

    def added(self, new_BCYX: Tensor, warped_BKCYX: Tensor, age_BK: Tensor) -> tuple[Tensor, None]:
        """See `BEVMemory.added`."""
        warped = warped_BKCYX[:, 0]
        seen = torch.cat([new_BCYX, warped, age_maps(age_BK, new_BCYX.shape[-2:])], 1)
        strength = self.strength.tanh()[:, None, None].to(new_BCYX.dtype)
        return strength * self.gate(seen).sigmoid() * (warped - new_BCYX), None


class MotionPath(nn.Module):
    """What moved: from the mixture of now and before to the trunk's output, past the trunk.

    Two convolutions and bilinearly back to the map's cells. A cell sees five cells around it, 4 m at cells of
    0.8 m: as far as 8 m/s go in half a second; the heads' convolutions add two. It starts at zero.

    Args:
        channels: of the mixture.
        out_channels: of the trunk's map.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.near = conv_bn_relu(channels, channels, 3, 2)
        self.far = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True))
        self.output = nn.Conv2d(channels, out_channels, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, mixed_BWYX: Tensor) -> Tensor:
        """`(B, channels, Y, X)` -> `(B, out_channels, Y, X)`."""
        found = self.output(self.far(self.near(mixed_BWYX)))
        return F.interpolate(found, size=mixed_BWYX.shape[-2:], mode='bilinear', align_corners=False)
