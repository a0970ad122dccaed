"""Hooks for several processes: logs of the whole batch, and norms whose numbers do not depend on who has
which sample."""
from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..core.processes import process_count, summed
from ..registry import HOOKS


@HOOKS.register_module()
class FrozenNormsHook(Hook):
    """Batch norms keep their running statistics while training: for fine-tuning with small batches, and for
    runs whose numbers must not depend on how a batch is dealt out to processes.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Said before every step: validation sets the whole model to training again."""
        for module in runner.model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()


@HOOKS.register_module()
class SharedLossHook(Hook):
    """The losses that are logged are those of the whole batch: the mean over all processes instead of the
    first one's own.

    The runner adds it on its own, before everything that reads them, when there are several processes.
    """

    priority = 'HIGHEST'

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Average in one go; every process has the same names in the same order."""
        if outputs:
            mean = (
                summed(torch.stack([value.detach().float() for value in outputs.values()])) / process_count()
            )
            outputs.update(zip(outputs, mean.unbind(), strict=True))
