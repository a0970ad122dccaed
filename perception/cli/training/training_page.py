"""A training on one page: losses by task, gradients, validation scores, sample pictures.

    perception training-page WORK_DIR [--out PAGE.html] [--watch SECONDS]

Reads the logs that `perception train` writes, also while it runs; the runs of a resumed training become one
line. The page has no scripts and opens offline. Trainings longer than twenty minutes write it themselves,
as `training.html` in their work dir.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..options import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('work_dir', type=Path, help='work dir of a training')
    parser.add_argument(
        '--out', type=Path, metavar='PAGE.html', help='default: training.html in the work dir')
    parser.add_argument(
        '--watch', type=at_least(1), metavar='SECONDS',
        help='write it again every so many seconds, until Ctrl-C; an open browser follows')


def main(args: argparse.Namespace) -> None:
    """Write the page, once or again and again."""
    from ...training.page import write_page

    print(write_page(args.work_dir, args.out, args.watch or 0), flush=True)
    try:
        while args.watch:
            time.sleep(args.watch)
            write_page(args.work_dir, args.out, args.watch)
    except KeyboardInterrupt:
        pass
