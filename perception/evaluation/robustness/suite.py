"""Run one model through many corruptions: loaded once, a file of figures per finished row and one per judged
sample of the row in progress, so that a stopped run goes on where it was.

Nothing here knows a corruption: rows are (name, severity), and the pipeline's `Corrupt` transform does the
rest.
"""
from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_dist_info

from ...core.config import pipeline_transforms
from ...core.files import write_json
from ...core.selection import spread
from ...registry import DATASETS
from ..errors import ResultError
from ..storage.progress import Progress
from ..storage.resume import RUN_FILE, Rest, differences, narrow, read_run, sole_metric
from ..storage.summaries import SummaryStore
from .summary import CLEAN, Figures, Row, format_rows, format_summary, summarise

Test = Callable[[str, float], Mapping[str, float]]


def row_path(folder: Path, row: Row) -> Path:
    """The file with the figures of one row."""
    return folder / ('clean.json' if row == CLEAN else f'{row[0]}_{row[1]:g}.json')


def samples_path(folder: Path, row: Row) -> Path:
    """The folder with the judged samples of one row, while it is not finished."""
    return row_path(folder, row).with_suffix('.part')


def read_row(folder: Path, row: Row, run: Mapping[str, Any]) -> dict[str, float] | None:
    """Figures of a finished row; None where there is no file, or one of another run (other weights, split,
    limit).

    Raises:
        ResultError: the file is damaged.
    """
    path = row_path(folder, row)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        return found['metrics'] if found['run'] == dict(run) else None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ResultError(f'{path}: expected "run" and "metrics", found damaged JSON ({error}); '
                          'delete it to run this row again') from None


def run_rows(
    rows: Sequence[Row],
    same_as_clean: Sequence[Row],
    test: Test,
    folder: Path,
    run: Mapping[str, Any],
    is_main: bool = True,
    report: Callable[[str], None] = print,
    anew: bool = False,
    progress: Progress | None = None,
) -> dict[Row, Figures]:
    """Test clean and every row that has no figures yet.

    Args:
        rows: (corruption, severity) in the order of the table.
        same_as_clean: those that change nothing get the clean figures.
        test: runs one row.
        folder: where the files are.
        run: what must be equal for old figures to count (JSON values).
        is_main: this process writes; all processes must call alike.
        anew: forget old figures and judged samples.
        progress: is told how many rows there are to run.
    """
    planned = [CLEAN, *(row for row in rows if row not in same_as_clean)]
    found = {row: None if anew else read_row(folder, row, run) for row in planned}
    left = [row for row in planned if found[row] is None]
    if is_main:
        if anew:
            _forget(folder, planned)
        report(f'{len(planned) - len(left)} of {len(planned)} rows have figures, {len(left)} to run')
    if progress is not None:
        progress.rows = len(left)
    for row in left:
        found[row] = {k: float(v) for k, v in test(*row).items()}
        if is_main:
            write_json(row_path(folder, row), {'run': dict(run), 'metrics': found[row]})
            shutil.rmtree(samples_path(folder, row), ignore_errors=True)
            report(f'{planned.index(row) + 1}/{len(planned)} {row[0]} {row[1]:g}'
                   + (f', {progress.time_left()}' if progress is not None else ''))
    return {row: found[CLEAN if row in same_as_clean else row] for row in (CLEAN, *rows)}


def _forget(folder: Path, rows: Sequence[Row]) -> None:
    for row in rows:
        row_path(folder, row).unlink(missing_ok=True)
        shutil.rmtree(samples_path(folder, row), ignore_errors=True)


def samples_in_words(judged: int, total: int, split: str) -> str:
    """Which samples the figures of a table are from."""
    chosen = f'all {total} samples' if judged == total else f'{judged} of {total} samples, spread evenly,'
    return f'figures of {chosen} of the split "{split}"'


def rows_as_json(table: Mapping[Row, Figures]) -> list[dict[str, Any]]:
    """The table for a JSON file."""
    return [
        {'corruption': name, 'severity': severity, 'metrics': dict(figures)}
        for (name, severity), figures in table.items()
    ]


def read_table(path: str | Path) -> dict[Row, Figures]:
    """Rows of a `corruptions.json` that an earlier run wrote, for a baseline.

    Raises:
        ResultError: not such a file.
    """
    try:
        return {
            (row['corruption'], row['severity']): row['metrics']
            for row in json.loads(Path(path).read_text())['rows']
        }
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ResultError(f'{path}: expected the corruptions.json of another run: {error}') from None


