"""SS2D of VMamba: a selective scan over a map on four paths (Liu et al. 2024, arXiv 2401.10166)."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .selective_scan import selective_scan

PATHS = 4


def cross_scan(maps_BCYX: Tensor) -> Tensor:
    """Lay out a map as four sequences `(B, 4, C, Y * X)`: along rows, along columns, and both backwards."""
    rows = maps_BCYX.flatten(2)
    columns = maps_BCYX.transpose(2, 3).flatten(2)
    return torch.stack([rows, columns, rows.flip(-1), columns.flip(-1)], 1)


def cross_merge(paths_B4CT: Tensor, shape_YX: tuple[int, int]) -> Tensor:
    """Sum the four sequences at each cell, `(B, C, Y, X)`: the transpose of `cross_scan`."""
    rows = paths_B4CT[:, 0] + paths_B4CT[:, 2].flip(-1)
    columns = paths_B4CT[:, 1] + paths_B4CT[:, 3].flip(-1)
    return rows.unflatten(-1, shape_YX) + columns.unflatten(-1, shape_YX[::-1]).transpose(2, 3)


class SS2D(nn.Module):
    """Project, convolve, scan along four paths, merge, gate, project back.

    Args:
        width: of the tokens.
        shape_YX: of the map they make.
        states: N of the scan.
        ratio: inner width over `width`.
    """

    def __init__(self, width: int, shape_YX: tuple[int, int], states: int = 16, ratio: float = 2.0) -> None:
        super().__init__()
        inner = int(width * ratio)
        self.rank = max(1, width // 16)
        self.shape_YX, self.states = shape_YX, states
        self.input_projection = nn.Linear(width, 2 * inner, bias=False)
        self.convolution = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)

        # the parameters of the scan, each path with its own
        self.scan_projection = nn.Parameter(torch.empty(PATHS, self.rank + 2 * states, inner))
        self.delta_projection = nn.Parameter(torch.empty(PATHS, inner, self.rank))
        self.delta_bias = nn.Parameter(_first_delta_bias(PATHS * inner))
        self.log_A = nn.Parameter(torch.arange(1, states + 1).float().log().expand(PATHS * inner, -1).clone())
        self.skip_D = nn.Parameter(torch.ones(PATHS * inner))

        self.norm, self.output_projection = nn.LayerNorm(inner), nn.Linear(inner, width, bias=False)
        nn.init.uniform_(self.scan_projection, -inner ** -0.5, inner ** -0.5)
        nn.init.uniform_(self.delta_projection, -self.rank ** -0.5, self.rank ** -0.5)

    def forward(self, tokens_BQC: Tensor) -> Tensor:
        """Tokens row by row `(B, Y * X, C)` -> the same shape."""
        # (B, Y * X, inner) twice
        features, gate = self.input_projection(tokens_BQC).chunk(2, -1)
        maps_BCYX = F.silu(self.convolution(features.transpose(1, 2).unflatten(2, self.shape_YX)))

        merged_BCYX = cross_merge(self._scan(cross_scan(maps_BCYX)), self.shape_YX)
        merged = merged_BCYX.flatten(2).transpose(1, 2)
        return self.output_projection(self.norm(merged) * F.silu(gate))

    def _scan(self, paths_B4CT: Tensor) -> Tensor:
        """Scan the four paths; each step's own features give its length, B and C of the recursion."""
        low_rank, B_B4NT, C_B4NT = (self.scan_projection @ paths_B4CT).split(
            [self.rank, self.states, self.states], 2
        )
        length = (self.delta_projection @ low_rank).flatten(1, 2).float()
        delta_BDT = F.softplus(length + self.delta_bias[:, None])

        scanned_BDT = selective_scan(
            paths_B4CT.flatten(1, 2), delta_BDT, -self.log_A.float().exp(), B_B4NT, C_B4NT, self.skip_D
        )
        return scanned_BDT.unflatten(1, (PATHS, -1))


def _first_delta_bias(channels: int, low: float = 1e-3, high: float = 0.1) -> Tensor:
    """Draw biases whose softplus is uniform in the logarithm between `low` and `high`."""
    delta = torch.exp(torch.rand(channels) * (math.log(high) - math.log(low)) + math.log(low))
    return delta + torch.log(-torch.expm1(-delta))
