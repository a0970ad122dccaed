"""Hooks for several processes: losses of the whole batch in the log, and norms that stay as they are."""
from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..core.processes import process_count, summed
from ..registry import HOOKS


@HOOKS.register_module()
class FrozenNormsHook(Hook):
    """Batch norms keep their running statistics while training.

    For fine-tuning with small batches, and for runs whose numbers must not depend on how a batch is dealt out
    to processes.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Put the norms into evaluation before every step: validation sets the model to training again."""
        for module in runner.model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()


@HOOKS.register_module()
class SharedLossHook(Hook):
    """Log the losses of the whole batch: the mean over all processes, not the first one's own.

    The runner adds it on its own, before everything that reads them, when there are several processes.
    """

    priority = 'HIGHEST'

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Average in one go; every process has the same names in the same order."""
        if outputs:
            losses = torch.stack([value.detach().float() for value in outputs.values()])
            mean = summed(losses) / process_count()
            outputs.update(zip(outputs, mean.unbind(), strict=True))
