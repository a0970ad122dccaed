"""One printed table of all tasks."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...registry import task_metrics
from ..base import ScoreTable
from ..tracking.protocol import TRACKING_TABLE


def score_tables() -> list[ScoreTable]:
    """The tables of every registered task, and of tracks, which no model predicts."""
    return [*(table for metric in task_metrics().values() for table in metric.tables), TRACKING_TABLE]


def format_score(value: float | None) -> str:
    """Four digits; '-' for a score that does not exist."""
    return '-' if value is None or not math.isfinite(value) else f'{value:.4f}'


def format_scores(metrics: Mapping[str, float], per_class: bool = True) -> str:
    """All scores to read: those of each task, then its classes. Scores that do not exist are '-'."""
    lines: list[str] = []
    for table in score_tables():
        known = [name for name in table.scores if f'{table.prefix}/{name}' in metrics]
        if not known:
            continue
        lines.append(table.prefix)
        lines += [f'  {name:<24}{format_score(metrics[f"{table.prefix}/{name}"]):>8}' for name in known]
        if per_class:
            lines += _class_lines(metrics, table)

    return '\n'.join(lines) if lines else 'no scores: no sample has both a prediction and truth'


def _class_lines(metrics: Mapping[str, float], table: ScoreTable) -> list[str]:
    names = table.class_names(metrics)
    columns = [
        column
        for column in table.columns
        if any(f'{table.prefix}/{column}_{name}' in metrics for name in names)
    ]
    if not columns:
        return []

    width = max(13, *(len(column) + 3 for column in columns))
    lines = [f'  {"class":<24}' + ''.join(f'{column:>{width}}' for column in columns)]
    rows = [
        name for name in names
        if any(f'{table.prefix}/{column}_{name}' in metrics for column in columns)]
    for name in rows:
        scores = [format_score(metrics.get(f'{table.prefix}/{column}_{name}')) for column in columns]
        lines.append(f'  {name:<24}' + ''.join(f'{score:>{width}}' for score in scores))
    return lines


def format_details(details: Mapping[str, Any]) -> str:
    """The tables of `Report.details` to read."""
    lines = [line for metric in task_metrics().values() for line in metric.format_details(details)]
    return '\n'.join(lines)
