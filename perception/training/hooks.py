"""Hooks that log gradients of tasks, the wait for data, and the use of experts."""
from __future__ import annotations

import time
from collections import defaultdict

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ..registry import HOOKS


@HOOKS.register_module()
class TaskGradientNormHook(Hook):
    """Log the norm of each task's gradient at the shared map: `train/gradient_at_trunk/<task>`.

    The shared map is the trunk's output. The norm tells which task pulls hardest (the quantity GradNorm
    balances: Chen et al. 2018, arXiv 1711.02257); it costs one more forward and a backward of the heads.

    Args:
        interval: iterations between two measurements.
    """

    def __init__(self, interval: int = 100) -> None:
        self.interval = interval

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Measure on the batch that is about to be trained on, leaving no trace in the gradients."""
        if not self.every_n_train_iters(runner, self.interval) or data_batch is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for task, norm in task_gradient_norms(model, data_batch).items():
            runner.message_hub.update_scalar(f'train/gradient_at_trunk/{task}', norm)


def task_gradient_norms(model: torch.nn.Module, data_batch: dict) -> dict[str, float]:
    """L2 norm of d(sum of a task's losses) / d(trunk output), per task, on one batch.

    Args:
        model: a `MultiTaskPerception`; its buffers and gradients stay as they are.
        data_batch: as the loader gives it.
    """
    captured: list[Tensor] = []
    handle = model.trunk.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
    # a forward in training mode moves the running statistics of norms
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        data = model.data_preprocessor(data_batch, True)
        losses = model(**data, mode='loss')
    finally:
        handle.remove()

    by_task: dict[str, list[Tensor]] = defaultdict(list)
    for name, value in losses.items():
        _, owner, _ = name.split('/', 2)
        if owner in model.heads:
            by_task[owner].append(value)

    norms = {}
    for task, terms in by_task.items():
        total = torch.stack([term.float() for term in terms]).sum()
        (gradient,) = torch.autograd.grad(total, captured[0], retain_graph=True, allow_unused=True)
        norms[task] = 0.0 if gradient is None else float(gradient.float().norm())

    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(statistics[name])
    return norms


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
