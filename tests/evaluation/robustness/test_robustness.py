"""Summaries of corrupted runs by numbers one can check in the head; rows that are kept, resumed and
refused."""
from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from perception.evaluation.errors import ResultError
from perception.evaluation.robustness.suite import CorruptedTest, finish, read_corruptions, row_path, run_rows
from perception.evaluation.robustness.summary import (
    CLEAN,
    corruption_error,
    format_corruptions,
    relative_resistance,
    resilience_rate,
    summarise_suite,
    summarise_suites,
)

NDS = 'detection/NDS'


def table(**scores: list[float]) -> dict:
    """Rows of NDS: `clean=[0.5], fog=[0.4, 0.3]` has severities 1, 2."""
    rows = {CLEAN: {NDS: scores.pop('clean')[0]}}
    return rows | {
        (name, float(s)): {NDS: v} for name, values in scores.items() for s, v in enumerate(values, 1)
    }


def test_worked_scores() -> None:
    assert resilience_rate([0.4, 0.3, 0.2], 0.5) == pytest.approx(0.6)
    assert corruption_error([0.4, 0.3, 0.2], [0.5, 0.5, 0.5]) == pytest.approx(1.4)
    assert relative_resistance([0.4, 0.3, 0.2], [0.2, 0.2, 0.2]) == pytest.approx(0.5)
    assert math.isnan(resilience_rate([0.1], 0.0)) and math.isnan(corruption_error([0.1], [1.0]))


def test_means_over_corruptions() -> None:
    rows = table(clean=[0.5], fog=[0.4, 0.3, 0.2], dark=[0.5, 0.5, 0.5])
    found = summarise_suite(rows, {'fog': (1, 2, 3), 'dark': (1, 2, 3)})
    assert set(found) == {'NDS'}
    assert found['NDS'] == pytest.approx({'mCE': 1.2, 'mRR': 0.8, 'corruptions': 2})


def test_a_baseline_changes_the_error_and_adds_relative_resistance() -> None:
    rows, other = table(clean=[0.5], fog=[0.4, 0.4]), table(clean=[0.9], fog=[0.2, 0.2])
    found = summarise_suite(rows, {'fog': (1, 2)}, other)['NDS']
    assert found == pytest.approx({'mCE': 0.75, 'mRR': 0.8, 'corruptions': 1, 'mRRA': 1.0})


def test_unknown_scores_leave_a_corruption_out() -> None:
    rows = table(clean=[0.5], fog=[0.25, 0.25], dark=[0.5, math.nan])
    found = summarise_suites(rows, {'a': {'fog': (1, 2), 'dark': (1, 2), 'snow': (1,)}, 'b': {'snow': (1,)}})
    assert set(found) == {'a'}
    assert found['a']['NDS']['corruptions'] == 1
    assert found['a']['NDS']['mRR'] == pytest.approx(0.5)


def test_table_in_words() -> None:
    lines = format_corruptions(table(clean=[0.5], fog=[0.25])).splitlines()
    assert lines[0].split() == ['corruption', 'severity', 'NDS']
    assert lines[1].split() == ['clean', '0.5000'] and lines[2].split() == ['fog', '1', '0.2500']


class Counter:
    """Stands for the model; counts its runs, and stops when told to."""

    def __init__(self, stop_at: str = '') -> None:
        self.ran: list[str] = []
        self.stop_at = stop_at

    def __call__(self, name: str, severity: float) -> dict[str, float]:
        if name == self.stop_at:
            raise KeyboardInterrupt
        self.ran.append(name)
        return {NDS: 0.5 - 0.1 * severity}


ROWS = [('field', 180.0), ('fog', 1.0), ('dark', 2.0)]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    run, first, second = {'checkpoint': 'a.pth'}, Counter('dark'), Counter()
    with pytest.raises(KeyboardInterrupt):
        run_rows(ROWS, ROWS[:1], first, tmp_path, run, report=lambda line: None)
    found = run_rows(ROWS, ROWS[:1], second, tmp_path, run, report=lambda line: None)
    assert first.ran == ['clean', 'fog'] and second.ran == ['dark']
    assert list(found) == [CLEAN, *ROWS]
    assert found['field', 180.0] == found[CLEAN] and found['dark', 2.0][NDS] == pytest.approx(0.3)


def test_rows_of_other_weights_do_not_count(tmp_path: Path) -> None:
    for name in ('a.pth', 'b.pth'):
        counter = Counter()
        run_rows(ROWS, [], counter, tmp_path, {'checkpoint': name}, report=lambda line: None)
        assert counter.ran == ['clean', 'field', 'fog', 'dark']


def test_damaged_row_is_named(tmp_path: Path) -> None:
    row_path(tmp_path, ROWS[1]).write_text('{"run": {}')
    with pytest.raises(ResultError, match='fog_1.json: expected "run" and "metrics"'):
        run_rows(ROWS, [], Counter(), tmp_path, {}, report=lambda line: None)


def test_finish_writes_what_a_baseline_reads_and_marks_parts(tmp_path: Path) -> None:
    rows, out = table(clean=[0.5], fog=[0.4, 0.3]), tmp_path / 'corruptions.json'
    words = finish(
        rows, {'whole': {'fog': (1, 2)}, 'half': {'fog': (1, 2), 'snow': (1,)}, 'none': {'snow': (1,)}}, out
    )
    assert 'whole                             mCE' in words and 'mRR, mRA' in words
    assert 'half (part of it)' in words and 'none' not in words
    assert read_corruptions(out) == rows
    assert json.loads(out.read_text())['partial'] == ['half']
    with pytest.raises(ResultError, match='expected the corruptions.json of another run'):
        read_corruptions(tmp_path / 'nothing.json')


class FakeRunner:
    """As much of a Runner as `CorruptedTest.loader` asks for."""

    cfg = type(
        'Config', (),
        {'test_dataloader': {'batch_size': 1, 'dataset': {'type': 'X', 'pipeline': [{'type': 'Resize'}]}}})


def test_the_corruption_comes_first_in_the_pipeline() -> None:
    test = CorruptedTest(FakeRunner(), seed=4)
    assert test.loader('fog', 2)['dataset']['pipeline'] == [
        {'type': 'Corrupt', 'name': 'fog', 'severity': 2, 'drive_seed': 4}, {'type': 'Resize'}]
    assert test.loader(*CLEAN)['dataset']['pipeline'] == [{'type': 'Resize'}]
