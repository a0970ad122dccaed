"""The vector map around the car -> masks per class, with the pixel rule of the nuScenes map API."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Annotations, MapLayers
from ...core.grid import BEVGrid
from ...core.protocols import MAP_CLASSES
from ...core.raster import draw_lines, fill_polygons, with_vehicles


@dataclass(frozen=True)
class MapTargets:
    """What the map loss compares with.

    Attributes:
        masks_B6YX: uint8 0 or 1 in the order of `MAP_CLASSES`, or of `MAP_AND_VEHICLE_CLASSES` (7).
        labelled_B: bool, False where a sample has no map, or no boxes where vehicles are learned.
        grid: where the masks lie.
    """

    masks_B6YX: Tensor
    labelled_B: Tensor
    grid: BEVGrid

    def to(self, device: Any) -> MapTargets:
        """Copy the targets to another device."""
        return MapTargets(self.masks_B6YX.to(device), self.labelled_B.to(device), self.grid)


def build_targets(
    annotations: Sequence[Annotations], grid: BEVGrid, classes: Sequence[str] = MAP_CLASSES
) -> MapTargets:
    """Build the masks of a batch, on the CPU."""
    layers = [_layers_of(a, 'vehicle' in classes) for a in annotations]
    empty_KYX = np.zeros((len(classes), *grid.shape_YX), dtype=np.uint8)
    masks = [empty_KYX if one is None else draw_layers(one, grid, classes) for one in layers]
    labelled_B = torch.tensor([one is not None for one in layers])
    return MapTargets(torch.from_numpy(np.stack(masks)), labelled_B, grid)


def _layers_of(annotations: Annotations, vehicles: bool) -> MapLayers | None:
    if annotations.map_layers is None or not vehicles:
        return annotations.map_layers
    return None if annotations.boxes is None else with_vehicles(annotations.map_layers, annotations.boxes)


def draw_layers(layers: MapLayers, grid: BEVGrid, classes: Sequence[str] = MAP_CLASSES) -> np.ndarray:
    """Fill polygons and draw lines on `grid`: uint8 `(classes, Y, X)`."""
    masks = []
    for name in classes:
        areas = fill_polygons(layers.polygons.get(name, ()), grid)
        lines = draw_lines(layers.lines.get(name, ()), grid)
        masks.append(areas | lines)
    return np.stack(masks)


def as_raw(targets: MapTargets, confidence_logit: float = 20.0) -> dict[str, Tensor]:
    """Make the raw outputs of a perfect head."""
    return {'logits': (targets.masks_B6YX.float() * 2 - 1) * confidence_logit}
