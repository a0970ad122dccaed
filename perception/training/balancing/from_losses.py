"""Balancers that look at the losses alone: no more backward than without them.

Each publication's loss is written as weights: its gradient in the network is that of sum_t w_t L_t with w
held fixed. A task whose loss is not above zero in a step (no labels) has weight 1 there, and moves no state.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...registry import BALANCERS
from .base import Step, WeightBalancer, check_range
from .learned import adam_step, new_vector


class LossBalancer(WeightBalancer):
    """A balancer from the losses; subclasses see those of the tasks that take part."""

    def weights(self, step: Step) -> Tensor:
        """Weights `(T,)`; 1 for tasks that take no part."""
        losses_T = step.losses.values()
        active_T = (losses_T > 0) & losses_T.isfinite()
        weights_T = torch.ones_like(losses_T)
        if active_T.any():
            weights_T = torch.where(active_T, self.from_losses(losses_T, active_T, step), weights_T)
        return weights_T

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights `(T,)` from the losses; what is not active is not read."""
        raise NotImplementedError


@BALANCERS.register_module()
class FixedWeights(LossBalancer):
    """Weights that stay.

    Args:
        weights: {task: weight}; 1 for tasks that are not named.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.given = {
            task: check_range(f'FixedWeights.weights[{task!r}]', 0, weight)
            for task, weight in (weights or {}).items()}
        self.plain = not self.given

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Check the names."""
        super().start(tasks, model)
        self.check_names('weights', list(self.given))

    def weights(self, step: Step) -> Tensor:
        """As given."""
        return torch.tensor([self.given.get(task, 1.0) for task in self.tasks], dtype=torch.float64)


