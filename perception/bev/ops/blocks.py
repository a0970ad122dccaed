"""Convolution blocks of backbones, necks and trunks; names of parameters follow torchvision's ResNet."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .memory_order import laid_out


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution that keeps the size (up to the stride), batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The projection of a residual block whose input and output differ; None where they are alike."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(Projection(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class Projection(nn.Conv2d):
    """A 1x1 convolution of every `stride`-th cell, without bias.

    Where it learns on a processor, the cells are taken first and convolved afterwards, to the same numbers:
    of 2 to 15 channels of half precision, channels innermost, oneDNN's gradient of a strided 1x1 convolution
    writes past its memory as soon as threads share an image (jit_bf16_1x1 of avx512_core_bf16, torch 2.13).

    Args:
        in_channels: channels of the map.
        out_channels: channels of the projection.
        stride: distance of the cells that are taken, along rows and columns.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, Y, X)` -> `(B, out_channels, Y / stride, X / stride)`."""
        stride, learns = self.stride[0], torch.is_grad_enabled() and self.weight.requires_grad
        if learns and stride > 1 and self.in_channels < 16 and x.device.type == 'cpu':
            return F.conv2d(laid_out(x[..., ::stride, ::stride]), self.weight)
        return super().forward(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., 2016, arXiv 1512.03385, figure 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, Y, X)` -> `(B, channels * expansion, Y / stride, X / stride)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut (He et al., 2016, figure 5 right), the stride on the 3x3."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in_channels, Y, X)` -> `(B, channels * expansion, Y / stride, X / stride)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def residual_stage(
    block: type[nn.Module], in_channels: int, channels: int, layers: int, stride: int
) -> nn.Sequential:
    """`layers` residual blocks, the first with the stride."""
    blocks = [block(in_channels, channels, stride)]
    blocks += [block(channels * block.expansion, channels) for _ in range(layers - 1)]
    return nn.Sequential(*blocks)


def same_length(owner: str, **parts: Sequence) -> None:
    """Refuse sequences that are empty or not equally long.

    Raises:
        ValueError: names `owner` and the lengths.
    """
    lengths = {name: len(part) for name, part in parts.items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise ValueError(f'{owner}: expected sequences of one length, found {lengths}')
