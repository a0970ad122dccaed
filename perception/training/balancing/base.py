"""What a balancer is: task losses of a step -> the gradient that the step takes.

A task's loss is the sum of its terms, each weighted in its head already; a balancer's weights multiply them.
Terms that belong to no task (a sensor's depth, the load of experts) keep their weight of 1.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ...core.processes import process_count, summed
from ...registry import BALANCERS

NO_GRADIENT = (
    'no gradient reaches the shared map: encoders, fuser and trunk are frozen; use a balancer from the '
    'losses (docs/multi_task.md)')


@dataclass(frozen=True)
class StepPlace:
    """Where in the training a step is.

    Args:
        step: steps that are done.
        passes: passes over the data that are done.
        ends_pass: it is the last step of its pass.
    """

    step: int = 0
    passes: int = 0
    ends_pass: bool = False


@dataclass
class TaskLosses:
    """The losses of one step, sorted by task.

    Args:
        terms: {'loss/<owner>/<name>': scalar}, in the model's order.
        tasks: the T tasks, in the order of every vector of weights.
        shared_map: the trunk's output `(B, C, Y, X)`, on the way to all tasks; None in a model without trunk.
        place: where in the training.
        scale: factor of the loss before its backward, so that float16 keeps small gradients.
    """

    terms: Mapping[str, Tensor]
    tasks: tuple[str, ...]
    shared_map: Tensor | None = None
    place: StepPlace = field(default_factory=StepPlace)
    scale: float = 1.0

    def sums(self) -> list[Tensor]:
        """T scalars with their graph, in float32."""
        by_task = [[] for _ in self.tasks]
        for name, term in self.terms.items():
            if self.owner(name) is not None:
                by_task[self.tasks.index(self.owner(name))].append(term.float().mean())
        return [torch.stack(terms).sum() if terms else torch.zeros(()) for terms in by_task]

    def values(self) -> Tensor:
        """Mean over all processes of the T losses `(T,)`, float64 on the CPU: every process has the same."""
        sums = self.sums()
        device = next(iter(self.terms.values())).device
        values = torch.stack([loss.detach().to(device) for loss in sums])
        return (summed(values) / process_count()).double().cpu()

    def weighted(self, weights: Sequence[float]) -> Tensor:
        """The loss to minimise: terms in the model's order, each times its task's weight."""
        factor = dict(zip(self.tasks, map(float, weights), strict=True))
        parts = [
            term.mean() if self.owner(name) is None else term.mean() * factor[self.owner(name)]
            for name, term in self.terms.items() if 'loss' in name  # as mmengine counts them
        ]
        return sum(parts)

    def of_no_task(self) -> Tensor:
        """Sum of the losses that belong to no task; a zero where there are none."""
        parts = [
            term.mean() for name, term in self.terms.items() if 'loss' in name and self.owner(name) is None]
        return sum(parts) if parts else torch.zeros((), device=next(iter(self.terms.values())).device)

    def owner(self, name: str) -> str | None:
        """The task of a term, None where it belongs to none."""
        owner = name.split('/')[1] if name.count('/') > 1 else None
        return owner if owner in self.tasks else None


class Step(ABC):
    """One step of a training, as a balancer sees it.

    Attributes:
        losses: of the forward that has run.
        model: without any wrapper.
        log: scalars of this step, by name.
        share: 1 over the number of accumulated batches, of which this is one.
        updated: whether the weights have been updated in this step, at its end.
    """

    losses: TaskLosses
    model: nn.Module
    log: dict[str, float]
    share: float = 1.0
    updated: bool = True

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` (scaled, over accumulated batches) to all parameters; called once."""

    @abstractmethod
    def add(self, parameters: Sequence[nn.Parameter], change: Tensor) -> None:
        """Add a flat change `(P,)` of the gradient to parameters after `backward`."""

    @abstractmethod
    def again(self) -> TaskLosses:
        """Losses of the same batch with the weights as they are now; statistics of norms stand still."""

    @abstractmethod
    def finish(self, call: Callable[[], None]) -> None:
        """Call something at the end of the step, after the update of the weights."""


