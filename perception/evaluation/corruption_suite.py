"""Run one model through many corruptions: loaded once, a file of figures per row, so that a stopped run goes on where it was.

Nothing here knows a corruption: rows are (name, severity), and the pipeline's `Corrupt` transform does the rest.
"""
from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from ..registry import DATASETS
from .errors import ResultError
from .results import write_json
from .robustness import CLEAN, Figures, Row, format_rows, format_summary, summarise

Test = Callable[[str, float], Mapping[str, float]]


def row_path(folder: Path, row: Row) -> Path:
    """The file with the figures of one row."""
    return folder / ('clean.json' if row == CLEAN else f'{row[0]}_{row[1]:g}.json')


def read_row(folder: Path, row: Row, run: Mapping[str, Any]) -> dict[str, float] | None:
    """Figures of a finished row; None where there is no file, or one of another run (other weights, split, limit).

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


def run_rows(rows: Sequence[Row], same_as_clean: Sequence[Row], test: Test, folder: Path, run: Mapping[str, Any],
             is_main: bool = True, report: Callable[[str], None] = print) -> dict[Row, Figures]:
    """Test clean and every row that has no figures yet.

    Args:
        rows: (corruption, severity) in the order of the table. same_as_clean: those that change nothing get the clean figures.
        test: runs one row. folder: where the files are. run: what must be equal for old figures to count (JSON values).
        is_main: this process writes; all processes must call alike.
    """
    planned = [CLEAN, *(row for row in rows if row not in same_as_clean)]
    found = {row: read_row(folder, row, run) for row in planned}
    for number, row in enumerate(planned, 1):
        if found[row] is None:
            found[row] = {k: float(v) for k, v in test(*row).items()}
            if is_main:
                write_json(row_path(folder, row), {'run': dict(run), 'metrics': found[row]})
                report(f'{number}/{len(planned)} {row[0]} {row[1]:g}')
    return {row: found[CLEAN if row in same_as_clean else row] for row in (CLEAN, *rows)}


def rows_as_json(table: Mapping[Row, Figures]) -> list[dict[str, Any]]:
    """The table for a JSON file."""
    return [{'corruption': name, 'severity': severity, 'metrics': dict(figures)} for (name, severity), figures in table.items()]


def read_table(path: str | Path) -> dict[Row, Figures]:
    """Rows of a `corruptions.json` that an earlier run wrote, for a baseline.

    Raises:
        ResultError: not such a file.
    """
    try:
        return {(row['corruption'], row['severity']): row['metrics'] for row in json.loads(Path(path).read_text())['rows']}
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ResultError(f'{path}: expected the corruptions.json of another run: {error}') from None


def finish(table: Mapping[Row, Figures], suites: Mapping[str, Mapping[str, Sequence[float]]], out: Path,
           baseline: Mapping[Row, Figures] | None = None) -> str:
    """Summaries of a table: written to `out` with all its figures, and as words. Suites without all their rows are marked."""
    partial = [suite for suite, wanted in suites.items()
               if any((name, s) not in table for name, levels in wanted.items() for s in levels)]
    known = {suite: {name: left for name, levels in wanted.items() if (left := [s for s in levels if (name, s) in table])}
             for suite, wanted in suites.items()}
    summary = summarise(table, known, baseline)
    write_json(out, {'rows': rows_as_json(table), 'summary': summary, 'partial': [s for s in partial if s in summary]})
    return '\n\n'.join(filter(None, (format_rows(table), format_summary(summary, partial))))


class CorruptedTest:
    """Test the model of a runner under one corruption after the other; the weights are loaded once.

    Args:
        runner: a Runner that is ready to test. limit: only the first samples of the split; None takes all.
        seed: of lasting failures.
    """

    def __init__(self, runner: Any, limit: int | None = None, seed: int = 0) -> None:
        self.runner, self.limit, self.seed, self._ready = runner, limit, seed, False

    def __call__(self, name: str, severity: float) -> dict[str, float]:
        """Figures under a corruption, or of `CLEAN`."""
        loop, loader = self._loop(), self.loader(name, severity)
        if self.limit is not None:
            whole = DATASETS.build(loader['dataset'])
            loader['dataset'] = Subset(whole, range(min(self.limit, len(whole))))
        loop.dataloader = self.runner.build_dataloader(loader, seed=self.runner.seed)
        return loop.run()

    def loader(self, name: str, severity: float) -> dict[str, Any]:
        """The configuration of the test loader with the corruption in front of its pipeline."""
        loader = copy.deepcopy(dict(self.runner.cfg.test_dataloader))
        pipeline = list(loader['dataset'].get('pipeline', ()))
        if (name, severity) != CLEAN:
            pipeline.insert(0, {'type': 'Corrupt', 'name': name, 'severity': severity, 'drive_seed': self.seed})
        loader['dataset'] = {**loader['dataset'], 'pipeline': pipeline}
        return loader

    def _loop(self) -> Any:
        loop = self.runner.test_loop
        if not self._ready:
            self.runner.call_hook('before_run')
            self.runner.load_or_resume()
            for metric in loop.evaluator.metrics if self.limit is not None else ():
                metric.judge.detection_truth = None  # tables hold the whole split; the first samples bring their own labels
            self._ready = True
        return loop
