"""What `tools/test.py --corruption` means: the rows of the table, and the run over them."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from perception.datasets.corruptions import Corruption, corruptions, parse_choice, suite_rows
from perception.evaluation.corruption_suite import CorruptedTest, finish, read_table, run_rows


def list_corruptions() -> str:
    """Every corruption with its kind, severities and what it does."""
    lines = [f'{"name":<24}{"kind":<11}{"suites":<22}{"severities":<24}what happens']
    for c in corruptions():
        levels = ', '.join(f'{s:g}' for s in c.severities)
        lines.append(f'{c.name:<24}{c.kind:<11}{", ".join(c.suites):<22}{levels:<24}{c.summary}')
    return '\n'.join(lines)


def chosen_rows(words: str, sensors: set[str]) -> tuple[list[tuple[Corruption, float]], list[str]]:
    """The rows of the words that mean something for these sensors, and the names of corruptions left out."""
    rows = parse_choice(words)
    left_out = {c.name: None for c, _ in rows if not set(c.sensors) <= sensors}
    return [(c, s) for c, s in rows if c.name not in left_out], list(left_out)


def identity(args: argparse.Namespace) -> dict[str, Any]:
    """What must be equal for figures of an earlier run to be taken over."""
    stat = Path(args.checkpoint).stat()
    names = ('config', 'checkpoint', 'engine', 'precision', 'sensors', 'split', 'limit')
    return {**{name: getattr(args, name) for name in names}, 'checkpoint_bytes': stat.st_size,
            'checkpoint_mtime_ns': stat.st_mtime_ns, 'cfg_options': repr(sorted((args.cfg_options or {}).items()))}


def test_corruptions(runner: Any, args: argparse.Namespace, work_dir: Path) -> None:
    """Run clean and the chosen rows, print the table with its summaries, write `corruptions.json`."""
    baseline = read_table(args.baseline) if args.baseline else None
    sensors = set(runner.cfg.test_dataloader.dataset.get('sensors', ('camera', 'lidar', 'radar')))
    sensors &= set(args.sensors.split(',')) if args.sensors else sensors
    rows, left_out = chosen_rows(args.corruption, sensors)
    if not rows:
        raise SystemExit(f'--corruption {args.corruption}: nothing of it concerns a model with {", ".join(sorted(sensors))}')
    table = run_rows([(c.name, s) for c, s in rows], [(c.name, s) for c, s in rows if s == c.harmless],
                     CorruptedTest(runner, args.limit), work_dir / 'corruptions', identity(args), runner.rank == 0,
                     lambda line: runner.logger.info(f'corruptions: {line}'))
    if runner.rank != 0:
        return
    out = Path(args.out or work_dir / 'corruptions.json')
    known = {c.name for c in corruptions() if set(c.sensors) <= sensors}
    suites = {suite: {name: s for name, s in wanted.items() if name in known} for suite, wanted in suite_rows().items()}
    print(finish(table, suites, out, baseline))
    if left_out:
        print(f'left out, no such sensor in the model: {", ".join(left_out)}')
    print(f'figures: {out}, row by row: {work_dir / "corruptions"}')
