"""Which labels there are of the frames of a split: the infos', less those taken away, with a teacher's."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...core.contracts import LABELS_OF_TASK
from ..reading.options import ReadingOptions
from .files import PseudoLabels


class LabelsByTask:
    """What each task of a dataset has labels of.

    Args:
        tasks: of the dataset.
        lacking: {task: tokens} of `MissingLabels.frames`.
        pseudo: a teacher's labels, None without.
    """

    def __init__(
        self, tasks: Sequence[str], lacking: Mapping[str, frozenset[str]], pseudo: PseudoLabels | None
    ) -> None:
        self.tasks = tuple(tasks)
        self.lacking = lacking
        self.pseudo = pseudo

    @classmethod
    def of(
        cls, reading: ReadingOptions, tasks: Sequence[str], tokens: Sequence[str], facts: Mapping[str, Any],
        test_mode: bool,
    ) -> LabelsByTask:
        """What the options of a dataset take away and add.

        Args:
            reading: the options.
            tasks: of the dataset.
            tokens: of its split.
            facts: of the split, from `split_facts`.
            test_mode: whether scores are made of it.

        Raises:
            ValueError: a test with options that are for training, or a teacher's labels that do not fit.
        """
        if test_mode and (reading.missing_labels or reading.pseudo_labels):
            raise ValueError(
                "missing_labels, pseudo_labels: expected neither with test_mode: scores need the annotators' "
                'labels, and all of them')
        lacking, pseudo = {}, None
        if reading.missing_labels is not None:
            lacking = reading.missing_labels.frames(tokens, tasks)
        if reading.pseudo_labels is not None:
            pseudo = PseudoLabels(reading.pseudo_labels, facts, reading.classes, reading.lane_protocol)
        return cls(tasks, lacking, pseudo)

    def wanted(self, token: str) -> set[str]:
        """Fields of `Annotations` whose own labels of a frame are to be read."""
        return {
            LABELS_OF_TASK[task] for task in self.tasks
            if task in LABELS_OF_TASK and token not in self.lacking.get(task, ())}

    def added(self, token: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """A teacher's labels, of the tasks that a frame has none of its own for: {field: labels}."""
        if self.pseudo is None:
            return {}
        bare = [task for task in self.tasks if LABELS_OF_TASK.get(task, task) not in found]
        return self.pseudo.read(token, bare)

    def table(self, tokens: Sequence[str], own: Callable[[str], np.ndarray]) -> np.ndarray:
        """Which tasks each frame has labels of: bool `(S, T)` in the order of `tasks`.

        Args:
            tokens: of the frames.
            own: task -> which frames have labels of their own, bool `(S,)`.
        """
        columns = []
        for task in self.tasks:
            lacking = self.lacking.get(task, frozenset())
            has = own(task) & np.array([token not in lacking for token in tokens], bool)
            if self.pseudo is not None:
                has = has | np.array([self.pseudo.has(token, task) for token in tokens], bool)
            columns.append(has)
        return np.stack(columns, 1) if columns else np.zeros((len(tokens), 0), bool)
