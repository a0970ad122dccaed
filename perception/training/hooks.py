"""Hooks that log gradients of tasks, the wait for data and the use of experts, and one that ends pasting."""
from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ..registry import HOOKS
from .balancing.gradients import cosines, pairs


@HOOKS.register_module()
class TaskGradientNormHook(Hook):
    """Log the norm of each task's gradient at the shared map, and the cosine of each pair.

    `train/gradient_at_trunk/<task>` and `train/gradient_cosine/<task>-<task>`. The shared map is the trunk's
    output. The norm tells which task pulls hardest (the quantity GradNorm balances: Chen et al. 2018, arXiv
    1711.02257), a cosine below zero that two tasks pull against each other. Both are taken from the
    training's own forward, so they cost one more backward of the heads and leave no trace. Where they cannot
    be taken (nothing before the heads learns, or the memory does not suffice) they are left out, and that is
    said once.

    Args:
        interval: iterations between two measurements.
    """

    def __init__(self, interval: int = 100) -> None:
        self.interval = interval
        self._tap: TrunkTap | None = None
        self._left_out = False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Listen to the forward that is about to come."""
        if self.every_n_train_iters(runner, self.interval) and not self._left_out:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            scaler = getattr(runner.optim_wrapper, 'scaler', None)
            self._tap = TrunkTap(model, scaler.get_scale() if scaler else 1.0)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Log what was heard."""
        if self._tap is None:
            return
        tap, self._tap = self._tap, None
        tap.remove()
        for task, norm in tap.norms.items():
            runner.message_hub.update_scalar(f'train/gradient_at_trunk/{task}', norm)
        for names, cosine in tap.cosines.items():
            runner.message_hub.update_scalar(f'train/gradient_cosine/{names}', cosine)
        if tap.trouble is not None:
            self._left_out = True
            runner.logger.warning(f'train/gradient_at_trunk is left out from now on: {tap.trouble}')


class TrunkTap:
    """Takes the gradients' norms and angles from one forward of a `MultiTaskPerception` in mode 'loss'.

    Args:
        model: listened to until `remove`.
        scale: of the losses meanwhile: float16 would lose small gradients.

    Attributes:
        norms: L2 norm of d(sum of a task's losses) / d(trunk output), by task.
        cosines: of the gradients of each pair, by 'task-task'; 0 where one of them is zero.
        trouble: why there are none.
    """

    def __init__(self, model: torch.nn.Module, scale: float = 1.0) -> None:
        self.norms: dict[str, float] = {}
        self.cosines: dict[str, float] = {}
        self.trouble: str | None = None
        self._scale = scale
        self._shared: Tensor | None = None
        self._handles = [
            model.trunk.register_forward_hook(self._keep), model.register_forward_hook(self._measure)]

    def remove(self) -> None:
        """Listen no longer."""
        for handle in self._handles:
            handle.remove()
        self._shared = None

    def _keep(self, trunk: torch.nn.Module, inputs: tuple, output: Tensor) -> None:
        self._shared = output

    def _measure(self, model: torch.nn.Module, inputs: tuple, losses: object) -> None:
        if not isinstance(losses, dict) or self._shared is None:
            return
        if not self._shared.requires_grad:
            self.trouble = 'encoders, fuser and trunk are frozen: no gradient reaches the shared map'
            return

        by_task: dict[str, list[Tensor]] = defaultdict(list)
        for name, value in losses.items():
            _, owner, _ = name.split('/', 2)
            if owner in model.heads:
                by_task[owner].append(value)
        try:
            with torch.autocast(self._shared.device.type, enabled=False):
                gradients = {task: self._gradient(terms) for task, terms in by_task.items()}
            self.norms = {task: float(row.norm()) / self._scale for task, row in gradients.items()}
            rows = torch.stack(list(gradients.values())).flatten(1)
            angles = cosines(rows @ rows.T)
            self.cosines = {names: float(angles[i, j]) for i, j, names in pairs(list(gradients))}
        except RuntimeError as error:  # out of memory; a head that repeats its forward in its backward
            self.norms, self.trouble = {}, f'{type(error).__name__}: {str(error).splitlines()[0]}'

    def _gradient(self, terms: list[Tensor]) -> Tensor:
        total = torch.stack([term.float() for term in terms]).sum() * self._scale
        gradient = None
        if total.requires_grad:
            gradient, = torch.autograd.grad(total, self._shared, retain_graph=True, allow_unused=True)
        return (torch.zeros_like(self._shared) if gradient is None else gradient).float()


