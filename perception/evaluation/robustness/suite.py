"""Run one model, loaded once, through many corruptions.

A file of scores per finished row and one per evaluated sample of the row in progress let a stopped run resume
where it was.

Nothing here knows a corruption: rows are (name, severity), and the pipeline's `Corrupt` transform does the
rest.
"""
from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_dist_info

from ...core.config import pipeline_transforms
from ...core.files import write_json
from ...core.reading import DAMAGE, read_json
from ...core.selection import spread, spread_drives
from ...registry import DATASETS
from ..errors import ResultError
from ..storage.progress import Progress
from ..storage.resume import (
    RUN_FILE,
    Remaining,
    differences,
    read_run,
    run_missing,
    sole_metric,
    tests_drives,
)
from ..storage.summaries import SummaryStore
from .summary import CLEAN, Row, Scores, format_corruptions, format_summary, summarise_suites

Test = Callable[[str, float], Mapping[str, float]]


def row_path(folder: Path, row: Row) -> Path:
    """The file with the scores of one row."""
    return folder / ('clean.json' if row == CLEAN else f'{row[0]}_{row[1]:g}.json')


def samples_path(folder: Path, row: Row) -> Path:
    """The folder with the evaluated samples of one row, while it is not finished."""
    return row_path(folder, row).with_suffix('.part')


def read_row(folder: Path, row: Row, run: Mapping[str, Any]) -> dict[str, float] | None:
    """Scores of a finished row; None where there is no file, or one of another run.

    Raises:
        ResultError: the file is damaged.
    """
    path = row_path(folder, row)
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        return content['metrics'] if content['run'] == dict(run) else None
    except DAMAGE as error:
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
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[Row, Scores]:
    """Test clean and every row that has no scores yet.

    Args:
        rows: (corruption, severity) in the order of the table.
        same_as_clean: those that change nothing get the clean scores.
        test: runs one row.
        folder: where the files are.
        run: what must be equal for old scores to count (JSON values).
        is_main: this process writes; all processes must call alike.
        report: gets each line of text.
        overwrite: forget old scores and evaluated samples.
        progress: is told how many rows there are to run.
    """
    planned = [CLEAN, *(row for row in rows if row not in same_as_clean)]
    scores = {row: None if overwrite else read_row(folder, row, run) for row in planned}
    left = [row for row in planned if scores[row] is None]

    if is_main:
        if overwrite:
            _forget(folder, planned)
        report(f'{len(planned) - len(left)} of {len(planned)} rows have scores, {len(left)} to run')
    if progress is not None:
        progress.rows = len(left)

    for row in left:
        scores[row] = {name: float(value) for name, value in test(*row).items()}
        if is_main:
            write_json(row_path(folder, row), {'run': dict(run), 'metrics': scores[row]})
            shutil.rmtree(samples_path(folder, row), ignore_errors=True)
            time_left = f', {progress.time_left()}' if progress is not None else ''
            report(f'{planned.index(row) + 1}/{len(planned)} {row[0]} {row[1]:g}{time_left}')

    return {row: scores[CLEAN if row in same_as_clean else row] for row in (CLEAN, *rows)}


def _forget(folder: Path, rows: Sequence[Row]) -> None:
    for row in rows:
        row_path(folder, row).unlink(missing_ok=True)
        shutil.rmtree(samples_path(folder, row), ignore_errors=True)


def samples_in_words(evaluated: int, total: int, split: str) -> str:
    """Which samples the scores of a table are from."""
    part = f'{evaluated} of {total} samples, spread evenly,'
    return f'scores of {f"all {total} samples" if evaluated == total else part} of the split "{split}"'


def rows_as_json(table: Mapping[Row, Scores]) -> list[dict[str, Any]]:
    """The table for a JSON file."""
    return [
        {'corruption': name, 'severity': severity, 'metrics': dict(scores)}
        for (name, severity), scores in table.items()
    ]


def read_corruptions(path: str | Path) -> dict[Row, Scores]:
    """Rows of a `corruptions.json` that an earlier run wrote, for a baseline.

    Raises:
        ResultError: not such a file.
    """
    try:
        rows = read_json(path)['rows']
        return {(row['corruption'], row['severity']): row['metrics'] for row in rows}
    except DAMAGE as error:
        raise ResultError(f'{path}: expected the corruptions.json of another run: {error}') from None


