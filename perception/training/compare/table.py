"""The table of a comparison: the results of the rows' phases, mean and spread over the seeds."""
from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...registry import headline, main_scores
from .files import row_folder
from .plan import PLAIN, SINGLE, Row

COSTS = {
    'M parameters': ('train', 'parameters', 1e-6, '.2f'),
    'outside encoders': ('train', 'parameters_outside_encoders', 1e-6, '.2f'),
    'step ms': ('train', 'step_ms', 1, '.0f'),
    'step cpu ms': ('train', 'step_cpu_ms', 1, '.0f'),
    'memory MB': ('train', 'memory_mb', 1, '.0f'),
    'network ms': ('latency', 'network_ms', 1, '.0f')}
"""Column -> phase, key of its result, factor, format."""


def collect(work_dir: str | Path, rows: Sequence[Row], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """One record a row: its name, and by seed the phases that are done."""
    return [
        {
            'row': row.name, 'config': row.config, 'role': row.role,
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
    """The rows with their scores and costs, then one table for each sensor that was taken away.

    With rows that are references of single tasks, two columns more: the mean change of the tasks' scores
    against them, and the processor time of a step over that of the plain row.
    """
    tasks = any(record.get('role') == SINGLE for record in records)
    titles = ['row', *headline(), *(('Delta_m %', 'of plain') if tasks else ()), *COSTS]
    parts = [_table(titles, [
        [r['row'], *_scores(r), *(_against(r, records) if tasks else ()), *_costs(r)] for r in records])]

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


def _against(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Change against the rows of single tasks in per cent, and cost of a step over the plain row's."""
    if record.get('role') == SINGLE:
        return ['-', '-']
    plain = [
        value for other in records if other.get('role') == PLAIN
        for value in values(other, 'train', 'step_cpu_ms')]
    own = values(record, 'train', 'step_cpu_ms')
    cost = format(statistics.fmean(own) / statistics.fmean(plain), '.2f') if own and plain else '-'
    return [cell(mean_changes(record, records), '+.1f'), cost]


def mean_changes(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[float]:
    """Delta_m of every seed in per cent: mean over tasks of (score - reference) / reference.

    Reference is the single-task row of the same seed that has the task's main score. Vandenhende et al. 2021,
    arXiv 2004.13379, eq. 6. A seed of which a score or a reference is not there is left out.
    """
    names, found = list(main_scores().values()), []
    for seed in record['seeds']:
        own = _of_seed(record, seed)
        reference: dict[str, float] = {}
        for other in records:
            if other.get('role') == SINGLE:
                reference |= {name: value for name, value in _of_seed(other, seed).items() if name in names}

        shared = [name for name in names if name in own]
        if shared and all(reference.get(name) for name in shared):
            changes = [(own[name] - reference[name]) / reference[name] for name in shared]
            found.append(100 * statistics.fmean(changes))
    return found


def _of_seed(record: Mapping[str, Any], seed: str) -> dict[str, float]:
    """The finite scores of one seed's test."""
    metrics = record['seeds'].get(seed, {}).get('test', {}).get('metrics', {})
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _costs(record: Mapping[str, Any]) -> list[str]:
    cells = []
    for phase, key, scale, style in COSTS.values():
        numbers = [value * scale for value in values(record, phase, key)]
        # what is measured differs between seeds, what is counted does not
        cells.append(cell(numbers if phase == 'train' and 'parameters' not in key else numbers[:1], style))
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
