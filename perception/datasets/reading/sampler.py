"""Which samples an epoch draws, in which order.

Seeded, dealt out to the processes, and told apart when drawn again.

An augmentation must differ from epoch to epoch, and between two draws of one sample within an epoch
(class-balanced resampling draws rare classes several times), without depending on workers, whose copies of
the dataset do not see the epoch change. So the samplers write the draw into the index: they hand out `(draw +
1) * len(dataset) + index` when the dataset says `accepts_draws = True`, and such a dataset begins with `draw,
index = split_draw(number, len(self))` (`core.selection`). A plain index has no draw: the dataset counts those
itself. Other datasets get plain indices, and `set_epoch` is passed on to them if they have it.

The Runner puts every other sampler of a training into a `NumberedSampler`, so that its draws are told apart,
too.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sized
from itertools import islice
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ...core.selection import join_draw
from ...registry import DATA_SAMPLERS

DRAWS_PER_EPOCH = 1 << 16


def number_draws(indices: np.ndarray, epoch: int, size: int) -> np.ndarray:
    """Indices `(S,)` -> `(draw + 1) * size + index`.

    The draw counts epochs and, within one, how often an index came before.
    """
    # equal indices side by side, in the order in which they came
    order = np.argsort(indices, kind='stable')
    ranked = indices[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(ranked)])

    times = np.empty(len(indices), np.int64)
    times[order] = np.arange(len(ranked)) - np.repeat(starts, lengths)
    return (epoch * DRAWS_PER_EPOCH + times % DRAWS_PER_EPOCH + 1) * size + indices


class PassSampler(Sampler):
    """A sampler that knows which pass over the data it is in and can begin inside it.

    Passes count themselves where nobody calls `set_epoch` between them, so that no two are alike.
    """

    def __init__(self, dataset: Sized) -> None:
        self.dataset = dataset
        self.epoch = 0
        self._begun = False
        self._left_out = 0

    @property
    def numbers_draws(self) -> bool:
        """Whether the dataset takes numbers with a draw in them."""
        return getattr(self.dataset, 'accepts_draws', False)

    def start_at(self, samples: int) -> None:
        """Leave out the first `samples` of this process in the next pass: they have been trained on."""
        self._left_out = samples

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the next pass; the training loop calls it before every epoch."""
        self.epoch = epoch
        self._begun = False
        self._left_out = 0
        if hasattr(self.dataset, 'set_epoch'):
            self.dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        if self._begun:
            self.set_epoch(self.epoch + 1)
        self._begun = True

        left_out, self._left_out = self._left_out, 0
        yield from islice(self.pass_numbers(), left_out, None)

    def pass_numbers(self) -> Iterator[int]:
        """What the dataset is asked for in this pass, of this process."""
        raise NotImplementedError


@DATA_SAMPLERS.register_module()
class NumberedSampler(PassSampler):
    """Another sampler, with the draw written into each index.

    Args:
        dataset: what is sampled.
        sampler: the other sampler, or its configuration.
        seed: for a sampler built from a configuration.
    """

    def __init__(self, dataset: Sized, sampler: Mapping[str, Any] | Sampler, seed: int | None = None) -> None:
        super().__init__(dataset)
        if isinstance(sampler, Mapping):
            sampler = DATA_SAMPLERS.build(dict(sampler), default_args=dict(dataset=dataset, seed=seed))
        self.sampler = sampler

    @property
    def seed(self) -> int | None:
        """Seed of the other sampler."""
        return getattr(self.sampler, 'seed', None)

    @seed.setter
    def seed(self, seed: int) -> None:
        if hasattr(self.sampler, 'seed'):
            self.sampler.seed = seed

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """As above; the other sampler hears of it."""
        super().set_epoch(epoch)
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def pass_numbers(self) -> Iterator[int]:
        """The other sampler's indices, one by one: it may never end."""
        if not self.numbers_draws:
            yield from self.sampler
            return

        times: Counter[int] = Counter()
        for index in self.sampler:
            draw = self.epoch * DRAWS_PER_EPOCH + times[index] % DRAWS_PER_EPOCH
            times[index] += 1
            yield join_draw(draw, int(index), len(self.dataset))


