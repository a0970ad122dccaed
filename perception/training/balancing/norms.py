"""Balancers that pull the norms of the tasks' gradients together: GradNorm, its variant MGN, FULLER."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...core.processes import process_count, summed
from ...registry import BALANCERS
from .base import Step, check_range, log_by_task
from .gramian import GramianBalancer
from .learned import adam_step, new_vector


class LearnedNorms(GramianBalancer):
    """Weights that learn until w_t |g_t| is what each task's pace asks for.

    The pace of a task is r_t = (L_t / L_t(0)) / mean of it over the tasks; L_t(0) is the first loss seen.

    Args:
        alpha: how strongly slow tasks are helped.
        lr: of the weights.
        options: of `GramianBalancer`.
    """

    def __init__(self, alpha: float = 1.5, lr: float = 0.025, **options: Any) -> None:
        super().__init__(**options)
        self.alpha = check_range(f'{self.name}.alpha', 0, alpha)
        self.lr = check_range(f'{self.name}.lr', 0, lr)

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Begin with weights of 1."""
        super().start(tasks, model)
        nothing = torch.full((len(self.tasks),), float('nan'), dtype=torch.float64)
        self.state = {'weights': new_vector(len(self.tasks), 1.0), 'first': nothing}

    def from_gramian(self, gramian_AA: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights of this step; then they learn, and are made to sum to the number of tasks."""
        vector = self.state['weights']
        weights_A = vector['value'][active_T].clone()
        losses_T = step.losses.values()
        known_T = self.state['first'].isfinite()
        self.state['first'] = torch.where(known_T | ~active_T, self.state['first'], losses_T)

        pace_A = (losses_T / self.state['first'])[active_T]
        norms_A = gramian_AA.diagonal().sqrt()
        targets_A = self.targets(weights_A * norms_A, pace_A / pace_A.mean())
        # of the sum of |w_t |g_t| - target_t|, the targets held fixed
        slope_T = torch.zeros_like(losses_T)
        slope_T[active_T] = torch.sign(weights_A * norms_A - targets_A) * norms_A
        self.learn(slope_T, active_T)
        return weights_A

    def targets(self, norms_A: Tensor, pace_A: Tensor) -> Tensor:
        """What the weighted norms should be."""
        raise NotImplementedError

    def learn(self, slope_T: Tensor, active_T: Tensor) -> None:
        """Move the weights."""
        adam_step(self.state['weights'], slope_T, self.lr, active_T)
        self.renormalise()

    def renormalise(self) -> None:
        """Keep the weights positive and their sum at T."""
        value = self.state['weights']['value'].clamp(min=1e-3)
        self.state['weights']['value'] = value * len(value) / value.sum()


@BALANCERS.register_module()
class GradNorm(LearnedNorms):
    """Target: the mean weighted norm times r_t^alpha.

    Chen et al. 2018, arXiv 1711.02257, algorithm 1; weights learn by Adam.
    """

    def targets(self, norms_A: Tensor, pace_A: Tensor) -> Tensor:
        """Of the publication's eq. 2."""
        return norms_A.mean() * pace_A ** self.alpha


@BALANCERS.register_module()
class MGN(LearnedNorms):
    """LeTFuser's GradNorm: target (mean norm times r_t)^alpha, weights move by SGD on a pass's last batch.

    Agand et al. 2023, arXiv 2310.13135 (its code). Between those batches it costs nothing: one backward of
    the weighted sum. In the parameters, heads learn from their own loss unweighted there, too.
    """

    def train(self, step: Step) -> None:
        """One backward with the weights as they stand; on the last batch of a pass they learn."""
        if step.losses.place.ends_pass:
            super().train(step)
            return

        weights = self.weights(step)
        log_by_task(step, 'weight', self.tasks, weights)
        hooks = [] if self.where == 'map' else [
            parameter.register_hook(lambda gradient, weight=weight: gradient / weight)
            for task, weight in zip(self.tasks, weights.tolist(), strict=True)
            for parameter in step.model.heads[task].parameters() if parameter.requires_grad]
        step.backward(step.losses.weighted(weights.tolist()))
        for hook in hooks:
            hook.remove()

    def weights(self, step: Step) -> Tensor:
        """As they stand, and from the gradients on the last batch of a pass."""
        if step.losses.place.ends_pass:
            return super().weights(step)
        return self.state['weights']['value'].clone()

    def targets(self, norms_A: Tensor, pace_A: Tensor) -> Tensor:
        """The power is over the whole product."""
        return (norms_A.mean() * pace_A) ** self.alpha

    def learn(self, slope_T: Tensor, active_T: Tensor) -> None:
        """A step of gradient descent."""
        vector = self.state['weights']
        vector['value'] = vector['value'] - self.lr * slope_T
        self.renormalise()


@BALANCERS.register_module()
class FULLER(GramianBalancer):
    """Gradients made alike in length, between the tasks first, then between the sensors.

    Huang et al. 2023, arXiv 2307.16617, in our reading: every task's gradient at the shared map gets the mean
    norm of the tasks; every sensor's gradient, where its map enters the fuser, gets the mean norm of the
    sensors, by a running mean of the norms in the steps before, so that no backward is added.

    Args:
        momentum: of the running norms of the sensors.
        options: of `GramianBalancer`.
    """

    def __init__(self, momentum: float = 0.9, **options: Any) -> None:
        super().__init__(**options)
        if self.where != 'map':
            raise ValueError("balancer FULLER.where: expected 'map', where sensors meet tasks, found "
                             f'{self.where!r}')
        self.momentum = check_range('FULLER.momentum', 0, momentum, 1)
        self._seen: dict[str, Tensor] = {}
        self._asked = False  # for the weights of the step whose backward comes

    def start(self, tasks: Sequence[str], model: nn.Module) -> None:
        """Listen to the gradients of the sensors' maps."""
        super().start(tasks, model)
        self.state = {'sensors': {}}
        for sensor, encoder in model.encoders.items():
            encoder.register_forward_hook(
                lambda _encoder, _inputs, feature, sensor=sensor: self._tap(sensor, feature.bev_BCYX))

    def solve(self, gramian_TT: Tensor, step: Step) -> Tensor:
        """From the gradients at the map; only then the backward makes the sensors' gradients alike."""
        self._asked = True
        return super().solve(gramian_TT, step)

    def from_gramian(self, gramian_AA: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Mean norm over own norm; afterwards the sensors' norms of this step go into their means."""
        step.finish(self._learn)
        norms_A = gramian_AA.diagonal().sqrt()
        return norms_A.mean() / norms_A

    def factors(self) -> dict[str, float]:
        """What each sensor's gradient is multiplied by; 1 where nothing is known yet."""
        norms = {sensor: norm for sensor, norm in self.state['sensors'].items() if norm > 0}
        if len(norms) < 2:
            return {}
        mean = sum(norms.values()) / len(norms)
        return {sensor: mean / norm for sensor, norm in norms.items()}

    def _tap(self, sensor: str, map_BCYX: Tensor) -> None:
        self._asked = False
        if map_BCYX.requires_grad:
            map_BCYX.register_hook(lambda gradient: self._scale(sensor, gradient))

    def _scale(self, sensor: str, gradient: Tensor) -> Tensor:
        if not self._asked:  # a free step of another balancer that this one is the base of
            return gradient
        self._seen[sensor] = gradient.float().square().sum()
        return gradient * self.factors().get(sensor, 1.0)

    def _learn(self) -> None:
        if not self._seen:
            return
        names = sorted(self._seen)
        squares = torch.stack([self._seen[name] for name in names])
        norms = (summed(squares) / process_count() ** 2).double().sqrt().tolist()
        self._seen = {}
        means = self.state['sensors']
        for name, norm in zip(names, norms, strict=True):
            if norm < float('inf'):  # also false for what is no number
                means[name] = self.momentum * means[name] + (1 - self.momentum) * norm \
                    if name in means else norm


@BALANCERS.register_module()
class ConFIG(GramianBalancer):
    """The direction with the same angle to every gradient, as long as their projections on it together.

    Liu et al. 2024, arXiv 2408.11104, eq. 4: v = unit(pinv(U) 1), U the unit gradients; g = (sum_t g_t v) v.
    """

    def from_gramian(self, gramian_AA: Tensor, active_T: Tensor, step: Step) -> Tensor:
        """Weights of the gradients; pinv(U) 1 = U^T pinv(U U^T) 1."""
        norms_A = gramian_AA.diagonal().sqrt()
        angles_AA = gramian_AA / (norms_A[:, None] * norms_A)
        direction_A = torch.linalg.pinv(angles_AA, hermitian=True).sum(1) / norms_A

        products_A = gramian_AA @ direction_A
        square = direction_A @ products_A
        # opposite gradients leave no direction: no step
        return direction_A * (products_A.sum() / square if square > 1e-12 else 0.0)
