"""Draws the first samples of a validation, which has predicted them anyway."""
from __future__ import annotations

import time
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...core.contracts import Annotations, TaskOutput
from ...registry import HOOKS
from ..layers import layers_of_output, layers_of_truth
from ..panel import draw_frame


@HOOKS.register_module()
class ValidationPictureHook(Hook):
    """Give predictions beside the truth to the visualizer: `sample_0`, `sample_1` ... at each validation.

    They land in `<run>/vis_data/vis_image`, in TensorBoard, and on the training's page. Nothing is predicted
    for them and no random number is drawn. Only the first process draws, and only in a training that has run
    for `after_s`.

    Args:
        samples: how many, the first of the first process's.
        after_s: validations earlier than this many seconds after the start have no pictures.
        score_threshold: boxes and lanes with a lower score are left out.
    """

    def __init__(self, samples: int = 2, after_s: float = 600.0, score_threshold: float = 0.3) -> None:
        self.samples = samples
        self.after_s = after_s
        self.score_threshold = score_threshold
        self._began_s: float | None = None
        self._drawn = 0
        self._has_warned = False

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._began_s = time.monotonic()

    def before_val_epoch(self, runner: Runner) -> None:
        """Count from the first sample."""
        self._drawn = 0

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                       outputs: Sequence[TaskOutput] | None = None) -> None:
        """Draw the batch's samples as long as some are wanted."""
        if self._began_s is None or time.monotonic() - self._began_s < self.after_s or runner.rank != 0:
            return

        labels = (data_batch or {}).get('data_samples') or [None] * len(outputs or ())
        for output, truth in zip(outputs or (), labels, strict=True):
            if self._drawn >= self.samples:
                return
            try:
                self._draw(runner, output, truth)
            except Exception as error:  # a picture is never worth a training
                self._warn(runner, f'{output.frame.token} was not drawn: {type(error).__name__}: {error}')
            self._drawn += 1

    def _warn(self, runner: Runner, said: str) -> None:
        """The first time alone."""
        if not self._has_warned:
            runner.logger.warning(f'validation pictures: {said}')
        self._has_warned = True

    def _draw(self, runner: Runner, output: TaskOutput, truth: Annotations | None) -> None:
        dataset = runner.val_dataloader.dataset
        sample, _ = dataset[dataset.indices[output.frame.token]]
        picture = draw_frame(
            sample, layers_of_output(output, self.score_threshold),
            None if truth is None else layers_of_truth(truth), title=f'step {runner.iter}')
        runner.visualizer.add_image(f'sample_{self._drawn}', picture, step=runner.iter)
