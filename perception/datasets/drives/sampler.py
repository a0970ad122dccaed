"""The order of frames for a model with a memory: every place of a batch follows a drive of its own.

Place p of all the P places of all processes belongs to process p % processes, so the frames of a step are the
same however many processes share them.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed

from ...registry import DATA_SAMPLERS
from ..reading.sampler import DRAWS_PER_EPOCH, PassSampler, read_class_counts


@DATA_SAMPLERS.register_module()
class StreamSampler(PassSampler):
    """Frames of whole drives in the order of time, one drive at each place of a batch.

    Every run of frames that belong together has a draw of its own, which names its memory (`Frame.stream`)
    and its augmentation. Shuffled, the drives are laid end to end in random order and cut into as many equal
    parts as there are places: each frame comes once. Not shuffled, each drive stays whole, and a place that
    runs out replays its own from the start; tests count every frame once.

    Args:
        dataset: has `drives() -> lists of indices` and `follow_drives()`.
        shuffle: a new order every pass.
        seed: None agrees on one among the processes.
        batch_size: samples of a step in this process; the Runner says it.
        reset: probability with which the memory starts over at a frame inside a drive, where shuffled.
        balanced: draw drives with replacement, every class equally often by a drive that shows it
            (`ClassBalancedSampler` by drives), until there are as many frames as the dataset has.

    Attributes:
        places: P.

    Raises:
        ValueError: no `batch_size`, a dataset without drives, or a probability that is none.
    """

    follows_drives = True

    def __init__(
        self,
        dataset: Any,
        shuffle: bool = True,
        seed: int | None = None,
        batch_size: int | None = None,
        reset: float = 0.05,
        balanced: bool = False,
    ) -> None:
        super().__init__(dataset)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(
                f'StreamSampler: batch_size: expected a whole number above 0, found {batch_size!r}')
        if not hasattr(dataset, 'drives'):
            raise ValueError(f'StreamSampler: {type(dataset).__name__} has no drives() to follow')
        if not 0 <= reset < 1:
            raise ValueError(f'StreamSampler: reset: expected a probability below 1, found {reset}')
        if balanced and not shuffle:
            raise ValueError('StreamSampler: balanced draws at random, expected shuffle=True')

        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.reset = reset
        self.places = batch_size * self.world_size
        self._drives = [np.array(drive) for drive in dataset.drives()]
        self._members = self._shown_by_class() if balanced else None
        self._whole = None if shuffle else self._whole_drives()
        dataset.follow_drives()

    def _shown_by_class(self) -> list[np.ndarray]:
        """Drives that show each class, of classes that occur."""
        counts = read_class_counts(self.dataset)
        shown = np.stack([counts[drive].sum(0) > 0 for drive in self._drives])
        members = [np.flatnonzero(shown[:, c]) for c in range(shown.shape[1])]
        members = [drives for drives in members if len(drives)]
        if not members:
            raise ValueError("StreamSampler: balanced: none of the dataset's drives has a box")
        return members

    @property
    def steps(self) -> int:
        """Frames at each place in a pass."""
        return math.ceil(len(self.dataset) / self.places) if self._whole is None else self._whole.shape[1]

    def __len__(self) -> int:
        return self.steps * self.places // self.world_size

    def pass_numbers(self) -> Iterator[int]:
        """The pass's numbers of this process: step by step, its places in turn."""
        numbers_PT = self._shuffled() if self._whole is None else self._whole
        yield from numbers_PT[self.rank::self.world_size].T.reshape(-1).tolist()

    def _shuffled(self) -> np.ndarray:
        """Numbers `(P, T)`: drives end to end in random order, cut into P parts."""
        rng = np.random.default_rng([self.seed, self.epoch])
        drives = self._draw(rng)
        frames = np.concatenate(drives)
        starts = rng.uniform(size=len(frames)) < self.reset
        starts[np.cumsum([0, *map(len, drives[:-1])])] = True

        # the last part is filled up from the front, and every part starts over
        size = self.steps * self.places
        frames = np.resize(frames[:size], size).reshape(self.places, self.steps)
        starts = np.resize(starts[:size], size).reshape(self.places, self.steps)
        starts[:, 0] = True
        return self._numbered(frames, starts)

    def _draw(self, rng: np.random.Generator) -> list[np.ndarray]:
        if self._members is None:
            return [self._drives[i] for i in rng.permutation(len(self._drives))]

        drawn, frames = [], 0
        while frames < len(self.dataset):
            members = self._members[rng.integers(len(self._members))]
            drawn.append(self._drives[rng.choice(members)])
            frames += len(drawn[-1])
        return drawn

    def _whole_drives(self) -> np.ndarray:
        """Numbers `(P, T)`: each drive at the place that has the fewest frames so far, the longest first."""
        parts: list[list[np.ndarray]] = [[] for _ in range(self.places)]
        for drive in sorted(self._drives, key=len, reverse=True):
            min(parts, key=lambda part: sum(map(len, part))).append(drive)

        # a place without any repeats those of the first
        rows = [np.concatenate(part or parts[0]) for part in parts]
        begins = [np.cumsum([0, *map(len, (part or parts[0])[:-1])]) for part in parts]
        steps = max(map(len, rows))
        starts = np.zeros((self.places, steps), bool)
        for place, row in enumerate(rows):
            first = np.zeros(len(row), bool)
            first[begins[place]] = True
            starts[place] = np.resize(first, steps)
        return self._numbered(np.stack([np.resize(row, steps) for row in rows]), starts)

    def _numbered(self, indices_PT: np.ndarray, starts_PT: np.ndarray) -> np.ndarray:
        """Indices with the draw of their run written into them (see `sampler`)."""
        runs = (np.cumsum(starts_PT) - 1).reshape(indices_PT.shape)
        draws = self.epoch * DRAWS_PER_EPOCH + runs % DRAWS_PER_EPOCH
        return (draws + 1) * len(self.dataset) + indices_PT
