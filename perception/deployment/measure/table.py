"""Engine x precision x (scores, latency, memory, file size): each row by a process of its own, kept as soon
as it is there.

    fill_table(job, ...)  ->  python -m perception.deployment.measure.table JOB.json ROW.json   (once a row)

A process of its own makes peak memory mean something, and a runtime that crashes costs one row.
"""
from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.files import finite, write_json

ROWS = (
    ('torch', 'fp32'), ('torch', 'bf16'), ('onnxruntime', 'fp32'), ('onnxruntime', 'int8'),
    ('openvino', 'fp32'), ('openvino', 'bf16'), ('openvino', 'int8'), ('tensorrt', 'fp32'),
    ('tensorrt', 'fp16'), ('tensorrt', 'int8'))
Row = dict[str, Any]


def make_job(
    config: Any,
    checkpoint: str,
    export: str | Path,
    samples: int | None,
    runs: int = 20,
    budget_s: float = 60.0,
    threads: int = 0,
) -> dict[str, Any]:
    """Everything a row's process has to know, as plain values.

    Args:
        config: the whole configuration.
        checkpoint: weights, or 'none' for random ones (then nothing is scored).
        export: folder of the network.
        samples: how many of the test split are scored; None for all, 0 for none.
    """
    from ..export.network import plain

    return {
        'loader': plain(
            {'dataset': config.test_dataloader.dataset, 'collate_fn': config.test_dataloader.collate_fn}
        ),
        'model': plain(config.model),
        'evaluator': plain(config.test_evaluator),
        'checkpoint': str(checkpoint),
        'export': str(export),
        'samples': 0 if checkpoint == 'none' else samples,
        'runs': runs,
        'budget_s': budget_s,
        'threads': threads,
    }


def fill_table(
    job: Mapping[str, Any],
    rows: Sequence[tuple[str, str]] = ROWS,
    out: str | Path | None = None,
    report: Callable[[str], None] = print,
    measure: Callable[[dict[str, Any]], Row] | None = None,
) -> dict[str, Row]:
    """Measure the rows that are not in `out` yet and keep each there at once.

    Args:
        out: JSON; rows in it count when they were measured on the same network (int8: the same quantised one)
            in the same way, and were to be had.
        measure: job -> row (default: `measure_apart`).

    Returns:
        {'engine precision': row}; one that is not to be had holds only a `reason`.
    """
    from ..export.sidecar import Sidecar
    sidecar = Sidecar.read(job['export'])
    made_from = {'network': sidecar.network_hash, 'weights': sidecar.weights_hash,
                 **{name: job[name] for name in ('samples', 'runs', 'threads')}}
    known = _read_rows(out, made_from)
    found: dict[str, Row] = {}
    for engine, precision in rows:
        key = f'{engine} {precision}'
        files = _quantised(job['export'], engine) if precision == 'int8' else None
        if key in known and not known[key].get('reason') and known[key].get('quantised') == files:
            report(f'{key}: measured before')
            found[key] = known[key]
        else:
            found[key] = (measure or measure_apart)({**job, 'engine': engine, 'precision': precision})
            found[key] |= {'quantised': files} if files else {}
            report(f'{key}: ' + (found[key].get('reason') or f'{found[key]["network_ms_p50"]:.1f} ms'))
        if out is not None:
            write_json(out, finite({'made_from': made_from, 'rows': known | found}), indent=1)
    return found


def _quantised(folder: str | Path, engine: str) -> dict[str, str] | None:
    """sha256 of the quantised network that an engine opens: a row counts for this one alone."""
    from ..engines import EngineUnavailable, network_files
    from ..export.sidecar import file_hash
    try:
        return {path.name: file_hash(path) for path in network_files(folder, engine, 'int8')}
    except EngineUnavailable:
        return None


def _read_rows(path: str | Path | None, made_from: Mapping[str, Any]) -> dict[str, Row]:
    if path is None or not Path(path).is_file():
        return {}
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        return dict(content['rows']) if content['made_from'] == dict(made_from) else {}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path}: not a table of engines ({type(error).__name__}: {error}); give another file'
        ) from error


