"""How well a model withstands failing sensors: one table, and the published summaries of it. Pure functions
of figures.

M(c, s) is a figure where larger is better, 0..1, under corruption c at severity s; M(clean) the same without
corruption.

* Corruption error, RoboBEV (Xie et al., 2023, arXiv 2304.06719) after Hendrycks and Dietterich (ICLR 2019):
  CE(c) = sum_s (1 - M(c, s)) / sum_s (1 - B(c, s)) with a baseline model's figures B; mCE is the mean over c.
  RoboBEV's B is DETR3D. Without a baseline B is the model's own clean figure: then 1 means that nothing is
  lost.
* Resilience rate, RoboBEV: RR(c) = sum_s M(c, s) / (S M(clean)); mRR is the mean over c.
* Resistance ability, MultiCorrupt (Beemelmanns et al., 2024, arXiv 2402.11677): RA(c) = mean_s M(c, s) /
  M(clean), which is RR(c) by another name, and mRA; relative resistance RRA(c) = sum_s M(c, s) / sum_s B(c,
  s) - 1 needs a baseline.

Worked: M(clean) = 0.5 and M = 0.4, 0.3, 0.2 at three severities: RR = 0.9 / 1.5 = 0.6; CE against the own
clean figure = (0.6 + 0.7 + 0.8) / 1.5 = 1.4. Edge cases: a figure that is missing or not a number anywhere in
a corruption leaves that corruption out of the mean of that figure; a clean figure of 0 has no RR, a perfect
baseline no CE.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

Figures = Mapping[str, float]
Row = tuple[str, float]
CLEAN: Row = ('clean', 0.0)
COLUMNS = {
    'NDS': 'detection/NDS', 'mAP': 'detection/mAP', 'map mIoU': 'map/mIoU',
    'occ mIoU': 'occupancy/mIoU_camera', 'lanes mAP': 'lanes/mAP'}


def _values(
    rows: Mapping[Row, Figures], name: str, severities: Sequence[float], column: str
) -> list[float] | None:
    found = [rows.get((name, s), {}).get(column, math.nan) for s in severities]
    return found if found and all(math.isfinite(v) for v in found) else None


def corruption_error(values: Sequence[float], baseline: Sequence[float]) -> float:
    """CE of one corruption: `values` and `baseline` are 0..1, one a severity. NaN where the baseline is
    perfect."""
    lost = sum(1 - b for b in baseline)
    return sum(1 - v for v in values) / lost if lost > 0 else math.nan


def resilience_rate(values: Sequence[float], clean: float) -> float:
    """RR (and RA) of one corruption. NaN where the clean figure is 0 or not a number."""
    return sum(values) / (len(values) * clean) if clean > 0 else math.nan


def relative_resistance(values: Sequence[float], baseline: Sequence[float]) -> float:
    """RRA of one corruption: above 0 is better than the baseline. NaN where the baseline is 0."""
    return sum(values) / sum(baseline) - 1 if sum(baseline) > 0 else math.nan


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return sum(known) / len(known) if known else math.nan


def summarise_suite(rows: Mapping[Row, Figures], severities: Mapping[str, Sequence[float]],
                    baseline: Mapping[Row, Figures] | None = None) -> dict[str, dict[str, float]]:
    """Per column of `COLUMNS`: mCE, mRR (which is mRA), with a baseline mRRA, and how many corruptions are in
    the means.

    Args:
        rows: figures per (corruption, severity), `CLEAN` among them.
        severities: corruption -> those the benchmark averages over.
        baseline: another model's rows.
    """
    return {title: found for title, column in COLUMNS.items()
            if (found := _summarise_column(rows, severities, baseline, column)) is not None}


def _summarise_column(rows: Mapping[Row, Figures], severities: Mapping[str, Sequence[float]],
                      baseline: Mapping[Row, Figures] | None, column: str) -> dict[str, float] | None:
    clean = rows.get(CLEAN, {}).get(column, math.nan)
    errors = []
    rates = []
    relatives = []
    for name, levels in severities.items():
        values = _values(rows, name, levels, column)
        against = [clean] * len(levels) if baseline is None else _values(baseline, name, levels, column)
        if values is None:
            continue
        rates.append(resilience_rate(values, clean))
        if against is not None:
            errors.append(corruption_error(values, against))
            relatives.append(relative_resistance(values, against))
    if not rates:
        return None
    found = {'mCE': _mean(errors), 'mRR': _mean(rates), 'corruptions': float(len(rates))}
    return found if baseline is None else {**found, 'mRRA': _mean(relatives)}


def summarise(rows: Mapping[Row, Figures], suites: Mapping[str, Mapping[str, Sequence[float]]],
              baseline: Mapping[Row, Figures] | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """`summarise_suite` for every suite that has rows: suite -> column -> figure."""
    found = {suite: summarise_suite(rows, severities, baseline) for suite, severities in suites.items()}
    return {suite: columns for suite, columns in found.items() if columns}


# ----------------------------------------------------------------------------------------------------------------
# words

def _shown(value: float | None) -> str:
    return '-' if value is None or not math.isfinite(value) else f'{value:.4f}'


def format_rows(rows: Mapping[Row, Figures]) -> str:
    """The table: a row for each corruption and severity, clean first; columns of `COLUMNS` that anything is
    known of."""
    columns = {t: c for t, c in COLUMNS.items() if any(c in figures for figures in rows.values())}
    lines = [f'{"corruption":<24}{"severity":>9}' + ''.join(f'{title:>11}' for title in columns)]
    for (name, severity), figures in rows.items():
        level = '' if (name, severity) == CLEAN else f'{severity:g}'
        lines.append(
            f'{name:<24}{level:>9}' + ''.join(f'{_shown(figures.get(c)):>11}' for c in columns.values())
        )
    return '\n'.join(lines)


_TITLES = {'mRR': 'mRR, mRA'}


def format_summary(
    summary: Mapping[str, Mapping[str, Mapping[str, float]]], partial: Iterable[str] = ()
) -> str:
    """mCE, mRR (which is mRA, too) and mRRA of every suite; suites in `partial` were not run whole and are
    marked so."""
    partial, lines = set(partial), []
    titles = [t for t in COLUMNS if any(t in columns for columns in summary.values())]
    for suite, columns in summary.items():
        head = suite + (' (part of it)' if suite in partial else '')
        for name in ('mCE', 'mRR', 'mRRA'):
            if any(name in column for column in columns.values()):
                cells = ''.join(f'{_shown(columns.get(t, {}).get(name)):>11}' for t in titles)
                lines.append(f'{head:<29}{_TITLES.get(name, name):>8}{cells}')
    return '\n'.join([f'{"suite":<37}' + ''.join(f'{t:>11}' for t in titles), *lines]) if lines else ''
