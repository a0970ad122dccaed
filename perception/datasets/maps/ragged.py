"""Many point lists of different lengths in a few flat arrays, so that they can be saved without pickling."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """R lists of points.

    Attributes:
        points_V2: float64, the points of all lists.
        starts: `(R + 1,)` int64, where each list begins, and the end.
        labels_R: int64.
        groups_R: int64; lists of one group belong together (a polygon's exterior and then its holes).
    """

    points_V2: np.ndarray
    starts: np.ndarray
    labels_R: np.ndarray
    groups_R: np.ndarray

    def __post_init__(self) -> None:
        r = len(self.labels_R)
        if (
            self.points_V2.shape != (len(self.points_V2), 2)
            or len(self.starts) != r + 1
            or len(self.groups_R) != r
        ):
            raise ValueError(f'expected points (V, 2), starts (R + 1,), groups (R,) for R = {r}; found '
                             f'{self.points_V2.shape}, {self.starts.shape}, {self.groups_R.shape}')
        if r and (
            self.starts[0] != 0 or self.starts[-1] != len(self.points_V2) or np.any(np.diff(self.starts) < 0)
        ):
            raise ValueError('starts: expected numbers that grow from 0 to the number of points')

    @classmethod
    def of(
        cls, lines: Sequence[np.ndarray], labels: Sequence[int], groups: Sequence[int] | None = None
    ) -> Ragged:
        """Put point lists `(P, 2)` together; without groups every list is its own."""
        points = np.zeros((0, 2))
        if lines:
            points = np.concatenate([np.asarray(line, dtype=np.float64)[:, :2] for line in lines])
        starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64)
        groups = range(len(lines)) if groups is None else groups
        return cls(points, starts, np.array(labels, dtype=np.int64), np.array(list(groups), dtype=np.int64))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Ragged:
        """Inverse of `arrays`."""
        return cls(*(arrays[f'{prefix}_{name}'] for name in ('points', 'starts', 'labels', 'groups')))

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """The flat arrays under names that start with the prefix."""
        return {f'{prefix}_points': self.points_V2, f'{prefix}_starts': self.starts,
                f'{prefix}_labels': self.labels_R, f'{prefix}_groups': self.groups_R}

    def __len__(self) -> int:
        return len(self.labels_R)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.points_V2[self.starts[index]:self.starts[index + 1]]

    def select(self, indices: np.ndarray) -> Ragged:
        """Some of the lists, in the order given; they keep their labels and groups."""
        lines = [self[i] for i in indices]
        return Ragged.of(lines, self.labels_R[indices], self.groups_R[indices])

    @cached_property
    def bounds_R4(self) -> np.ndarray:
        """Low x, low y, high x, high y of every list.

        Lists without points have NaN bounds and are near nothing.
        """
        bounds = np.full((len(self), 4), np.nan)
        for i in range(len(self)):
            if self.starts[i + 1] > self.starts[i]:
                bounds[i] = *self[i].min(0), *self[i].max(0)
        return bounds

    def near(self, centre_2: np.ndarray, radius_m: float) -> np.ndarray:
        """Indices of the lists whose bounds come within `radius_m` of a point: int64, in order."""
        low, high = self.bounds_R4[:, :2], self.bounds_R4[:, 2:]
        offset = np.clip(centre_2, low, high) - centre_2
        return np.flatnonzero((offset ** 2).sum(1) <= radius_m ** 2)
