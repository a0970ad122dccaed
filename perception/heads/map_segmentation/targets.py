"""The vector map around the car -> masks per class, with the pixel rule of the nuScenes map API."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.contracts import Annotations, BoxLabels, MapCells, MapLayers
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
        weights_B6YX: float32 0..1, how much each cell counts; None: all 1.
    """

    masks_B6YX: Tensor
    labelled_B: Tensor
    grid: BEVGrid
    weights_B6YX: Tensor | None = None

    def to(self, device: Any) -> MapTargets:
        """Copy the targets to another device."""
        weights = None if self.weights_B6YX is None else self.weights_B6YX.to(device)
        return MapTargets(self.masks_B6YX.to(device), self.labelled_B.to(device), self.grid, weights)


def build_targets(
    annotations: Sequence[Annotations], grid: BEVGrid, classes: Sequence[str] = MAP_CLASSES
) -> MapTargets:
    """Build the masks of a batch, on the CPU."""
    found = [_drawn(a, grid, classes) for a in annotations]
    empty_KYX = np.zeros((len(classes), *grid.shape_YX), dtype=np.uint8)
    masks = [empty_KYX if one is None else one.masks_KYX for one in found]
    labelled_B = torch.tensor([one is not None for one in found])

    weights = [None if one is None else one.weights_KYX for one in found]
    if all(one is None or (one == 1).all() for one in weights):
        return MapTargets(torch.from_numpy(np.stack(masks)), labelled_B, grid)
    full_KYX = np.ones(empty_KYX.shape, np.float32)
    weights_B6YX = np.stack([full_KYX if one is None else one for one in weights])
    return MapTargets(
        torch.from_numpy(np.stack(masks)), labelled_B, grid, torch.from_numpy(weights_B6YX))


class DrawnMap(NamedTuple):
    """One sample's masks, uint8 `(K, Y, X)`, and how much each cell counts; None: all 1."""

    masks_KYX: np.ndarray
    weights_KYX: np.ndarray | None


def _drawn(annotations: Annotations, grid: BEVGrid, classes: Sequence[str]) -> DrawnMap | None:
    """The masks of a sample; None without a map, or without the boxes that vehicles are learned from."""
    layers, boxes = annotations.map_layers, annotations.boxes
    if layers is None:
        return None

    vehicles = 'vehicle' in classes
    if isinstance(layers, MapCells):
        drawn = _read_cells(layers, grid)
        if vehicles and len(drawn.masks_KYX) < len(classes) and boxes is not None:
            ground = _vehicle_ground(boxes, grid)
            return DrawnMap(
                np.concatenate([drawn.masks_KYX, ground.masks_KYX]),
                np.concatenate([drawn.weights_KYX, ground.weights_KYX]))
        if len(drawn.masks_KYX) < len(classes):
            return None
        return DrawnMap(drawn.masks_KYX[:len(classes)], drawn.weights_KYX[:len(classes)])

    if not vehicles:
        return DrawnMap(draw_layers(layers, grid, classes), None)
    if boxes is None:
        return None
    if boxes.weights_M is None and boxes.area is None:
        return DrawnMap(draw_layers(with_vehicles(layers, boxes), grid, classes), None)
    ground = _vehicle_ground(boxes, grid)
    masks_KYX = draw_layers(layers, grid, classes[:-1])
    return DrawnMap(
        np.concatenate([masks_KYX, ground.masks_KYX]),
        np.concatenate([np.ones(masks_KYX.shape, np.float32), ground.weights_KYX]))


def _read_cells(cells: MapCells, grid: BEVGrid) -> DrawnMap:
    """The cell of a map under the centre of each cell of `grid`; beyond the map nothing is labelled."""
    rows, columns = cells.masks_KYX.shape[1:]
    shares_P2 = cells.area.shares(grid.centres_m().reshape(-1, 2))
    inside_YX = ((shares_P2 >= 0) & (shares_P2 < 1)).all(1).reshape(grid.shape_YX)

    column_P = np.clip(np.floor(shares_P2[:, 0] * columns).astype(np.int64), 0, columns - 1)
    row_P = np.clip(np.floor(shares_P2[:, 1] * rows).astype(np.int64), 0, rows - 1)
    index_YX = (row_P * columns + column_P).reshape(grid.shape_YX)
    masks_KYX = cells.masks_KYX.reshape(len(cells.masks_KYX), -1)[:, index_YX]
    weights_KYX = cells.weights_KYX.reshape(len(masks_KYX), -1)[:, index_YX].astype(np.float32)
    return DrawnMap(masks_KYX * inside_YX, weights_KYX * inside_YX)


def _vehicle_ground(boxes: BoxLabels, grid: BEVGrid) -> DrawnMap:
    """The ground of vehicles `(1, Y, X)`, each cell with its box's weight, the heaviest's of several."""
    given_M = np.ones(len(boxes.labels_M)) if boxes.weights_M is None else boxes.weights_M
    mask_YX = np.zeros(grid.shape_YX, np.uint8)
    weights_YX = np.ones(grid.shape_YX, np.float32)
    for m in np.argsort(given_M, kind='stable').tolist():
        only = with_vehicles(MapLayers({}, {}, 0.0), boxes.select(np.array([m])))
        ground_YX = fill_polygons(only.polygons['vehicle'], grid).astype(bool)
        weights_YX[ground_YX] = given_M[m]
        mask_YX[ground_YX] = given_M[m] > 0

    if boxes.area is not None:
        weights_YX *= boxes.area.covers(grid.centres_m().reshape(-1, 2)).reshape(grid.shape_YX)
    return DrawnMap(mask_YX[None], weights_YX[None])


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
