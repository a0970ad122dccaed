"""Damage every format that is read, many times each, and see what its reader does.

For each format a small sound file is made, then damaged in seeded ways (bits, bytes, pieces, numbers, fields,
arrays, instructions of a pickle) and read. A reader may answer or raise its documented error. Anything else,
a try that does not end, a program that is started, or memory without bounds is a fault: exit status 1.
"""
from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS_PER_TRY = 20.0
MEMORY_GIB = 4
STARTS = ('os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'subprocess.Popen', 'pty.spawn')
"""Audit events of programs that are started."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the program."""
    parser.add_argument(
        '--tries', type=int, default=300, help='damaged copies a format (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the damage (default: %(default)s)')
    parser.add_argument('--formats', nargs='*', help='these alone (default: all)')
    parser.add_argument('--out', type=Path, help='also write the table there as JSON')


def run(args: argparse.Namespace) -> int:
    """Print a line a format; 1 where there was a fault."""
    from perception.core.files import write_json

    from .formats import FORMATS

    unknown = sorted(set(args.formats or ()) - set(FORMATS))
    if unknown:
        print(f'fuzz: no format {", ".join(unknown)}; there are: {", ".join(FORMATS)}', file=sys.stderr)
        return 2

    print(f'{"format":16} {"tries":>5} {"answers":>7} {"refused":>7} {"other":>5} {"hangs":>5} {"runs":>4} '
          f'{"MiB":>5} {"slowest s":>9}')
    rows = []
    for name in args.formats or FORMATS:
        rows.append(fuzz_format(name, args.tries, args.seed))
        print(line(rows[-1]), flush=True)
        for trace in rows[-1]['traces']:
            print(f'    {trace}')
    if args.out:
        write_json(args.out, rows, indent=1)
    return int(any(row['other'] or row['hangs'] or row['runs'] for row in rows))


def line(row: dict[str, Any]) -> str:
    """One format's counts."""
    return (
        f'{row["format"]:16} {row["tries"]:5} {row["answers"]:7} {row["refused"]:7} {row["other"]:5} '
        f'{row["hangs"]:5} {row["runs"]:4} {row["mib"]:5.0f} {row["slowest_s"]:9.2f}')


def fuzz_format(name: str, tries: int, seed: int = 0) -> dict[str, Any]:
    """Read `tries` damaged files of one format in a child process of its own.

    Returns:
        Counts: answers, refused (the documented error), other (any other error, or the end of the process),
        hangs, runs (programs started); mib: by how much memory grew at most; traces: of the first faults.
    """
    row: dict[str, Any] = {
        'format': name, 'tries': 0, 'answers': 0, 'refused': 0, 'other': 0, 'hangs': 0, 'runs': 0,
        'mib': 0.0, 'slowest_s': 0.0, 'traces': []}
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context('fork')
        receiver, sender = context.Pipe(False)
        child = context.Process(target=_run, args=(name, tries, seed, Path(folder), sender))
        child.start()
        sender.close()
        _collect(row, receiver, child)
    return row


def _collect(row: dict[str, Any], receiver: Any, child: Any) -> None:
    """Count what the child says; one that says nothing for long hangs where no signal reaches."""
    try:
        while receiver.poll(3 * SECONDS_PER_TRY):
            found = receiver.recv()
            row['tries'] += 1
            row[found['kind']] += 1

            row['runs'] += found['runs']
            row['mib'] = max(row['mib'], found['mib'])
            row['slowest_s'] = max(row['slowest_s'], found['seconds'])
            if found['trace'] and len(row['traces']) < 5:
                row['traces'].append(found['trace'])

        # where no signal reaches
        row['hangs'] += 1
        row['traces'].append(f'try {row["tries"]}: no answer, the process was killed')
    except EOFError:
        child.join()
        if child.exitcode:
            row['other'] += 1
            row['traces'].append(f'try {row["tries"]}: the process ended with status {child.exitcode}')
    finally:
        child.kill()
        child.join()


class _DoesNotEnd(BaseException):
    """No reader catches it."""


def _run(name: str, tries: int, seed: int, folder: Path, sender: Any) -> None:
    """In the child: damage, read, say what happened."""
    from .formats import FORMATS

    warnings.simplefilter('ignore')
    os.environ['PERCEPTION_FOLLOW_LINKS'] = '1'  # the temporary folder may itself be a link
    make, read, errors, damage = FORMATS[name]
    path = make(folder)
    sound = path.read_bytes()
    read(path)

    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event in STARTS else None)
    signal.signal(signal.SIGALRM, _stop)
    _limit_memory()
    at_start = _peak_mib()
    for number in range(tries):
        rng = random.Random(f'{name}/{seed}/{number}')
        path.write_bytes(damage(sound, rng))
        began = time.perf_counter()
        kind, trace = _try(path, read, errors)
        sender.send({
            'kind': kind, 'trace': trace and f'try {number}: {trace}', 'runs': len(started),
            'mib': _peak_mib() - at_start, 'seconds': time.perf_counter() - began})
        started.clear()
    sender.close()


def _try(path: Path, read: Any, errors: Any) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_TRY)
    try:
        read(path)
        return 'answers', ''
    except errors as error:
        named = path.name in str(error) or str(path.parent) in str(error)
        return ('refused', '') if named else ('other', f'without the file: {type(error).__name__}: {error}')
    except _DoesNotEnd:
        return 'hangs', f'more than {SECONDS_PER_TRY:.0f} s'
    except BaseException as error:
        return 'other', f'{type(error).__name__}: {str(error)[:200]} ({" < ".join(_places(error))})'
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _places(error: BaseException) -> Iterator[str]:
    """Files and lines of the innermost calls."""
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f'{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}')
        trace = trace.tb_next
    return iter(places[:-4:-1])


def _stop(*_: object) -> None:
    raise _DoesNotEnd


def _limit_memory() -> None:
    pages = int(Path('/proc/self/statm').read_text().split()[0]) if Path('/proc/self/statm').is_file() else 0
    limit = pages * resource.getpagesize() + MEMORY_GIB * 1024 ** 3
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
