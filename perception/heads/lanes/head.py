"""Lane elements as ordered points (MapTR, arXiv 2208.14437; MapTRv2, arXiv 2308.05736)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...core.config import build_record
from ...core.contracts import Annotations, Lanes
from ...core.grid import BEVGrid
from ...core.protocols import LANE_CLASSES, LANE_RANGES_M
from ...registry import MODELS
from ..averaging import Mirror, OutputSpace
from ..base import TaskHead
from ..layers import conv_stack
from ..losses import binary_entropy
from ..resample import GridResample
from .averaging import average_lines, mirror_lines
from .decode import LaneDecoding, decode_lanes
from .decoder import LaneDecoder, LaneDecoderOptions
from .loss import LaneLosses, element_losses, segmentation_loss
from .targets import LaneRule, LaneTargetOptions, LaneTargets, build_targets


@dataclass(frozen=True)
class LaneFeatures:
    """The map that the queries read.

    Args:
        x_range_m: the range in which elements are predicted.
        y_range_m: likewise.
        cell_m: cells of the map inside it.
        width: of the map and of the queries.
        layers: number of 3x3 convolutions.
    """

    x_range_m: tuple[float, float] = LANE_RANGES_M['60x30'][0]
    y_range_m: tuple[float, float] = LANE_RANGES_M['60x30'][1]
    cell_m: float = 0.5
    width: int = 128
    layers: int = 2


@MODELS.register_module()
class LaneHead(TaskHead):
    """Lane elements with a class and an ordered list of points in the range around the car.

    Raw outputs, L instances of P points, K classes:
        * `logits` `(B, L, K)` in the order of `classes`;
        * `points` `(B, L, P, 2)`, (x, y) with the range at 0..1;
        * in training, of D earlier layers: `aux_logits` `(B, D, L, K)` and `aux_points` `(B, D, L, P, 2)`;
        * in training: `segmentation` `(B, K, Y, X)` logits.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        classes: names out of `LANE_CLASSES`.
        features: options of `LaneFeatures`.
        decoder: options of `LaneDecoderOptions`.
        targets: options of `LaneTargetOptions`.
        losses: weights of `LaneLosses`.
        decoding: options of `LaneDecoding`.

    Raises:
        ValueError: a name or a count is wrong, or an option unknown.
    """

    task = 'lanes'

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        classes: Sequence[str] = ('divider', 'ped_crossing', 'boundary'),
        features: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None,
        targets: Mapping[str, Any] | None = None,
        losses: Mapping[str, Any] | None = None,
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        feature_options = build_record(LaneFeatures, features, 'LaneHead.features')
        decoder_options = build_record(LaneDecoderOptions, decoder, 'LaneHead.decoder')
        target_options = build_record(LaneTargetOptions, targets, 'LaneHead.targets')
        self.losses = build_record(LaneLosses, losses, 'LaneHead.losses')
        self.decoding = build_record(LaneDecoding, decoding, 'LaneHead.decoding')

        width = feature_options.width
        _check(classes, width, decoder_options.heads)
        self.classes = tuple(classes)
        self.task_grid = BEVGrid(
            tuple(feature_options.x_range_m), tuple(feature_options.y_range_m), feature_options.cell_m
        )
        self.target_rule = LaneRule(
            self.task_grid, self.classes, decoder_options.points, target_options.min_length_m
        )
        self.auxiliary_repeats = target_options.auxiliary_repeats

        self.features = nn.Sequential(
            GridResample(grid, self.task_grid), conv_stack(in_channels, width, feature_options.layers)
        )
        self.decoder = LaneDecoder(width, len(self.classes), self.task_grid.shape_YX, decoder_options)
        self.segmentation = nn.Conv2d(width, len(self.classes), 1) if self.losses.segmentation else None

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs, see the class, from `(B, in_channels, Y, X)` on the trunk's grid."""
        memory_BCYX = self.features(bev_BCYX)
        *earlier, (logits_BLK, points_BLP2) = self.decoder(memory_BCYX)
        raw = {'logits': logits_BLK, 'points': points_BLP2}

        if self.training and earlier:
            raw['aux_logits'] = torch.stack([logits for logits, _ in earlier], 1)
            raw['aux_points'] = torch.stack([points for _, points in earlier], 1)
        if self.training and self.segmentation is not None:
            raw['segmentation'] = self.segmentation(memory_BCYX)
        return raw

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> LaneTargets:
        """Turn the polylines of B samples into point sequences and masks."""
        return build_targets(annotations, self.target_rule).to(device)

    def loss(self, raw: dict[str, Tensor], targets: LaneTargets) -> dict[str, Tensor]:
        """Compute the weighted losses of the outputs that `raw` has.

        Returns:
            `classification`, `points` and `direction` of the last layer, their sums over the earlier layers
            as `auxiliary_...`, and `segmentation`.
        """
        losses = self._layer_losses(raw['logits'], raw['points'], targets, repeats=1)

        if 'aux_logits' in raw:
            # dimension 1 counts the layers
            layers = zip(raw['aux_logits'].unbind(1), raw['aux_points'].unbind(1), strict=True)
            for logits_BLK, points_BLP2 in layers:
                terms = self._layer_losses(logits_BLK, points_BLP2, targets, self.auxiliary_repeats)
                for name, term in terms.items():
                    losses[f'auxiliary_{name}'] = losses.get(f'auxiliary_{name}', 0) + term

        if 'segmentation' in raw:
            term = segmentation_loss(raw['segmentation'], targets, self.losses.segmentation_positive)
            losses['segmentation'] = self.losses.segmentation * term
        return losses

    def entropy(self, raw: dict[str, Tensor]) -> Tensor:
        """Whether each element is one of each class."""
        return binary_entropy(raw['logits'])

    def decode(self, raw: dict[str, Tensor]) -> list[Lanes]:
        """Decode raw outputs to elements in ego metres, best first."""
        return decode_lanes(raw, self.task_grid, self.classes, self.decoding)

    def output_space(self) -> OutputSpace:
        """Range, classes and points of an element; the number of instances may differ."""
        return OutputSpace(None, {
            'x_range_m': self.task_grid.x_range_m, 'y_range_m': self.task_grid.y_range_m,
            'classes': self.classes, 'points': self.target_rule.points})

    def mirror(self, raw: dict[str, Tensor], mirror: Mirror) -> dict[str, Tensor]:
        """Turn the points back; their order stays, and with it the way that traffic drives."""
        return mirror_lines(raw, self.task_grid, mirror)

    def average(self, raws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Join elements that are the same line, see `average_lines`."""
        return average_lines(raws, self.task_grid, self.classes, self.decoding)

    def _layer_losses(
        self, logits_BLK: Tensor, points_BLP2: Tensor, targets: LaneTargets, repeats: int
    ) -> dict[str, Tensor]:
        (x_low, x_high), (y_low, y_high) = self.task_grid.x_range_m, self.task_grid.y_range_m
        size_m = (x_high - x_low, y_high - y_low)
        return element_losses(logits_BLK, points_BLP2, targets, self.losses, size_m, repeats)


def _check(classes: Sequence[str], width: int, heads: int) -> None:
    if not classes or set(classes) - set(LANE_CLASSES) or len(set(classes)) != len(classes):
        raise ValueError(f'classes: expected different names out of {LANE_CLASSES}, found {tuple(classes)}')
    if width % heads:
        raise ValueError(f'heads: expected a divisor of the width {width}, found {heads}')
