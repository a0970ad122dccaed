"""What sparse encoders are made of: blocks of convolutions over active cells, and the form they run in."""
from __future__ import annotations

import torch
from torch import nn

from ..ops.gather import exporting
from .maps import FLAT, ActiveMap, ConvNorm
from .places import ConvWindow
from .spconv_map import spconv_serves

IMPLEMENTATIONS = ('auto', 'rows', 'masked', 'spconv')


class SparseBlock(nn.Module):
    """Two submanifold convolutions around a shortcut.

    Args:
        channels: before and behind.
        axes: of the map, 2 or 3.
    """

    def __init__(self, channels: int, axes: int = 2) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, ConvWindow.cube(axes))
        self.second = ConvNorm(channels, channels, ConvWindow.cube(axes))

    def forward(self, x: ActiveMap) -> ActiveMap:
        """A map to the same kind of map."""
        return self.second(self.first(x).relu()).plus(x).relu()


class SparseEntry(nn.Module):
    """One convolution: another width, another resolution."""

    def __init__(self, in_channels: int, channels: int, window: ConvWindow = FLAT) -> None:
        super().__init__()
        self.layer = ConvNorm(in_channels, channels, window)

    def forward(self, x: ActiveMap) -> ActiveMap:
        """A map to the same kind of map."""
        return self.layer(x).relu()


def chosen_form(owner: nn.Module, device: torch.device) -> str:
    """What an encoder's `implementation` means on a device: 'rows', 'masked' or 'spconv'.

    Raises:
        ValueError: an unknown implementation.
    """
    implementation = owner.implementation
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f'{type(owner).__name__}.implementation: expected one of {IMPLEMENTATIONS}, found '
            f'{implementation!r}')
    if implementation != 'auto':
        return implementation
    # a recorded CUDA graph, as an exported one, has no shapes that depend on values
    if exporting() or (device.type == 'cuda' and torch.cuda.is_current_stream_capturing()):
        return 'masked'
    return 'spconv' if spconv_serves(device) else 'rows'
