"""One training step with a balancer in it: forward, the balancer's gradient, update."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from .base import Balancer, Step, StepPlace, TaskLosses
from .gradients import forward_apart


class BalancedTraining:
    """What a loop calls in place of the model's `train_step`.

    Args:
        balancer: chooses the gradient.
        model: the network, without wrapper.

    Raises:
        ValueError: the balancer does not fit the model.
    """

    def __init__(self, balancer: Balancer, model: nn.Module) -> None:
        self.balancer = balancer
        self.model = model
        self.shared_map: Tensor | None = None
        self.tasks = tuple(getattr(model, 'heads', {}))
        balancer.start(self.tasks, model)
        if isinstance(getattr(model, 'trunk', None), nn.Module):
            model.trunk.register_forward_hook(self._keep)

    def train_step(
        self, wrapped: nn.Module, data: Any, optim_wrapper: OptimWrapper, place: StepPlace
    ) -> dict[str, Tensor]:
        """Train on a batch; as mmengine's `BaseModel.train_step`.

        Args:
            wrapped: the model, in DistributedDataParallel on several processes.
            data: the batch as the loader gives it.
            optim_wrapper: clips and updates.
            place: where in the training.

        Returns:
            Losses for the log, unweighted.
        """
        step, log_vars = self.forward(wrapped, data, optim_wrapper, place)
        self.balancer.train(step)
        step.update()
        self.shared_map = None

        hub = MessageHub.get_current_instance()
        for name, value in step.log.items():
            hub.update_scalar(f'train/balance/{name}', value)
        return log_vars

    def forward(
        self, wrapped: nn.Module, data: Any, optim_wrapper: OptimWrapper, place: StepPlace
    ) -> tuple[RunningStep, dict[str, Tensor]]:
        """The first half of `train_step`: a step that waits for the balancer, and losses for the log."""
        with optim_wrapper.optim_context(wrapped), self.balancer.around_forward():
            inputs = self.model.data_preprocessor(data, True)
            terms = wrapped(**inputs, mode='loss')
        _, log_vars = self.model.parse_losses(terms)

        step = RunningStep(self, inputs, optim_wrapper, place)
        step.losses = self.losses_of(terms, place, step.scale)
        return step, log_vars

    def losses_of(self, terms: dict[str, Tensor], place: StepPlace, scale: float) -> TaskLosses:
        """The losses of a forward that has just run."""
        return TaskLosses(terms, self.tasks, self.shared_map, place, scale)

    def _keep(self, trunk: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.shared_map = output


class RunningStep(Step):
    """The step of a `BalancedTraining`.

    Args:
        training: whose step it is.
        inputs: the pre-processed batch.
        optim_wrapper: clips and updates.
        place: where in the training.
    """

    def __init__(
        self, training: BalancedTraining, inputs: dict[str, Any], optim_wrapper: OptimWrapper,
        place: StepPlace,
    ) -> None:
        self.model = training.model
        self.log: dict[str, float] = {}
        self._training, self._inputs = training, inputs
        self._wrapper, self._place = optim_wrapper, place
        self._last: list[Callable[[], None]] = []

        scaler = getattr(optim_wrapper, 'scaler', None) or getattr(optim_wrapper, 'loss_scaler', None)
        self.scale = float(scaler.get_scale()) if scaler is not None else 1.0
        # 1 over the number of accumulated batches, as long as this batch's backward has not been
        self.share = float(optim_wrapper.scale_loss(torch.ones(())))

    def backward(self, loss: Tensor) -> None:
        """Backward as without a balancer: on several processes gradients are averaged here."""
        self._wrapper.backward(self._wrapper.scale_loss(loss))

    def add(self, parameters: Sequence[nn.Parameter], change: Tensor) -> None:
        """Add to the gradients, in their scale."""
        change = change * (self.scale * self.share)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, change.split(sizes), strict=True):
            part = part.view_as(parameter).to(parameter.dtype)
            if parameter.grad is None:
                parameter.grad = part.clone()
            else:
                parameter.grad.add_(part)

    def again(self) -> TaskLosses:
        """Another forward of the same batch, whose statistics are forgotten."""
        cast_to = getattr(self._wrapper, 'cast_to', None)
        device = next(self.model.parameters()).device.type
        # not through a wrapper, which would wait for a backward
        with torch.autocast(device, cast_to, enabled=cast_to is not None):
            terms = forward_apart(self.model, self._inputs)
        return self._training.losses_of(terms, self._place, self.scale)

    def finish(self, call: Callable[[], None]) -> None:
        """Call something at the end of the step."""
        self._last.append(call)

    def update(self) -> None:
        """Update the weights where enough batches have been accumulated, and end the step."""
        self.updated = False
        if self._wrapper.should_update():
            # a wrapper may leave out an update that is not finite
            seen = self._wrapper.optimizer.register_step_post_hook(self._has_stepped)
            self._wrapper.step()
            seen.remove()
            self._wrapper.zero_grad()
        for call in self._last:
            call()

    def _has_stepped(self, *_: Any) -> None:
        self.updated = True


def balanced_training(balancer: Balancer | None, wrapped: nn.Module) -> BalancedTraining | None:
    """A `BalancedTraining` of a model that may be wrapped; None without a balancer and for the plain sum."""
    if balancer is None or balancer.plain:
        return None
    return BalancedTraining(balancer, wrapped.module if is_model_wrapper(wrapped) else wrapped)
