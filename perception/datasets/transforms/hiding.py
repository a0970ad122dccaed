"""LiDAR pillars hidden from the network, which it learns to reconstruct: training without labels."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.contracts import TIME_LAG, XY, XYZ, Annotations, HiddenPoints, LidarPoints, Sample
from ...core.grid import BEVGrid
from ...registry import TRANSFORMS
from .image import Pair

TASK = 'reconstruction'
_PRESENT_S = 1e-3


@TRANSFORMS.register_module()
class HidePillars:
    """Take the points of a share of the non-empty pillars away and keep them as labels.

    Labels are `Annotations.extra['reconstruction']`, of `HiddenPoints`: a frame needs no annotation. Of a
    drive that is followed, or of a clip, the same pillars around the car are hidden in every frame, as far as
    they have points. Stands last, before sensors are taken away.

    TurboTrain (Zhou et al. 2025, arXiv 2508.04682) hides 70 %; where exactly is our reading.

    Args:
        share: of the pillars with a point, rounded to whole pillars.
        x_range_m, y_range_m: where pillars are hidden; points elsewhere stay, and are no labels.
        cell_m: side of a pillar.

    Raises:
        ValueError: a share not between 0 and 1, or ranges that are no whole number of pillars.
    """

    whole_drive = True

    def __init__(
        self, share: float = 0.7, x_range_m: Sequence[float] = (-51.2, 51.2),
        y_range_m: Sequence[float] = (-51.2, 51.2), cell_m: float = 0.8,
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f'HidePillars.share: expected a share between 0 and 1, found {share!r}')
        self.share = share
        self.grid = BEVGrid(tuple(x_range_m), tuple(y_range_m), cell_m)

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Hide pillars; a sample without LiDAR stays as it is."""
        rank_YX = rng.permutation(int(np.prod(self.grid.shape_YX)))
        if sample.lidar is None:
            return sample, annotations

        points_P6 = sample.lidar.points_P6
        hidden_P = self.hidden(points_P6[:, XY], rank_YX)
        is_label_P = self.grid.contains(points_P6[:, XY]) & (np.abs(points_P6[:, TIME_LAG]) < _PRESENT_S)
        labels = HiddenPoints(points_P6[is_label_P][:, XYZ], hidden_P[is_label_P])

        base = Annotations(sample.frame.token) if annotations is None else annotations
        annotations = replace(base, extra={**base.extra, TASK: labels})
        return replace(sample, lidar=LidarPoints(points_P6[~hidden_P])), annotations

    def hidden(self, points_P2: np.ndarray, rank_YX: np.ndarray) -> np.ndarray:
        """Which points lie in a hidden pillar, bool `(P,)`: those of the pillars that rank lowest."""
        inside_P = self.grid.contains(points_P2)
        column_P, row_P = np.floor(self.grid.to_cells(points_P2.astype(np.float64))).astype(np.int64).T
        cell_P = np.where(inside_P, row_P * self.grid.x_size + column_P, -1)

        filled_F = np.unique(cell_P[inside_P])
        order_F = filled_F[np.argsort(rank_YX[filled_F])]
        return np.isin(cell_P, order_F[:round(self.share * len(order_F))])
