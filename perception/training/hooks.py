"""Hooks: what each task's gradient weighs, how long the loader keeps the model waiting, how evenly experts
are used."""
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
    """Log the norm of each task's gradient at the shared map (the trunk's output),
    `train/gradient_at_trunk/<task>`.

    It costs one more forward and a backward of the heads, every `interval` iterations; it tells which task
    pulls hardest (the quantity GradNorm balances: Chen et al. 2018, arXiv 1711.02257).
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
    """L2 norm of d(sum of a task's losses) / d(trunk output), per task, on one batch of a
    `MultiTaskPerception`."""
    captured: list[Tensor] = []
    handle = model.trunk.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
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
        (gradient,) = torch.autograd.grad(
            torch.stack([t.float() for t in terms]).sum(), captured[0], retain_graph=True, allow_unused=True
        )
        norms[task] = 0.0 if gradient is None else float(gradient.float().norm())
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(statistics[name])
    return norms


@HOOKS.register_module()
class LoaderWaitHook(Hook):
    """Log the share of the time that training waited for data, `train/loader_wait_share`."""

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
    """Log how evenly mixtures of experts are used: modules with `usage() -> (E,)` shares of choices since the
    last call.

    Scalars, every `interval` iterations: `train/experts/effective`, the number of experts in effective use
    (exponential of the entropy of the shares; Jost 2006, Oikos 113), mean over the modules, and
    `train/experts/busiest`, the largest share of any. The shares of every module go to the log at the end of
    an epoch.
    """

    def __init__(self, interval: int = 100) -> None:
        self.interval = interval
        self.shares: dict[str, list[float]] = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Read and reset the counts."""
        if self.every_n_train_iters(runner, self.interval):
            self.collect(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the shares of the last `interval` iterations."""
        if not self.shares:
            self.collect(runner)
        for name, shares in self.shares.items():
            runner.logger.info(f'experts {name}: ' + ' '.join(f'{share:.3f}' for share in shares))

    def collect(self, runner: Runner) -> None:
        """Shares of every module that has some; logs the two scalars."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        found = {name: module.usage() for name, module in model.named_modules() if hasattr(module, 'usage')}
        found = {name: share for name, share in found.items() if share.sum() > 0}
        if not found:
            return
        self.shares = {name: share.tolist() for name, share in found.items()}
        effective = [torch.special.entr(share).sum().exp() for share in found.values()]
        runner.message_hub.update_scalar('train/experts/effective', float(torch.stack(effective).mean()))
        runner.message_hub.update_scalar(
            'train/experts/busiest', max(float(share.max()) for share in found.values())
        )
