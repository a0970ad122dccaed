"""Make a world: scenes and maps in parallel, each complete or absent, then the tables.

While a world grows it has no table folder, so no reader takes it for finished. A run that was stopped, by an
interrupt, a full disk or a lost machine, continues where it was when the same command is given again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...core.files import write_bytes
from ...core.nuscenes.storage import (
    FINISHED,
    UNFINISHED,
    finished_scenes,
    free_bytes,
    is_empty_or_absent,
    load_json,
    publish,
    recover,
    to_json,
)
from ...core.nuscenes.tables import fixed_tables, map_rows, merge_tables
from ...core.rig.file import load_rig
from .options import WorldError, WorldOptions, expected_bytes
from .pool import run_jobs
from .recorder import modalities
from .splits import LOCATIONS, ScenePlan, plan_scenes
from .worker import JobOutcome, MapPlan, do_job, map_is_written

RECORD = 'world.json'


@dataclass
class WorldReport:
    """What a run of the generator did.

    Attributes:
        scenes, key_frames: written by this run.
        wall_s: seconds from start to end.
        making_s: seconds during which scenes and maps were made.
        warm_up_s: seconds each worker spent loading compiled code, part of `making_s`.
        stage_s: core seconds of each stage, over all workers.
        bytes: size of the world on disk.
    """

    scenes: int = 0
    key_frames: int = 0
    wall_s: float = 0.0
    making_s: float = 0.0
    warm_up_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: int = 0

    def add(self, outcome: JobOutcome, elapsed_s: float) -> None:
        """Count one finished job, `elapsed_s` after the first one began."""
        self.making_s = elapsed_s
        self.warm_up_s = max(self.warm_up_s, outcome.warm_up_s)
        for stage, seconds in outcome.stage_s.items():
            self.stage_s[stage] += seconds

    def lines(self) -> list[str]:
        """The report as text: seconds per key frame and where they went."""
        if not self.key_frames:
            return ['nothing to do: every scene was there']

        steady_s = max(self.making_s - self.warm_up_s, 0.0) / self.key_frames
        total_s = sum(self.stage_s.values())
        head = (f'{self.scenes} scenes, {self.key_frames} key frames in {self.wall_s:.1f} s, '
                f'{self.bytes / 1e6:.0f} MB: {self.making_s / self.key_frames:.3f} s per key frame, '
                f'{steady_s:.3f} s without loading compiled code')
        stages = sorted(self.stage_s.items(), key=lambda item: -item[1])
        return [head] + [
            f'  {stage:<16}{seconds / self.key_frames:7.3f} core-s per key frame {seconds / total_s:6.1%}'
            for stage, seconds in stages]


def make_world(out: Path | str, options: WorldOptions, workers: int | None = None,
               report: Callable[[str], None] = print) -> WorldReport:
    """Make a world, or continue one that was started with the same options.

    Args:
        out: folder of the world; absent, empty, or a world with the same options.
        options: what to make.
        workers: processes; None takes one per core. The content does not depend on it.
        report: receives one line of progress at a time.

    Returns:
        What this run did.

    Raises:
        WorldError: the folder holds something else or a world of other options, the disk is too small, or a
            scene failed.
        KeyboardInterrupt: after the workers have stopped; finished scenes are kept.
    """
    start = time.perf_counter()
    out = Path(out)
    plans = plan_scenes(options.scenes, options.split, options.version)
    result = WorldReport()
    with _opened(out, options), _as_world_error(out):
        if not (out / options.version).is_dir():
            _make_content(out, options, plans, workers or os.cpu_count() or 1, report, result)
            _write_tables(out, options, plans)
        for leftover in (UNFINISHED, FINISHED):
            shutil.rmtree(out / leftover, ignore_errors=True)

    result.wall_s = time.perf_counter() - start
    result.bytes = sum(path.stat().st_size for path in out.rglob('*') if path.is_file())
    return result


@contextmanager
def _as_world_error(out: Path) -> Iterator[None]:
    """Turn failures of the disk or of a worker into a `WorldError` that says how to continue."""
    try:
        yield
    except OSError as error:
        raise WorldError(f'{out}: {error.strerror or error}; finished scenes are kept, '
                         'run the same command again to go on') from error
    except BrokenProcessPool as error:
        raise WorldError(f'{out}: a worker process died, perhaps for want of memory; '
                         'finished scenes are kept, run again with fewer --workers') from error


@contextmanager
def _opened(out: Path, options: WorldOptions) -> Iterator[None]:
    """Create the world or continue one with the same options, and keep other runs out of it meanwhile."""
    record_path = out / RECORD
    if not record_path.is_file():
        _create(out, options)
    _check_record(record_path, options)
    with record_path.open('rb') as record:
        try:
            fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorldError(f'{out}: another run is making this world now') from error
        recover(out)
        yield


def _create(out: Path, options: WorldOptions) -> None:
    if not is_empty_or_absent(out):
        raise WorldError(f'{out}: found a folder without {RECORD}, expected a new or empty folder or a world')
    _check_disk(out, expected_bytes(options))
    try:
        write_bytes(out / RECORD, to_json(options.to_record(), indent=2))
    except OSError as error:
        raise WorldError(f'{out}: cannot be written: {error.strerror}') from error


def _check_record(path: Path, options: WorldOptions) -> None:
    try:
        stored, asked = load_json(path), json.loads(to_json(options.to_record()))
    except ValueError as error:
        raise WorldError(str(error)) from error

    differing = [f'{key}: found {stored.get(key)!r}, expected {asked.get(key)!r}'
                 for key in sorted(asked.keys() | stored.keys()) if stored.get(key) != asked.get(key)]
    if differing:
        raise WorldError(f'{path}: the world was made with other arguments ({"; ".join(differing)}); '
                         'give the same ones to go on, or another --out')


def _check_disk(out: Path, needed: int) -> None:
    free = free_bytes(out)
    if free < needed:
        raise WorldError(f'{out}: about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free')


def _make_content(out: Path, options: WorldOptions, plans: list[ScenePlan], workers: int,
                  report: Callable[[str], None], result: WorldReport) -> None:
    """Make the scenes and maps that are not there yet and publish each scene as it is finished."""
    finished = finished_scenes(out)
    scenes = [plan for plan in plans if plan.name not in finished]
    maps = [MapPlan(location) for location in LOCATIONS if not map_is_written(out, location)]
    _check_disk(out, expected_bytes(options) * len(scenes) // len(plans))

    start = time.perf_counter()
    for job, outcome in run_jobs([*scenes, *maps], partial(do_job, out, options), workers):
        result.add(outcome, time.perf_counter() - start)
        if isinstance(job, ScenePlan):
            publish(out, job.name)
            result.scenes += 1
            result.key_frames += options.key_frames
            report(_progress(job, len(plans), len(plans) - len(scenes) + result.scenes, result))


def _progress(plan: ScenePlan, scenes: int, done: int, result: WorldReport) -> str:
    left_s = result.making_s / result.scenes * (scenes - done)
    return (f'[{done:>{len(str(scenes))}}/{scenes}] {plan.name} {plan.split:<5} {plan.location:<24} '
            f'{plan.weather:<5} {result.making_s / result.key_frames:.2f} s per key frame, '
            f'{left_s:.0f} s left')


def _write_tables(out: Path, options: WorldOptions, plans: list[ScenePlan]) -> None:
    """Merge the scenes' rows and put the table folder in its place in one step."""
    tables = merge_tables(load_json(out / FINISHED / f'{plan.name}.json') for plan in plans)
    tables |= fixed_tables(modalities(load_rig(options.rig), options.radars))
    tables['map'] = map_rows(tables['log'], LOCATIONS)

    folder = out / UNFINISHED / options.version
    for name, rows in tables.items():
        write_bytes(folder / f'{name}.json', to_json(rows, indent=0))
    write_bytes(folder / 'splits.json', to_json(split_record(plans), indent=0))
    folder.replace(out / options.version)


def split_record(plans: list[ScenePlan]) -> dict[str, list[str]]:
    """Custom splits of the world, in the devkit's `splits.json` format."""
    return {f'world_{split}': [plan.name for plan in plans if plan.split == split]
            for split in ('train', 'val')}
