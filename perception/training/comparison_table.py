"""The table of a comparison of systems: what `comparison` left in its folders, mean and spread over the
seeds."""
from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .comparison import Row, row_folder

FIGURES = {
    'NDS': 'detection/NDS', 'mAP': 'detection/mAP', 'map mIoU': 'map/mIoU',
    'occ. mIoU': 'occupancy/mIoU_camera', 'lanes mAP': 'lanes/mAP'}
COSTS = {'M parameters': ('train', 'parameters', 1e-6, '.2f'),
         'outside encoders': ('train', 'parameters_outside_encoders', 1e-6, '.2f'),
         'step ms': ('train', 'step_ms', 1, '.0f'), 'network ms': ('latency', 'network_ms', 1, '.0f')}


def collect(work_dir: str | Path, rows: Sequence[Row], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """One record a row: its name, and by seed the phases that are done."""
    return [
        {
            'row': row.name, 'config': row.config,
            'seeds': {str(seed): _phases(row_folder(work_dir, row, seed)) for seed in seeds}}
        for row in rows
    ]


def _phases(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding='utf-8')) for path in sorted(folder.glob('*.json'))}


def values(record: Mapping[str, Any], phase: str, *keys: str) -> list[float]:
    """A figure of every seed that has it."""
    found = []
    for phases in record['seeds'].values():
        value: Any = phases.get(phase, {})
        for key in keys:
            value = value.get(key, {}) if isinstance(value, Mapping) else {}
        if isinstance(value, (int, float)) and math.isfinite(value):
            found.append(float(value))
    return found


def cell(numbers: Sequence[float], style: str = '.3f') -> str:
    """'mean', or 'mean ± half of the range' where there are several; '-' without any.

    >>> cell([0.2, 0.3]), cell([0.25]), cell([])
    ('0.250 ± 0.050', '0.250', '-')
    """
    if not numbers:
        return '-'
    mean = format(statistics.fmean(numbers), style)
    return mean if len(numbers) == 1 else f'{mean} ± {format((max(numbers) - min(numbers)) / 2, style)}'


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The rows with their figures and costs, then one table for each sensor that was taken away."""
    main = [[r['row'], *(cell(values(r, 'test', 'metrics', name)) for name in FIGURES.values()),
             *(cell([v * scale for v in values(r, phase, key)][:None if key == 'step_ms' else 1], style)
               for phase, key, scale, style in COSTS.values())] for r in records]
    parts = [_table(['row', *FIGURES, *COSTS], main)]
    lost = sorted({phase for r in records for phases in r['seeds'].values() for phase in phases
                   if phase.startswith('without_')})
    for phase in lost:
        rows = [[r['row'], *(_kept(r, phase, name) for name in FIGURES.values())] for r in records
                if any(phase in phases for phases in r['seeds'].values())]
        parts.append(
            f'{phase.replace("_", " ")} (in brackets: share of the whole)\n\n'
            + _table(['row', *FIGURES], rows)
        )
    return '\n\n'.join(parts)


def _kept(record: Mapping[str, Any], phase: str, name: str) -> str:
    now, whole = values(record, phase, 'metrics', name), values(record, 'test', 'metrics', name)
    share = (
        f' ({100 * statistics.fmean(now) / statistics.fmean(whole):.0f} %)'
        if now and whole and any(whole)
        else ''
    )
    return cell(now) + share


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = '|' + '---|' * len(head)
    return '\n'.join(['| ' + ' | '.join(head) + ' |', line, *('| ' + ' | '.join(row) + ' |' for row in rows)])
