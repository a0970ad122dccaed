"""Compare systems: python tools/compare_systems.py --steps 600 [--load-from CHECKPOINT --freeze encoders]
[--jobs 2]"""
from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description='Train and judge many configurations under one budget, each row in its own '
        'process; prints one markdown table and writes comparison.md and .json. What is '
        'finished is left out next time.'
    )
    parser.add_argument(
        '--list', default=str(ROOT / 'configs/comparisons/systems.py'), metavar='FILE',
        help='the list of rows')
    parser.add_argument(
        '--recipe', metavar='CONFIG',
        help="whose data, optimiser and heads all rows get (default: the list's)")
    parser.add_argument(
        '--rows', nargs='+', metavar='NAME', help='only these rows, by name or configuration (default: all)'
    )
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], help='one training of every row for each'
    )
    parser.add_argument('--steps', type=int, required=True, help='of the optimiser, with a cosine over them')
    parser.add_argument('--batch', type=int, help='samples a step (default: the recipe\'s)')
    parser.add_argument('--root', help='data (default: the recipe\'s)')
    parser.add_argument(
        '--load-from', metavar='CHECKPOINT', help='encoders start from its weights of equal name and shape'
    )
    parser.add_argument('--freeze', nargs='+', default=[], metavar='PREFIX',
                        help='not trained; "encoders" means those that the checkpoint brings')
    parser.add_argument(
        '--limit', type=int, metavar='N', help='judge N samples spread evenly over the validation split'
    )
    parser.add_argument('--without', nargs='+', default=[], choices=['camera', 'lidar', 'radar'],
                        help='also judge with this sensor taken away, each in turn')
    parser.add_argument(
        '--jobs', type=int, default=1, help='rows side by side; with more than one each has one thread'
    )
    parser.add_argument(
        '--no-latency', action='store_true', help='do not time the networks (one at a time, after the rest)'
    )
    parser.add_argument('--work-dir', default='work_dirs/comparison', help='where results go')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='changes of every configuration')
    parser.add_argument('--only', nargs=3, metavar=('ROW', 'SEED', 'PHASES'), help=argparse.SUPPRESS)
    return parser.parse_args()


def run_child(words: list[str], log: Path, threads: int | None) -> str | None:
    """One row in its own process, its output in `log`; None, or the last lines of what went wrong."""
    log.parent.mkdir(parents=True, exist_ok=True)
    threads_env = {'OMP_NUM_THREADS': str(threads)} if threads else {}
    with open(log, 'a', encoding='utf-8') as file:
        code = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], '--only', *words], stdout=file,
            stderr=subprocess.STDOUT, env=os.environ | threads_env).returncode
    print(f'{"failed" if code else "done":<7}{words[0]} seed {words[1]} {words[2]}', flush=True)
    return None if not code else f'{log}:\n' + '\n'.join(log.read_text(encoding='utf-8').splitlines()[-8:])


def main() -> None:
    """Run the rows, then the timings, then make the table."""
    args = parse_args()
    from perception.core.files import write_json
    from perception.training.comparison import Budget, Plan, budget_as_json, row_folder, run_row
    from perception.training.comparison_table import collect, markdown
    plan = Plan.read(args.list, args.recipe)
    rows = [plan.row(name) for name in args.rows] if args.rows else list(plan.rows)
    budget = Budget(
        args.steps, args.batch, args.root, args.load_from, tuple(args.freeze), args.limit,
        tuple(args.without), args.cfg_options or {})
    if args.only:
        name, seed, phases = args.only
        return run_row(
            plan, plan.row(name), budget, int(seed), args.work_dir,
            None if phases == 'all' else phases.split(','))

    def child(row, seed, phases, threads, first=None):
        if first is not None:
            first.result()  # it started before this one: no job waits for one that is not running
        return run_child(
            [row.folder, str(seed), phases], row_folder(args.work_dir, row, seed) / 'log.txt', threads
        )

    jobs = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        for row, seed in itertools.product(rows, args.seeds):
            jobs[row.name, seed] = pool.submit(
                child, row, seed, 'all', 1 if args.jobs > 1 else None, jobs.get((row.start, seed))
            )
    failed = [job.result() for job in jobs.values()]
    if not args.no_latency:
        failed += [child(row, args.seeds[0], 'latency', None) for row in rows]
    records = collect(args.work_dir, rows, args.seeds)
    write_json(
        Path(args.work_dir) / 'comparison.json', {'budget': budget_as_json(budget), 'rows': records}, indent=1
    )
    (Path(args.work_dir) / 'comparison.md').write_text(markdown(records) + '\n', encoding='utf-8')
    print(markdown(records))
    if any(failed):
        sys.exit('\n\n'.join(filter(None, failed)))


if __name__ == '__main__':
    main()
