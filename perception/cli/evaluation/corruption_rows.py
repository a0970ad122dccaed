"""What `perception test --corruption` means: the rows of the table, and the run over them."""
from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...datasets.corruptions import Corruption, corruptions, parse_choice, suite_rows
from ...evaluation.robustness.suite import (
    CorruptedTest,
    finish,
    read_corruptions,
    run_rows,
    samples_in_words,
)
from ...evaluation.storage.progress import Progress
from ...evaluation.storage.resume import fingerprint


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


def test_corruptions(runner: Any, args: argparse.Namespace, work_dir: Path, run: Mapping[str, str]) -> None:
    """Run clean and the chosen rows, print the table with its summaries, write `corruptions.json`.

    Args:
        runner: with the model that is tested.
        args: the command line of `perception test`.
        work_dir: where results go.
        run: what must be equal for scores and stored samples of an earlier run to be taken over; the metrics
            and the choice of samples are added here, since scores depend on them.
    """
    def say(line: str) -> None:
        runner.logger.info(f'corruptions: {line}')

    baseline = read_corruptions(args.baseline) if args.baseline else None
    folder = work_dir / 'corruptions'
    sensors = set(runner.cfg.test_dataloader.dataset.get('sensors', ('camera', 'lidar', 'radar')))
    if args.sensors:
        sensors &= set(args.sensors.split(','))
    rows, left_out = chosen_rows(args.corruption, sensors)
    if not rows:
        known = ', '.join(sorted(sensors))
        raise SystemExit(f'--corruption {args.corruption}: nothing of it concerns a model with {known}')

    test = CorruptedTest(runner, args.limit, folder=folder)
    count, total = test.samples
    test.run = {
        **run, 'judge': fingerprint(runner.cfg.test_evaluator),
        'samples': f'{count} of {total}, spread evenly'}
    test.progress = Progress(count, say if runner.rank == 0 else lambda line: None)
    table = run_rows(
        [(c.name, s) for c, s in rows], [(c.name, s) for c, s in rows if s == c.harmless], test, folder,
        test.run, runner.rank == 0, say, args.overwrite, test.progress)
    if runner.rank != 0:
        return

    # a summary of a suite counts the corruptions that concern the model's sensors
    out = Path(args.out or work_dir / 'corruptions.json')
    known = {c.name for c in corruptions() if set(c.sensors) <= sensors}
    suites = {
        suite: {name: severity for name, severity in members.items() if name in known}
        for suite, members in suite_rows().items()
    }
    header = samples_in_words(count, total, runner.cfg.test_dataloader.dataset.get('split', ''))
    print(finish(table, suites, out, baseline, header))
    if left_out:
        print(f'left out, no such sensor in the model: {", ".join(left_out)}')
    print(f'scores: {out}, row by row: {folder}')
