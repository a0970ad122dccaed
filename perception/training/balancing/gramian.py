"""Balancers from the T x T products of the tasks' gradients: torchjd's solvers, weights for our backward.

By default the gradients are those at the shared map, the trunk's output: one backward of each head, whose own
gradients are kept and weighted, then one backward of what lies below the map. `where='parameters'` takes them
in all shared parameters, as most publications do: T backwards of the whole network, T copies of its gradient,
and heads that learn from their own loss unweighted.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ...registry import BALANCERS
from .base import Step, WeightBalancer, check_range, log_by_task, warn
from .gradients import (
    BranchGradients,
    cosines,
    map_gradients,
    map_gramian,
    pairs,
    parameter_gradients,
    parameter_gramian,
    say_memory,
    shared_parameters,
)

PLACES = ('map', 'parameters')
SCALES = ('published', 'tasks')


class GramianBalancer(WeightBalancer):
    """A balancer from the products of the tasks' gradients.

    A task whose gradient is zero in a step (no labels) takes no part and has weight 1. One task that takes
    part alone keeps its gradient. Products that are not finite give weights of 1 and move no state: the
    optimiser leaves such an update out.

    Args:
        where: 'map' or 'parameters'.
        scale: 'published' leaves the weights as the publication has them, some of which sum to 1 or less;
            'tasks' makes them sum to the number of tasks, as fixed weights do.
    """

    least_tasks = 2
    needs: tuple[str, ...] = ()

    def __init__(self, where: str = 'map', scale: str = 'published') -> None:
        super().__init__()
        for argument, value, known in (('where', where, PLACES), ('scale', scale, SCALES)):
            if value not in known:
                raise ValueError(
                    f'balancer {self.name}.{argument}: expected one of {", ".join(known)}, found {value!r}')
        self.where, self.scale = where, scale
        self.uses_map = where == 'map'
        self.parameters: list[nn.Parameter] = []
        for package in self.needs:
            require_package(self.name, package)

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Find what the tasks share; the memory is said where it is large."""
        super().start(tasks, model)
        if self.where == 'parameters':
            self.parameters = list(shared_parameters(model).values())
            say_memory(self.name, len(self.tasks), self.parameters)

    def train(self, step: Step) -> None:
        """One backward; in the parameters, the shared gradient becomes the weighted sum of the tasks'."""
        if self.where == 'map':
            self.train_at_map(step)
            return

        gradients_TP = parameter_gradients(step.losses, self.parameters)
        weights = self.solve(parameter_gramian(gradients_TP), step)
        log_by_task(step, 'weight', self.tasks, weights)
        step.backward(step.losses.weighted([1.0] * len(self.tasks)))
        # heads have their own gradient, what is shared the weighted one
        step.add(self.parameters, (weights.to(gradients_TP) - 1) @ gradients_TP)

    def train_at_map(self, step: Step) -> None:
        """One backward of each task down to the map, and one of all from there on."""
        branches = BranchGradients.of(step.losses)
        weights = self.solve(map_gramian(branches.rows_TP), step)
        log_by_task(step, 'weight', self.tasks, weights)
        step.backward(branches.weighted(step.losses, weights.tolist()))

    def weights(self, step: Step) -> Tensor:
        """From the gradients at the shared map."""
        return self.solve(map_gramian(map_gradients(step.losses)), step)

    def solve(self, gramian_TT: Tensor, step: Step) -> Tensor:
        """Weights `(T,)` from the products, which go to the log."""
        log_gradients(step, self.tasks, gramian_TT)
        weights_T = torch.ones(len(self.tasks), dtype=torch.float64)
        if not bool(gramian_TT.isfinite().all()):
            warn(f'balancer {self.name}: a gradient is not finite: weights of 1 in this step')
            return weights_T

        active_T = gramian_TT.diagonal() > 0
        if int(active_T.sum()) < 2:
            return weights_T
        solved = self.from_gramian(gramian_TT[active_T][:, active_T], active_T, step)
        if not bool(solved.isfinite().all()):
            warn(f'balancer {self.name}: no finite weights for these gradients: weights of 1 in this step')
            return weights_T

        if self.scale == 'tasks' and float(solved.sum()) > 0:
            solved = solved * len(solved) / solved.sum()
        weights_T[active_T] = solved
        return weights_T

    def from_gramian(self, gramian_AA: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights `(A,)` of the A tasks that take part, two at least, in float64.

        Args:
            gramian_AA: products of their gradients.
            active_T: which of the T tasks they are.
            step: the step.
        """
        raise NotImplementedError


def log_gradients(step: Step, tasks: Sequence[str], gramian_TT: Tensor) -> None:
    """Norm of each task's gradient and cosine of each pair, into the log."""
    log_by_task(step, 'norm', tasks, gramian_TT.diagonal().clamp(min=0).sqrt())
    angles_TT = cosines(gramian_TT)
    step.log |= {f'cosine/{name}': float(angles_TT[i, j]) for i, j, name in pairs(tasks)}


def require_package(owner: str, package: str) -> None:
    """See that an optional package can be imported.

    Raises:
        ModuleNotFoundError: names the extra.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise ModuleNotFoundError(
            f'balancer {owner}: needs the package {package!r}, which cannot be imported ({error}); it comes '
            'with the extra [balance]', name=package) from error


class TorchJDBalancer(GramianBalancer):
    """A balancer whose weights are a `Weighting` of torchjd, of which nothing else is used."""

    needs = ('torchjd.aggregation',)

    def from_gramian(self, gramian_AA: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights of the publication."""
        from torchjd import aggregation

        with drawn_alike(step.losses.place.step):
            return self.weighting(aggregation, len(gramian_AA))(gramian_AA)

    def weighting(self, torchjd: Any, size: int) -> Any:
        """A `torchjd.aggregation.Weighting` for `size` tasks."""
        raise NotImplementedError


@contextmanager
def drawn_alike(step: int) -> Iterator[None]:
    """Random numbers that depend on the step alone: equal on all processes, and in a resumed training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step)
        yield


@BALANCERS.register_module()
class PCGrad(TorchJDBalancer):
    """Projects each task's gradient off those that it conflicts with, in random order, and sums.

    Yu et al. 2020, arXiv 2001.06782, algorithm 1. Without conflict all weights are 1.
    """

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd."""
        return torchjd.PCGradWeighting()


@BALANCERS.register_module()
class MGDA(TorchJDBalancer):
    """The point of least norm in the convex hull of the gradients; weights sum to 1.

    Sener and Koltun 2018, arXiv 1810.04650, by Frank and Wolfe's method.

    Args:
        tolerance: the iteration ends when a step is shorter.
        iterations: at most.
        options: of `GramianBalancer`.
    """

    def __init__(self, tolerance: float = 1e-5, iterations: int = 250, **options: Any) -> None:
        super().__init__(**options)
        self.tolerance = check_range('MGDA.tolerance', 0, tolerance)
        self.iterations = int(check_range('MGDA.iterations', 1, iterations))

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd."""
        return torchjd.MGDAWeighting(self.tolerance, self.iterations)


@BALANCERS.register_module()
class CAGrad(TorchJDBalancer):
    """The best worst improvement of any task within c of the mean gradient.

    Liu et al. 2021, arXiv 2110.14048, algorithm 1 (torchjd solves it by cvxpy, some 30 ms a step).

    Args:
        c: radius in norms of the mean gradient; 0 gives the mean.
        options: of `GramianBalancer`.
    """

    needs = ('torchjd.aggregation', 'cvxpy', 'clarabel')

    def __init__(self, c: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.c = check_range('CAGrad.c', 0, c)

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd."""
        return torchjd.CAGradWeighting(self.c)


@BALANCERS.register_module()
class IMTLG(TorchJDBalancer):
    """The combination whose projection on every task's gradient is the same; weights sum to 1.

    Liu et al. 2021, ICLR, "Towards Impartial Multi-task Learning", section 3.2. Weights may be negative.
    """

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd."""
        return torchjd.IMTLGWeighting()


@BALANCERS.register_module()
class AlignedMTL(TorchJDBalancer):
    """Gradients rotated as little as possible to be orthogonal and equally long (condition number 1), summed.

    Senushkin et al. 2023, arXiv 2305.19000, algorithm 1.

    Args:
        length: 'min', 'median' or 'rmse' of the singular values.
        options: of `GramianBalancer`.
    """

    def __init__(self, length: str = 'min', **options: Any) -> None:
        super().__init__(**options)
        if length not in ('min', 'median', 'rmse'):
            raise ValueError(
                f"balancer AlignedMTL.length: expected 'min', 'median' or 'rmse', found {length!r}")
        self.length = length

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd, with a preference of 1 for every task, as published."""
        return torchjd.AlignedMTLWeighting(torch.ones(size, dtype=torch.float64), self.length)


@BALANCERS.register_module()
class UPGrad(TorchJDBalancer):
    """Mean of the gradients, each projected on the cone in which no task gets worse.

    Quinton and Rey 2024, arXiv 2406.16232. Without conflict all weights are 1 / T.
    """

    needs = ('torchjd.aggregation', 'quadprog', 'qpsolvers')

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd."""
        return torchjd.UPGradWeighting()


@BALANCERS.register_module()
class DualProj(TorchJDBalancer):
    """The mean gradient, projected on the cone in which no task gets worse.

    Lopez-Paz and Ranzato 2017, arXiv 1706.08840 (GEM), for tasks. Without conflict all weights are 1 / T.
    """

    needs = ('torchjd.aggregation', 'quadprog', 'qpsolvers')

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd."""
        return torchjd.DualProjWeighting()


@BALANCERS.register_module()
class FairGrad(TorchJDBalancer):
    """Weights of alpha-fair utility: (G w)_t = w_t^(-1 / alpha), G the products of the gradients.

    Ban and Ji 2024, arXiv 2402.15638, eq. 4.

    Args:
        alpha: 1 is proportional fairness, larger helps the worst task; 0 gives 1 / T.
        options: of `GramianBalancer`.
    """

    def __init__(self, alpha: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.alpha = check_range('FairGrad.alpha', 0, alpha)

    def weighting(self, torchjd: Any, size: int) -> Any:
        """Of torchjd."""
        return torchjd.FairGradWeighting(self.alpha)


@BALANCERS.register_module()
class NashMTL(TorchJDBalancer):
    """The bargaining solution: G w = 1 / w, G the products of the gradients over their norm.

    Navon et al. 2022, arXiv 2202.01017. That is FairGrad's equation with alpha = 1, whose solver needs
    neither cvxpy nor ecos and keeps no state.

    Args:
        max_norm: longest combined gradient, as the publication's code has it; None leaves its length.
        options: of `GramianBalancer`.
    """

    def __init__(self, max_norm: float | None = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.max_norm = max_norm if max_norm is None else check_range('NashMTL.max_norm', 1e-12, max_norm)

    def from_gramian(self, gramian_AA: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Solve, then shorten."""
        weights = super().from_gramian(gramian_AA / gramian_AA.norm(), active_T, step)
        length = float((weights @ gramian_AA @ weights).clamp(min=0).sqrt())
        if self.max_norm is not None and length > self.max_norm:
            weights = weights * self.max_norm / length
        return weights

    def weighting(self, torchjd: Any, size: int) -> Any:
        """FairGrad's of torchjd."""
        return torchjd.FairGradWeighting(1.0)

