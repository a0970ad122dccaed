"""Map segmentation for the suite, the results on disk and the tables; the formula is in `protocol.py`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import Annotations, Frame, MapSegmentation, TaskOutput
from ...core.protocols import MAP_AND_VEHICLE_CLASSES, MAP_CLASSES
from ...core.raster import with_vehicles
from ...registry import TASK_METRICS
from ..base import OfficialFile, ScoreTable, TaskMetric
from ..storage.files import ArrayFolder
from .protocol import MapCounts, count_map, draw_truth, map_scores, on_grid
from .window import around_lidar, looked_up


@TASK_METRICS.register_module('map_segmentation')
class MapIoU(TaskMetric):
    """IoU per map class: BEVFusion's best of seven thresholds, and at 0.5.

    Args:
        centre: 'lidar' scores the window of BEVFusion's public code, around the LiDAR and turned with it;
            'ego' is ours.

    Raises:
        ValueError: an unknown centre.
    """

    task = 'map_segmentation'
    prediction = MapSegmentation
    summary = MapCounts
    headline = {'map mIoU': 'map/mIoU'}
    tables = (ScoreTable(
        'map', ('mIoU', 'mIoU@0.5', 'mIoU_seven', 'mIoU_four'), MAP_AND_VEHICLE_CLASSES,
        ('IoU', 'IoU@0.5')),)
    classes = MAP_CLASSES
    large = True
    official = 'map'

    def __init__(self, centre: str = 'ego') -> None:
        if centre not in ('ego', 'lidar'):
            raise ValueError(f"map_segmentation.centre: expected 'ego' or 'lidar', found {centre!r}")
        self.centre = centre

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> MapCounts | None:
        """Cells by class, threshold and truth; vehicles need boxes in the truth."""
        if output.map_segmentation is None or truth is None or truth.map_layers is None:
            return None
        layers, classes = truth.map_layers, output.map_segmentation.classes
        if 'vehicle' in classes:
            if truth.boxes is None:
                return None
            layers = with_vehicles(layers, truth.boxes)
        if self.centre == 'ego':
            return count_map(on_grid(output.map_segmentation), draw_truth(layers, classes=classes))

        drawn = draw_truth(around_lidar(layers, output.frame), classes=classes)
        return count_map(looked_up(output.map_segmentation, output.frame), drawn)

    def accumulate(self, samples: Sequence[tuple[Frame, MapCounts | None]]) -> MapCounts | None:
        """Sum of all counts."""
        counts = [summary for _, summary in samples if summary is not None]
        return sum(counts[1:], counts[0]) if counts else None

    def scores(self, total: MapCounts) -> dict[str, float]:
        """`map/mIoU`, `map/mIoU@0.5`, both per class, and the best thresholds."""
        return map_scores(total)

    def details(self, total: MapCounts) -> dict[str, Any]:
        """Where the window is."""
        return {'map_centre': self.centre}

    @staticmethod
    def format_details(details: Mapping[str, Any]) -> list[str]:
        """Where the window is."""
        names = {'ego': 'ego (ours)', 'lidar': "the LiDAR (BEVFusion's)"}
        return [f'map: window around {names[details["map_centre"]]}'] if 'map_centre' in details else []

    def to_arrays(self, prediction: MapSegmentation, frame: Frame) -> dict[str, np.ndarray]:
        """Probabilities and the ranges of their grid."""
        if not np.isfinite(prediction.probabilities_6YX).all():
            raise ValueError('map_segmentation.probabilities holds a number that is not finite')
        return official_arrays(prediction)

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> MapSegmentation:
        """Probabilities and ranges -> the record."""
        ranges = (tuple(arrays[name].tolist()) for name in ('x_range_m', 'y_range_m'))
        return MapSegmentation(arrays['probabilities'], *ranges)

    def official_file(self, folder: Path, meta: Mapping[str, bool]) -> OfficialFile:
        """`map/<token>.npz`."""
        return ArrayFolder(folder / self.official, official_arrays)


def official_arrays(prediction: MapSegmentation) -> dict[str, Any]:
    """Probabilities and the ranges of their grid."""
    return {'probabilities': prediction.probabilities_6YX, 'x_range_m': prediction.x_range_m,
            'y_range_m': prediction.y_range_m}
