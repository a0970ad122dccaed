"""One self-contained HTML page that compares runs: figures side by side, bars per class, histograms,
calibration, confusion.

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
from ..detection.file import read_json
from ..evaluate import read_metrics
from .table import HEADLINES, PER_CLASS

COLOURS = ('#2a6fb0', '#d9772b', '#3f8f5b', '#8a5fb0', '#b0433f', '#6b6b6b')
LOWER_IS_BETTER = ('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE', 'ECE')
_STYLE = """body{font:14px/1.45 system-ui,sans-serif;color:#1c2024;background:#fff;max-width:1060px;
margin:32px auto;padding:0 20px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:34px 0 8px;border-bottom:1px solid #d8dce0;padding-bottom:4px}
p{color:#59626b;margin:4px 0 10px}table{border-collapse:collapse;margin:6px 0 14px}
td,th{padding:3px 14px 3px 0;text-align:right;font-variant-numeric:tabular-nums;font-weight:400}
th{color:#59626b;border-bottom:1px solid #d8dce0}td:first-child,th:first-child{text-align:left}
.best{font-weight:700}.change{color:#59626b;font-size:12px;padding-left:6px}
.key{display:inline-block;width:10px;height:10px;margin-right:5px}
figure{display:inline-block;margin:0 22px 14px 0;vertical-align:top}
figcaption{color:#59626b;font-size:12px}text{font:11px system-ui,sans-serif}"""


@dataclass(frozen=True)
class Run:
    """One judged run: its name, figures, and the breakdown where it was written."""

    name: str
    metrics: Mapping[str, float]
    breakdown: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(path: str | Path) -> Run:
        """Read what `tools/evaluate.py --out` wrote. Raises ResultError where it is something else."""
        metrics, content = read_metrics(path), read_json(path)
        path = Path(path)
        name = path.stem if path.stem != 'metrics' else path.parent.name or path.stem
        return Run(str(content.get('name') or name), metrics, content.get('breakdown') or {})


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
    for task, names in HEADLINES.items():
        if any(f'{task}/{n}' in r.metrics for r in runs for n in names):
            parts += [f'<h2>{escape(task)}</h2>', _figures(task, names, runs), _class_bars(task, runs)]
    parts += [_distances(runs), _histograms(runs), _calibration(runs), _confusions(runs)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(" / ".join(r.name for r in runs))}</title>'
        f'<style>{_STYLE}</style><body>' + '\n'.join(p for p in parts if p) + '</body></html>\n'
    )


def _legend(runs: Sequence[Run]) -> str:
    keys = ' &nbsp; '.join(f'<span class="key" style="background:{colour(i)}"></span>{escape(r.name)}'
                           for i, r in enumerate(runs))
    return (
        f'<p>{keys}</p><p>Bold is the best of a row; small figures are the change against the first run.</p>'
    )


def colour(i: int) -> str:
    """Colour of the i-th run."""
    return COLOURS[i % len(COLOURS)]


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _row(label: str, values: Sequence[float | None], lower: bool) -> str:
    known = [v for v in values if _known(v)]
    best = (min(known) if lower else max(known)) if known else None
    cells = []
    for i, v in enumerate(values):
        change = ''
        if i and _known(v) and _known(values[0]):
            change = f'<span class="change">{v - values[0]:+.3f}</span>'
        mark = ' class="best"' if _known(v) and v == best and len(values) > 1 else ''
        cells.append(f'<td{mark}>{f"{v:.4f}" if _known(v) else "-"}{change}</td>')
    return f'<tr><td>{escape(label)}</td>{"".join(cells)}</tr>'


def _table(head: str, runs: Sequence[Run], rows: Sequence[str]) -> str:
    names = ''.join(f'<th>{escape(r.name)}</th>' for r in runs)
    return f'<table><tr><th>{escape(head)}</th>{names}</tr>{"".join(rows)}</table>'


def _figures(task: str, names: Sequence[str], runs: Sequence[Run]) -> str:
    rows = [_row(n, [r.metrics.get(f'{task}/{n}') for r in runs], n in LOWER_IS_BETTER) for n in names
            if any(f'{task}/{n}' in r.metrics for r in runs)]
    return _table('figure', runs, rows)


def _class_bars(task: str, runs: Sequence[Run]) -> str:
    classes, prefixes = PER_CLASS[task]
    return ''.join(
        bars(
            f'{prefix.rstrip("_")} per class', classes,
            [[r.metrics.get(f'{task}/{prefix}{c}') for c in classes] for r in runs])
        for prefix in prefixes
        if any(f'{task}/{prefix}{c}' in r.metrics for r in runs for c in classes)
    )


def bars(title: str, labels: Sequence[str], values: Sequence[Sequence[float | None]]) -> str:
    """Horizontal bars of figures 0..1, one group a label, one bar a run."""
    thick, left, wide = 9, 140, 270
    group = thick * len(values) + 7
    parts = []
    for k, label in enumerate(labels):
        y = k * group
        parts.append(
            f'<text x="{left - 6}" y="{y + group / 2}" text-anchor="end" fill="#1c2024">{escape(label)}</text>'
        )
        for i, run in enumerate(values):
            v = run[k]
            length = wide * min(max(v, 0.0), 1.0) if _known(v) else 0
            parts.append(
                f'<rect x="{left}" y="{y + i * thick}" width="{length:.1f}" height="{thick - 1}" fill="{colour(i)}"/>'
                f'<text x="{left + length + 4:.1f}" y="{y + i * thick + 8}" fill="#59626b">'
                f'{f"{v:.3f}" if _known(v) else "-"}</text>'
            )
    return _figure(title, left + wide + 50, group * len(labels), parts)


def _figure(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _distances(runs: Sequence[Run]) -> str:
    some = next((r for r in runs if r.breakdown.get('by_distance')), None)
    if some is None:
        return ''
    rings = [f'{r["from_m"]:g}-{r["to_m"]:g} m' for r in some.breakdown['by_distance']]
    levels = [r['visible'] for r in some.breakdown['by_visibility']]

    def column(run: Run, part: str, key: str, value: str, wanted: Any) -> float | None:
        return next((row[value] for row in run.breakdown.get(part, ()) if row[key] == wanted), None)

    near = [_row(name, [column(r, 'by_distance', 'from_m', 'mAP', ring['from_m']) for r in runs], False)
            for name, ring in zip(rings, some.breakdown['by_distance'], strict=True)]
    seen = [
        _row(level, [column(r, 'by_visibility', 'visible', 'recall', level) for r in runs], False)
        for level in levels
    ]
    return ('<h2>detection by distance and visibility</h2>' + _table('mAP of ring', runs, near)
            + _table('recall at 2 m, visible', runs, seen))


def _histograms(runs: Sequence[Run]) -> str:
    drawn = [histogram(r.name, np.array(r.breakdown['score_bins']['all']), i) for i, r in enumerate(runs)
             if r.breakdown.get('score_bins')]
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
    parts.append(
        f'<text x="0" y="{height + 13}" fill="#59626b">0</text><text x="{width}" y="{height + 13}" text-anchor="end" '
        f'fill="#59626b">score 1</text>'
    )
    return _figure(
        f'{title}: {int(bins_3K[0].sum())} boxes, heights as square roots', width, height + 18, parts
    )


def _calibration(runs: Sequence[Run]) -> str:
    parts = []
    for title, bins, ece in (
        (
            'detection scores', lambda b: b.get('score_bins', {}).get('all'),
            lambda b: b.get('detection_ece', {}).get('all')),
        ('occupancy confidence', lambda b: b.get('occupancy_bins'), lambda b: b.get('occupancy_ece')),
    ):
        curves = [
            (i, np.array(bins(r.breakdown))) for i, r in enumerate(runs) if bins(r.breakdown) is not None
        ]
        if curves:
            parts.append(reliability(title, curves) + _table(f'ECE of {title}', runs, [
                _row('ECE', [ece(r.breakdown) for r in runs], True)]))
    return '<h2>calibration: how often a confidence is right</h2>' + ''.join(parts) if parts else ''


def reliability(title: str, curves: Sequence[tuple[int, np.ndarray]]) -> str:
    """Share of right answers over mean confidence, one line a run; the diagonal is perfect."""
    side = 200
    parts = [f'<rect width="{side}" height="{side}" fill="none" stroke="#d8dce0"/>',
             f'<line x1="0" y1="{side}" x2="{side}" y2="0" stroke="#d8dce0"/>']
    for i, bins in curves:
        filled = bins[:, bins[0] > 0]
        points = ' '.join(f'{side * s / n:.1f},{side * (1 - h / n):.1f}' for n, h, s in filled.T)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour(i)}" stroke-width="2"/>')
    return _figure(title, side, side, parts)


def _confusions(runs: Sequence[Run]) -> str:
    found = [
        (i, r.name, r.breakdown) for i, r in enumerate(runs) if r.breakdown.get('occupancy_confusion_camera')
    ]
    drawn = [
        confusion(name, np.array(b['occupancy_confusion_camera'], dtype=float), b['occupancy_classes'], i)
        for i, name, b in found
    ]
    return (
        '<h2>occupancy: what truth (rows) is taken for (columns), camera mask</h2>' + ''.join(drawn)
        if drawn
        else ''
    )


def confusion(title: str, counts: np.ndarray, names: Sequence[str], run: int) -> str:
    """Row-normalised confusion as a heat map."""
    cell, left, top = 16, 120, 110
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    parts = []
    for k, name in enumerate(names):
        centre = k * cell + cell / 2 + 4
        parts.append(
            f'<text x="{left - 5}" y="{top + centre}" text-anchor="end">{escape(name)}</text>'
            f'<text transform="translate({left + centre},{top - 5}) rotate(-60)">{escape(name)}</text>'
        )
        parts += [
            f'<rect x="{left + j * cell}" y="{top + k * cell}" width="{cell - 1}" height="{cell - 1}" fill="{colour(run)}" '
            f'fill-opacity="{share[k, j]:.3f}" stroke="#eef0f2"><title>{escape(name)} as {escape(names[j])}: '
            f'{share[k, j]:.1%}</title></rect>'
            for j in range(len(names))
        ]
    return _figure(title, left + cell * len(names) + 70, top + cell * len(names), parts)
