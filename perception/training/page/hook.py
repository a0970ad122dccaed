"""Writes the page while a training runs."""
from __future__ import annotations

import time

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS
from .html import write_page


@HOOKS.register_module()
class TrainingPageHook(Hook):
    """Write `training.html` into the work dir now and then, in the first process.

    Losses by task, norms and cosines of the tasks' gradients, scores and pictures on one page
    (`perception training-page` writes the same at any time). That takes a second or two, so it goes by the
    clock and not by steps; a training that is shorter than `every_s` has none.

    Args:
        every_s: least seconds between two pages.
    """

    priority = 'VERY_LOW'

    def __init__(self, every_s: float = 1200.0) -> None:
        self.every_s = every_s
        self._began_s = self._written_s = time.monotonic()
        self._has_warned = False

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Write where it is time."""
        if time.monotonic() - self._written_s >= self.every_s:
            self._write(runner)

    def after_train(self, runner: Runner) -> None:
        """Write the end of a training that was long enough."""
        if time.monotonic() - self._began_s >= self.every_s:
            self._write(runner)

    def _write(self, runner: Runner) -> None:
        self._written_s = time.monotonic()
        if runner.rank != 0:
            return
        try:
            write_page(runner.work_dir)
        except Exception as error:  # a page is never worth a training
            if not self._has_warned:
                runner.logger.warning(f'the training page was not written: {type(error).__name__}: {error}')
            self._has_warned = True