@DATA_SAMPLERS.register_module()
class SeededSampler(PassSampler):
    """Every sample once an epoch, in an order that depends on seed and epoch alone.

    The samples are dealt out to the processes in turn.

    Args:
        dataset: what is sampled.
        shuffle: False keeps the dataset's order.
        seed: None agrees on one among the processes.
        round_up: repeat a few samples so that every process gets the same number.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True
    ) -> None:
        super().__init__(dataset)
        self.rank, self.world_size = get_dist_info()
        self.shuffle = shuffle
        self.round_up = round_up
        self.seed = sync_random_seed() if seed is None else seed
        self.total = self._total()

    def _total(self) -> int:
        return len(self.dataset)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """The epoch's indices, all processes together."""
        return rng.permutation(len(self.dataset)) if self.shuffle else np.arange(len(self.dataset))

    @property
    def padded(self) -> int:
        """How many indices all processes hand out together."""
        return math.ceil(self.total / self.world_size) * self.world_size if self.round_up else self.total

    def __len__(self) -> int:
        return len(range(self.rank, self.padded, self.world_size))

    def pass_numbers(self) -> Iterator[int]:
        """The epoch's numbers of this process."""
        indices = np.resize(self._draw(np.random.default_rng([self.seed, self.epoch])), self.padded)
        if self.numbers_draws:
            indices = number_draws(indices, self.epoch, len(self.dataset))
        return iter(indices[self.rank::self.world_size].tolist())


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(SeededSampler):
    """Class-balanced grouping and sampling (Zhu et al. 2019, arXiv 1908.09492, section 3.1).

    With n_c samples that contain class c, D = sum of n_c, and C classes that occur, every class draws D / C
    samples of its own, with replacement, afresh each epoch. An epoch is thus about (classes per sample) times
    the dataset.

    The balance is of the tasks that the dataset loads labels for (its `tasks`, boxes alone where it names
    none): a sample without any box is never drawn for boxes alone, and once an epoch where map, occupancy or
    lanes learn from it too. Without boxes among the tasks every sample is drawn once.

    Args:
        dataset: has `class_counts`, boxes per sample and class: `class_counts() -> (S, 10)` or
            `class_counts(index) -> (10,)`, and perhaps `tasks`.
        seed, round_up: as in `SeededSampler`.
        samples_per_epoch: cut or stretch the epoch to this many draws.

    Raises:
        ValueError: boxes are learned and no sample has one, or the counts are of another shape.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int | None = None,
        round_up: bool = True,
        samples_per_epoch: int | None = None,
    ) -> None:
        counts = read_class_counts(dataset)
        tasks = set(getattr(dataset, 'tasks', ('detection',)))
        learns_boxes = 'detection' in tasks
        members = [np.flatnonzero(counts[:, c]) for c in range(counts.shape[1] if learns_boxes else 0)]
        self.members = [indices for indices in members if len(indices)]
        if learns_boxes and not self.members:
            raise ValueError(
                "class-balanced sampling: none of the dataset's samples has a box; use SeededSampler"
            )

        # drawn once an epoch, for the tasks that need no box
        has_box = counts.any(1) & learns_boxes
        self.others = np.flatnonzero(~has_box) if tasks - {'detection'} else np.zeros(0, dtype=np.int64)
        self.samples_per_epoch = samples_per_epoch
        super().__init__(dataset, True, seed, round_up)

    @property
    def per_class(self) -> int:
        """Draws of each class: D / C, rounded down."""
        return sum(len(indices) for indices in self.members) // max(1, len(self.members))

    @property
    def _whole_epoch(self) -> int:
        return self.per_class * len(self.members) + len(self.others)

    def _total(self) -> int:
        return self.samples_per_epoch or self._whole_epoch

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        rounds = math.ceil(self._total() / self._whole_epoch)
        of_classes = [rng.choice(indices, self.per_class * rounds) for indices in self.members]
        drawn = np.concatenate([*of_classes, np.tile(self.others, rounds)])
        return rng.permutation(drawn)[:self._total()]


def read_class_counts(dataset: Any) -> np.ndarray:
    """Boxes per sample and class, int64 `(S, 10)`, from either form of `class_counts`.

    Raises:
        ValueError: the dataset has none, or of another shape.
    """
    name = type(dataset).__name__
    class_counts = getattr(dataset, 'class_counts', None)
    if class_counts is None:
        raise ValueError(f'{name}: class-balanced sampling needs a method class_counts, found none')

    size = len(dataset)
    try:
        counts = np.asarray(class_counts())
    except TypeError:
        counts = np.stack([class_counts(i) for i in range(size)]) if size else np.zeros((0, 0))
    if counts.ndim != 2 or len(counts) != size:
        raise ValueError(
            f'{name}.class_counts: expected shape ({size}, classes), found {counts.shape}'
        )
    return counts
