"""Datasets made of others: repeated, one after another, rare classes more often.

They have the names and arguments of mmengine's and stand in their place in our configurations. Every copy
of a sample is a draw of its own, so that each is augmented afresh, from the seed and the epoch alone.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ...core.selection import join_draw, split_draw
from ...registry import DATASETS
from ..transforms.image import Pair

CLASS_KEYS = ('classes', 'map_classes', 'occupancy_classes', 'lane_classes')


class CombinedDataset(Dataset):
    """Samples of other datasets in a new order, any of them several times.

    Args:
        parts: the datasets, or their configurations.

    Attributes:
        places_S2: int64 `(S, 2)`, which part and which of its samples stands at each index.

    Raises:
        ValueError: no parts, parts of which some are tests and others are not, or of other classes.
    """

    accepts_draws = True

    def __init__(self, parts: Sequence[Dataset | Mapping[str, Any]]) -> None:
        name = type(self).__name__
        if not parts:
            raise ValueError(f'{name}: expected at least one dataset, found none')
        self.parts = [DATASETS.build(dict(part)) if isinstance(part, Mapping) else part for part in parts]

        modes = {getattr(part, 'test_mode', False) for part in self.parts}
        if len(modes) > 1:
            raise ValueError(f'{name}: test_mode: expected one value for all datasets, found True and False')
        self.test_mode = modes.pop()

        self.metainfo = dict(getattr(self.parts[0], 'metainfo', {}))
        for number, part in enumerate(self.parts):
            for key in CLASS_KEYS:
                found, expected = getattr(part, 'metainfo', {}).get(key), self.metainfo.get(key)
                if found != expected:
                    raise ValueError(f'{name}: dataset {number}: {key}: expected {expected}, found {found}')

    def place(self, places_S2: np.ndarray) -> None:
        """Say what stands at each index."""
        self.places_S2 = places_S2
        seen: Counter[tuple[int, int]] = Counter()
        self._copy_S = np.zeros(len(places_S2), np.int64)
        for index, place in enumerate(map(tuple, places_S2.tolist())):
            self._copy_S[index] = seen[place]
            seen[place] += 1
        self._copies = max(seen.values())

    def __len__(self) -> int:
        return len(self.places_S2)

    def __getitem__(self, number: int) -> Pair:
        """The pair of an index, or of one with a draw in it (see `sampler`)."""
        draw, index = split_draw(number + len(self) * (number < 0), len(self))
        which, sample = self.places_S2[index].tolist()
        part = self.parts[which]
        if draw is None or not getattr(part, 'accepts_draws', False):
            return part[sample]

        # the copies of a sample share its draws out among them
        return part[join_draw(draw * self._copies + int(self._copy_S[index]), sample, len(part))]

    def follow_drives(self) -> None:
        """As `NuScenesDataset.follow_drives`, of all parts."""
        for part in self.parts:
            part.follow_drives()

    def drives(self) -> list[list[int]]:
        """Drives of all parts; one whose frames stand here several times comes as often.

        Raises:
            ValueError: some frames of a drive stand here more often than others.
        """
        indices: dict[tuple[int, int], list[int]] = {}
        for index, (which, sample) in enumerate(self.places_S2.tolist()):
            indices.setdefault((which, sample), []).append(index)

        drives: list[list[int]] = []
        for which, part in enumerate(self.parts):
            for drive in part.drives():
                copies = [indices.get((which, sample), []) for sample in drive]
                if len({len(places) for places in copies}) > 1:
                    raise ValueError(
                        f'{type(self).__name__}: expected all frames of a drive equally often, found some '
                        'more often (balance a StreamSampler by `balanced` instead)')
                drives += [list(places) for places in zip(*copies, strict=True)]
        return drives

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those whose labels the parts load."""
        return tuple(dict.fromkeys(task for part in self.parts for task in part.tasks))

    def class_counts(self, index: int | None = None) -> np.ndarray:
        """As `NuScenesDataset.class_counts`."""
        if index is not None:
            which, sample = self.places_S2[index].tolist()
            return self.parts[which].class_counts(sample)
        return np.stack([self.class_counts(i) for i in range(len(self))])

    def label_table(self) -> np.ndarray:
        """As `NuScenesDataset.label_table`; a task that a part does not load has no labels there."""
        tables = []
        for part in self.parts:
            own = dict(zip(part.tasks, part.label_table().T, strict=True))
            nothing = np.zeros(len(part), bool)
            tables.append(np.stack([own.get(task, nothing) for task in self.tasks], 1))
        return np.stack([tables[which][sample] for which, sample in self.places_S2.tolist()])

    def get_cat_ids(self, index: int) -> list[int]:
        """Classes that occur in one sample."""
        which, sample = self.places_S2[index].tolist()
        return self.parts[which].get_cat_ids(sample)

    @property
    def bad_files(self) -> int:
        """How many unreadable files the parts met so far."""
        return sum(getattr(part, 'bad_files', 0) for part in self.parts)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch's number on to parts that ask for it."""
        for part in self.parts:
            if hasattr(part, 'set_epoch'):
                part.set_epoch(epoch)

    def full_init(self) -> None:
        """Nothing is left to do; mmengine calls it."""


@DATASETS.register_module()
class ConcatDataset(CombinedDataset):
    """Datasets one after another: several roots, say.

    Args:
        datasets: the datasets, or their configurations.
    """

    def __init__(self, datasets: Sequence[Dataset | Mapping[str, Any]]) -> None:
        super().__init__(datasets)
        self.place(np.array([(which, i) for which, part in enumerate(self.parts) for i in range(len(part))]))


@DATASETS.register_module()
class RepeatDataset(CombinedDataset):
    """A dataset several times over: fewer, longer epochs.

    Args:
        dataset: the dataset, or its configuration.
        times: how often.

    Raises:
        ValueError: fewer than once.
    """

    def __init__(self, dataset: Dataset | Mapping[str, Any], times: int) -> None:
        if int(times) != times or times < 1:
            raise ValueError(f'RepeatDataset: times: expected an integer from 1 on, found {times}')
        super().__init__([dataset])
        self.place(np.array([(0, i) for _ in range(int(times)) for i in range(len(self.parts[0]))]))


@DATASETS.register_module()
class ClassBalancedDataset(CombinedDataset):
    """Samples with rare classes several times (Gupta et al. 2019, arXiv 1908.03195, section 5).

    A class in a fraction f of the samples has the factor max(1, sqrt(threshold / f)); a sample stands as
    often as the largest factor of its classes, rounded up.

    Args:
        dataset: has `get_cat_ids`; or its configuration.
        oversample_thr: the threshold.
    """

    def __init__(self, dataset: Dataset | Mapping[str, Any], oversample_thr: float) -> None:
        super().__init__([dataset])
        part = self.parts[0]
        classes = [set(part.get_cat_ids(i)) for i in range(len(part))]
        fractions = {c: n / len(part) for c, n in Counter(c for found in classes for c in found).items()}
        factors = {c: max(1.0, math.sqrt(oversample_thr / f)) for c, f in fractions.items()}
        times = [math.ceil(max((factors[c] for c in found), default=1.0)) for found in classes]
        self.place(np.array([(0, i) for i, count in enumerate(times) for _ in range(count)]))
