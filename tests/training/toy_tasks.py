"""A model of several tasks that trains in milliseconds, and steps of balancers without any training."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from perception.training.balancing.base import Balancer, Step, StepPlace, TaskLosses

TASKS = ('a', 'b', 'c')


class ToyTasks(BaseModel):
    """A shared layer with a norm, and a linear head a task; their targets differ and conflict."""

    def __init__(self, tasks: Sequence[str] = TASKS, masked: str | None = None, noise: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 5))
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in tasks})
        self.masked, self.noise = masked, noise

    def forward(self, inputs: Tensor, mode: str = 'loss') -> Any:
        shared = self.trunk(inputs)
        losses = {'loss/network/decay': 1e-3 * shared.square().mean()}
        for number, (task, head) in enumerate(self.heads.items()):
            target = torch.rand(()) if self.noise else inputs[:, :2] * (-1) ** number + number
            error = (head(shared).float() - target).square()
            losses[f'loss/{task}/first'] = error.mean() * (0 if task == self.masked else 10.0 ** number)
            losses[f'loss/{task}/second'] = error.mean() * (0 if task == self.masked else 0.5)
        return losses


class OneStep(Step):
    """A step in which nothing is trained: losses `(T,)` and gradients `(T, P)` are given."""

    def __init__(self, losses: Any, gradients: Any = None, place: StepPlace | None = None,
                 tasks: Sequence[str] | None = None) -> None:
        losses = torch.as_tensor(losses, dtype=torch.float32)
        rows = torch.eye(len(losses)) if gradients is None else torch.as_tensor(gradients).float()
        tasks = tuple(tasks or 'abcdef'[:len(losses)])

        shared = torch.zeros(rows.shape[1], requires_grad=True)
        # the value is the given loss, the gradient at the shared map the given row
        terms = {
            f'loss/{task}/x': (row @ shared) + loss
            for task, row, loss in zip(tasks, rows, losses, strict=True)}
        self.losses = TaskLosses(terms, tasks, shared, place or StepPlace())
        self.model, self.log, self.after = nn.Linear(1, 1), {}, losses
        self.total: Tensor | None = None

    def backward(self, loss: Tensor) -> None:
        self.total = loss
        loss.backward()

    def add(self, parameters: Sequence[nn.Parameter], change: Tensor) -> None:
        raise AssertionError('not asked for')

    def again(self) -> TaskLosses:
        return OneStep(self.after, tasks=self.losses.tasks).losses

    def finish(self, call: Callable[[], None]) -> None:
        call()

    @property
    def gradient(self) -> Tensor:
        """What arrives at the shared map."""
        return self.losses.shared_map.grad


def started(balancer: Balancer, tasks: int | Sequence[str] = 3) -> Balancer:
    """The balancer, acquainted with so many tasks."""
    balancer.start(tuple('abcdef'[:tasks]) if isinstance(tasks, int) else tasks, ToyTasks())
    return balancer


def take(balancer: Balancer, losses: Any, gradients: Any = None, **words: Any) -> OneStep:
    """Let a balancer make one step."""
    step = OneStep(losses, gradients, **words)
    balancer.train(step)
    return step


def weights_of(step: OneStep) -> list[float]:
    """The weights in a step's log, in the order of the tasks."""
    return [step.log[f'weight/{task}'] for task in step.losses.tasks]
