"""Time our metrics beside the official ones and print one table.

    perception benchmark-evaluation [--real ROOT] [--samples 6019] [--boxes 200] [--grids 500] [--out FILE]

1. The real mini_val detections, scored by the devkit's DetectionEval and by ours, the scores compared.
2. A made val split (tables and a results file of --samples x --boxes), scored by `perception evaluate` in a
   process of its own.
3. Map, occupancy (with rays) and lanes of --grids made samples, extrapolated to --samples.
4. The real mini_val boxes with noise, tracked and scored; the devkit's tracking evaluation beside ours where
   motmetrics 1.4.0 is installed (minutes).
"""
from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from ..commands import PACKAGE, child_process
from ..options import at_least

VAL_SAMPLES = 6019
PARTS = ('real', 'big', 'grids', 'tracks')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    real = PACKAGE.parents[1] / 'shared' / 'real_frames' / 'nuscenes'
    parser.add_argument('--real', type=Path, default=real, help='root of real frames with detections')
    parser.add_argument('--samples', type=at_least(1), default=VAL_SAMPLES, help='of the made split')
    parser.add_argument('--boxes', type=at_least(1), default=200, help='of a made sample')
    parser.add_argument('--grids', type=at_least(1), default=500,
        help='made samples of map, occupancy and lanes')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS), help='some of the four')
    parser.add_argument('--scratch', type=Path, help='where the made files go (default: a temporary folder)')
    parser.add_argument('--out', type=Path, help='write the times as JSON')


def main(args: argparse.Namespace) -> None:
    """Run the parts and print the table."""
    from ...core.files import write_json
    from ...evaluation.timing.benchmark import time_big_file, time_grids, time_real_detections

    if args.scratch:
        args.scratch.mkdir(parents=True, exist_ok=True)
    times: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        scratch = Path(folder)
        if 'real' in args.parts and not (args.real / 'detections').is_dir():
            print(f'skipped: no real detections at {args.real}')
        elif 'real' in args.parts:
            times['81 real samples'] = time_real_detections(args.real, scratch)
        if 'big' in args.parts:
            command, environment = child_process('evaluate')
            os.environ['PYTHONPATH'] = environment['PYTHONPATH']
            times['made results file'] = time_big_file(args.samples, args.boxes, scratch, command)
        if 'grids' in args.parts:
            times['map, occupancy, lanes'] = time_grids(args.grids, args.samples)
        if 'tracks' in args.parts and not (args.real / 'v1.0-mini').is_dir():
            print(f'skipped: no real boxes at {args.real}')
        elif 'tracks' in args.parts:
            from .tracked_truth import time_tracks
            times['tracks of 81 real samples'] = time_tracks(args.real)

    for part, rows in times.items():
        print(part)
        print('\n'.join(f'  {name:<44}{value:>14.6g}' for name, value in rows.items()))
    load = os.getloadavg()[0]
    print(f'{os.cpu_count()} cores, load {load:.1f}')
    if args.out is not None:
        write_json(args.out, {**times, 'load': load, 'cores': os.cpu_count()}, indent=1)
