"""Hooks: what each task's gradient weighs, and how long the loader keeps the model waiting."""
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
    """Log the norm of each task's gradient at the shared map (the trunk's output), `train/gradient_at_trunk/<task>`.

    It costs one more forward and a backward of the heads, every `interval` iterations; it tells which task pulls hardest
    (the quantity GradNorm balances: Chen et al. 2018, arXiv 1711.02257).
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
    """L2 norm of d(sum of a task's losses) / d(trunk output), per task, on one batch of a `MultiTaskPerception`."""
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
        gradient, = torch.autograd.grad(torch.stack([t.float() for t in terms]).sum(), captured[0], retain_graph=True,
                                        allow_unused=True)
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
        runner.message_hub.update_scalar('train/loader_wait_share', self.waited_s / (self.waited_s + self.worked_s))
