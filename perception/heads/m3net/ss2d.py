"""A selective scan over a map: four paths cross it (SS2D of VMamba, Liu et al. 2024, arXiv 2401.10166,
section 4.2)."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .selective_scan import selective_scan

PATHS = 4


def cross_scan(maps_BCYX: Tensor) -> Tensor:
    """Four readings of a map, `(B, 4, C, Y * X)`: along rows, along columns, and both backwards."""
    rows, columns = maps_BCYX.flatten(2), maps_BCYX.transpose(2, 3).flatten(2)
    return torch.stack([rows, columns, rows.flip(-1), columns.flip(-1)], 1)


def cross_merge(paths_B4CT: Tensor, shape_YX: tuple[int, int]) -> Tensor:
    """Sum of the four readings at each cell, `(B, C, Y, X)`: the transpose of `cross_scan`."""
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
        inner, self.rank = int(width * ratio), max(1, width // 16)
        self.shape_YX, self.states = shape_YX, states
        self.enter = nn.Linear(width, 2 * inner, bias=False)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.to_scan = nn.Parameter(torch.empty(PATHS, self.rank + 2 * states, inner))
        self.to_delta = nn.Parameter(torch.empty(PATHS, inner, self.rank))
        self.delta_bias = nn.Parameter(_first_delta_bias(PATHS * inner))
        self.log_A = nn.Parameter(torch.arange(1, states + 1).float().log().expand(PATHS * inner, -1).clone())
        self.through = nn.Parameter(torch.ones(PATHS * inner))
        self.norm, self.leave = nn.LayerNorm(inner), nn.Linear(inner, width, bias=False)
        nn.init.uniform_(self.to_scan, -inner ** -0.5, inner ** -0.5)
        nn.init.uniform_(self.to_delta, -self.rank ** -0.5, self.rank ** -0.5)

    def forward(self, tokens_BQC: Tensor) -> Tensor:
        """Tokens row by row `(B, Y * X, C)` -> the same shape."""
        entering, gate = self.enter(tokens_BQC).chunk(2, -1)
        maps = F.silu(self.mix(entering.transpose(1, 2).unflatten(2, self.shape_YX)))
        merged = cross_merge(self._scan(cross_scan(maps)), self.shape_YX).flatten(2).transpose(1, 2)
        return self.leave(self.norm(merged) * F.silu(gate))

    def _scan(self, paths_B4CT: Tensor) -> Tensor:
        """What each step is, decides how far the scan goes there, what it writes and what it reads."""
        delta, write, read = (self.to_scan @ paths_B4CT).split([self.rank, self.states, self.states], 2)
        delta = F.softplus((self.to_delta @ delta).flatten(1, 2).float() + self.delta_bias[:, None])
        scanned = selective_scan(
            paths_B4CT.flatten(1, 2), delta, -self.log_A.float().exp(), write, read, self.through
        )
        return scanned.unflatten(1, (PATHS, -1))


def _first_delta_bias(channels: int, low: float = 1e-3, high: float = 0.1) -> Tensor:
    """Biases whose softplus is spread evenly in the logarithm between `low` and `high`."""
    delta = torch.exp(torch.rand(channels) * (math.log(high) - math.log(low)) + math.log(low))
    return delta + torch.log(-torch.expm1(-delta))
