"""Six map classes per cell, the BEVFusion protocol (Liu et al. 2023, arXiv 2205.13542)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ...core.contracts import Annotations, MapSegmentation
from ...core.grid import BEVGrid
from ...core.protocols import MAP_CLASSES, MAP_GRID
from ...registry import MODELS
from ..base import TaskHead
from ..resample import GridResample
from .decode import decode_map
from .layers import learned_upsample, map_decoder
from .loss import focal_loss
from .targets import MapTargets, build_targets


@MODELS.register_module()
class MapSegmentationHead(TaskHead):
    """Probability of each map class per cell of `task_grid`; classes may overlap.

    Raw output: `logits` `(B, 6, Y, X)` on `task_grid`, in the order of `MAP_CLASSES`.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        width: of the convolutions (the incoming width by default, as published).
        layers: 3x3 convolutions before the last 1x1 one.
        resample: 'features' moves the map to the task's grid first, as published; 'logits' convolves on the
            trunk's grid and moves six logits, cheaper where the trunk has fewer cells.
        decoder: 'plain' as published, or 'instance_residual': `layers` residual blocks with instance norm,
            then two convolutions (named by Inanc & Erkent 2026, arXiv 2604.12918, whose text gives no
            layout).
        upsample: 'transposed' or 'pixel_shuffle' halve the trunk's cells by learned layers first; None does
            not.
        gamma: of the focal loss.
        class_weights: six numbers.
        weight: of the loss.
        task_grid: where the answer lies.

    Raises:
        ValueError: a name or a count is wrong.
    """

    task = 'map_segmentation'

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        width: int | None = None,
        layers: int = 2,
        resample: str = 'features',
        decoder: str = 'plain',
        upsample: str | None = None,
        gamma: float = 2.0,
        class_weights: Sequence[float] = (1,) * 6,
        weight: float = 1.0,
        task_grid: BEVGrid = MAP_GRID,
    ) -> None:
        super().__init__()
        if resample not in ('features', 'logits'):
            raise ValueError(f"resample: expected 'features' or 'logits', found {resample!r}")
        if len(class_weights) != len(MAP_CLASSES):
            raise ValueError(
                f'class_weights: expected {len(MAP_CLASSES)} numbers {MAP_CLASSES}, found {class_weights}'
            )
        width = width or in_channels
        self.task_grid, self.gamma, self.weight = task_grid, gamma, weight
        self.class_weights = tuple(float(w) for w in class_weights)
        self.upsample = nn.Identity() if upsample is None else learned_upsample(upsample, in_channels)
        to_task = GridResample(grid if upsample is None else grid.scaled(0.5), task_grid,
                               'zeros' if resample == 'features' else 'border')
        classify = nn.Sequential(
            map_decoder(decoder, in_channels, width, layers), nn.Conv2d(width, len(MAP_CLASSES), 1)
        )
        self.layers = (
            nn.Sequential(to_task, classify) if resample == 'features' else nn.Sequential(classify, to_task)
        )

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """`(B, in_channels, Y, X)` on the trunk's grid -> `logits` `(B, 6, Y, X)` on the task's."""
        return {'logits': self.layers(self.upsample(bev_BCYX))}

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> MapTargets:
        """Map layers of B samples -> masks."""
        return build_targets(annotations, self.task_grid).to(device)

    def loss(self, raw: dict[str, Tensor], targets: MapTargets) -> dict[str, Tensor]:
        """`focal`: the protocol's loss times `weight`."""
        return {'focal': self.weight * focal_loss(raw['logits'], targets, self.gamma, self.class_weights)}

    def decode(self, raw: dict[str, Tensor]) -> list[MapSegmentation]:
        """Raw logits -> probabilities."""
        return decode_map(raw, self.task_grid)
