"""What a bridge hands to a head that reads queries: the queries of its task and the map they have read.

Shape letters: B batch, Q queries, K classes, C channels, Y X rows and columns.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..core.grid import BEVGrid


@dataclass(frozen=True)
class Queries:
    """Q queries of one task.

    Attributes:
        content_BQC: what they have gathered.
        position_BQC: an encoding of their places.
        places_BQ2: (x, y) in 0..1 of the map.
    """

    content_BQC: Tensor
    position_BQC: Tensor
    places_BQ2: Tensor

    def with_content(self, content_BQC: Tensor) -> Queries:
        """Copy the queries with other content."""
        return replace(self, content_BQC=content_BQC)


@dataclass(frozen=True)
class QueriedMap:
    """A task's branch of the map and its queries behind the decoder.

    Attributes:
        map_BCYX: the branch.
        content_BQC: what each query has gathered.
        grid: the cells, or voxels, that `taken_BQ` counts.
        taken_BQ: the cell of each query, int64 numbered row by row, voxels height by height; None where the
            queries stand for something else.
        scores_BQK: the probability by which a query was chosen, at its own class, 0 at the others; None where
            it has no class.
    """

    map_BCYX: Tensor
    content_BQC: Tensor
    grid: BEVGrid
    taken_BQ: Tensor | None = None
    scores_BQK: Tensor | None = None


def expect_queries(branch: Any, head: str, grid: BEVGrid) -> QueriedMap:
    """Give back what a bridge has handed to a head that reads queries.

    Args:
        branch: what the head was given.
        head: its class, for the message.
        grid: the cells that its queries stand in.

    Raises:
        TypeError: a plain map, of a model whose bridge hands over no queries. ValueError: queries of another
            grid.
    """
    if not isinstance(branch, QueriedMap):
        raise TypeError(
            f'{head} reads queries: expected a bridge that hands them over (M3NetBridge, query_heads), found '
            f'a {type(branch).__name__}')
    if branch.grid != grid:
        raise ValueError(
            f"{head}: expected the queries of its own grid {grid}, found the bridge's {branch.grid}")
    return branch