def measure_apart(job: Mapping[str, Any]) -> Row:
    """Measure one row in a process of its own; a process that fails gives the reason."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = write_json(Path(folder) / 'job.json', dict(job)), Path(folder) / 'row.json'
        command = [sys.executable, '-m', 'perception.deployment.measure.table', str(question), str(answer)]
        root = Path(__file__).resolve().parents[3]
        places = os.pathsep.join(filter(None, (str(root), os.environ.get('PYTHONPATH'))))
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': places}
        )
        if answer.is_file():
            return json.loads(answer.read_text(encoding='utf-8'))
        said = (done.stderr.strip().splitlines() or ['nothing'])[-1]
        return {'reason': f'its process ended with {done.returncode} and said: {said}'}


def measure_row(job: Mapping[str, Any]) -> Row:
    """Measure one engine in this process: latencies first, then memory, then scores.

    Raises:
        ValueError, FileNotFoundError: files that do not belong together.
    """
    from ..deployed import DeployedModel, build_model
    from ..engines import EngineUnavailable, network_files, open_engine
    from ..export.sidecar import Sidecar
    from ..frames import data_frames
    from ..processor import machine_words
    from .benchmark import pipelined_latency, stage_latencies
    from .scores import Scorer
    from .timing import peak_memory_mb
    engine, precision = job['engine'], job['precision']
    model = build_model(job['model'], job['checkpoint'], strict=False)
    if job['checkpoint'] != 'none':
        Sidecar.read(job['export']).check_weights(model, job['checkpoint'])
    options = {'threads': job['threads']} if engine in ('onnxruntime', 'openvino') and job['threads'] else {}
    try:
        opened = open_engine(
            engine, job['export'], precision, model if engine == 'torch' else None, **options
        )
    except EngineUnavailable as error:
        return {'reason': str(error)}
    frames, deployed = data_frames(job['loader']), DeployedModel(model, opened)
    row: Row = {'warm_up_s': deployed.warm_up()}
    stages = stage_latencies(model, frames, opened, job['runs'], job['budget_s'])
    row |= {'network_ms_p50': stages['network'].p50_ms, 'network_ms_p90': stages['network'].p90_ms,
            'frame_ms_p50': stages['frame'].p50_ms, 'frame_ms_p90': stages['frame'].p90_ms,
            'pipelined_ms_mean': pipelined_latency(model, frames, opened, job['runs']).mean_ms,
            'memory_mb': peak_memory_mb(), 'runs': stages['network'].runs, 'threads': job['threads']}
    files = network_files(job['export'], engine, precision)
    row |= {'file_mb': sum(path.stat().st_size for path in files) / 1e6, 'machine': machine_words(),
            'date': datetime.date.today().isoformat()}
    if job['samples'] != 0:
        scorer = Scorer(model, frames, job['evaluator'], job['samples'])
        row |= {'samples': len(scorer.indices), 'scores': scorer(opened.infer)}
    return row


def format_table(rows: Mapping[str, Row]) -> str:
    """The rows as a markdown table; those that are not to be had below it, with their reasons."""
    from .scores import SCORES

    columns = (
        'network_ms_p50', 'network_ms_p90', 'frame_ms_p50', 'pipelined_ms_mean', 'memory_mb', 'file_mb')
    heads = [
        'engine', *SCORES.values(), 'network p50 ms', 'p90 ms', 'files to answers p50 ms', 'pipelined ms',
        'memory MB', 'file MB']
    lines = ['| ' + ' | '.join(heads) + ' |', '|---' * len(heads) + '|']
    for key, row in rows.items():
        if not row.get('reason'):
            scores = [_cell(row.get('scores', {}).get(task), 4) for task in SCORES]
            lines.append(
                '| ' + ' | '.join([key, *scores, *(_cell(row.get(name), 1) for name in columns)]) + ' |'
            )
    missing = [f'* {key}: {row["reason"]}' for key, row in rows.items() if row.get('reason')]
    return '\n'.join([*lines, *([''] + missing if missing else [])])


def _cell(value: float | None, digits: int) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


if __name__ == '__main__':
    write_json(sys.argv[2], finite(measure_row(json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')))))
