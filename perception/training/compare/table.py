"""The table of a comparison: the results of the rows' phases, mean and spread over the seeds."""
from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...registry import headline
from .files import row_folder
from .plan import Row

COSTS = {
    'M parameters': ('train', 'parameters', 1e-6, '.2f'),
    'outside encoders': ('train', 'parameters_outside_encoders', 1e-6, '.2f'),
    'step ms': ('train', 'step_ms', 1, '.0f'),
    'network ms': ('latency', 'network_ms', 1, '.0f')}
"""Column -> phase, key of its result, factor, format."""


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
    """A number of every seed that has it: `keys` lead to it in the phase's result."""
    numbers = []
    for phases in record['seeds'].values():
        value: Any = phases.get(phase, {})
        for key in keys:
            value = value.get(key, {}) if isinstance(value, Mapping) else {}
        if isinstance(value, (int, float)) and math.isfinite(value):
            numbers.append(float(value))
    return numbers


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
    """The rows with their scores and costs, then one table for each sensor that was taken away."""
    parts = [_table(['row', *headline(), *COSTS], [[r['row'], *_scores(r), *_costs(r)] for r in records])]
    phases = {phase for record in records for done in record['seeds'].values() for phase in done}
    for phase in sorted(phases):
        if phase.startswith('without_'):
            rows = [
                [record['row'], *(_kept(record, phase, name) for name in headline().values())]
                for record in records
                if any(phase in done for done in record['seeds'].values())
            ]
            title = f'{phase.replace("_", " ")} (in brackets: fraction of the score with all sensors)'
            parts.append(f'{title}\n\n' + _table(['row', *headline()], rows))
    return '\n\n'.join(parts)


def _scores(record: Mapping[str, Any]) -> list[str]:
    return [cell(values(record, 'test', 'metrics', name)) for name in headline().values()]


def _costs(record: Mapping[str, Any]) -> list[str]:
    cells = []
    for phase, key, scale, style in COSTS.values():
        numbers = [value * scale for value in values(record, phase, key)]
        # the time of a step differs between seeds, the other costs do not
        cells.append(cell(numbers if key == 'step_ms' else numbers[:1], style))
    return cells


def _kept(record: Mapping[str, Any], phase: str, name: str) -> str:
    """A score without a sensor, and in brackets what it is of the score with all of them."""
    now, whole = values(record, phase, 'metrics', name), values(record, 'test', 'metrics', name)
    if not (now and whole and any(whole)):
        return cell(now)
    return f'{cell(now)} ({100 * statistics.fmean(now) / statistics.fmean(whole):.0f} %)'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = '|' + '---|' * len(head)
    return '\n'.join(['| ' + ' | '.join(head) + ' |', line, *('| ' + ' | '.join(row) + ' |' for row in rows)])