@BALANCERS.register_module()
class Curriculum(FixedWeights):
    """Tasks that join later: a task's weight is 0 until its step, the one that is given from then on.

    As VTDNet (Huang et al. 2023, arXiv 2309.04422) begins with the tasks that have most labels; which steps
    is ours. A head that waits gets gradients of zero.

    Args:
        begin: {task: step of the optimiser at which it joins}; the others are there from the start.
        weights: as in `FixedWeights`.
    """

    def __init__(
        self, begin: Mapping[str, int] | None = None, weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(weights)
        self.begin = {
            task: check_range(f'Curriculum.begin[{task!r}]', 0, step) for task, step in (begin or {}).items()}
        self.plain = self.plain and not self.begin

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Check the names, and that some task is there from the start."""
        super().start(tasks, model)
        self.check_names('begin', list(self.begin))
        if tasks and all(self.begin.get(task, 0) > 0 for task in tasks):
            raise ValueError(
                'balancer Curriculum.begin: expected a task that is there from step 0, found none')

    def weights(self, step: Step) -> Tensor:
        """As given, 0 for tasks that wait."""
        waits = [self.begin.get(task, 0) > step.losses.place.step for task in self.tasks]
        return super().weights(step).masked_fill(torch.tensor(waits), 0.0)


@BALANCERS.register_module()
class UncertaintyWeighting(LossBalancer):
    """Weights from learned uncertainties: L = sum_t exp(-s_t) L_t / 2 + s_t / 2.

    Kendall et al. 2018, arXiv 1705.07115, eq. 10 with s = log sigma^2. s learns by Adam of its own, without
    weight decay.

    Args:
        lr: of s.
        start: s before training; 0 gives weights of 0.5.
    """

    def __init__(self, lr: float = 1e-3, start: float = 0.0) -> None:
        super().__init__()
        self.lr, self.first = check_range('UncertaintyWeighting.lr', 0, lr), float(start)

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Begin at `start`."""
        super().start(tasks, model)
        self.state = {'s': new_vector(len(self.tasks), self.first)}

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights exp(-s) / 2 of this step; then s moves."""
        weights_T = torch.exp(-self.state['s']['value']) / 2
        adam_step(self.state['s'], 0.5 - weights_T * losses_T, self.lr, active_T)
        return weights_T


@BALANCERS.register_module()
class IMTLL(LossBalancer):
    """Impartial losses: L = sum_t exp(s_t) L_t - s_t, which pulls every exp(s_t) L_t to 1.

    Liu et al. 2021, ICLR, "Towards Impartial Multi-task Learning", eq. 5 with base e.

    Args:
        lr: of s, by Adam.
    """

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = check_range('IMTLL.lr', 0, lr)

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Begin with weights of 1."""
        super().start(tasks, model)
        self.state = {'s': new_vector(len(self.tasks))}

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights exp(s) of this step; then s moves."""
        weights_T = torch.exp(self.state['s']['value'])
        adam_step(self.state['s'], weights_T * losses_T - 1, self.lr, active_T)
        return weights_T


@BALANCERS.register_module()
class GeometricMean(LossBalancer):
    """The geometric mean of the losses: w_t = mean / (T L_t); scaling a loss changes no relative weight.

    GLS: Chennupati et al. 2019, arXiv 1904.08492, eq. 3.
    """

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """The gradient of (prod_t L_t)^(1/T)."""
        mean = losses_T[active_T].log().mean().exp()
        return mean / (active_T.sum() * losses_T)


@BALANCERS.register_module()
class DynamicWeightAverage(LossBalancer):
    """Weights by how fast losses fall: w_t = T softmax(r_t / temperature), r_t = L_t(e - 1) / L_t(e - 2).

    DWA: Liu et al. 2019, arXiv 1803.10704, eq. 7. L_t(e) is the mean over a pass of the data; the first two
    passes have weights of 1.

    Args:
        temperature: large makes the weights equal.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = check_range('DynamicWeightAverage.temperature', 1e-6, temperature)

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Begin without history."""
        super().start(tasks, model)
        self.state = {'means': [], **_empty_means(len(self.tasks))}

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights of the pass; the step's losses go into its mean."""
        state = self.state
        if step.losses.place.passes > state['passes']:
            state['means'] = [*state['means'], state['sum'] / state['count']][-2:]
            state |= _empty_means(len(self.tasks), step.losses.place.passes)
        state['sum'] = state['sum'] + torch.where(active_T, losses_T, 0.0)
        state['count'] = state['count'] + active_T

        if len(state['means']) < 2:
            return torch.ones_like(losses_T)
        before, last = state['means']
        # a task without labels in a whole pass (0 / 0) neither gains nor loses
        rates = (last / before).nan_to_num(1.0, 1.0, 1.0)
        return len(losses_T) * torch.softmax(rates / self.temperature, 0)


def _empty_means(size: int, passes: int = 0) -> dict[str, Any]:
    zeros = torch.zeros(size, dtype=torch.float64)
    return {'sum': zeros, 'count': zeros.clone(), 'passes': passes}


@BALANCERS.register_module()
class ImprovableGap(LossBalancer):
    """Weights by how much a loss can still improve: sum_t w_t log L_t, w = T softmax(L_t / base_t).

    IGB, version 1: Dai et al. 2023, arXiv 2307.15429. The base is a task's mean loss over one early pass, T
    the number of tasks whose base is known; until then a task's w_t is 1.

    Args:
        base_pass: which pass gives the base, from 0; for a task without labels in it, its first with labels.
    """

    def __init__(self, base_pass: int = 0) -> None:
        super().__init__()
        self.base_pass = int(check_range('ImprovableGap.base_pass', 0, base_pass))

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Begin without a base."""
        super().start(tasks, model)
        self.state = _empty_means(len(self.tasks))  # passes: which gives each task's base

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """The gradient of the logarithms: w_t / L_t."""
        passes, state = step.losses.place.passes, self.state
        begun_T = state['count'] > 0
        gives_T = active_T & (~begun_T | (torch.as_tensor(state['passes']) == passes))
        if passes >= self.base_pass:
            state['sum'] = state['sum'] + torch.where(gives_T, losses_T, 0.0)
            state['count'] = state['count'] + gives_T
            state['passes'] = torch.where(gives_T, passes, state['passes'])

        known_T = active_T & begun_T & ~gives_T
        gaps = (losses_T * state['count'] / state['sum']).masked_fill(~known_T, float('-inf'))
        # no base is known: a softmax over nothing, which is not taken
        return torch.where(known_T, known_T.sum() * torch.softmax(gaps, 0), 1.0) / losses_T


@BALANCERS.register_module()
class LossRatio(LossBalancer):
    """Every loss as large as the leading task's: w_t (L_lead / L_t), the ratio without gradient.

    UniLION 2025, arXiv 2511.01768 (its code). Without a loss of the leading task in a step the ratios are
    those of the last step.

    Args:
        leader: the task whose weight is 1.
        weights: {task: w}, 1 for tasks that are not named.
    """

    least_tasks = 2

    def __init__(self, leader: str = 'detection', weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.leader, self.given = leader, dict(weights or {})
        for task, weight in self.given.items():
            check_range(f'LossRatio.weights[{task!r}]', 0, weight)

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Check the names."""
        super().start(tasks, model)
        self.check_names('leader', [self.leader])
        self.check_names('weights', list(self.given))
        self.state = {'ratios': torch.ones(len(self.tasks), dtype=torch.float64)}

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights of this step's losses."""
        lead = self.tasks.index(self.leader)
        if active_T[lead]:
            ratios = torch.where(active_T, losses_T[lead] / losses_T, self.state['ratios'])
            self.state['ratios'] = ratios
        factors = [1.0 if task == self.leader else self.given.get(task, 1.0) for task in self.tasks]
        return self.state['ratios'] * torch.tensor(factors, dtype=torch.float64)


@BALANCERS.register_module()
class FAMO(LossBalancer):
    """Weights under which all losses fall at the same rate, without gradients of single tasks.

    Liu et al. 2023, arXiv 2306.03792, algorithm 1: z = softmax(xi); minimise c sum_t z_t log(L_t - floor_t),
    c = 1 / sum_t (z_t / (L_t - floor_t)); xi learns from how much each logarithm fell by the update, for
    which the same batch goes forward once more (no backward).

    Args:
        lr: of xi, by Adam.
        decay: weight decay of xi, the publication's gamma.
        floors: {task: the least its loss can be}, 0 for tasks that are not named.
    """

    least_tasks = 2

    def __init__(self, lr: float = 0.025, decay: float = 1e-3, floors: Mapping[str, float] | None = None
                 ) -> None:
        super().__init__()
        self.lr, self.decay = check_range('FAMO.lr', 0, lr), check_range('FAMO.decay', 0, decay)
        self.floors = dict(floors or {})

    def start(self, tasks: tuple[str, ...], model: nn.Module) -> None:
        """Begin with equal weights."""
        super().start(tasks, model)
        self.check_names('floors', list(self.floors))
        self.state = {'xi': new_vector(len(self.tasks))}

    def from_losses(self, losses_T: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights c z_t / (L_t - floor_t); xi moves after the update."""
        above_T = self._above(losses_T)
        xi = self.state['xi']['value'].masked_fill(~active_T, float('-inf'))
        z_T = torch.softmax(xi, 0)
        step.finish(lambda: self._learn(above_T, z_T, active_T, step))
        # the sum runs over tasks that take part
        return z_T / above_T / torch.where(active_T, z_T / above_T, 0.0).sum()

    def _above(self, losses_T: Tensor) -> Tensor:
        floors = torch.tensor([self.floors.get(task, 0.0) for task in self.tasks], dtype=torch.float64)
        return (losses_T - floors).clamp(min=0) + 1e-8

    def _learn(self, before_T: Tensor, z_T: Tensor, active_T: Tensor, step: Step) -> None:
        if not step.updated:
            return
        with torch.no_grad():
            after_T = self._above(step.again().values())
        fell_T = torch.where(active_T, before_T.log() - after_T.log(), 0.0)
        if not bool(fell_T.isfinite().all()):
            return
        # the gradient of <fell, softmax(xi)>
        gradient = z_T * (fell_T - (z_T * fell_T).sum())
        adam_step(self.state['xi'], gradient, self.lr, active_T, self.decay)