def finish(table: Mapping[Row, Figures], suites: Mapping[str, Mapping[str, Sequence[float]]], out: Path,
           baseline: Mapping[Row, Figures] | None = None, header: str = '') -> str:
    """Summaries of a table: written to `out` with all its figures, and as words below `header`.

    Suites without all their rows are marked.
    """
    partial = [suite for suite, wanted in suites.items()
               if any((name, s) not in table for name, levels in wanted.items() for s in levels)]
    known = {
        suite: {
            name: left
            for name, levels in wanted.items()
            if (left := [s for s in levels if (name, s) in table])
        }
        for suite, wanted in suites.items()
    }
    summary = summarise(table, known, baseline)
    write_json(out, {'samples': header, 'rows': rows_as_json(table), 'summary': summary,
                     'partial': [s for s in partial if s in summary]})
    return '\n\n'.join(filter(None, (header, format_rows(table), format_summary(summary, partial))))


class CorruptedTest:
    """Test the model of a runner under one corruption after the other; the weights are loaded once.

    Reading and corrupting is the work of the loader's worker processes (at least one) while the model
    computes.

    Args:
        runner: a Runner that is ready to test.
        limit: only so many samples, spread evenly over the split; None takes all.
        seed: of lasting failures.
        folder: where the judged samples of a row lie until the row is finished; None keeps none.
        run: what must be equal for these to count.
        progress: told of every row and batch.
    """

    def __init__(self, runner: Any, limit: int | None = None, seed: int = 0, folder: Path | None = None,
                 run: Mapping[str, Any] | None = None, progress: Progress | None = None) -> None:
        self.runner = runner
        self.limit = limit
        self.seed = seed
        self._ready = False
        self.folder, self.run, self.progress = folder, dict(run or {}), progress

    @property
    def samples(self) -> tuple[int, int]:
        """How many samples a row judges, and how many the split has."""
        total = len(self.dataset)
        return len(spread(total, self.limit)), total

    @property
    def dataset(self) -> Any:
        """The whole split without corruption, as the runner built it."""
        if not hasattr(self, '_dataset'):
            self._dataset = self.runner.test_loop.dataloader.dataset
        return self._dataset

    def __call__(self, name: str, severity: float) -> dict[str, float]:
        """Figures under a corruption, or of `CLEAN`; samples that a stopped run has judged are taken over."""
        loop, loader, total = self._loop(), self.loader(name, severity), len(self.dataset)
        dataset = DATASETS.build(loader['dataset'])
        metric = sole_metric(self.runner)
        store = self._store((name, severity)) if metric is not None and hasattr(dataset, 'tokens') else None
        tokens = dataset.tokens if store is not None else [str(i) for i in range(total)]
        rest = Rest.of(tokens, spread(total, self.limit), store.tokens if store is not None else list)
        if metric is not None:
            metric.keep = store.write if store is not None else None
        narrow(self.runner, loader, dataset, rest, store.read if store is not None else str)
        if self.progress is not None:
            self.progress.row(f'{name} {severity:g}', len(rest.missing), len(rest.stored))
        return loop.run()

    def loader(self, name: str, severity: float) -> dict[str, Any]:
        """The configuration of the test loader with the corruption in front of its pipeline."""
        loader = copy.deepcopy(dict(self.runner.cfg.test_dataloader))
        pipeline = pipeline_transforms(loader['dataset'].get('pipeline', ()))
        if (name, severity) != CLEAN:
            pipeline.insert(
                0, {'type': 'Corrupt', 'name': name, 'severity': severity, 'drive_seed': self.seed}
            )
        loader['dataset'] = {**loader['dataset'], 'pipeline': pipeline}
        return {**loader, 'num_workers': max(1, loader.get('num_workers', 0)), 'persistent_workers': False}

    def _store(self, row: Row) -> SummaryStore | None:
        """The judged samples of a row, emptied by the first process if they are another run's."""
        if self.folder is None:
            return None
        store = SummaryStore(samples_path(self.folder, row))
        if get_dist_info()[0] == 0 and (
            not store.folder.is_dir() or differences(read_run(store.folder), self.run)
        ):
            store.clear()
            write_json(store.folder / RUN_FILE, self.run)
        return store

    def _loop(self) -> Any:
        loop, _ = self.runner.test_loop, self.dataset
        if not self._ready:
            self.runner.call_hook('before_run')
            self.runner.load_or_resume()
            for metric in loop.evaluator.metrics if sole_metric(self.runner) is not None else ():
                metric.judge.rays = False  # the longest part of the judging, and no column of the table
                if self.limit is not None:
                    # tables hold the whole split; the chosen samples bring their own labels
                    metric.judge.detection_truth = None
            if self.progress is not None:
                self.runner.register_hook(self.progress)
            self._ready = True
        return loop
