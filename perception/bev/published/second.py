"""SECOND and its pyramid as mmdet3d has them: plain convolutions in stages, their maps side by side."""
from __future__ import annotations

import torch
from torch import Tensor, nn


def second_stage(in_channels: int, channels: int, layers: int, stride: int) -> nn.Sequential:
    """A convolution of that stride and `layers` more, each with norm and ReLU, in one row as published."""
    parts: list[nn.Module] = []
    for i in range(layers + 1):
        before, step = (channels, 1) if i else (in_channels, stride)
        parts += [
            nn.Conv2d(before, channels, 3, step, 1, bias=False), _norm(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def second_branch(in_channels: int, channels: int, halvings: int) -> nn.Sequential:
    """A stage's map to the output's cells: `halvings` more of its resolution, or doublings where negative."""
    side = 2 ** abs(halvings)
    kind = nn.ConvTranspose2d if halvings < 0 else nn.Conv2d
    return nn.Sequential(
        kind(in_channels, channels, side, side, bias=False), _norm(channels), nn.ReLU(inplace=True))


def side_by_side(x: Tensor, stages: nn.ModuleList, branches: nn.ModuleList) -> Tensor:
    """`(B, C, Y, X)` through the stages one behind the other; what the branches make of each, in channels."""
    maps = []
    for stage, branch in zip(stages, branches, strict=True):
        x = stage(x)
        maps.append(branch(x))
    return torch.cat(maps, 1)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
