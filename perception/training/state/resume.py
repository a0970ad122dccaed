"""Going on from a checkpoint: optimiser and schedules of the configuration, at the checkpoint's place."""
from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from .loops import Place

Wrapper = OptimWrapper | OptimWrapperDict
Schedulers = Sequence[Any] | Mapping[str, Sequence[Any]] | None


def load_optimiser(wrapper: Wrapper, saved: Mapping[str, Any], source: str) -> list[str]:
    """Give an optimiser its state back; its rates and decays stay the configuration's.

    Args:
        wrapper: already built, before its first step.
        saved: as the checkpoint has it.
        source: names the checkpoint.

    Returns:
        A line for each setting that is another one now, with both values.

    Raises:
        ValueError: another number of groups or parameters, or a wrapper of another kind.
    """
    if isinstance(wrapper, OptimWrapperDict):
        missing = [name for name, _ in wrapper.items() if name not in saved]
        if missing:
            raise ValueError(f'checkpoint {source}: optimiser {missing[0]!r}: found {sorted(saved)}')
        notes = [load_optimiser(part, saved[name], source) for name, part in wrapper.items()]
        return [line for lines in notes for line in lines]

    if 'param_groups' not in saved:
        raise ValueError(f'checkpoint {source}: optimizer: expected param_groups, found {sorted(saved)}')
    groups, stored = wrapper.optimizer.param_groups, saved['param_groups']
    sizes = [[len(group['params']) for group in side] for side in (stored, groups)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f'checkpoint {source}: optimizer: {len(sizes[0])} groups of {sum(sizes[0])} parameters in the '
            f'checkpoint, {len(sizes[1])} of {sum(sizes[1])} now'
        )

    configured = [{name: value for name, value in group.items() if name != 'params'} for group in groups]
    unmultiplied = wrapper.base_param_settings
    wrapper.load_state_dict(dict(saved))
    wrapper.base_param_settings = unmultiplied
    for group, settings in zip(wrapper.optimizer.param_groups, configured, strict=True):
        group.update(settings)
    return _other_settings(stored, configured)


def _other_settings(stored: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings that no schedule moves, of the first group in which they differ."""
    lines: dict[str, str] = {}
    for before, after in zip(stored, now, strict=True):
        for name in after:
            first = f'initial_{name}'
            old, new = before.get(first, before.get(name)), after.get(first, after[name])
            if name.startswith('initial_') or isinstance(old, (list, tuple)) or old == new:
                continue
            both = f"optimiser's {name}: {old} in the checkpoint, {new} now"
            lines.setdefault(name, f"{both}: the configuration's")
    return list(lines.values())


def replay_schedules(schedulers: Schedulers, place: Place, steps_of_epoch: int, saved: Any) -> list[str]:
    """Set freshly built schedules to a place, as if they had come there step by step.

    Args:
        schedulers: of the configuration, none of them moved yet.
        place: where the training goes on.
        steps_of_epoch: of this configuration.
        saved: states of the checkpoint's schedules, for those that follow a score and cannot be replayed.

    Returns:
        What could not be replayed.
    """
    if isinstance(schedulers, Mapping):
        states = saved if isinstance(saved, Mapping) else {}
        notes = [
            replay_schedules(part, place, steps_of_epoch, states.get(name))
            for name, part in schedulers.items()
        ]
        return [line for lines in notes for line in lines]

    by_step = [scheduler for scheduler in schedulers or () if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedulers or () if scheduler.by_epoch]
    watching = [scheduler for scheduler in by_epoch if getattr(scheduler, 'need_val_args', False)]
    if watching:
        return _take_over(schedulers, saved)

    with distinct_groups(schedulers or ()), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that no optimiser's step lies between two of a schedule
        for step in range(1, place.step + 1):
            for scheduler in by_step:
                scheduler.step()
            if by_epoch and step % steps_of_epoch == 0 and step // steps_of_epoch <= place.epoch:
                for scheduler in by_epoch:
                    scheduler.step()
    return []


@contextmanager
def distinct_groups(schedulers: Sequence[Any]) -> Iterator[None]:
    """Let schedules of one optimiser move one group of each kind, then give the others what it has.

    mmengine makes a group of every parameter: 800 of them would take minutes over a hundred thousand steps.
    """
    wrappers = {id(scheduler.optimizer): scheduler.optimizer for scheduler in schedulers}
    if len(wrappers) != 1:
        yield
        return

    (wrapper,) = wrappers.values()
    groups, every = wrapper.optimizer.param_groups, wrapper.param_groups
    kinds = [repr({name: value for name, value in group.items() if name != 'params'}) for group in groups]
    firsts = sorted({kind: i for i, kind in reversed(list(enumerate(kinds)))}.values())
    whose = [next(j for j, first in enumerate(firsts) if kinds[first] == kind) for kind in kinds]

    # the settings without any group's factor stand behind the groups
    chosen = [*firsts, *range(len(groups), len(every))]
    whose_of_every = [*whose, *range(len(firsts), len(chosen))]

    bases = [scheduler.base_values for scheduler in schedulers]
    wrapper.optimizer.param_groups = [groups[i] for i in firsts]
    for scheduler, base in zip(schedulers, bases, strict=True):
        scheduler.base_values = [base[i] for i in chosen]
    try:
        yield
    finally:
        moved = wrapper.optimizer.param_groups
        wrapper.optimizer.param_groups = groups
        for group, j in zip(groups, whose, strict=True):
            group.update({name: value for name, value in moved[j].items() if name != 'params'})
        for scheduler, base in zip(schedulers, bases, strict=True):
            last = scheduler.get_last_value()
            scheduler.load_state_dict(
                {'base_values': base, '_last_value': [last[j] for j in whose_of_every]})


def _take_over(schedulers: Sequence[Any], saved: Any) -> list[str]:
    """Schedules that follow a score: the checkpoint's own states, where they are of the same kinds."""
    if not isinstance(saved, Sequence) or len(saved) != len(schedulers):
        found = len(saved) if isinstance(saved, Sequence) else 'none'
        return [
            f'schedule: {found} in the checkpoint, {len(schedulers)} now, of which some follow a score: they '
            'start from nothing'
        ]

    for scheduler, state in zip(schedulers, saved, strict=True):
        scheduler.load_state_dict(dict(state))
        for group, value in zip(scheduler.optimizer.param_groups, scheduler.get_last_value(), strict=True):
            group[scheduler.param_name] = value
    return ["schedule: one of it follows a score: the checkpoint's own state goes on"]


def open_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients that wait for the rest of their accumulated batches."""
    return {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}


def restore_gradients(model: nn.Module, gradients: Mapping[str, torch.Tensor]) -> None:
    """Inverse of `open_gradients`."""
    for name, parameter in model.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter)
