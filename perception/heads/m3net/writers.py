"""How the queries of a task are written back to its branch of the map.

Every projection starts at zero, so that an untrained bridge adds nothing.

Shape letters: B batch, Q queries, S strips, K classes, C channels, Y X rows and columns.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..queried import Queries
from .decoder import as_map


class CellWriter(nn.Module):
    """Adds each query to its own cell.

    It is a product of row and column one-hots, so that the graph has no scatter.
    """

    def __init__(self, width: int, shape_YX: tuple[int, int]) -> None:
        super().__init__()
        self.shape_YX, self.projection = shape_YX, zero_linear(width)

    def forward(self, queries: Queries, branch_BCYX: Tensor) -> Tensor:
        """Compute what is added to the branch `(B, C, Y, X)`."""
        content_BQC = self.projection(queries.content_BQC)
        x_BQ, y_BQ = queries.places_BQ2.unbind(-1)
        rows_BQY = self._one_hot(y_BQ, self.shape_YX[0]).to(content_BQC.dtype)
        columns_BQX = self._one_hot(x_BQ, self.shape_YX[1]).to(content_BQC.dtype)

        # (B, C, Y, Q), then a sum over the queries
        lifted = content_BQC.transpose(1, 2)[:, :, None] * rows_BQY.transpose(1, 2)[:, None]
        return (lifted.flatten(1, 2) @ columns_BQX).unflatten(1, (-1, self.shape_YX[0]))

    @staticmethod
    def _one_hot(place_BQ: Tensor, size: int) -> Tensor:
        """Which of `size` cells a place in 0..1 lies in: float `(B, Q, size)`."""
        offset = place_BQ[..., None] * size - torch.arange(size, device=place_BQ.device)
        return ((offset >= 0) & (offset < 1)).float()


class MaskWriter(nn.Module):
    """Adds each query to the cells of its strip, weighted by a mask that is a dot product with the branch."""

    def __init__(self, width: int, strips: int) -> None:
        super().__init__()
        self.strips, self.projection = strips, zero_linear(width)
        self.mask_embedding = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )

    def forward(self, queries: Queries, branch_BCYX: Tensor) -> Tensor:
        """Compute what is added to the branch `(B, C, Y, X)`."""
        # (B, S, K, C), (B, S, cells, C)
        content = queries.content_BQC.unflatten(1, (self.strips, -1))
        cells = branch_BCYX.flatten(2).unflatten(2, (self.strips, -1)).permute(0, 2, 3, 1)

        # (B, S, cells, K)
        similarity = cells @ self.mask_embedding(content).transpose(-1, -2) * cells.shape[-1] ** -0.5
        written = similarity.sigmoid() @ self.projection(content)
        return written.permute(0, 3, 1, 2).reshape(branch_BCYX.shape)


class LatticeWriter(nn.Module):
    """Interpolates the queries of a lattice."""

    def __init__(self, width: int, shape_YX: tuple[int, int]) -> None:
        super().__init__()
        self.shape_YX, self.projection = shape_YX, zero_linear(width)

    def forward(self, queries: Queries, branch_BCYX: Tensor) -> Tensor:
        """Compute what is added to the branch `(B, C, Y, X)`."""
        lattice = as_map(self.projection(queries.content_BQC), self.shape_YX)
        return F.interpolate(lattice, size=branch_BCYX.shape[-2:], mode='bilinear', align_corners=False)


def zero_linear(width: int) -> nn.Linear:
    """Make a projection whose output starts at zero."""
    layer = nn.Linear(width, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
