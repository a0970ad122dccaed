"""The table of engines: engine x precision x (scores, latency, memory, file size), a process for each row.

    fill_table(job, ...)  ->  python -m perception.deployment.measure.table JOB.json ROW.json   (once a row)

A process of its own makes peak memory mean something, and a runtime that crashes costs one row. Rows are kept
on disk as soon as they are measured.
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
from ...core.processes import peak_memory_mb
from ...model import MultiTaskPerception
from ...registry import main_scores
from ..deployed import DeployedModel, build_model
from ..engines import Engine, EngineUnavailable, network_files, open_engine
from ..export.network import plain
from ..export.sidecar import Sidecar, file_hash
from ..frames import Frames, data_frames
from ..processor import machine_words
from .frame_latency import pipelined_latency, stage_latencies
from .scores import Scorer

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
    """Everything that the process of a row has to know, as plain values.

    Args:
        config: the whole configuration.
        checkpoint: weights, or 'none' for random ones (then nothing is scored).
        export: folder of the network.
        samples: how many of the test split are scored; None for all, 0 for none.
        runs: counted calls of every stage.
        budget_s: seconds after which a round of calls is the last.
        threads: of ONNX Runtime and OpenVINO; 0 leaves the choice to them.
    """
    loader = config.test_dataloader
    return {
        'loader': plain({'dataset': loader.dataset, 'collate_fn': loader.collate_fn}),
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
        job: of `make_job`.
        rows: (engine, precision) of each.
        out: JSON; rows in it count when they were measured on the same network (int8: the same quantised one)
            in the same way, and were available.
        report: gets a line for each row.
        measure: job -> row (default: `measure_apart`).

    Returns:
        {'engine precision': row}; one that is not available holds only a `reason`.
    """
    sidecar = Sidecar.read(job['export'])
    made_from = {
        'network': sidecar.network_hash,
        'weights': sidecar.weights_hash,
        **{name: job[name] for name in ('samples', 'runs', 'threads')},
    }
    known = _read_rows(out, made_from)

    table: dict[str, Row] = {}
    for engine, precision in rows:
        key = f'{engine} {precision}'
        quantised = _quantised_hashes(job['export'], engine) if precision == 'int8' else None
        row = known.get(key, {})
        if row and not row.get('reason') and row.get('quantised') == quantised:
            report(f'{key}: measured before')
        else:
            row = (measure or measure_apart)({**job, 'engine': engine, 'precision': precision})
            row |= {'quantised': quantised} if quantised else {}
            report(f'{key}: ' + (row.get('reason') or f'{row["network_ms_p50"]:.1f} ms'))

        table[key] = row
        if out is not None:
            write_json(out, finite({'made_from': made_from, 'rows': known | table}), indent=1)
    return table


def _quantised_hashes(folder: str | Path, engine: str) -> dict[str, str] | None:
    """sha256 of the quantised network that an engine opens: a row counts for this one alone."""
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
        job_file = write_json(Path(folder) / 'job.json', dict(job))
        row_file = Path(folder) / 'row.json'
        command = [sys.executable, '-m', 'perception.deployment.measure.table', str(job_file), str(row_file)]

        # the same package as here, installed or not
        root = Path(__file__).resolve().parents[3]
        search_path = os.pathsep.join(filter(None, (str(root), os.environ.get('PYTHONPATH'))))
        environment = {**os.environ, 'PYTHONPATH': search_path}
        process = subprocess.run(command, capture_output=True, text=True, env=environment)

        if row_file.is_file():
            return json.loads(row_file.read_text(encoding='utf-8'))
        last_line = (process.stderr.strip().splitlines() or ['nothing'])[-1]
        return {'reason': f'its process ended with {process.returncode} and said: {last_line}'}


def measure_row(job: Mapping[str, Any]) -> Row:
    """Measure one engine in this process: latencies first, then memory, then scores.

    Raises:
        ValueError, FileNotFoundError: files that do not belong together.
    """
    model = build_model(job['model'], job['checkpoint'], strict=False)
    if job['checkpoint'] != 'none':
        Sidecar.read(job['export']).check_weights(model, job['checkpoint'])
    try:
        engine = _open_for(job, model)
    except EngineUnavailable as error:
        return {'reason': str(error)}

    frames = data_frames(job['loader'])
    row = _measure_speed(job, model, engine, frames)
    files = network_files(job['export'], job['engine'], job['precision'])
    row |= {
        'file_mb': sum(path.stat().st_size for path in files) / 1e6,
        'machine': machine_words(),
        'date': datetime.date.today().isoformat(),
    }

    if job['samples'] != 0:
        scorer = Scorer(model, frames, job['evaluator'], job['samples'])
        row |= {'samples': len(scorer.indices), 'scores': scorer(engine.infer)}
    return row


def _open_for(job: Mapping[str, Any], model: MultiTaskPerception) -> Engine:
    name = job['engine']
    options = {'threads': job['threads']} if name in ('onnxruntime', 'openvino') and job['threads'] else {}
    return open_engine(name, job['export'], job['precision'], model if name == 'torch' else None, **options)


def _measure_speed(
    job: Mapping[str, Any], model: MultiTaskPerception, engine: Engine, frames: Frames
) -> Row:
    """Latencies, and the memory that this process needed for them."""
    warm_up_s = DeployedModel(model, engine).warm_up()
    stages = stage_latencies(model, frames, engine, job['runs'], job['budget_s'])
    pipelined = pipelined_latency(model, frames, engine, job['runs'])

    return {
        'warm_up_s': warm_up_s,
        'network_ms_p50': stages['network'].p50_ms,
        'network_ms_p90': stages['network'].p90_ms,
        'frame_ms_p50': stages['frame'].p50_ms,
        'frame_ms_p90': stages['frame'].p90_ms,
        'pipelined_ms_mean': pipelined.mean_ms,
        'memory_mb': peak_memory_mb(),
        'runs': stages['network'].runs,
        'threads': job['threads'],
    }


def format_engine_table(rows: Mapping[str, Row]) -> str:
    """The rows as a markdown table; below it the reasons of those that are not available."""
    main = main_scores()
    columns = (
        'network_ms_p50', 'network_ms_p90', 'frame_ms_p50', 'pipelined_ms_mean', 'memory_mb', 'file_mb')
    heads = [
        'engine', *main.values(), 'network p50 ms', 'p90 ms', 'files to predictions p50 ms', 'pipelined ms',
        'memory MB', 'file MB']
    lines = ['| ' + ' | '.join(heads) + ' |', '|---' * len(heads) + '|']

    for key, row in rows.items():
        if not row.get('reason'):
            scores = [_cell(row.get('scores', {}).get(task), 4) for task in main]
            measured = [_cell(row.get(name), 1) for name in columns]
            lines.append('| ' + ' | '.join([key, *scores, *measured]) + ' |')

    missing = [f'* {key}: {row["reason"]}' for key, row in rows.items() if row.get('reason')]
    return '\n'.join([*lines, *([''] + missing if missing else [])])


def _cell(value: float | None, digits: int) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


if __name__ == '__main__':
    write_json(sys.argv[2], finite(measure_row(json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')))))
