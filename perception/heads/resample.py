"""The trunk's BEV grid -> a task's own grid, both given in metres."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.grid import BEVGrid


class GridResample(nn.Module):
    """Bilinear sampling of a map on `source` at the cell centres of `target` (align_corners=False).

    Cells of `target` outside `source` become zero, or with `padding='border'` the nearest cell of its rim.
    Where both grids cover the same ground with the same cells the map passes through untouched. The positions
    are a constant of the exported graph.

    Args:
        source: grid of the incoming map `(B, C, Y, X)`.
        target: grid of the outgoing map.
        padding: 'zeros' or 'border'.
    """

    def __init__(self, source: BEVGrid, target: BEVGrid, padding: str = 'zeros') -> None:
        super().__init__()
        self.source, self.target, self.padding = source, target, padding
        # heights do not matter to a flat map
        self.same = (source.x_range_m, source.y_range_m, source.shape_YX) == (
            target.x_range_m, target.y_range_m, target.shape_YX)
        positions = source.normalised(torch.from_numpy(target.centres_m()))
        self.register_buffer('positions_1YX2', positions[None], persistent=False)

    def forward(self, bev_BCYX: Tensor) -> Tensor:
        """Bring `(B, C, Y, X)` on `source` to `(B, C, Y', X')` on `target`, same dtype."""
        if self.same:
            return bev_BCYX

        positions = self.positions_1YX2.expand(bev_BCYX.shape[0], -1, -1, -1)
        resampled = F.grid_sample(
            bev_BCYX.float(), positions, padding_mode=self.padding, align_corners=False
        )
        return resampled.to(bev_BCYX.dtype)
