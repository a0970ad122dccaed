"""Bird's-eye-view map segmentation: the BEVFusion protocol and, beside it, IoU at one fixed threshold.

Truth is drawn on 200 x 200 cells of 0.5 m over x, y in [-50, 50] m with the pixel rule of the nuScenes map
API; around the LiDAR as published, or around ego (`window.py`). Over the whole split, per class c and
threshold t of 0.35, 0.40 ... 0.65, cells with probability >= t count as predicted:

    IoU(c, t) = TP / (TP + FP + FN + 1e-7)
    protocol:  IoU(c) = max over t of IoU(c, t)          mIoU = mean over the six classes
    fixed:     IoU(c) = IoU(c, 0.5)                      mIoU@0.5

A model that also answers where vehicles stand has `IoU_vehicle`, and beside mIoU, which stays that of the
six, the means over all seven classes and over drivable area, crossing, walkway and vehicle.

The maximum is taken per class on the evaluated split itself, so it flatters: the thresholds of two classes
may differ, and both are chosen by the truth. The score at 0.5 is never higher. Both are always given.

Edge cases: a class that is neither there nor predicted has IoU 0 in the protocol (as its formula says; a
warning to read the per-class scores of small splits). A prediction on another grid is looked up at the
protocol's cell centres, probability 0 outside; a sample without a map is left out and counted.

Source: Liu et al., BEVFusion: Multi-Task Multi-Sensor Fusion with Unified Bird's-Eye View Representation,
ICRA 2023 (arXiv 2205.13542), section IV, and the evaluation of its public code.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.contracts import MapLayers, MapSegmentation
from ...core.grid import BEVGrid
from ...core.protocols import FOUR_MAP_CLASSES, MAP_AND_VEHICLE_CLASSES, MAP_CLASSES, MAP_GRID
from ...core.raster import draw_lines, fill_polygons

THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)
FIXED_THRESHOLD = 0.50
_EPSILON = 1e-7


def draw_truth(
    layers: MapLayers, grid: BEVGrid = MAP_GRID, classes: Sequence[str] = MAP_CLASSES
) -> np.ndarray:
    """The true masks of a vector map: bool `(classes, Y, X)`."""
    return np.stack(
        [
            fill_polygons(layers.polygons.get(name, ()), grid) | draw_lines(layers.lines.get(name, ()), grid)
            for name in classes
        ]
    ).astype(bool)


def on_grid(prediction: MapSegmentation, grid: BEVGrid = MAP_GRID) -> np.ndarray:
    """Probabilities `(6, Y, X)` at the centres of `grid`'s cells; 0 where the prediction does not reach."""
    probabilities = prediction.probabilities_6YX
    _, rows, columns = probabilities.shape
    same = (prediction.x_range_m, prediction.y_range_m) == (grid.x_range_m, grid.y_range_m)
    if same and (rows, columns) == grid.shape_YX:
        return probabilities

    (x0, x1), (y0, y1) = prediction.x_range_m, prediction.y_range_m
    centres = grid.centres_m()
    column = np.floor((centres[0, :, 0] - x0) / (x1 - x0) * columns).astype(int)
    row = np.floor((centres[:, 0, 1] - y0) / (y1 - y0) * rows).astype(int)

    looked_up = probabilities[:, np.clip(row, 0, rows - 1)][:, :, np.clip(column, 0, columns - 1)].copy()
    looked_up[:, (row < 0) | (row >= rows)] = 0
    looked_up[:, :, (column < 0) | (column >= columns)] = 0
    return looked_up


@dataclass(frozen=True)
class MapCounts:
    """What one or more samples add.

    Attributes:
        cells_6TL: int64 `(6, thresholds + 1, 2)`, cells by how many thresholds their probability
            reaches, and by truth (0, 1).
        samples: samples with a map.
    """

    cells_6TL: np.ndarray
    samples: int = 1

    def __add__(self, other: MapCounts) -> MapCounts:
        return MapCounts(self.cells_6TL + other.cells_6TL, self.samples + other.samples)


def count_map(probabilities_6YX: np.ndarray, truth_6YX: np.ndarray) -> MapCounts:
    """Count one sample's cells.

    Raises:
        ValueError: the shapes differ, or a probability is NaN or outside 0..1.
    """
    if probabilities_6YX.shape != truth_6YX.shape:
        raise ValueError(f'map: predicted {probabilities_6YX.shape}, truth {truth_6YX.shape}')
    if not ((probabilities_6YX >= 0) & (probabilities_6YX <= 1)).all():
        raise ValueError('map: probabilities must lie in 0..1 and may not be NaN')

    levels = len(THRESHOLDS) + 1
    reached = np.searchsorted(
        np.array(THRESHOLDS, dtype=np.float32), probabilities_6YX.astype(np.float32), side='right'
    )

    # class, level and truth as one number, so that one count does all
    classes = np.arange(len(truth_6YX))[:, None, None]
    code = (classes * levels + reached) * 2 + truth_6YX
    cells = np.bincount(code.ravel(), minlength=len(truth_6YX) * levels * 2)
    return MapCounts(cells.reshape(-1, levels, 2))


def iou_table_reference(probabilities_6YX: np.ndarray, truth_6YX: np.ndarray) -> np.ndarray:
    """Reference implementation of `iou_table(count_map(...))` for one sample: IoU `(6, thresholds)`."""
    table = np.zeros((len(truth_6YX), len(THRESHOLDS)))
    for c in range(len(truth_6YX)):
        true = truth_6YX[c].astype(bool)
        for t, threshold in enumerate(THRESHOLDS):
            predicted = probabilities_6YX[c].astype(np.float32) >= np.float32(threshold)
            intersection, union = (predicted & true).sum(), (predicted | true).sum()
            table[c, t] = intersection / (union + _EPSILON)
    return table


def iou_table(counts: MapCounts) -> np.ndarray:
    """IoU per class and threshold: `(6, thresholds)`."""
    predicted_6TL = counts.cells_6TL[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    true_positive, false_positive = predicted_6TL[..., 1], predicted_6TL[..., 0]
    truth = counts.cells_6TL[..., 1].sum(1, keepdims=True)
    return true_positive / (false_positive + truth + _EPSILON)


def map_scores(counts: MapCounts, prefix: str = 'map/') -> dict[str, float]:
    """`map/mIoU` (protocol), `map/mIoU@0.5` (fixed), both per class, and the threshold each class got."""
    table = iou_table(counts)
    best, fixed = table.max(1), table[:, THRESHOLDS.index(FIXED_THRESHOLD)]
    classes, six = MAP_AND_VEHICLE_CLASSES[:len(table)], slice(len(MAP_CLASSES))
    scores = {'mIoU': float(best[six].mean()), 'mIoU@0.5': float(fixed[six].mean())}
    if len(classes) > len(MAP_CLASSES):
        four = [classes.index(name) for name in FOUR_MAP_CLASSES]
        scores |= {'mIoU_seven': float(best.mean()), 'mIoU_four': float(best[four].mean())}

    for c, name in enumerate(classes):
        scores[f'IoU_{name}'] = float(best[c])
        scores[f'IoU@0.5_{name}'] = float(fixed[c])
        scores[f'best_threshold_{name}'] = THRESHOLDS[int(table[c].argmax())]
    return {prefix + name: value for name, value in scores.items()}
