"""mmengine's two training loops, which can begin inside a pass over the data.

They have mmengine's names in our scope, so that a configuration gets them without saying so.
"""
from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ...core.processes import process_count
from ...registry import LOOPS
from ..balancing.base import StepPlace


@dataclass(frozen=True)
class Place:
    """Where in a training a loop begins.

    Args:
        epoch: whole epochs that are done; 0 in a loop that counts steps.
        step: steps that are done, counted in this configuration's batches.
        passes: whole passes over the data that are done.
        batch: batches of the current pass that are done, likewise.
        samples: samples of the current pass that are done, of all processes together.
    """

    epoch: int
    step: int
    passes: int
    batch: int
    samples: int


@LOOPS.register_module(name='EpochBasedTrainLoop')
class EpochLoop(EpochBasedTrainLoop):
    """Passes over the data, each an epoch.

    Args:
        runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals: as mmengine's.

    Attributes:
        place: where the current pass began.
        counts_epochs: the length is a number of passes.
    """

    counts_epochs = True

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **options: Any) -> None:
        super().__init__(runner, dataloader, *args, **options)
        self.place = Place(0, 0, 0, 0, 0)
        self._done = 0
        self._restore: Callable[[], None] | None = None

    @property
    def batch_size(self) -> int:
        """Samples of a step, all processes together."""
        return (self.dataloader.batch_size or 1) * process_count()

    @property
    def samples_of_pass(self) -> int:
        """Samples that a whole pass trains on, all processes together."""
        samples = len(self.dataloader.sampler) * process_count()
        return min(samples, len(self.dataloader) * self.batch_size) if self.dataloader.drop_last else samples

    @property
    def samples_done(self) -> int:
        """Samples of the current pass that have been trained on, all processes together."""
        done = self.place.samples + (self._done - self.place.batch) * self.batch_size
        return min(done, self.samples_of_pass) if self.ends else done

    @property
    def ends(self) -> bool:
        """Whether a pass over the data ever ends."""
        sampler = self.dataloader.sampler
        return not isinstance(getattr(sampler, 'sampler', sampler), InfiniteSampler)

    def start_at(self, place: Place, restore: Callable[[], None]) -> None:
        """Begin at `place`.

        Args:
            place: where to begin.
            restore: puts the random generators where they stood there; called once, when the next batch is
                about to be trained on.
        """
        self.place, self._restore = place, restore
        self._epoch, self._iter, self._done = place.epoch, place.step, place.batch

    def run_epoch(self) -> None:
        """Train on what is left of the epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in self.batches():
            self.run_iter(index, batch)

        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.end_pass()

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One step; hooks after it see it counted."""
        self._done = idx + 1
        self.train_on(idx, data_batch)

    def train_on(self, number: int, batch: Any) -> None:
        """Train on a batch: as the model does, or as the configuration's balancer does.

        Args:
            number: what hooks get as the batch's.
            batch: as the loader gives it.
        """
        runner, balanced = self.runner, getattr(self.runner, 'balanced', None)
        if balanced is None:
            super().run_iter(number, batch)
            return

        runner.call_hook('before_train_iter', batch_idx=number, data_batch=batch)
        last = self.ends and self._done == len(self.dataloader)
        place = StepPlace(self._iter, self.place.passes, last)
        outputs = balanced.train_step(runner.model, batch, runner.optim_wrapper, place)
        runner.call_hook('after_train_iter', batch_idx=number, data_batch=batch, outputs=outputs)
        self._iter += 1

    def end_pass(self) -> None:
        """Stand at the start of the next pass."""
        self.place = Place(self._epoch, self._iter, self.place.passes + 1, 0, 0)
        self._done = 0

    def _start_workers(self) -> None:
        """Start workers that outlive a pass: they draw their seed once, long before a place gone on from."""
        loader = self.dataloader
        if not getattr(loader, 'persistent_workers', False):
            return
        # nothing is to be loaded ahead of the place
        if hasattr(loader.sampler, 'start_at'):
            loader.sampler.start_at(len(loader.sampler))
        iter(loader)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """(number in the pass, batch) of what is left of the current pass."""
        place, loader = self.place, self.dataloader
        restore, self._restore = self._restore, None
        if restore is not None and self.ends and place.passes + place.samples > 0:
            self._start_workers()
        # mmengine's hook does it, too, where the configuration has it
        if hasattr(loader.sampler, 'set_epoch'):
            loader.sampler.set_epoch(place.passes)

        if self.ends and place.batch >= len(loader):
            batches = iter(())
        elif place.samples:
            loader.sampler.start_at(place.samples // process_count())
            batches = iter(loader)  # draws a seed for workers, as it did when this pass began
        else:
            batches = None

        if restore is not None:
            restore()
        yield from enumerate(iter(loader) if batches is None else batches, place.batch)


@LOOPS.register_module(name='IterBasedTrainLoop')
class StepLoop(EpochLoop):
    """A number of steps, over as many passes as they need.

    Args:
        runner, dataloader, val_begin, dynamic_intervals: as mmengine's.
        max_iters: how many steps.
        val_interval: steps between two validations.

    Raises:
        ValueError: `max_iters` is no whole number.
    """

    counts_epochs = False

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(runner, dataloader, 1, val_begin, val_interval, dynamic_intervals)
        if int(max_iters) != max_iters:
            raise ValueError(f'train_cfg.max_iters: expected a whole number, found {max_iters}')
        self._max_iters = int(max_iters)

    def run(self) -> Any:
        """Train, and validate every `val_interval` steps."""
        runner = self.runner
        runner.call_hook('before_train')
        # the whole training is one epoch to the hooks
        runner.call_hook('before_train_epoch')

        batches = self.stream()
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            index, batch = next(batches)
            self._done = index + 1
            self.train_on(self._iter, batch)

            milestone = bisect.bisect(self.dynamic_milestones, self._iter + 1) - 1
            self.val_interval = self.dynamic_intervals[milestone]
            due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if runner.val_loop is not None and self._iter >= self.val_begin and due:
                runner.val_loop.run()

        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def stream(self) -> Iterator[tuple[int, Any]]:
        """(number in its pass, batch), pass after pass."""
        while True:
            yield from self.batches()
            self.end_pass()
