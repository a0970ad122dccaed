"""What a model remembers of the drives it is in: kept by a checkpoint, started over by a test."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_dist_info
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ...registry import HOOKS
from ..loaders import check_order, short_clips


def gathered_memories(memory: Any) -> dict[str, Any]:
    """{'memories': one entry a process} of all training drives; all processes call it.

    Empty without a memory, and in all processes but the first.
    """
    if memory is None:
        return {}
    gathered = all_gather_object(memory.streams[True].state())
    return {'memories': gathered} if get_dist_info()[0] == 0 else {}


def restore_memories(memory: Any, saved: Sequence[Any] | None, device: torch.device | str) -> list[str]:
    """Go on with this process's drives.

    Returns:
        What could not be kept.
    """
    if memory is None:
        return []
    rank, processes = get_dist_info()
    found = 'none' if saved is None else len(saved)
    if found != processes:
        return [f'memories: of {found} processes in the checkpoint, {processes} now: they start over']

    memory.streams[True].load(saved[rank], device)
    return []


@HOOKS.register_module()
class MemoryHook(Hook):
    """A model with a memory sees frames in an order that it can use.

    Every validation and test begins without memories; those of the training are other ones. The runner adds
    it on its own.

    Raises:
        ValueError: another order, see `check_order`.
    """

    def before_train(self, runner: Runner) -> None:
        """Look at the training's order."""
        check_order('train_dataloader', runner.train_dataloader, memory_of(runner), train=True)
        if note := short_clips(runner.train_dataloader, memory_of(runner)):
            runner.logger.warning(f'train_dataloader: {note}')

    def before_val_epoch(self, runner: Runner) -> None:
        """Look at the order, and start over."""
        self._begin('val_dataloader', runner.val_dataloader, memory_of(runner))

    def before_test_epoch(self, runner: Runner) -> None:
        """Look at the order, and start over."""
        self._begin('test_dataloader', runner.test_dataloader, memory_of(runner))

    def _begin(self, name: str, loader: DataLoader, memory: Any) -> None:
        check_order(name, loader, memory, train=False)
        if memory is not None:
            memory.streams[False].forget()


def memory_of(runner: Runner) -> Any:
    """The memory of a runner's model, also of one that an engine runs; None without."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return getattr(model, 'memory', None)
