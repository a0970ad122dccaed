"""Flat regions by sharpness-aware minimisation per task."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...registry import BALANCERS
from .base import Balancer, Step, build_balancer, check_range
from .gradients import flat_gradient, parameter_gramian, say_memory, shared_parameters
from .gramian import GramianBalancer


@BALANCERS.register_module()
class FlatMinima(Balancer):
    """Each task's gradient where its loss is worst nearby; flat and plain parts are merged separately.

    FS-MTL: Phan et al., "Beyond Losses Reweighting", ICCV 2025. For each task the weights move by rho along
    its own gradient, in the shared part and in its head separately; there its gradient is taken again. Heads
    step with that gradient; in the shared part the plain gradients and the differences are each merged by
    `base`, and added. Two passes forward and backward a task.

    Args:
        base: a balancer from the products of the gradients, `dict(type='CAGrad')`; None sums.
        rho: length of the move.
    """

    least_tasks = 2

    def __init__(self, base: Mapping[str, Any] | None = None, rho: float = 0.05) -> None:
        super().__init__()
        self.rho = check_range('FlatMinima.rho', 1e-12, rho)
        self.base = build_balancer(base)
        if self.base is not None:
            if not isinstance(self.base, GramianBalancer):
                raise ValueError(
                    'balancer FlatMinima.base: expected one from the products of the gradients, such as '
                    f'CAGrad, found {self.base.name}')
            self.base.where, self.base.uses_map = 'parameters', False
        self.shared: list[nn.Parameter] = []
        self.heads: dict[str, list[nn.Parameter]] = {}

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Find shared parameters and heads; the memory is said.

        Raises:
            ValueError: also where the base learns from step to step.
        """
        super().start(tasks, model)
        self.shared = list(shared_parameters(model).values())
        self.heads = {
            task: [p for p in model.heads[task].parameters() if p.requires_grad] for task in self.tasks}
        if self.base is not None:
            self.base.start(tasks, model)
            if self.base.state:  # which two mergings a step would move twice
                raise ValueError(
                    f'balancer FlatMinima.base: expected one without a state, found {self.base.name}')
        say_memory(self.name, 2 * len(self.tasks), self.shared)

    def train(self, step: Step) -> None:
        """Backward of the sum, then what flatness changes of it."""
        plain_T = [
            flat_gradient(loss, [*self.shared, *self.heads[task]], step.losses.scale)
            for task, loss in zip(self.tasks, step.losses.sums(), strict=True)]
        step.backward(step.losses.weighted([1.0] * len(self.tasks)))
        sharp_T = [
            self._sharp(number, gradient, step) for number, gradient in enumerate(plain_T)]

        size = sum(parameter.numel() for parameter in self.shared)
        plain_TP = torch.stack([gradient[:size] for gradient in plain_T])
        flat_TP = torch.stack([gradient[:size] for gradient in sharp_T]) - plain_TP
        merged = self._merged(flat_TP, step) + self._merged(plain_TP, step)  # the latter's norms are logged
        step.add(self.shared, merged - plain_TP.sum(0))
        for task, plain, sharp in zip(self.tasks, plain_T, sharp_T, strict=True):
            step.add(self.heads[task], sharp[size:] - plain[size:])

    def _sharp(self, number: int, gradient: Tensor, step: Step) -> Tensor:
        """A task's gradient at the worst place nearby; its plain one where it has none."""
        own = self.heads[self.tasks[number]]
        size = sum(parameter.numel() for parameter in self.shared)
        if not bool(gradient.isfinite().all()) or not bool(gradient.any()):
            return gradient
        moves = torch.cat([self._move(gradient[:size]), self._move(gradient[size:])])
        parameters = [*self.shared, *own]
        with moved(parameters, moves):
            losses = step.again()
            return flat_gradient(losses.sums()[number], parameters, losses.scale)

    def _move(self, gradient: Tensor) -> Tensor:
        return gradient * (self.rho / gradient.norm().clamp(min=1e-12))

    def _merged(self, gradients_TP: Tensor, step: Step) -> Tensor:
        if self.base is None:
            return gradients_TP.sum(0)
        weights = self.base.solve(parameter_gramian(gradients_TP), step)
        return weights.to(gradients_TP) @ gradients_TP


@contextmanager
def moved(parameters: Sequence[nn.Parameter], move: Tensor) -> Iterator[None]:
    """While it lasts, parameters stand at their place plus `move (P,)`; then exactly where they were."""
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        parts = move.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.add_(part.view_as(parameter).to(parameter.dtype))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)
