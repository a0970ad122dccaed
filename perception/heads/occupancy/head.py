"""Occ3D occupancy (Tian et al. 2023, arXiv 2304.14365) by channel-to-height (Yu et al. 2023, FlashOcc, arXiv
2311.12058)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...bev.ops.blocks import conv_bn_relu
from ...core.contracts import Annotations, Occupancy
from ...core.grid import BEVGrid
from ...core.protocols import OCCUPANCY_CLASSES, OCCUPANCY_GRID
from ...registry import MODELS
from ..base import TaskHead
from ..layers import conv_stack
from ..resample import GridResample
from .decode import decode_occupancy
from .loss import cross_entropy, geometric_affinity, lovasz_softmax, semantic_affinity
from .targets import MASKS, OccupancyTargets, build_targets
from .voxels import sample_voxels

_TERMS = {'cross_entropy': 1.0, 'lovasz': 1.0, 'semantic_affinity': 1.0, 'geometric_affinity': 1.0}


@MODELS.register_module()
class OccupancyHead(TaskHead):
    """The class of every voxel of `task_grid`, read off the channels of a flat map.

    Raw output: `logits` `(B, 16 * 18, Y, X)` on cells of `work_cell_m`; channel z * 18 + c is class c of
    `OCCUPANCY_CLASSES` at height z. Coarser cells than the task's are never brought to its size: losses
    interpolate where they look, decoding as it goes.

    Args:
        grid: the trunk's grid.
        in_channels: its width.
        width, layers: of the 3x3 convolutions (width: `in_channels`).
        hidden: width of one more 1x1 layer before the logits; None for none.
        work_cell_m: cells in which the convolutions work, a multiple of the task's; the task's own by
            default. Coarser is cheaper: twice the cell, a quarter of the work.
        mask: train where 'camera' or 'lidar' saw the voxel, or everywhere (None).
        class_weights: 18 numbers for the cross-entropy.
        class_counts: 18 voxel counts, from which weights 1 / log(count), scaled to a mean of 1, are made. Not
            both; all 1 by default.
        loss_voxels: about how many voxels a sample the losses look at, None for all: see `sample_voxels`.
        loss_weights: of 'cross_entropy', 'lovasz', 'semantic_affinity', 'geometric_affinity'; 0 leaves a term
            out.
        density_weight: by how much more a voxel that the LiDAR saw at its densest counts in the cross-entropy
            than one it saw least, where labels have densities (`tools/make_occupancy.py` writes them); see
            `loss.cross_entropy`.
        task_grid: where the answer lies.

    Raises:
        ValueError: a name, a count or a cell size is wrong.
    """

    task = 'occupancy'

    def __init__(
        self,
        grid: BEVGrid,
        in_channels: int,
        width: int | None = None,
        layers: int = 2,
        hidden: int | None = None,
        work_cell_m: float | None = None,
        mask: str | None = 'camera',
        class_weights: Sequence[float] | None = None,
        class_counts: Sequence[float] | None = None,
        loss_voxels: int | None = None,
        loss_weights: Mapping[str, float] | None = None,
        density_weight: float = 0.0,
        task_grid: BEVGrid = OCCUPANCY_GRID,
    ) -> None:
        super().__init__()
        if mask not in MASKS:
            raise ValueError(f"mask: expected 'camera', 'lidar' or None, found {mask!r}")
        if unknown := set(loss_weights or {}) - set(_TERMS):
            raise ValueError(f'loss_weights: unknown {sorted(unknown)}, expected some of {sorted(_TERMS)}')
        if density_weight < 0:
            raise ValueError(f'density_weight: expected 0 or more, found {density_weight}')
        self.task_grid = task_grid
        self.mask = mask
        self.loss_voxels = loss_voxels
        self.density_weight = density_weight
        self.loss_weights = {**_TERMS, **(loss_weights or {})}
        self.register_buffer('class_weights_C', _class_weights(class_weights, class_counts), persistent=False)
        width = width or in_channels
        work_grid = task_grid if work_cell_m is None else task_grid.scaled(work_cell_m / task_grid.cell_m)
        self.to_work = GridResample(grid, work_grid)
        self.convolutions = conv_stack(in_channels, width, layers)
        widen = [] if hidden is None else [conv_bn_relu(width, hidden, 1)]
        self.to_heights = nn.Sequential(
            *widen, nn.Conv2d(hidden or width, task_grid.z_size * len(OCCUPANCY_CLASSES), 1)
        )

    def forward(self, bev_BCYX: Tensor) -> dict[str, Tensor]:
        """`(B, in_channels, Y, X)` on the trunk's grid -> `logits`, see the class."""
        return {'logits': self.to_heights(self.convolutions(self.to_work(bev_BCYX)))}

    def targets(self, annotations: Sequence[Annotations], device: Any = None) -> OccupancyTargets:
        """Voxels of B samples -> labels in the order of the logits."""
        return build_targets(annotations, self.task_grid, self.mask, density=bool(self.density_weight)).to(
            device
        )

    def loss(self, raw: dict[str, Tensor], targets: OccupancyTargets) -> dict[str, Tensor]:
        """The terms of `loss_weights` that weigh something."""
        voxels = sample_voxels(raw['logits'], targets.labels_BZYX, self.loss_voxels, targets.density_BZYX)
        terms = {'cross_entropy': lambda: cross_entropy(voxels, self.class_weights_C, self.density_weight),
                 'lovasz': lambda: lovasz_softmax(voxels),
                 'semantic_affinity': lambda: semantic_affinity(voxels),
                 'geometric_affinity': lambda: geometric_affinity(voxels)}
        return {name: weight * terms[name]() for name, weight in self.loss_weights.items() if weight}

    def decode(self, raw: dict[str, Tensor]) -> list[Occupancy]:
        """Raw logits -> voxels in Occ3D order (X, Y, Z) with the softmax of the chosen class."""
        return decode_occupancy(raw['logits'], self.task_grid.shape_YX)


def _class_weights(weights: Sequence[float] | None, counts: Sequence[float] | None) -> Tensor:
    if weights is not None and counts is not None:
        raise ValueError('class_weights and class_counts: give one of them, found both')
    for name, given in (('class_weights', weights), ('class_counts', counts)):
        if given is not None and len(given) != len(OCCUPANCY_CLASSES):
            raise ValueError(f'{name}: expected {len(OCCUPANCY_CLASSES)} numbers, found {len(given)}')
    if counts is None:
        return (
            torch.ones(len(OCCUPANCY_CLASSES))
            if weights is None
            else torch.tensor(weights, dtype=torch.float32)
        )
    rarity = 1 / torch.tensor(counts, dtype=torch.float64).clamp(min=10).log()
    return (rarity / rarity.mean()).float()
