"""What the ground is made of, as a raster of materials seen from above.

Shape letters: Y X ground cells (row = +y, column = +x), P points.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .materials import MATERIAL_ID

__all__ = ['GroundRaster']


@dataclass(frozen=True)
class GroundRaster:
    """What the ground is made of, on a square lattice in the x, y plane.

    Attributes:
        material_YX: (Y, X) uint8 material ids; row = +y, column = +x.
        origin_xy_m: (2,) global position of the corner of cell [0, 0] (not its centre).
        m_per_cell: side of a cell.
        outside: material id of everything beyond the raster.
    """

    material_YX: np.ndarray
    origin_xy_m: np.ndarray
    m_per_cell: float = 0.1
    outside: int = MATERIAL_ID['terrain_grass']

    def __post_init__(self) -> None:
        object.__setattr__(self, 'material_YX', np.ascontiguousarray(self.material_YX, np.uint8))
        object.__setattr__(self, 'origin_xy_m', np.asarray(self.origin_xy_m, np.float64).reshape(2))
        if self.material_YX.ndim != 2:
            raise ValueError(f'GroundRaster: material_YX must have two axes, found {self.material_YX.ndim}')
        if not self.m_per_cell > 0:
            raise ValueError(f'GroundRaster: m_per_cell must be positive, found {self.m_per_cell}')

    def material_at(self, xy_P2: np.ndarray) -> np.ndarray:
        """Material ids (...,) uint8 at global points (..., 2) in metres."""
        cells = np.floor((np.asarray(xy_P2, np.float64) - self.origin_xy_m) / self.m_per_cell).astype(
            np.int64
        )
        column, row = cells[..., 0], cells[..., 1]
        height, width = self.material_YX.shape
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        material = self.material_YX[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        return np.where(inside, material, np.uint8(self.outside)).astype(np.uint8)
