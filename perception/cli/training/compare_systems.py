"""Compare systems: train and evaluate many configurations under one budget.

    perception compare-systems --steps 600 [--load-from CHECKPOINT --freeze encoders] [--jobs 2]

Each row runs in a process of its own. Prints one markdown table and writes comparison.md and .json. What is
finished is left out next time.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..commands import PACKAGE, child_process
from ..options import add_config_options, at_least

if TYPE_CHECKING:
    from mmengine.config import Config

    from ...training.compare.plan import Row

ROWS = PACKAGE.parent / 'configs' / 'comparisons' / 'systems.py'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('--list', default=str(ROWS), metavar='FILE', help='the list of rows')
    parser.add_argument(
        '--recipe', metavar='CONFIG',
        help="whose data, optimiser and heads all rows get (default: the list's)")
    parser.add_argument(
        '--rows', nargs='+', metavar='NAME', help='only these rows, by name or configuration (default: all)'
    )
    parser.add_argument(
        '--seeds', type=at_least(0), nargs='+', default=[0],
        help='one training of every row for each'
    )

    # what every row gets
    parser.add_argument(
        '--steps', type=at_least(1), required=True, help='of the optimiser, with a cosine over them')
    parser.add_argument('--batch', type=at_least(1), help="samples a step (default: the recipe's)")
    parser.add_argument('--root', help="data (default: the recipe's)")
    parser.add_argument(
        '--load-from', metavar='CHECKPOINT', help='encoders start from its weights of equal name and shape'
    )
    parser.add_argument(
        '--freeze', nargs='+', default=[], metavar='PREFIX',
        help='not trained; "encoders" means those that the checkpoint brings')
    parser.add_argument(
        '--limit', type=at_least(1), metavar='N',
        help='evaluate N samples spread evenly over the validation split')
    parser.add_argument(
        '--without', nargs='+', default=[], choices=['camera', 'lidar', 'radar'],
        help='also evaluate with this sensor taken away, each in turn')

    # how it runs
    parser.add_argument(
        '--jobs', type=at_least(1), default=1,
        help='rows side by side; with more than one each has one thread')
    parser.add_argument(
        '--no-latency', action='store_true', help='do not time the networks (one at a time, after the rest)'
    )
    parser.add_argument('--work-dir', default='work_dirs/comparison', help='where results go')
    add_config_options(parser)
    parser.add_argument('--only', nargs=3, metavar=('ROW', 'SEED', 'PHASES'), help=argparse.SUPPRESS)


def main(args: argparse.Namespace) -> None:
    """Run the rows, then the timings, then make the table."""
    from ...core.files import write_json, write_text
    from ...training.compare.phases import run_row
    from ...training.compare.plan import Budget, Plan
    from ...training.compare.table import collect, markdown

    plan = Plan.read(args.list, args.recipe)
    budget = Budget(
        args.steps, args.batch, args.root, args.load_from, tuple(args.freeze), args.limit,
        tuple(args.without), args.cfg_options or {})
    if args.only:
        name, seed, phases = args.only
        chosen = None if phases == 'all' else phases.split(',')
        run_row(plan, plan.row(name), budget, int(seed), args.work_dir, chosen, teach=teach)
        return

    rows = [plan.row(name) for name in args.rows] if args.rows else list(plan.rows)
    failures = run_all(rows, args)
    records = collect(args.work_dir, rows, args.seeds)
    table = markdown(records)
    write_json(
        Path(args.work_dir) / 'comparison.json', {'budget': asdict(budget), 'rows': records}, indent=1
    )
    write_text(Path(args.work_dir) / 'comparison.md', table + '\n')
    print(table)
    if failures:
        sys.exit('\n\n'.join(failures))


def teach(config: Config, checkpoint: Path, folder: Path) -> None:
    """Label what the training data of a row lack by the weights that it starts from.

    Labels of an earlier run by other weights or for other data are removed; whatever else is wrong is raised
    and removes nothing.
    """
    import shutil

    import torch
    from mmengine.registry import init_default_scope

    from ...core.config import SCOPE
    from ...datasets.partial.files import OtherLabelsError
    from .teacher import TeacherOptions, label_frames

    init_default_scope(SCOPE)
    options = TeacherOptions(device='cuda' if torch.cuda.is_available() else 'cpu')
    try:
        label_frames(config, checkpoint, folder, options)
    except OtherLabelsError:
        shutil.rmtree(folder)
        label_frames(config, checkpoint, folder, options)


def run_all(rows: Sequence[Row], args: argparse.Namespace) -> list[str]:
    """Train and evaluate all rows and seeds, `args.jobs` side by side, then time them one by one.

    Returns:
        What went wrong, in words.
    """
    threads = 1 if args.jobs > 1 else None
    jobs: dict[tuple[str, int], Future[str | None]] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in rows:
            for seed in args.seeds:
                first = jobs.get((row.start, seed))
                jobs[row.name, seed] = pool.submit(
                    run_child, row, seed, 'all', args.work_dir, args.words, threads, first
                )

    failures = [job.result() for job in jobs.values()]
    if not args.no_latency:
        failures += [run_child(row, args.seeds[0], 'latency', args.work_dir, args.words) for row in rows]
    return [failure for failure in failures if failure is not None]


def run_child(
    row: Row,
    seed: int,
    phases: str,
    work_dir: str,
    words: Sequence[str],
    threads: int | None = None,
    first: Future[str | None] | None = None,
) -> str | None:
    """Run one row in its own process, its output in `log.txt` of its folder.

    Args:
        row: what to run.
        seed: of its training.
        phases: names with commas, or 'all'.
        work_dir: folder of the whole comparison.
        words: the command line of the whole comparison.
        threads: of the process; None leaves the environment's.
        first: the job of the row whose weights this one starts from. It was submitted before this one, so no
            job waits for one that is not running.

    Returns:
        None, or the last lines of what went wrong.
    """
    from ...training.compare.files import row_folder

    if first is not None:
        first.result()
    log = row_folder(work_dir, row, seed) / 'log.txt'
    log.parent.mkdir(parents=True, exist_ok=True)
    command, environment = child_process('compare-systems')
    if threads is not None:
        environment['OMP_NUM_THREADS'] = str(threads)
    command += [*words, '--only', row.folder, str(seed), phases]
    with open(log, 'a', encoding='utf-8') as file:
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
    print(f'{"failed" if code else "done":<7}{row.folder} seed {seed} {phases}', flush=True)
    if not code:
        return None
    return f'{log}:\n' + '\n'.join(log.read_text(encoding='utf-8').splitlines()[-8:])
