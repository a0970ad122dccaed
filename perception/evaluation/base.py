"""What the metric of a task offers: summaries of samples, scores of a split, tables, predictions on disk."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..core.contracts import Annotations, Frame, TaskOutput
from .storage.records import record_from_arrays, record_to_arrays


@dataclass(frozen=True)
class Tables:
    """Where nuScenes-format tables hold the truth of a whole split."""

    root: Path
    version: str
    split: str


@dataclass(frozen=True)
class ScoreTable:
    """How the scores of one name before the slash are printed.

    Attributes:
        prefix: 'detection' of 'detection/NDS'.
        scores: names after the slash, in the order of the table.
        classes: rows of the table by class; empty for none.
        columns: its columns; the score of a class is `<prefix>/<column>_<class>`.
        lower_is_better: those of `scores` that are errors.
        other_classes: a model may have other classes than these: the scores say which (`class_names`).
    """

    prefix: str
    scores: tuple[str, ...]
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    other_classes: bool = False

    def class_names(self, metrics: Iterable[str]) -> tuple[str, ...]:
        """Rows by class for some scores: those of the table, or other classes in the order of the scores."""
        if not self.other_classes:
            return self.classes
        starts = [f'{self.prefix}/{column}_' for column in self.columns]
        found = [name.removeprefix(start) for name in metrics for start in starts if name.startswith(start)]
        return self.classes if set(found) <= set(self.classes) else tuple(dict.fromkeys(found))


class OfficialFile(ABC):
    """The file or folder that a task's public evaluation code reads, written sample by sample."""

    @abstractmethod
    def add(self, frame: Frame, prediction: Any) -> None:
        """Take over one sample."""

    @abstractmethod
    def close(self) -> Path:
        """Finish; returns the file or folder."""


class TaskMetric(ABC):
    """The metric of one task, the sister of `heads.base.TaskHead`.

    Register a subclass by the name of its task, `@TASK_METRICS.register_module('brightness')`, and the
    evaluation, the stored results, the tables and the comparison of engines take it up. It must be possible
    to construct it without arguments; a configuration passes options by `MultiTaskMetric(options=...)`.

    Attributes:
        task: name of the task; `TaskOutput.get(task)` and `Annotations.get(task)` read its records.
        prediction: the dataclass that the head's `decode` gives.
        summary: the dataclass that `summarise` gives: arrays, numbers, words, bytes, tuples, dictionaries and
            further dataclasses, so that it can be stored.
        headline: {column title: score} of the scores by which models are compared, the main one first.
        tables: how all scores are printed.
        classes: names of the labels in predictions, for those who read an exported network's outputs.
        large: predictions take about a megabyte a sample, so results may be written without them.
        official: name of the official file or folder in a folder of results; '' for none.
        unofficial: name of the file that stands for it where no official code could read it.
    """

    task: ClassVar[str]
    prediction: ClassVar[type]
    summary: ClassVar[type]
    headline: ClassVar[Mapping[str, str]]
    tables: ClassVar[tuple[ScoreTable, ...]]
    classes: ClassVar[tuple[str, ...]] = ()
    large: ClassVar[bool] = False
    official: ClassVar[str] = ''
    unofficial: ClassVar[str] = ''

    # ---------------------------------------------------------------- scores

    @abstractmethod
    def summarise(self, output: TaskOutput, truth: Annotations | None) -> Any | None:
        """What one sample adds to the scores, small; None where it has no prediction or no labels.

        Raises:
            ValueError: a prediction cannot be evaluated (not finite, wrong shape).
        """

    @abstractmethod
    def accumulate(self, samples: Sequence[tuple[Frame, Any | None]]) -> Any | None:
        """What scores and reports are computed from; None where there is nothing to score.

        Args:
            samples: all of a split in the order of scene and time, each with its summary or None.
        """

    @abstractmethod
    def scores(self, total: Any) -> dict[str, float]:
        """{score name: value} of what `accumulate` gave."""

    def read_tables(self, tables: Tables) -> None:  # noqa: B027 optional
        """Take the truth of the whole split from tables where these say more than a sample's labels."""

    def forget_tables(self) -> None:  # noqa: B027 optional
        """Take each sample's labels as truth: only a part of the split will come."""

    def headline_only(self) -> None:  # noqa: B027 optional
        """Leave out scores that take long and are not in the headline."""

    # ---------------------------------------------------------------- reports

    def details(self, total: Any) -> dict[str, Any]:
        """What is worth knowing beyond the scores, as plain values for JSON."""
        return {}

    @staticmethod
    def format_details(details: Mapping[str, Any]) -> list[str]:
        """Lines of text of the details of all tasks, as far as they are this task's."""
        return []

    # ---------------------------------------------------------------- disk

    def to_arrays(self, prediction: Any, frame: Frame) -> dict[str, np.ndarray]:
        """A prediction as named arrays.

        Raises:
            ValueError: it holds what could not be evaluated later.
        """
        return record_to_arrays(prediction)

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Inverse of `to_arrays`.

        Raises:
            KeyError: an array is missing; its argument is the array's name.
            ValueError: arrays do not fit each other.
        """
        return record_from_arrays(self.prediction, arrays)

    def official_file(self, folder: Path, meta: Mapping[str, bool]) -> OfficialFile | None:
        """The official file of a folder of results, ready to be filled; None where the task has none.

        Args:
            folder: the folder of results.
            meta: the five nuScenes flags.
        """
        return None
