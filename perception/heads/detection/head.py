"""Objects as points on the BEV map (Yin et al. 2021, arXiv 2006.11275; Zhou et al. 2019, arXiv
1904.07850)."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...bev.ops.blocks import conv_bn_relu
from ...core.contracts import Annotations, Boxes3D
from ...core.grid import BEVGrid
from ...core.protocols import DETECTION_CLASSES
from ...registry import MODELS
from ..base import TaskHead
from .classes import ALL_TOGETHER, VALID_ATTRIBUTES
from .decode import DecodeRule, decode_boxes
from .loss import attribute_loss, box_loss, heatmap_loss
from .targets import BOX_CODE, DetectionTargets, TargetRule, build_targets

_PARTS = {'offset': 2, 'height': 1, 'size': 3, 'heading': 2, 'velocity': 2}
_ATTRIBUTES = VALID_ATTRIBUTES.shape[1]


class GroupBranch(nn.Module):
    """Heatmap, box code and attribute of one group of classes.

    Args:
        separate: a hidden layer for each part of the box code and the attribute, as published; otherwise they
            share one, which is about three times cheaper.
    """

    def __init__(self, in_channels: int, width: int, classes: int, separate: bool) -> None:
        super().__init__()
        self.heatmap = _branch(in_channels, width, classes)
        nn.init.constant_(self.heatmap[-1].bias, -math.log((1 - 0.1) / 0.1))
        sizes = [*_PARTS.values(), _ATTRIBUTES] if separate else [sum(_PARTS.values()) + _ATTRIBUTES]
        self.regression = nn.ModuleList([_branch(in_channels, width, size) for size in sizes])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, C, Y, X)` -> heatmap logits `(B, classes, Y, X)`, box code `(B, 10, Y, X)`, attributes `(B, 8,
        Y, X)`."""
        regression = torch.cat([branch(features) for branch in self.regression], 1)
        return self.heatmap(features), regression[:, :len(BOX_CODE)], regression[:, len(BOX_CODE):]


@MODELS.register_module()
class CenterHead(TaskHead):
    """3-D boxes with velocity and attribute for the ten nuScenes classes.

    Raw outputs: `heatmap` `(B, 10, Y, X)` logits, channels in the order of `groups`; `box` `(B, G * 10, Y,
    X)`, per group the numbers of `BOX_CODE`; `attribute` `(B, G * 8, Y, X)` logits. Y and X are `upsample`
    times the trunk's.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        shared_channels, branch_channels: widths of the two layers.
        groups: class names by group, each group with its own branch (`SIX_GROUPS` as published, one by
            default).
        separate_branches: see `GroupBranch`.
        upsample: 1 or a power of two, works on finer cells than the trunk's.
        min_overlap, min_radius_cells, min_points: see `TargetRule`.
        heatmap_weight, box_weight, attribute_weight: of the three losses.
        code_weights: per number of `BOX_CODE`.
        decoding: keywords of `DecodeRule`.

    Raises:
        ValueError: groups are not a partition of the ten classes, or a number is out of range.
    """

    task = 'detection'

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        shared_channels: int = 64,
        branch_channels: int = 64,
        groups: Sequence[Sequence[str]] = ALL_TOGETHER,
        separate_branches: bool = False,
        upsample: int = 1,
        min_overlap: float = 0.1,
        min_radius_cells: int = 2,
        min_points: int = 1,
        heatmap_weight: float = 1.0,
        box_weight: float = 0.25,
        attribute_weight: float = 0.2,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        names = [name for group in groups for name in group]
        if sorted(names) != sorted(DETECTION_CLASSES):
            raise ValueError(f'groups: expected each detection class exactly once, found {names}')
        if len(code_weights) != len(BOX_CODE):
            raise ValueError(
                f'code_weights: expected {len(BOX_CODE)} numbers {BOX_CODE}, found {len(code_weights)}'
            )
        if upsample < 1 or upsample & (upsample - 1):
            raise ValueError(f'upsample: expected 1 or a power of two, found {upsample}')
        self.grid = grid.scaled(1 / upsample)
        self.label_of_channel = np.array([DETECTION_CLASSES.index(name) for name in names])
        self.group_of_channel = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        self.weights = {'heatmap': heatmap_weight, 'box': box_weight, 'attribute': attribute_weight}
        self.code_weights, self.decoding = tuple(code_weights), DecodeRule(**(decoding or {}))
        channel_of_label = np.argsort(self.label_of_channel)
        self.target_rule = TargetRule(
            self.grid, channel_of_label, self.group_of_channel[channel_of_label], min_overlap,
            min_radius_cells, min_points)
        self.shared = nn.Sequential(conv_bn_relu(in_channels, shared_channels),
                                    *(_double(shared_channels) for _ in range(upsample.bit_length() - 1)))
        self.branches = nn.ModuleList(
            [GroupBranch(shared_channels, branch_channels, len(group), separate_branches) for group in groups]
        )

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """`(B, in_channels, Y, X)` -> raw outputs, see the class."""
        features = self.shared(bev_BCYX)
        answers = [branch(features) for branch in self.branches]
        return {
            name: torch.cat(parts, 1)
            for name, parts in zip(('heatmap', 'box', 'attribute'), zip(*answers, strict=True), strict=True)
        }

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> DetectionTargets:
        """Boxes of B samples -> heatmaps and box codes on this head's grid."""
        return build_targets(annotations, self.target_rule).to(device)

    def loss(self, raw: dict[str, Tensor], targets: DetectionTargets) -> dict[str, Tensor]:
        """`heatmap`, `box` and `attribute` losses, weighted."""
        groups = torch.as_tensor(self.group_of_channel, device=raw['heatmap'].device)
        terms = {'heatmap': heatmap_loss(raw['heatmap'], targets, groups),
                 'box': box_loss(raw['box'], targets, self.code_weights),
                 'attribute': attribute_loss(raw['attribute'], targets)}
        return {name: term * self.weights[name] for name, term in terms.items()}

    def decode(self, raw: dict[str, Tensor]) -> list[Boxes3D]:
        """Raw outputs -> boxes in ego metres, best first."""
        return decode_boxes(raw, self.grid, self.label_of_channel, self.group_of_channel, self.decoding)


def _branch(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(in_channels, width), nn.Conv2d(width, out_channels, 1))


def _double(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False), nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True))
