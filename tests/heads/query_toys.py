"""A small M3Net decoder with its own heads, for several files of tests."""
from __future__ import annotations

import torch
from torch import nn

from perception.core.contracts import Annotations
from perception.core.grid import BEVGrid
from perception.core.protocols import TASKS
from perception.heads.detection import QueryBoxHead
from perception.heads.m3net import M3NetBridge
from perception.heads.map_segmentation import QueryMapHead
from perception.heads.occupancy import QueryOccupancyHead

GROUND = dict(x_range_m=(-12.8, 12.8), y_range_m=(-12.8, 12.8))
GRID = BEVGrid(**GROUND, cell_m=3.2)
MAP = BEVGrid(**GROUND, cell_m=1.6)
COARSE = BEVGrid(**GROUND, cell_m=3.2, z_range_m=(-1.0, 5.4), height_cell_m=1.6)
FINE = BEVGrid(**GROUND, cell_m=1.6, z_range_m=(-1.0, 5.4), height_cell_m=0.8)
WIDTH = 16
QUERIED = TASKS[:3]


def make_bridge(variant: str = 'transformer', **options: object) -> M3NetBridge:
    decoder = dict(variant=variant, layers=1, heads=4, points=2, feedforward=32, states=4)
    queries = dict(detection=12, map_strips=4, voxels=90)
    return M3NetBridge(GRID, WIDTH, QUERIED, decoder, queries, **dict(
        dict(map_grid=MAP, query_heads=QUERIED, voxel_grid=COARSE), **options))


def make_heads(heights: str = 'own') -> dict[str, nn.Module]:
    decoder = dict(layers=1, heads=4, points=2, feedforward=16, heights=heights)
    return {
        'detection': QueryBoxHead(GRID, WIDTH, 16),
        'map_segmentation': QueryMapHead(GRID, WIDTH, task_grid=MAP),
        'occupancy': QueryOccupancyHead(WIDTH, COARSE, decoder, mask=None, task_grid=FINE)}


class Decoder(nn.Module):
    """A map -> raw outputs by task."""

    def __init__(self, variant: str = 'transformer') -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bridge, self.heads = make_bridge(variant), nn.ModuleDict(make_heads())

    def forward(self, bev: torch.Tensor) -> dict[str, torch.Tensor]:
        return {f'{task}.{name}': value for task, raw in self.raw(bev).items() for name, value in raw.items()}

    def raw(self, bev: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
        branches = self.bridge(dict.fromkeys(QUERIED, bev))
        raw = {task: head(branches[task]) for task, head in self.heads.items()}
        for key in branches:
            task, _, name = key.partition('.')
            if name:
                raw[task][name] = branches[key]
        return raw

    def losses(self, bev: torch.Tensor, annotations: list[Annotations]) -> dict[str, torch.Tensor]:
        raw, targets = self.raw(bev), {t: head.targets(annotations) for t, head in self.heads.items()}
        losses = {f'{task}/{name}': term for task, head in self.heads.items()
                  for name, term in head.loss(raw[task], targets[task]).items()}
        return losses | self.bridge.loss(raw, targets)


def shared(batch: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, WIDTH, *GRID.shape_YX, generator=torch.Generator().manual_seed(seed)) * 0.5
