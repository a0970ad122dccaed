"""What the LiDAR would see where its pillars are hidden (TurboTrain's first stage, for one car)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.config import build_record
from ...core.contracts import Annotations
from ...core.grid import BEVGrid
from ...registry import MODELS
from ..base import TaskHead
from ..layers import conv_stack
from .loss import occupancy_loss, point_loss
from .targets import ReconstructionTargets, build_targets


@dataclass(frozen=True)
class ReconstructionLosses:
    """Weights of the losses.

    Args:
        points: of the chamfer distance in squared metres.
        occupancy: of the cross-entropy.
    """

    points: float = 1.0
    occupancy: float = 1.0


@dataclass(frozen=True)
class Reconstruction:
    """What is made up of one frame, in ego metres.

    Attributes:
        points_P3: float32, the points of the cells that are likelier filled than not.
        probability_ZYX: float32, that a height of a cell has a point.
    """

    points_P3: np.ndarray
    probability_ZYX: np.ndarray


@MODELS.register_module()
class ReconstructionHead(TaskHead):
    """Points and heights of every pillar, learned where `HidePillars` hid them: no labels are needed.

    Raw outputs, on the trunk's cells:
        * `points` `(B, K * 3, Y, X)`: logits of x and y in the cell and z in the heights, each 0..1;
        * `occupancy` `(B, Z, Y, X)`: logits that a height has a point.

    After Zhou et al. 2025, TurboTrain, arXiv 2508.04682, whose code is not public: the decoder and its losses
    are our reading. The head is thrown away after pre-training.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        width: of the convolutions.
        points: K, predicted a pillar; at most twice as many of the true ones are compared.
        z_range_m: heights that are reconstructed.
        height_cell_m: of the occupancy.
        losses: weights of `ReconstructionLosses`.

    Raises:
        ValueError: no points, heights that do not fit, or an unknown option.
    """

    task = 'reconstruction'

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        width: int = 64,
        points: int = 6,
        z_range_m: tuple[float, float] = (-3.0, 5.0),
        height_cell_m: float = 1.0,
        losses: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if points < 1:
            raise ValueError(f'points: expected at least 1, found {points}')
        self.grid = BEVGrid(grid.x_range_m, grid.y_range_m, grid.cell_m, tuple(z_range_m), height_cell_m)
        self.points = points
        self.losses = build_record(ReconstructionLosses, losses, 'ReconstructionHead.losses')
        self.layers = nn.Sequential(
            conv_stack(in_channels, width, 1), nn.Conv2d(width, points * 3 + self.grid.z_size, 1))

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs, see the class, from a map `(B, in_channels, Y, X)`."""
        points, occupancy = self.layers(bev_BCYX).split((self.points * 3, self.grid.z_size), 1)
        return {'points': points, 'occupancy': occupancy}

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> ReconstructionTargets:
        """Sort the hidden points of B samples into pillars."""
        return build_targets(annotations, self.grid, 2 * self.points).to(device)

    def loss(self, raw: dict[str, Tensor], targets: ReconstructionTargets) -> dict[str, Tensor]:
        """Compute the weighted losses `points` and `occupancy`."""
        size_m = raw['points'].new_tensor(self._size_m(), dtype=torch.float32)
        return {
            'points': self.losses.points * point_loss(raw['points'], targets, size_m),
            'occupancy': self.losses.occupancy * occupancy_loss(raw['occupancy'], targets)}

    def decode(self, raw: dict[str, Tensor]) -> list[Reconstruction]:
        """Decode raw outputs to points in ego metres."""
        probability_BZYX = raw['occupancy'].detach().float().sigmoid().cpu().numpy()
        unit_BKYX3 = raw['points'].detach().float().sigmoid().unflatten(1, (-1, 3)).movedim(2, -1).cpu()
        column_row = np.stack(np.meshgrid(*map(np.arange, self.grid.shape_YX[::-1])), -1)

        results = []
        for probability_ZYX, unit_KYX3 in zip(probability_BZYX, unit_BKYX3.numpy(), strict=True):
            filled_YX = probability_ZYX.max(0) > 0.5
            xy = self.grid.to_metres(column_row + unit_KYX3[..., :2])[:, filled_YX]
            z = unit_KYX3[..., 2:][:, filled_YX] * self._size_m()[2] + self.grid.z_range_m[0]
            points_P3 = np.concatenate([xy, z], -1).reshape(-1, 3).astype(np.float32)
            results.append(Reconstruction(points_P3, probability_ZYX))
        return results

    def _size_m(self) -> tuple[float, float, float]:
        low, high = self.grid.z_range_m
        return self.grid.cell_m, self.grid.cell_m, high - low
