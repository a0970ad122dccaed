"""Which layers go to float first, when all of them in int8 drop too much."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..measure.scores import ScoreDrop
from .output_error import rank_by_error
from .records import DropFn, Ranking


def rank_layers(
    errors: Mapping[str, Mapping[str, float]],
    heads: Mapping[str, Sequence[str]],
    drop_fn: DropFn,
    max_drop: float,
) -> Ranking:
    """Rank layers by their error, for the tasks that dropped too much when they were last scored.

    The whole heads of these tasks go to float first: they are small, and int8 hurts their own outputs most.
    Then layers go by `rank_by_error` of these tasks' outputs. Without scores every output's error counts as
    it is.

    Args:
        errors: {layer: {output: error}}, each layer alone in int8.
        heads: {task: layers of its head}.
        drop_fn: of the search.
        max_drop: the largest drop that is allowed.
    """
    if not isinstance(drop_fn, ScoreDrop):
        return Ranking({layer: max(error.values()) for layer, error in errors.items()})

    # a drop that is NaN is not allowed either
    tasks = {task for task, drop in drop_fn.drops.items() if not drop <= max_drop}
    outputs = {output for error in errors.values() for output in error}
    of_these_tasks = {output for output in outputs if output.split('.')[0] in tasks}

    sensitivity = rank_by_error(errors, of_these_tasks or outputs)
    return Ranking(sensitivity, {layer for task in tasks for layer in heads.get(task, ())})
