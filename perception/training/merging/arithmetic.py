"""One model from several: of single tasks that started from the same weights, or the mean. No training.

A task vector is what a training changed: tau_t = theta_t - theta_0, over everything but the heads. Each head
comes whole from its own model.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

State = Mapping[str, Tensor]
HEADS = 'heads.'
METHODS = ('arithmetic', 'breadcrumbs')
STATISTICS = ('running_mean', 'running_var')


@dataclass(frozen=True)
class MergeOptions:
    """How models are merged.

    Args:
        method: 'arithmetic': theta_0 + strength sum_t tau_t (Ilharco et al. 2023, arXiv 2212.04089).
            'breadcrumbs': the same of task vectors without outliers and without their long tail, tensor by
            tensor (Davari and Belilovsky 2024, arXiv 2312.06795: per layer).
        strength: of the sum.
        drop_largest: breadcrumbs: share of a tensor's entries, the largest, that are left out.
        keep: breadcrumbs: share of a tensor's entries, the next largest, that stay.

    Raises:
        ValueError: an unknown method, or a number out of its range.
    """

    method: str = 'arithmetic'
    strength: float = 0.3
    drop_largest: float = 0.1
    keep: float = 0.2

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f'merge: method: expected one of {", ".join(METHODS)}, found {self.method!r}')
        for name, low, high in (('strength', 0, 2), ('drop_largest', 0, 1), ('keep', 0, 1)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f'merge: {name}: expected a number from {low} to {high}, found {value}')
        if self.drop_largest + self.keep > 1:
            raise ValueError(
                f'merge: drop_largest {self.drop_largest} and keep {self.keep}: expected at most 1 together')


@dataclass(frozen=True)
class MergeReport:
    """What the task vectors look like.

    Attributes:
        lengths: {task: length of its vector over that of the start's weights}.
        cosines: {'a-b': cosine of two task vectors}.
    """

    lengths: dict[str, float]
    cosines: dict[str, float]


def merge_models(
    start: State, models: Mapping[str, State], options: MergeOptions
) -> tuple[dict[str, Tensor], MergeReport]:
    """Weights of one model with all heads.

    Statistics of norms are averaged over the models; what no training changes (counters, tables) is the
    start's.

    Args:
        start: what all trainings started from.
        models: {task: weights of the model that was trained on it}.
        options: how.

    Raises:
        ValueError: fewer than two models, other parameters or shapes than the start's, no head of a task, or
            a model that is the start itself.
    """
    learned, report = check_models(start, models)
    merged = {
        name: (
            start[name] + options.strength * sum(
                _thinned(options)(state[name].float() - start[name].float()) for state in models.values())
        ).to(start[name].dtype)
        for name in learned}
    return {**unlearned(start, models), **merged, **own_heads(models)}, report


def check_models(start: State, models: Mapping[str, State]) -> tuple[list[str], MergeReport]:
    """The names of the shared tensors that gradients change, and what the task vectors look like.

    Args:
        start: what all trainings started from.
        models: {task: weights of the model that was trained on it}.

    Raises:
        ValueError: as `merge_models`.
    """
    if len(models) < 2:
        raise ValueError(f'merge: expected at least 2 models, found {len(models)}')
    shared = [name for name in start if not name.startswith(HEADS)]
    for task, state in models.items():
        _check_model(task, state, start, shared)
    learned = [
        name for name in shared if start[name].is_floating_point() and not name.endswith(STATISTICS)]
    return learned, _report(start, models, learned)


def unlearned(start: State, models: Mapping[str, State]) -> dict[str, Tensor]:
    """What no gradient changes of the shared part: statistics of norms averaged, the rest the start's."""
    found = {}
    for name, tensor in start.items():
        if name.startswith(HEADS) or tensor.is_floating_point() and not name.endswith(STATISTICS):
            continue
        if tensor.is_floating_point():
            tensor = torch.stack([state[name].float() for state in models.values()]).mean(0).to(tensor.dtype)
        found[name] = tensor
    return found


def own_heads(models: Mapping[str, State]) -> dict[str, Tensor]:
    """Each task's head as its own model has it."""
    return {
        name: tensor for task, state in models.items() for name, tensor in state.items()
        if name.startswith(f'{HEADS}{task}.')}


def average_weights(states: Mapping[str, State]) -> dict[str, Tensor]:
    """The mean of the weights of one model's checkpoints (Wortsman et al. 2022, arXiv 2203.05482, uniform).

    Statistics of norms are averaged too; what is no real number (counters, tables) is the first one's.

    Args:
        states: {name for messages: weights}, two or more.

    Raises:
        ValueError: fewer than two, or parameters or shapes differ; names the first.
    """
    if len(states) < 2:
        raise ValueError(f'average: expected at least 2 checkpoints, found {len(states)}')
    (first_name, first), *others = states.items()
    for name, state in others:
        for key in dict.fromkeys((*first, *state)):
            shapes = [tuple(one[key].shape) if key in one else 'none' for one in (first, state)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f'average: {name}: {key}: expected the shape {shapes[0]} of {first_name}, found '
                    f'{shapes[1]}')

    return {
        key: (sum(state[key].double() for state in states.values()) / len(states)).to(tensor.dtype)
        if tensor.is_floating_point() else tensor
        for key, tensor in first.items()}


def breadcrumbs(vector: Tensor, drop_largest: float, keep: float) -> Tensor:
    """One tensor of a task vector, of which only entries of middling size are left.

    A tensor of fewer than 1 / share entries has neither outliers nor a tail of that share: it stays whole.

    Args:
        vector: of any shape.
        drop_largest: share of the entries, the largest, that become 0.
        keep: share of the entries, the next largest, that stay; the others become 0.
    """
    size = vector.numel()
    if any(0 < share * size < 1 for share in (drop_largest, keep)):
        return vector
    first = round(drop_largest * size)
    last = min(size, first + round(keep * size))

    entries = vector.flatten()
    order = entries.abs().argsort(descending=True, stable=True)
    kept = torch.zeros_like(entries, dtype=torch.bool)
    kept[order[first:last]] = True
    return (entries * kept).reshape(vector.shape)


def _thinned(options: MergeOptions) -> Callable[[Tensor], Tensor]:
    if options.method == 'arithmetic':
        return lambda vector: vector
    return lambda vector: breadcrumbs(vector, options.drop_largest, options.keep)


def _check_model(task: str, state: State, start: State, shared: list[str]) -> None:
    for name in shared:
        if name not in state or state[name].shape != start[name].shape:
            found = tuple(state[name].shape) if name in state else 'none'
            raise ValueError(
                f'merge: {task}: {name}: expected the shape {tuple(start[name].shape)} of the start, found '
                f'{found}')

    more = [
        name for name in state if name not in start and not name.startswith((HEADS, 'data_preprocessor.'))]
    if more:
        raise ValueError(
            f'merge: {task}: {more[0]}: found a tensor that the start lacks ({len(more)} in all), expected '
            'those of the start and heads alone')
    if not any(name.startswith(f'{HEADS}{task}.') for name in state):
        heads = sorted({name.split('.')[1] for name in state if name.startswith(HEADS)})
        raise ValueError(f'merge: {task}: expected a head of that task, found {", ".join(heads) or "none"}')


def _report(start: State, models: Mapping[str, State], learned: list[str]) -> MergeReport:
    origin = torch.cat([start[name].float().flatten() for name in learned])
    vectors = {
        task: torch.cat([state[name].float().flatten() for name in learned]) - origin
        for task, state in models.items()}
    for task, vector in vectors.items():
        if not bool(vector.any()):
            raise ValueError(f'merge: {task}: its shared weights are those of the start: nothing was trained')

    tasks = list(vectors)
    return MergeReport(
        {task: float(vector.norm() / origin.norm()) for task, vector in vectors.items()},
        {f'{a}-{b}': float(torch.cosine_similarity(vectors[a], vectors[b], dim=0))
         for place, a in enumerate(tasks) for b in tasks[place + 1:]})
