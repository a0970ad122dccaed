"""Objects as points on the BEV map (Yin et al. 2021, CenterPoint, arXiv 2006.11275)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...bev.ops.blocks import conv_bn_relu
from ...core.config import build_record
from ...core.contracts import Annotations, Boxes3D, DetectionClasses
from ...core.grid import BEVGrid
from ...core.protocols import ATTRIBUTES
from ...registry import MODELS
from ..averaging import Mirror, OutputSpace
from ..base import TaskHead
from ..layers import prior_logit
from ..losses import binary_entropy
from .aligned import AlignedCode
from .averaging import average_codes, mirror_codes
from .decode import DecodeRule, decode_boxes
from .loss import DetectionLosses, attribute_loss, box_loss, heatmap_loss
from .targets import (
    BOX_CODE,
    CODE_VELOCITY,
    DetectionTargets,
    TargetOptions,
    TargetRule,
    build_targets,
)

_PARTS = {'offset': 2, 'height': 1, 'size': 3, 'heading': 2, 'velocity': 2}


@dataclass(frozen=True)
class BranchOptions:
    """Form of a group's branch.

    Args:
        channels: width of a hidden layer.
        separate: a hidden layer for each part of the box code and the attribute, as published; otherwise they
            share one, which is about three times cheaper.
        final_kernel: odd side of the last convolution, published 3.
        velocity_unit: m/s that one of the last convolution's numbers stands for; published 1. The other
            numbers of a box code are about 1, velocities 10: an optimiser whose steps have one size for all
            of them (Adam's, Muon's) comes to speak of fast objects late.
        aligned_channels: width of what is read again along each box's own axes, to correct its heading and
            velocity (`AlignedCode`); 0: none, as published.

    Raises:
        ValueError: an even kernel, a unit that is not positive, or a negative width.
    """

    channels: int = 64
    separate: bool = False
    final_kernel: int = 1
    velocity_unit: float = 1.0
    aligned_channels: int = 0

    def __post_init__(self) -> None:
        if self.final_kernel < 1 or self.final_kernel % 2 != 1:
            raise ValueError(f'final_kernel: expected an odd number of cells, found {self.final_kernel}')
        if not self.velocity_unit > 0:
            raise ValueError(f'velocity_unit: expected a positive number, found {self.velocity_unit!r}')
        if self.aligned_channels < 0:
            raise ValueError(f'aligned_channels: expected 0 or more, found {self.aligned_channels!r}')


@MODELS.register_module()
class CenterHead(TaskHead):
    """3-D boxes with velocity and attribute, of nuScenes' ten classes or others.

    Raw outputs, on cells `upsample` times finer than the trunk's:
        * `heatmap` `(B, K, Y, X)`: logits, channels in the order of `groups`;
        * `box` `(B, G * 10, Y, X)`: per group the numbers of `BOX_CODE`;
        * `attribute` `(B, G * 8, Y, X)`: per group the logits of `ATTRIBUTES`.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        shared_channels: width of the layer that all branches share.
        groups: class names by group, each group with its own branch (`SIX_GROUPS` as published for the
            ten); None: one for all.
        branches: options of `BranchOptions`.
        upsample: 1 or a power of two: works on finer cells than the trunk's.
        targets: options of `TargetOptions`.
        losses: weights of `DetectionLosses`.
        decoding: options of `DecodeRule`.
        classes: {name: fields of `core.contracts.DetectionClass`}, K of them; None: nuScenes' ten.

    Raises:
        ValueError: groups are not a partition of the classes, an option is unknown, or a number is out of
            range.
    """

    task = 'detection'

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        shared_channels: int = 64,
        groups: Sequence[Sequence[str]] | None = None,
        branches: Mapping[str, Any] | None = None,
        upsample: int = 1,
        targets: Mapping[str, Any] | None = None,
        losses: Mapping[str, Any] | None = None,
        decoding: Mapping[str, Any] | None = None,
        classes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.classes = DetectionClasses.of(classes, 'CenterHead.classes')
        groups = (self.classes.names,) if groups is None else groups
        self.groups = tuple(map(tuple, groups))
        _check(groups, upsample, self.classes.names)
        self.grid = grid.scaled(1 / upsample)
        self.losses = build_record(DetectionLosses, losses, 'CenterHead.losses')
        self.decoding = build_record(
            DecodeRule, {**(decoding or {}), 'classes': self.classes}, 'CenterHead.decoding')

        # heatmap channels follow the groups, labels the classes
        names = [name for group in groups for name in group]
        self.label_of_channel = np.array([self.classes.label_of[name] for name in names])
        self.group_of_channel = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        channel_of_label = np.argsort(self.label_of_channel)
        self.target_rule = TargetRule(
            self.grid, channel_of_label, self.group_of_channel[channel_of_label],
            build_record(TargetOptions, targets, 'CenterHead.targets'), self.classes)

        branch_options = build_record(BranchOptions, branches, 'CenterHead.branches')
        doublings = upsample.bit_length() - 1
        self.shared = nn.Sequential(
            conv_bn_relu(in_channels, shared_channels), *(_double(shared_channels) for _ in range(doublings))
        )
        self.branches = nn.ModuleList(
            GroupBranch(shared_channels, len(group), branch_options, self.grid.cell_m) for group in groups)

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs, see the class, from a map `(B, in_channels, Y, X)`."""
        features = self.shared(bev_BCYX)
        heatmaps, boxes, attributes = zip(*(branch(features) for branch in self.branches), strict=True)
        return {
            'heatmap': torch.cat(heatmaps, 1), 'box': torch.cat(boxes, 1),
            'attribute': torch.cat(attributes, 1)}

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> DetectionTargets:
        """Turn the boxes of B samples into heatmaps and box codes on this head's grid."""
        return build_targets(annotations, self.target_rule).to(device)

    def loss(self, raw: dict[str, Tensor], targets: DetectionTargets) -> dict[str, Tensor]:
        """Compute the weighted losses `heatmap`, `box` and `attribute`."""
        groups = torch.as_tensor(self.group_of_channel, device=raw['heatmap'].device)
        return {
            'heatmap': heatmap_loss(raw['heatmap'], targets, groups) * self.losses.heatmap,
            'box': self.losses.box * box_loss(
                raw['box'], targets, self.losses.code, self.losses.moving),
            'attribute': attribute_loss(raw['attribute'], targets) * self.losses.attribute}

    def entropy(self, raw: dict[str, Tensor]) -> Tensor:
        """Whether a box of each class is centred in each cell."""
        return binary_entropy(raw['heatmap'])

    def decode(self, raw: dict[str, Tensor]) -> list[Boxes3D]:
        """Decode raw outputs to boxes in ego metres, best first."""
        return decode_boxes(raw, self.grid, self.label_of_channel, self.group_of_channel, self.decoding)

    def output_space(self) -> OutputSpace:
        """Cells, and the classes by group."""
        return OutputSpace(self.grid, {'classes': self.classes, 'groups': self.groups})

    def mirror(self, raw: dict[str, Tensor], mirror: Mirror) -> dict[str, Tensor]:
        """Turn maps, offsets, headings and velocities back."""
        return mirror_codes(raw, self.grid, mirror)

    def average(self, raws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Take means cell by cell, see `average_codes`."""
        return average_codes(raws)


class GroupBranch(nn.Module):
    """Heatmap, box code and attribute of one group of classes.

    Args:
        in_channels: of the shared features.
        classes: number of heatmap channels.
        options: see `BranchOptions`.
        cell_m: side of a cell.
    """

    def __init__(self, in_channels: int, classes: int, options: BranchOptions, cell_m: float) -> None:
        super().__init__()
        self.heatmap = _branch(in_channels, classes, options)
        nn.init.constant_(self.heatmap[-1].bias, prior_logit())

        sizes = [*_PARTS.values(), len(ATTRIBUTES)]
        if not options.separate:
            sizes = [sum(sizes)]
        self.regression = nn.ModuleList([_branch(in_channels, size, options) for size in sizes])
        self.velocity_unit = options.velocity_unit

        self.aligned = None
        if options.aligned_channels:
            self.aligned = AlignedCode(in_channels, options.aligned_channels, cell_m, options.velocity_unit)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute heatmap logits, box code and attribute logits: channels `classes`, 10 and 8."""
        regression = torch.cat([branch(features) for branch in self.regression], 1)
        code, attribute = regression[:, :len(BOX_CODE)], regression[:, len(BOX_CODE):]
        if self.velocity_unit != 1:
            # velocities are last
            still, velocity = code[:, :CODE_VELOCITY.start], code[:, CODE_VELOCITY]
            code = torch.cat([still, velocity * self.velocity_unit], 1)
        if self.aligned is not None:
            code = self.aligned(features, code)
        return self.heatmap(features), code, attribute


def _branch(in_channels: int, out_channels: int, options: BranchOptions) -> nn.Sequential:
    kernel = options.final_kernel
    last = nn.Conv2d(options.channels, out_channels, kernel, padding=kernel // 2)
    return nn.Sequential(conv_bn_relu(in_channels, options.channels), last)


def _double(channels: int) -> nn.Sequential:
    """Halve the length of the cells by a transposed convolution."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False), nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True))


def _check(groups: Sequence[Sequence[str]], upsample: int, classes: Sequence[str]) -> None:
    names = [name for group in groups for name in group]
    if sorted(names) != sorted(classes):
        raise ValueError(
            f'groups: expected each detection class exactly once ({", ".join(classes)}), found {names}')
    if upsample < 1 or upsample & (upsample - 1):
        raise ValueError(f'upsample: expected 1 or a power of two, found {upsample}')
