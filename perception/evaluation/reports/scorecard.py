"""One self-contained HTML page that compares runs: scores, classes, histograms, calibration, confusion.

No script, no font, no image from anywhere: drawings are inline SVG, so the page can be mailed and opened
years later.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import write_text
from ...core.reading import DAMAGE
from ..base import ScoreTable
from ..detection.file import read_results_json
from ..errors import ResultError
from ..evaluate import read_metrics
from .table import format_score, score_tables

COLOURS = ('#2a6fb0', '#d9772b', '#3f8f5b', '#8a5fb0', '#b0433f', '#6b6b6b')
_STYLE = """body{font:14px/1.45 system-ui,sans-serif;color:#1c2024;background:#fff;max-width:1060px;
margin:32px auto;padding:0 20px}
h1{font-size:24px;margin:0 0 4px}
h2{font-size:17px;margin:34px 0 8px;border-bottom:1px solid #d8dce0;padding-bottom:4px}
p{color:#59626b;margin:4px 0 10px}table{border-collapse:collapse;margin:6px 0 14px}
td,th{padding:3px 14px 3px 0;text-align:right;font-variant-numeric:tabular-nums;font-weight:400}
th{color:#59626b;border-bottom:1px solid #d8dce0}td:first-child,th:first-child{text-align:left}
.best{font-weight:700}.change{color:#59626b;font-size:12px;padding-left:6px}
.key{display:inline-block;width:10px;height:10px;margin-right:5px}
figure{display:inline-block;margin:0 22px 14px 0;vertical-align:top}
figcaption{color:#59626b;font-size:12px}text{font:11px system-ui,sans-serif}"""


@dataclass(frozen=True)
class Run:
    """One evaluated run: its name, scores, and the breakdown where it was written."""

    name: str
    metrics: Mapping[str, float]
    breakdown: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(path: str | Path) -> Run:
        """Read what `tools/evaluate.py --out` wrote. Raises ResultError where it is something else."""
        metrics, content = read_metrics(path), read_results_json(path)
        path = Path(path)
        name = path.stem if path.stem != 'metrics' else path.parent.name or path.stem
        run = Run(str(content.get('name') or name), metrics, content.get('breakdown') or {})
        try:
            scorecard([run])  # whether a breakdown can be drawn shows when it is drawn
        except DAMAGE as error:
            raise ResultError(
                f'{path}: breakdown: found what cannot be drawn ({type(error).__name__}: {error}), expected '
                'that of tools/evaluate.py --out'
            ) from error
        return run


def write_scorecard(path: str | Path, runs: Sequence[Run]) -> Path:
    """Write the page. Raises ValueError without runs."""
    path, text = Path(path), scorecard(runs)
    write_text(path, text)
    return path


def scorecard(runs: Sequence[Run]) -> str:
    """The page of two or more runs (one works too) as text."""
    if not runs:
        raise ValueError('a scorecard needs at least one run')
    parts = [f'<h1>{" against ".join(escape(r.name) for r in runs)}</h1>', _legend(runs)]
    for table in score_tables():
        if any(f'{table.prefix}/{name}' in run.metrics for run in runs for name in table.scores):
            parts += [f'<h2>{escape(table.prefix)}</h2>', _scores(table, runs), _class_bars(table, runs)]
    parts += [_distances(runs), _histograms(runs), _calibration(runs), _confusions(runs)]

    title = escape(' / '.join(run.name for run in runs))
    body = '\n'.join(part for part in parts if part)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<style>{_STYLE}</style><body>{body}</body></html>\n'
    )


def _legend(runs: Sequence[Run]) -> str:
    keys = ' &nbsp; '.join(f'<span class="key" style="background:{colour(i)}"></span>{escape(r.name)}'
                           for i, r in enumerate(runs))
    return (
        f'<p>{keys}</p><p>Bold is the best of a row; small numbers are the change against the first run.</p>'
    )


def colour(i: int) -> str:
    """Colour of the i-th run."""
    return COLOURS[i % len(COLOURS)]


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _row(label: str, values: Sequence[float | None], lower: bool) -> str:
    """A row of the table of scores: the best is bold, and the change against the first run stands behind."""
    known = [value for value in values if _known(value)]
    best = (min(known) if lower else max(known)) if known else None

    cells = []
    for i, value in enumerate(values):
        change = ''
        if i and _known(value) and _known(values[0]):
            change = f'<span class="change">{value - values[0]:+.3f}</span>'
        mark = ' class="best"' if _known(value) and value == best and len(values) > 1 else ''
        cells.append(f'<td{mark}>{format_score(value)}{change}</td>')
    return f'<tr><td>{escape(label)}</td>{"".join(cells)}</tr>'


def _table(head: str, runs: Sequence[Run], rows: Sequence[str]) -> str:
    names = ''.join(f'<th>{escape(r.name)}</th>' for r in runs)
    return f'<table><tr><th>{escape(head)}</th>{names}</tr>{"".join(rows)}</table>'


def _scores(table: ScoreTable, runs: Sequence[Run]) -> str:
    rows = []
    for name in table.scores:
        values = [run.metrics.get(f'{table.prefix}/{name}') for run in runs]
        if any(value is not None for value in values):
            rows.append(_row(name, values, name in table.lower_is_better))
    return _table('score', runs, rows)


def _class_bars(table: ScoreTable, runs: Sequence[Run]) -> str:
    parts = []
    classes = table.class_names([name for run in runs for name in run.metrics])
    for column in table.columns:
        names = [f'{table.prefix}/{column}_{name}' for name in classes]
        values = [[run.metrics.get(name) for name in names] for run in runs]
        if any(value is not None for row in values for value in row):
            parts.append(bars(f'{column} per class', classes, values))
    return ''.join(parts)


def bars(title: str, labels: Sequence[str], values: Sequence[Sequence[float | None]]) -> str:
    """Horizontal bars of scores 0..1, one group a label, one bar a run."""
    thick, left, wide = 9, 140, 270
    group = thick * len(values) + 7

    parts = []
    for k, label in enumerate(labels):
        top = k * group
        middle = top + group / 2
        parts.append(
            f'<text x="{left - 6}" y="{middle}" text-anchor="end" fill="#1c2024">{escape(label)}</text>'
        )
        for i, run in enumerate(values):
            value = run[k]
            length = wide * min(max(value, 0.0), 1.0) if _known(value) else 0
            words = f'{value:.3f}' if _known(value) else '-'
            y = top + i * thick
            parts.append(
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{thick - 1}" fill="{colour(i)}"/>'
                f'<text x="{left + length + 4:.1f}" y="{y + 8}" fill="#59626b">{words}</text>'
            )

    return _figure(title, left + wide + 50, group * len(labels), parts)


def _figure(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _distances(runs: Sequence[Run]) -> str:
    some = next((run for run in runs if run.breakdown.get('by_distance')), None)
    if some is None:
        return ''

    def column(part: str, key: str, value: Any, score: str) -> list[float | None]:
        """The score of every run in the row of `part` where `key` has this value."""
        rows = [[row for row in run.breakdown.get(part, ()) if row[key] == value] for run in runs]
        return [found[0][score] if found else None for found in rows]

    near = [
        _row(
            f'{ring["from_m"]:g}-{ring["to_m"]:g} m', column('by_distance', 'from_m', ring['from_m'], 'mAP'),
            False)
        for ring in some.breakdown['by_distance']
    ]
    seen = [
        _row(row['visible'], column('by_visibility', 'visible', row['visible'], 'recall'), False)
        for row in some.breakdown['by_visibility']
    ]
    return ('<h2>detection by distance and visibility</h2>' + _table('mAP of ring', runs, near)
            + _table('recall at 2 m, visible', runs, seen))


def _histograms(runs: Sequence[Run]) -> str:
    drawn = [
        histogram(run.name, np.array(run.breakdown['score_bins']['all']), i)
        for i, run in enumerate(runs)
        if run.breakdown.get('score_bins')
    ]
    return '<h2>detection scores: right (full) and wrong (pale)</h2>' + ''.join(drawn) if drawn else ''


def histogram(title: str, bins_3K: np.ndarray, run: int) -> str:
    """Right and wrong detections per score bin, stacked, square-root heights."""
    width, height = 320, 130
    top = math.sqrt(max(bins_3K[0].max(), 1))
    step = width / bins_3K.shape[1]

    parts = []
    for k, (count, right) in enumerate(bins_3K[:2].T):
        for value, opacity in ((count, 0.3), (right, 1.0)):
            h = height * math.sqrt(value) / top
            parts.append(
                f'<rect x="{k * step:.1f}" y="{height - h:.1f}" width="{step - 1:.1f}" height="{h:.1f}" '
                f'fill="{colour(run)}" fill-opacity="{opacity}"/>'
            )
    parts += [
        f'<text x="0" y="{height + 13}" fill="#59626b">0</text>',
        f'<text x="{width}" y="{height + 13}" text-anchor="end" fill="#59626b">score 1</text>']

    boxes = int(bins_3K[0].sum())
    return _figure(f'{title}: {boxes} boxes, heights as square roots', width, height + 18, parts)


def _calibration(runs: Sequence[Run]) -> str:
    bins = [run.breakdown.get('score_bins', {}).get('all') for run in runs]
    errors = [run.breakdown.get('detection_ece', {}).get('all') for run in runs]
    parts = _reliability_of('detection scores', runs, bins, errors)

    bins = [run.breakdown.get('occupancy_bins') for run in runs]
    errors = [run.breakdown.get('occupancy_ece') for run in runs]
    parts += _reliability_of('occupancy confidence', runs, bins, errors)
    return f'<h2>calibration: how often a confidence is right</h2>{parts}' if parts else ''


def _reliability_of(
    title: str, runs: Sequence[Run], bins: Sequence[Any], errors: Sequence[float | None]
) -> str:
    curves = [(i, np.array(found)) for i, found in enumerate(bins) if found is not None]
    if not curves:
        return ''
    return reliability(title, curves) + _table(f'ECE of {title}', runs, [_row('ECE', errors, True)])


def reliability(title: str, curves: Sequence[tuple[int, np.ndarray]]) -> str:
    """Fraction of right predictions over mean confidence, one line a run; the diagonal is perfect."""
    side = 200
    parts = [f'<rect width="{side}" height="{side}" fill="none" stroke="#d8dce0"/>',
             f'<line x1="0" y1="{side}" x2="{side}" y2="0" stroke="#d8dce0"/>']
    for i, bins in curves:
        filled = bins[:, bins[0] > 0]
        points = ' '.join(f'{side * s / n:.1f},{side * (1 - h / n):.1f}' for n, h, s in filled.T)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour(i)}" stroke-width="2"/>')
    return _figure(title, side, side, parts)


def _confusions(runs: Sequence[Run]) -> str:
    drawn = []
    for i, run in enumerate(runs):
        counts = run.breakdown.get('occupancy_confusion_camera')
        if counts:
            names = run.breakdown['occupancy_classes']
            drawn.append(confusion(run.name, np.array(counts, dtype=float), names, i))

    title = '<h2>occupancy: what truth (rows) is taken for (columns), camera mask</h2>'
    return title + ''.join(drawn) if drawn else ''


def confusion(title: str, counts: np.ndarray, names: Sequence[str], run: int) -> str:
    """Row-normalised confusion as a heat map."""
    cell, left, top = 16, 120, 110
    fraction = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    parts = []
    for k, name in enumerate(names):
        centre = k * cell + cell / 2 + 4
        parts.append(
            f'<text x="{left - 5}" y="{top + centre}" text-anchor="end">{escape(name)}</text>'
            f'<text transform="translate({left + centre},{top - 5}) rotate(-60)">{escape(name)}</text>'
        )
        for j, other in enumerate(names):
            parts.append(
                f'<rect x="{left + j * cell}" y="{top + k * cell}" width="{cell - 1}" height="{cell - 1}" '
                f'fill="{colour(run)}" fill-opacity="{fraction[k, j]:.3f}" stroke="#eef0f2">'
                f'<title>{escape(name)} as {escape(other)}: {fraction[k, j]:.1%}</title></rect>'
            )

    return _figure(title, left + cell * len(names) + 70, top + cell * len(names), parts)