@HOOKS.register_module()
class LoaderWaitHook(Hook):
    """Log the fraction of the time that training waited for data, `train/loader_wait_share`."""

    def __init__(self) -> None:
        self.waited_s = self.worked_s = 0.0
        self._mark_s = time.perf_counter()

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clock."""
        self._mark_s = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """The batch has come: everything since the last iteration was waiting."""
        now = time.perf_counter()
        self.waited_s += now - self._mark_s
        self._mark_s = now

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """The step is done."""
        now = time.perf_counter()
        self.worked_s += now - self._mark_s
        self._mark_s = now
        runner.message_hub.update_scalar(
            'train/loader_wait_share', self.waited_s / (self.waited_s + self.worked_s)
        )


@HOOKS.register_module()
class PasteOffHook(Hook):
    """Paste no objects in the last passes over the data, so that a training ends on frames as they are.

    As published recipes do (PointAugmenting, Wang et al., CVPR 2021, by the name of fade strategy). The pass
    is counted by the sampler, so a resumed training stops in the same one; workers that outlive a pass hear
    of it. Counted in steps, a training has as many passes as its steps need.

    Args:
        last_epochs: how many passes are without.

    Raises:
        ValueError: not a whole number from 0 on.
    """

    def __init__(self, last_epochs: int = 5) -> None:
        if type(last_epochs) is not int or last_epochs < 0:
            raise ValueError(f'last_epochs: found {last_epochs!r}, expected a whole number from 0 on')
        self.last_epochs = last_epochs

    def before_train(self, runner: Runner) -> None:
        """Tell every transform that pastes from which pass on it does not."""
        loop = runner.train_loop
        passes = loop.max_epochs
        if not getattr(loop, 'counts_epochs', True):
            passes = math.ceil(loop.max_iters / len(loop.dataloader))

        pasting = [one for one in transforms_of(loop.dataloader.dataset) if hasattr(one, 'stop_from')]
        first = max(0, passes - self.last_epochs)
        for transform in pasting:
            transform.stop_from(first)
        if pasting:
            runner.logger.info(f'objects are pasted in the first {first} of {passes} passes over the data')


def transforms_of(dataset: Any) -> Iterator[Any]:
    """Every transform of a dataset and of those that it is made of."""
    for part in (*getattr(dataset, 'parts', ()), getattr(dataset, 'dataset', None)):
        if part is not None:
            yield from transforms_of(part)
    pending = list(getattr(getattr(dataset, 'pipeline', None), 'transforms', ()))
    while pending:
        transform = pending.pop(0)
        yield transform
        pending += getattr(transform, 'transforms', ())


@HOOKS.register_module()
class ExpertUsageHook(Hook):
    """Log how evenly mixtures of experts are used.

    A mixture is a module with `usage() -> (E,)`, the fraction of choices that fell on each expert since the
    last call. Scalars: `train/experts/effective`, the number of experts in effective use (exponential of the
    entropy of the fractions; Jost 2006, Oikos 113), mean over the modules, and `train/experts/busiest`, the
    largest fraction of any. The fractions of every module go to the log at the end of an epoch.

    Args:
        interval: iterations between two readings of the counts.
    """

    def __init__(self, interval: int = 100) -> None:
        self.interval = interval
        self.fractions: dict[str, list[float]] = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Read and reset the counts."""
        if self.every_n_train_iters(runner, self.interval):
            self.collect(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the fractions of the last `interval` iterations."""
        if not self.fractions:
            self.collect(runner)
        for name, fractions in self.fractions.items():
            runner.logger.info(f'experts {name}: ' + ' '.join(f'{fraction:.3f}' for fraction in fractions))

    def collect(self, runner: Runner) -> None:
        """Read the fractions of every module that has some and log the two scalars."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        usage = {name: module.usage() for name, module in model.named_modules() if hasattr(module, 'usage')}
        usage = {name: fractions_E for name, fractions_E in usage.items() if fractions_E.sum() > 0}
        if not usage:
            return

        self.fractions = {name: fractions_E.tolist() for name, fractions_E in usage.items()}
        effective = [torch.special.entr(fractions_E).sum().exp() for fractions_E in usage.values()]
        busiest = max(float(fractions_E.max()) for fractions_E in usage.values())
        runner.message_hub.update_scalar('train/experts/effective', float(torch.stack(effective).mean()))
        runner.message_hub.update_scalar('train/experts/busiest', busiest)
