"""Where a run over many rows is, and how long it may still take."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook


class Progress(Hook):
    """Says every now and then where a run over rows is and how long it may still take.

    The time left is by the time per sample so far.

    Args:
        samples: of each row.
        report: gets each line.
        every_s: between lines.
        clock: seconds.
    """

    def __init__(self, samples: int, report: Callable[[str], None] = print, every_s: float = 60.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.samples = samples
        self.report = report
        self.every_s = every_s
        self.clock = clock
        self.rows = 0
        self._begun_s: float | None = None
        self._said_s = clock()
        self._row = ''
        self._started = 0
        self._ran = 0
        self._left = 0

    def row(self, name: str, missing: int, stored: int) -> None:
        """A row begins: `missing` samples go through the model, `stored` were evaluated in an earlier run."""
        self._row, self._left = name, missing
        self._started += 1
        if stored:
            self.report(f'{name}: {stored} samples were evaluated before the run was stopped, {missing} left')

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """A batch is done (in each of the processes)."""
        done = min(self._left, len(outputs or ()) * get_dist_info()[1])
        self._left -= done
        # the first batch starts workers and compiles: it says nothing about the others
        if self._begun_s is None:
            self._begun_s = self.clock()
        else:
            self._ran += done
        if self.clock() - self._said_s >= self.every_s:
            self._said_s = self.clock()
            self.report(
                f'row {self._started} of {self.rows} to run, {self._row}: {self.samples - self._left} of '
                f'{self.samples} samples, {self.time_left()}'
            )

    def time_left(self) -> str:
        """In words, by the average time per sample since the first batch; the start of each row is in it."""
        if not self._ran or self._begun_s is None:
            return 'time left not known yet'
        per_sample_s = (self.clock() - self._begun_s) / self._ran
        left_s = per_sample_s * (self._left + (self.rows - self._started) * self.samples)
        return f'{per_sample_s:.2f} s a sample, about {_span(left_s)} left'


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02d} min'