def finish(table: Mapping[Row, Scores], suites: Mapping[str, Mapping[str, Sequence[float]]], out: Path,
           baseline: Mapping[Row, Scores] | None = None, header: str = '') -> str:
    """Summaries of a table: written to `out` with all its scores, and as text below `header`.

    Suites without all their rows are marked.
    """
    known = {suite: _rows_of(table, corruptions) for suite, corruptions in suites.items()}
    partial = [suite for suite, corruptions in suites.items() if known[suite] != _as_lists(corruptions)]

    summary = summarise_suites(table, known, baseline)
    write_json(out, {'samples': header, 'rows': rows_as_json(table), 'summary': summary,
                     'partial': [suite for suite in partial if suite in summary]})
    return '\n\n'.join(filter(None, (header, format_corruptions(table), format_summary(summary, partial))))


def _rows_of(
    table: Mapping[Row, Scores], corruptions: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """The severities of a suite's corruptions that the table has; corruptions with none are left out."""
    known = {name: [s for s in levels if (name, s) in table] for name, levels in corruptions.items()}
    return {name: levels for name, levels in known.items() if levels}


def _as_lists(corruptions: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: list(levels) for name, levels in corruptions.items() if levels}


class CorruptedTest:
    """Test the model of a runner under one corruption after the other; the weights are loaded once.

    Reading and corrupting is the work of the loader's worker processes (at least one) while the model
    computes.

    Args:
        runner: a Runner that is ready to test.
        limit: most samples to test, spread evenly over the split; None takes all. A model with a memory is
            tested on whole drives that have as many together.
        seed: of lasting failures.
        folder: where the evaluated samples of a row lie until the row is finished; None keeps none.
        run: what must be equal for these to count.
        progress: told of every row and batch.
    """

    def __init__(self, runner: Any, limit: int | None = None, seed: int = 0, folder: Path | None = None,
                 run: Mapping[str, Any] | None = None, progress: Progress | None = None) -> None:
        self.runner = runner
        self.limit = limit
        self.seed = seed
        self.folder = folder
        self.run = dict(run or {})
        self.progress = progress
        self._is_ready = False

    @property
    def samples(self) -> tuple[int, int]:
        """How many samples a row evaluates, and how many the split has."""
        return len(self._chosen), len(self.dataset)

    @property
    def dataset(self) -> Any:
        """The whole split without corruption, as the runner built it."""
        if not hasattr(self, '_dataset'):
            self._drives = None
            self._dataset = self.runner.test_loop.dataloader.dataset
            if tests_drives(self.runner):
                self._drives = self._dataset.drives()
        return self._dataset

    @property
    def _chosen(self) -> list[int]:
        """Indices of the samples to test; whole drives for a model with a memory."""
        total = len(self.dataset)
        return spread(total, self.limit) if self._drives is None else spread_drives(self._drives, self.limit)

    def __call__(self, name: str, severity: float) -> dict[str, float]:
        """Scores under a corruption, or of `CLEAN`.

        Samples that a stopped run has evaluated are taken over.
        """
        loop, loader, total = self._loop(), self.loader(name, severity), len(self.dataset)
        dataset = DATASETS.build(loader['dataset'])
        metric = sole_metric(self.runner)

        # stored samples are known by their tokens: a dataset without any runs all of them
        store = self._store((name, severity)) if metric is not None and hasattr(dataset, 'tokens') else None
        tokens = dataset.tokens if store is not None else [str(i) for i in range(total)]
        done = store.tokens if store is not None else list
        drives = self._drives or ()
        remaining = Remaining.of(tokens, self._chosen, done, [d for d in drives if d[0] in set(self._chosen)])

        if metric is not None:
            metric.on_summary = store.write if store is not None else None
        run_missing(self.runner, loader, dataset, remaining, store.read if store is not None else str)
        if self.progress is not None:
            self.progress.row(f'{name} {severity:g}', len(remaining.missing), len(remaining.stored))
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
        """The evaluated samples of a row, emptied by the first process if they are another run's."""
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
        """The runner's test loop, its weights loaded and its metric prepared once."""
        loop, _ = self.runner.test_loop, self.dataset
        if self._is_ready:
            return loop

        self.runner.call_hook('before_run')
        self.runner.load_or_resume()
        metric = sole_metric(self.runner)
        if metric is not None:
            metric.suite.headline_only()
            if self.limit is not None:
                metric.suite.forget_tables()  # they hold the whole split
        if self.progress is not None:
            self.runner.register_hook(self.progress)
        self._is_ready = True
        return loop
