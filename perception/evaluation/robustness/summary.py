"""How well a model withstands failing sensors: one table, and the published summaries of it.

M(c, s) is a score where larger is better, 0..1, under corruption c at severity s; M(clean) the same without
corruption.

* Corruption error, RoboBEV (Xie et al., 2023, arXiv 2304.06719) after Hendrycks and Dietterich (ICLR 2019):
  CE(c) = sum_s (1 - M(c, s)) / sum_s (1 - B(c, s)) with a baseline model's scores B; mCE is the mean over c.
  RoboBEV's B is DETR3D. Without a baseline B is the model's own clean score: then 1 means that nothing is
  lost.
* Resilience rate, RoboBEV: RR(c) = sum_s M(c, s) / (S M(clean)); mRR is the mean over c.
* Resistance ability, MultiCorrupt (Beemelmanns et al., 2024, arXiv 2402.11677): RA(c) = mean_s M(c, s) /
  M(clean), which is RR(c) by another name, and mRA; relative resistance RRA(c) = sum_s M(c, s) / sum_s B(c,
  s) - 1 needs a baseline.

Worked: M(clean) = 0.5 and M = 0.4, 0.3, 0.2 at three severities: RR = 0.9 / 1.5 = 0.6; CE against the own
clean score = (0.6 + 0.7 + 0.8) / 1.5 = 1.4. Edge cases: a score that is missing or not a number anywhere in
a corruption leaves that corruption out of the mean of that score; a clean score of 0 has no RR, a perfect
baseline no CE.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ...registry import headline
from ..reports.table import format_score

Scores = Mapping[str, float]
Row = tuple[str, float]
CLEAN: Row = ('clean', 0.0)


def corruption_error(values: Sequence[float], baseline: Sequence[float]) -> float:
    """CE of one corruption; NaN where the baseline is perfect.

    Args:
        values: scores 0..1, one a severity.
        baseline: those of the baseline.
    """
    lost = sum(1 - b for b in baseline)
    return sum(1 - v for v in values) / lost if lost > 0 else math.nan


def resilience_rate(values: Sequence[float], clean: float) -> float:
    """RR (and RA) of one corruption. NaN where the clean score is 0 or not a number."""
    return sum(values) / (len(values) * clean) if clean > 0 else math.nan


def relative_resistance(values: Sequence[float], baseline: Sequence[float]) -> float:
    """RRA of one corruption: above 0 is better than the baseline. NaN where the baseline is 0."""
    return sum(values) / sum(baseline) - 1 if sum(baseline) > 0 else math.nan


def summarise_suite(rows: Mapping[Row, Scores], severities: Mapping[str, Sequence[float]],
                    baseline: Mapping[Row, Scores] | None = None) -> dict[str, dict[str, float]]:
    """mCE, mRR (which is mRA), with a baseline mRRA, per column of `registry.headline`.

    How many corruptions are in the means stands beside them.

    Args:
        rows: scores per (corruption, severity), `CLEAN` among them.
        severities: corruption -> those the benchmark averages over.
        baseline: another model's rows.
    """
    columns = {
        title: _summarise_score(rows, severities, baseline, score) for title, score in headline().items()
    }
    return {title: summary for title, summary in columns.items() if summary is not None}


def _summarise_score(rows: Mapping[Row, Scores], severities: Mapping[str, Sequence[float]],
                     baseline: Mapping[Row, Scores] | None, score: str) -> dict[str, float] | None:
    clean = rows.get(CLEAN, {}).get(score, math.nan)
    errors = []
    rates = []
    relatives = []

    for name, levels in severities.items():
        values = _values(rows, name, levels, score)
        if values is None:
            continue
        rates.append(resilience_rate(values, clean))

        # without a baseline the model's own clean score stands at every severity
        against = [clean] * len(levels) if baseline is None else _values(baseline, name, levels, score)
        if against is not None:
            errors.append(corruption_error(values, against))
            relatives.append(relative_resistance(values, against))

    if not rates:
        return None
    means = {'mCE': _mean(errors), 'mRR': _mean(rates), 'corruptions': float(len(rates))}
    return means if baseline is None else {**means, 'mRRA': _mean(relatives)}


def _values(
    rows: Mapping[Row, Scores], name: str, severities: Sequence[float], score: str
) -> list[float] | None:
    """The score at every severity; None where one is missing or not a number."""
    values = [rows.get((name, s), {}).get(score, math.nan) for s in severities]
    return values if values and all(math.isfinite(v) for v in values) else None


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return sum(known) / len(known) if known else math.nan


def summarise_suites(rows: Mapping[Row, Scores], suites: Mapping[str, Mapping[str, Sequence[float]]],
              baseline: Mapping[Row, Scores] | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """`summarise_suite` for every suite that has rows: suite -> column -> mean."""
    summaries = {suite: summarise_suite(rows, severities, baseline) for suite, severities in suites.items()}
    return {suite: columns for suite, columns in summaries.items() if columns}


# -------------------------------------------------------------------- text

def format_corruptions(rows: Mapping[Row, Scores]) -> str:
    """A row for each corruption and severity, clean first, and a column per headline score that is known."""
    columns = {
        title: score for title, score in headline().items() if any(score in row for row in rows.values())
    }

    lines = [f'{"corruption":<24}{"severity":>9}' + ''.join(f'{title:>11}' for title in columns)]
    for (name, severity), scores in rows.items():
        level = '' if (name, severity) == CLEAN else f'{severity:g}'
        cells = ''.join(f'{format_score(scores.get(score)):>11}' for score in columns.values())
        lines.append(f'{name:<24}{level:>9}{cells}')
    return '\n'.join(lines)


_TITLES = {'mRR': 'mRR, mRA'}


def format_summary(
    summary: Mapping[str, Mapping[str, Mapping[str, float]]], partial: Iterable[str] = ()
) -> str:
    """mCE, mRR (which is mRA, too) and mRRA of every suite; suites in `partial` are marked."""
    titles = [title for title in headline() if any(title in columns for columns in summary.values())]
    partial = set(partial)

    lines = []
    for suite, columns in summary.items():
        head = suite + (' (part of it)' if suite in partial else '')
        for name in ('mCE', 'mRR', 'mRRA'):
            if any(name in column for column in columns.values()):
                values = [columns.get(title, {}).get(name) for title in titles]
                cells = ''.join(f'{format_score(value):>11}' for value in values)
                lines.append(f'{head:<29}{_TITLES.get(name, name):>8}{cells}')

    if not lines:
        return ''
    return '\n'.join([f'{"suite":<37}' + ''.join(f'{title:>11}' for title in titles), *lines])
