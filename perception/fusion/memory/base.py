"""What every memory promises: a fused map and what was seen before in, one map and what to remember out."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...bev.ops.norms import still_unless_present
from ...core.config import build_record
from ...core.contracts import Frame
from ...core.grid import BEVGrid
from .motion import OUTSIDE, MemoryLimits, age_s, before_T_now, sampling_grid, warp_maps
from .streams import Clips, Remembered, Streams

INPUTS = ('maps', 'grid', 'present', 'age')


class BEVMemory(nn.Module, ABC):
    """The maps of earlier frames, brought into this one by the car's own motion, and joined with the new map.

    It stands behind any fuser. One GridSample reads all earlier maps; where to read is an input of the graph,
    as are the maps, which of them there are, and how old they are. A new memory joins nothing: the model
    gives what it gave without, to the bit, until the memory has learned something. Where a sample has no
    memory, it always does.

    Args:
        grid: of the fused map.
        channels: of the fused map.
        slots: K, how many earlier maps are read.
        limits: fields of `MemoryLimits`.

    Attributes:
        streams: of the model's own use: {training: `Streams`}.
        motion_channels: of what is added behind the trunk, 0 where nothing is.
        carried: whether what is remembered holds what was remembered before, without end.

    Shape letters: K earlier maps, the newest first.
    """

    carried = True

    def __init__(
        self,
        grid: BEVGrid,
        channels: int,
        slots: int = 1,
        limits: MemoryLimits | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if type(slots) is not int or slots < 1:
            raise ValueError(f'{type(self).__name__}.slots: expected a whole number above 0, found {slots!r}')
        self.grid = grid
        self.channels = channels
        self.slots = slots
        self.limits = build_record(MemoryLimits, limits, f'{type(self).__name__}.limits')
        self.motion_channels = 0
        self.streams = {training: self.new_streams() for training in (True, False)}

    def new_streams(self, strict: bool = True) -> Streams:
        """A place for what this memory remembers."""
        return Streams(self.slots, self.limits, strict)

    def new_clips(self) -> Clips:
        """A place for what this memory remembers of a batch of clips."""
        return Clips(self.slots, self.limits)

    @torch.no_grad()
    def prepare(
        self, recalled: Sequence[Sequence[Remembered]], frames: Sequence[Frame], device: torch.device | str
    ) -> dict[str, Tensor]:
        """The graph inputs of a batch.

        Args:
            recalled: what is known of each frame's drive, as `Streams.recall` gives it.
            frames: of the batch.
            device: of the inputs.

        Returns:
            maps `(B, K, C, Y, X)` float32, grid `(B, K, Y, X, 2)`, present `(B, K)` bool, and age `(B, K)` in
            seconds.
        """
        b, k, shape = len(frames), self.slots, self.grid.shape_YX
        grid = np.full((b, k, *shape, 2), OUTSIDE, np.float32)
        age = np.zeros((b, k), np.float32)
        for i, frame in enumerate(frames):
            for j, one in enumerate(recalled[i]):
                grid[i, j] = sampling_grid(self.grid, before_T_now(one.frame, frame))
                age[i, j] = age_s(one.frame, frame)

        present = torch.tensor([[j < len(known) for j in range(k)] for known in recalled])
        return {
            'maps': self._stacked(recalled, device), 'grid': torch.from_numpy(grid).to(device),
            'present': present.to(device), 'age': torch.from_numpy(age).to(device)}

    @torch.enable_grad()
    def _stacked(self, recalled: Sequence[Sequence[Remembered]], device: torch.device | str) -> Tensor:
        """The maps `(B, K, C, Y, X)`, zeros for those that are not there; gradients of a clip go through."""
        def map_of(known: Sequence[Remembered], slot: int) -> Tensor:
            if slot < len(known):
                return known[slot].map_CYX.to(device, torch.float32)
            return torch.zeros(self.channels, *self.grid.shape_YX, device=device)

        return _as_one([_as_one([map_of(known, j) for j in range(self.slots)]) for known in recalled])

    def forward(
        self, new_BCYX: Tensor, maps: Tensor, grid: Tensor, present: Tensor, age: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Join the new map with earlier ones.

        Args:
            new_BCYX: the fused map.
            maps: `(B, K, C, Y, X)`; one that is not present is not read: it may hold NaN.
            grid: `(B, K, Y, X, 2)`, see `sampling_grid`.
            present: bool `(B, K)`; those present come first.
            age: `(B, K)` seconds.

        Returns:
            The map for the trunk and the one to remember, both `(B, C, Y, X)`; and what is added behind the
            trunk, `(B, motion_channels, Y, X)`, None for a memory without a motion path.
        """
        there = present[:, :, None, None, None]
        if self.training:  # the gradient of `read` multiplies with them
            maps = torch.where(there, maps, 0.0)
        read = self.read(maps.to(new_BCYX.dtype)).flatten(0, 1)
        warped = warp_maps(read, grid.flatten(0, 1)).unflatten(0, present.shape)
        warped_BKCYX = torch.where(there, warped, 0.0).to(new_BCYX.dtype)
        age_BK = torch.where(present, age, 0.0).to(new_BCYX.dtype)

        # what is added is finite: times zero it is nothing
        newest = present[:, 0]
        with still_unless_present(self, newest):
            added, motion = self.added(new_BCYX, warped_BKCYX, age_BK)
        here = newest[:, None, None, None].to(new_BCYX.dtype)
        joined = torch.addcmul(new_BCYX, added.to(new_BCYX.dtype), here)
        moved = None if motion is None else motion.to(new_BCYX.dtype) * here
        return joined, self.remember(new_BCYX, joined), moved

    def read(self, maps_BKCYX: Tensor) -> Tensor:
        """What is taken of the earlier maps before they are moved, `(B, K, C', Y, X)`; all of them here."""
        return maps_BKCYX

    @abstractmethod
    def added(
        self, new_BCYX: Tensor, warped_BKCYX: Tensor, age_BK: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What the earlier maps, read and brought here, add to the new one and behind the trunk (or None).

        At step 0 both are zero everywhere.
        """

    def remember(self, new_BCYX: Tensor, joined_BCYX: Tensor) -> Tensor:
        """Which of the two maps is the memory of the next frame."""
        return joined_BCYX


def _as_one(tensors: Sequence[Tensor]) -> Tensor:
    """As `torch.stack`; a single one is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def age_maps(age_BK: Tensor, size_YX: Sequence[int]) -> Tensor:
    """Ages as maps of one value each, `(B, K, Y, X)`."""
    return age_BK[:, :, None, None].expand(-1, -1, *size_YX)


def add_to_first(bev_BCYX: Tensor, moved_BCYX: Tensor) -> Tensor:
    """Add to a map's first channels; those behind them stay."""
    count = moved_BCYX.shape[1]
    if count == bev_BCYX.shape[1]:
        return bev_BCYX + moved_BCYX
    return torch.cat([bev_BCYX[:, :count] + moved_BCYX, bev_BCYX[:, count:]], 1)
