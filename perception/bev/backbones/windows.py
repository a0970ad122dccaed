"""Attention within windows of a map, some of them shifted: the layer of a Swin transformer.

Shape letters: R windows of one image, T tokens of a window, H heads.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

APART = -100.0
"""What is added to the logit of two tokens that only the shift brought into one window."""


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of each window, with a learned bias by their offset.

    Liu et al., 2021, arXiv 2103.14030, equation 4; torchvision's names.

    Args:
        channels: C.
        heads: H, divides C.
        window: cells along a side; T is its square.

    Raises:
        ValueError: the heads do not divide the channels.
    """

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(
                f'WindowAttention.heads: expected a divisor of {channels} channels, found {heads}')
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.register_buffer('offsets', relative_offsets(window), persistent=False)

    def forward(self, windows: Tensor, apart_RTT: Tensor | None = None) -> Tensor:
        """Tokens `(B * R, T, C)` -> the same; `apart_RTT` as `shifted_apart` gives it, None without shift."""
        tokens, channels = windows.shape[1:]
        qkv = self.qkv(windows).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # (B * R, H, T, C / H)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)

        bias = self.relative_position_bias_table.index_select(0, self.offsets.flatten())
        bias = bias.view(tokens, tokens, self.heads).permute(2, 0, 1)  # (H, T, T)
        if apart_RTT is None:
            logits = logits + bias
        else:
            by_image = logits.unflatten(0, (-1, len(apart_RTT)))
            logits = (by_image + (bias + apart_RTT[:, None])).flatten(0, 1)

        mixed = logits.softmax(-1).to(value.dtype) @ value
        return self.proj(mixed.transpose(1, 2).reshape(-1, tokens, channels))


def relative_offsets(window: int) -> Tensor:
    """Row of the bias table for each pair of tokens of a window, int64 `(T, T)`: query, key."""
    axis = torch.arange(window)
    rows, columns = (part.flatten() for part in torch.meshgrid(axis, axis, indexing='ij'))
    down, right = rows[:, None] - rows + window - 1, columns[:, None] - columns + window - 1
    return down * (2 * window - 1) + right


def shifts(size_hw: tuple[int, int], window: int) -> tuple[int, int]:
    """By how much a shifted block moves the map; not along a side that one window holds."""
    return tuple(0 if side <= window else window // 2 for side in size_hw)


def shifted_apart(
    size_hw: tuple[int, int], window: int, shift_yx: tuple[int, int], device: torch.device
) -> Tensor:
    """`(R, T, T)`, `APART` where two tokens of a window were no neighbours before the shift, 0 elsewhere.

    It depends on nothing but sizes: a constant of an exported graph.
    """
    (height, width), (y, x) = size_hw, shift_yx
    rows, columns = _parts(height, window, y, device), _parts(width, window, x, device)
    part = (3 * rows[:, None] + columns).view(1, height, width, 1)
    part_RT = to_windows(part, window).flatten(1)
    return (part_RT[:, :, None] != part_RT[:, None]).float() * APART


def to_windows(x_BYXC: Tensor, window: int) -> Tensor:
    """A map whose sides are whole windows -> tokens `(B * R, T, C)`, windows row by row."""
    height, width = x_BYXC.shape[1:3]
    tiles = x_BYXC.unflatten(2, (width // window, window)).unflatten(1, (height // window, window))
    return tiles.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def from_windows(windows: Tensor, window: int, size_hw: tuple[int, int]) -> Tensor:
    """Inverse of `to_windows`."""
    height, width = size_hw
    tiles = windows.unflatten(1, (window, window)).unflatten(0, (-1, height // window, width // window))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def padded(x_BYXC: Tensor, unit: int) -> Tensor:
    """The map with zeros below and to the right, so that its sides are multiples of `unit`."""
    below, right = (-side % unit for side in x_BYXC.shape[1:3])
    return F.pad(x_BYXC, (0, 0, 0, right, 0, below)) if below or right else x_BYXC


def _parts(length: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Which of three parts each place of a shifted side came from, int64 `(length,)`."""
    place = torch.arange(length, device=device)
    if not shift:
        return torch.zeros_like(place)
    return (place >= length - window).long() + (place >= length - shift).long()