class Balancer(ABC):
    """Chooses the gradient of a step.

    Attributes:
        least_tasks: how many tasks it needs.
        uses_map: whether it needs the shared map.
        plain: whether it is the plain sum of the losses, for which nothing need be done.
        state: what a resumed training needs: tensors, numbers, lists and dictionaries of them.
    """

    least_tasks = 1
    uses_map = False
    plain = False

    def __init__(self) -> None:
        self.tasks: tuple[str, ...] = ()
        self.state: dict[str, Any] = {}

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Get to know the tasks and the model, before training.

        Raises:
            ValueError: too few tasks, or options that do not fit them; no shared map where one is needed.
        """
        self.tasks = tuple(tasks)
        if len(self.tasks) < self.least_tasks:
            raise ValueError(
                f'balancer {self.name}: expected at least {self.least_tasks} tasks, found '
                f'{len(self.tasks)} ({", ".join(self.tasks) or "none"})')
        if self.uses_map and not isinstance(getattr(model, 'trunk', None), nn.Module):
            raise ValueError(
                f'balancer {self.name}: needs a model whose tasks share the output of `trunk`, found '
                f'{type(model).__name__} without one')
        before_heads = [
            parameter for name, parameter in model.named_parameters()
            if not name.startswith(('heads.', 'bridge.'))]
        if self.uses_map and not any(parameter.requires_grad for parameter in before_heads):
            raise ValueError(f'balancer {self.name}: {NO_GRADIENT}')

    @property
    def name(self) -> str:
        """Its type in a configuration."""
        return type(self).__name__

    def around_forward(self) -> AbstractContextManager[None]:
        """What is around the forward of a step; nothing, mostly."""
        return nullcontext()

    @abstractmethod
    def train(self, step: Step) -> None:
        """Give the parameters their gradient."""

    def state_dict(self) -> dict[str, Any]:
        """State as plain values and tensors on the CPU."""
        return {'type': self.name, 'tasks': list(self.tasks), 'state': _to_cpu(self.state)}

    def load_state_dict(self, saved: Mapping[str, Any] | None) -> list[str]:
        """Inverse of `state_dict`.

        Returns:
            What could not be taken over, in words.
        """
        if not saved:
            return [f'balancer: none in the checkpoint, {self.name} now: it starts from nothing'] * bool(
                self.state)
        for what, now in (('type', self.name), ('tasks', list(self.tasks))):
            if saved[what] != now:
                return [
                    f'balancer: {what} {saved[what]} in the checkpoint, {now} now: it starts from nothing']
        self.state = _to_cpu(dict(saved['state']))
        return []

    def check_names(self, argument: str, names: Sequence[str]) -> None:
        """Refuse names that are no tasks of the model.

        Raises:
            ValueError: names the argument and the tasks there are.
        """
        unknown = [name for name in names if name not in self.tasks]
        if unknown:
            raise ValueError(
                f'balancer {self.name}.{argument}: expected tasks of the model ({", ".join(self.tasks)}), '
                f'found {", ".join(map(repr, unknown))}')


class LayeredBalancer(Balancer):
    """A balancer over another one, its `base`, which has the state."""

    base: Balancer

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Start the base, too."""
        super().start(tasks, model)
        self.base.start(tasks, model)

    def state_dict(self) -> dict[str, Any]:
        """With that of the base, which names its type."""
        return super().state_dict() | {'base': self.base.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any] | None) -> list[str]:
        """Inverse of `state_dict`; another base than the saved one starts from nothing."""
        notes = super().load_state_dict(saved)
        return notes or self.base.load_state_dict((saved or {}).get('base'))


class WeightBalancer(Balancer):
    """A balancer that weights the tasks' losses: one backward of their weighted sum."""

    def train(self, step: Step) -> None:
        """Backward of the weighted sum; the weights go to the log."""
        weights = self.weights(step)
        log_by_task(step, 'weight', self.tasks, weights)
        step.backward(step.losses.weighted(weights.tolist()))

    @abstractmethod
    def weights(self, step: Step) -> Tensor:
        """Weights `(T,)` of the step, equal on all processes; changes the state."""


def build_balancer(config: Any) -> Balancer | None:
    """A balancer of a configuration, `dict(type=..., ...)`, None for None.

    Raises:
        ValueError: no type, or one that is unknown; options that its class refuses.
    """
    if config is None or isinstance(config, Balancer):
        return config
    if not isinstance(config, Mapping) or 'type' not in config:
        raise ValueError(f'balancer: expected dict(type=...), found {config!r}')
    options = dict(config)
    kind = options.pop('type')
    BALANCERS.import_from_location()
    if kind not in BALANCERS.module_dict:
        known = ', '.join(sorted(BALANCERS.module_dict))
        raise ValueError(f'balancer.type: expected one of {known}, found {kind!r}')
    try:
        return BALANCERS.module_dict[kind](**options)
    except TypeError as error:  # an option that it does not have
        raise ValueError(f'balancer {kind}: {error}') from error


def log_by_task(step: Step, what: str, tasks: Sequence[str], values: Tensor) -> None:
    """Put a value a task into the log, `train/balance/<what>/<task>`."""
    step.log |= {f'{what}/{task}': value for task, value in zip(tasks, values.tolist(), strict=True)}


def warn(text: str) -> None:
    """Say something in the training's log."""
    print_log(text, 'current', level=30)


def check_range(owner: str, low: float, value: float, high: float = float('inf')) -> float:
    """The value, where it lies in [low, high].

    Raises:
        ValueError: it does not.
    """
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f'balancer {owner}: expected a number from {low} to {high}, found {value!r}')
    return value


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_cpu(item) for item in value)
    return value
