"""Six map classes per cell, the BEVFusion protocol (Liu et al. 2023, arXiv 2205.13542)."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...core.config import build_record
from ...core.grid import BEVGrid
from ...core.protocols import MAP_AND_VEHICLE_CLASSES, MAP_CLASSES, MAP_GRID
from ...registry import MODELS
from ..resample import GridResample
from .layers import learned_upsample, map_decoder
from .loss import MapLosses
from .task import MapTask


@MODELS.register_module()
class MapSegmentationHead(MapTask):
    """Probability of each map class per cell of `task_grid`; classes may overlap.

    Raw output: `logits` `(B, 6, Y, X)` on `task_grid`, in the order of `MAP_CLASSES`; with vehicles 7.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        width: of the convolutions (the incoming width by default, as published).
        layers: number of 3x3 convolutions before the last 1x1 one.
        resample: 'features' moves the map to the task's grid first, as published; 'logits' convolves on the
            trunk's grid and moves six logits, cheaper where the trunk has fewer cells.
        decoder: 'plain' as published, or 'instance_residual': `layers` residual blocks with instance norm,
            then two convolutions (named by Inanc & Erkent 2026, arXiv 2604.12918, whose text gives no
            layout).
        upsample: 'transposed' or 'pixel_shuffle' halve the trunk's cells by learned layers first; None does
            not.
        losses: options of `MapLosses`.
        task_grid: where the predictions lie.
        vehicles: also the ground that vehicles cover, as a seventh class (`MAP_AND_VEHICLE_CLASSES`), learned
            from the samples that have boxes too.

    Raises:
        ValueError: a name or a count is wrong, or an option unknown.
    """

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        width: int | None = None,
        layers: int = 2,
        resample: str = 'features',
        decoder: str = 'plain',
        upsample: str | None = None,
        losses: Mapping[str, Any] | None = None,
        task_grid: BEVGrid = MAP_GRID,
        vehicles: bool = False,
    ) -> None:
        super().__init__()
        if resample not in ('features', 'logits'):
            raise ValueError(f"resample: expected 'features' or 'logits', found {resample!r}")

        self.task_grid = task_grid
        self.classes = MAP_AND_VEHICLE_CLASSES if vehicles else MAP_CLASSES
        self.losses = build_record(MapLosses, losses, 'MapSegmentationHead.losses')
        self.upsample = nn.Identity() if upsample is None else learned_upsample(upsample, in_channels)

        # logits beyond the trunk's grid repeat its rim: a zero would be a probability of one half
        to_task_grid = GridResample(
            grid if upsample is None else grid.scaled(0.5), task_grid,
            padding='zeros' if resample == 'features' else 'border')
        width = width or in_channels
        classifier = nn.Sequential(
            map_decoder(decoder, in_channels, width, layers), nn.Conv2d(width, len(self.classes), 1)
        )
        order = (to_task_grid, classifier) if resample == 'features' else (classifier, to_task_grid)
        self.layers = nn.Sequential(*order)

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """Compute `logits` on the task's grid from `(B, in_channels, Y, X)` on the trunk's."""
        return {'logits': self.layers(self.upsample(bev_BCYX))}
