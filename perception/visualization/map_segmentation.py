"""The map: cells painted from above, later classes on top of earlier ones."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.contracts import MapLayers, MapSegmentation
from ..core.grid import BEVGrid
from ..core.protocols import MAP_CLASSES, MAP_GRID
from ..core.raster import draw_lines, fill_polygons
from ..registry import TASK_LAYERS
from . import palette
from .base import DrawingOptions, TaskLayer
from .bev import BevCanvas
from .legend import LegendEntry, entries_of
from .pages.shapes import CellShapes


@TASK_LAYERS.register_module('map_segmentation')
@dataclass(frozen=True)
class MapLayer(TaskLayer):
    """The map of one frame: bool `(6, Y, X)` in the order of `MAP_CLASSES`, and the grid it lies on."""

    title = 'map'
    order = -10

    masks_6YX: np.ndarray
    grid: BEVGrid = MAP_GRID

    @classmethod
    def from_prediction(cls, prediction: MapSegmentation, options: DrawingOptions) -> MapLayer:
        """The cells whose probability reaches the threshold."""
        low_m, high_m = prediction.x_range_m
        cell_m = (high_m - low_m) / prediction.probabilities_6YX.shape[2]
        grid = BEVGrid(prediction.x_range_m, prediction.y_range_m, cell_m)
        # vehicles are drawn as boxes
        return cls(prediction.probabilities_6YX[:len(MAP_CLASSES)] >= options.map_threshold, grid)

    @classmethod
    def from_truth(cls, labels: MapLayers, options: DrawingOptions) -> MapLayer:
        """The vector map, drawn on the protocol's grid."""
        masks = [
            fill_polygons(labels.polygons.get(name, ()), MAP_GRID)
            | draw_lines(labels.lines.get(name, ()), MAP_GRID)
            for name in MAP_CLASSES
        ]
        return cls(np.stack(masks))

    def legend(self) -> tuple[LegendEntry, ...]:
        """The six classes."""
        return entries_of(palette.MAP)

    def shapes(self) -> CellShapes:
        """The cells of each class."""
        return CellShapes(self.masks_6YX, self.grid, palette.MAP)

    def draw_on_bev(self, canvas: BevCanvas) -> None:
        """Paint the cells of each class."""
        for name, mask_YX in zip(MAP_CLASSES, self.masks_6YX, strict=True):
            canvas.draw_cells(mask_YX, self.grid, palette.MAP[name])
