"""All tasks evaluated alike: a small summary per sample, then scores from all summaries in any order.

Summaries are put in the order of scene and time and counted once each before any score is made, so several
processes give exactly one process's numbers.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.contracts import Annotations, Frame, TaskOutput
from ..registry import task_metrics
from .base import Tables, TaskMetric
from .errors import ResultError


@dataclass(frozen=True)
class Summary:
    """What one sample adds to the scores: {task: summary of its metric}, without tasks that add nothing."""

    frame: Frame
    parts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Scores of a split.

    Attributes:
        metrics: scores by name: `detection/NDS`, `map/mIoU`, ...
        totals: {task: what its metric accumulated}.
        by_task: {task: its metric}.
    """

    metrics: dict[str, float]
    totals: dict[str, Any] = field(default_factory=dict)
    by_task: Mapping[str, TaskMetric] = field(default_factory=dict)

    def details(self) -> dict[str, Any]:
        """What the metrics know beyond the scores, as plain values for JSON."""
        details: dict[str, Any] = {}
        for task, total in self.totals.items():
            details |= self.by_task[task].details(total)
        return details


def build_metrics(
    tasks: Sequence[str] | None = None, options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, TaskMetric]:
    """Metrics of some tasks, always in the order of `task_metrics`.

    Args:
        tasks: their names; None takes every registered task.
        options: {task: arguments of its metric}.

    Raises:
        ValueError: a task without a registered metric; names the known ones.
    """
    known, options = task_metrics(), options or {}
    chosen = tuple(known) if tasks is None else tuple(tasks)

    for argument, names in (('tasks', chosen), ('options', options)):
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise ValueError(f'{argument}: unknown {unknown}; known: {", ".join(known)}')

    return {task: metric(**options.get(task, {})) for task, metric in known.items() if task in chosen}


class MetricSuite:
    """The metrics of several tasks as one.

    Args:
        tasks: which to evaluate; None takes every registered task.
        options: {task: arguments of its metric}, e.g. `{'occupancy': {'rays': False}}`.
    """

    def __init__(
        self, tasks: Sequence[str] | None = None, options: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.metrics = build_metrics(tasks, options)

    def read_tables(self, tables: Tables) -> None:
        """Take the truth of the whole split from tables, where a metric can."""
        for metric in self.metrics.values():
            metric.read_tables(tables)

    def forget_tables(self) -> None:
        """Take each sample's labels as truth: only a part of the split will come."""
        for metric in self.metrics.values():
            metric.forget_tables()

    def headline_only(self) -> None:
        """Leave out scores that take long and are not in the headline."""
        for metric in self.metrics.values():
            metric.headline_only()

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> Summary:
        """Look at one sample; its grids are not kept.

        Raises:
            ResultError: a prediction cannot be evaluated; names the sample.
        """
        try:
            parts = {task: metric.summarise(output, truth) for task, metric in self.metrics.items()}
        except ResultError:
            raise
        except ValueError as error:
            raise ResultError(f'sample {output.frame.token}: {error}') from None

        return Summary(output.frame, {task: part for task, part in parts.items() if part is not None})

    def report(self, summaries: Iterable[Summary]) -> Report:
        """Scores of all tasks that have both predictions and truth. Samples that come twice count once."""
        unique = {summary.frame.token: summary for summary in summaries}
        ordered = sorted(
            unique.values(), key=lambda s: (s.frame.scene, s.frame.timestamp_ns, s.frame.token)
        )

        scores: dict[str, float] = {}
        totals: dict[str, Any] = {}
        for task, metric in self.metrics.items():
            total = metric.accumulate([(summary.frame, summary.parts.get(task)) for summary in ordered])
            if total is not None:
                totals[task] = total
                scores |= metric.scores(total)
        return Report(scores, totals, self.metrics)
