"""Time the judges beside the official one, in one run, and print one table.

    python tools/benchmark_evaluation.py [--real ROOT] [--samples 6019] [--boxes 200] [--grids 500] [--out
    FILE]

1. The real mini_val detections, judged by the devkit's DetectionEval and by ours, figures compared.
2. A made val split (tables and a results file of --samples x --boxes), judged by tools/evaluate.py in its own
   process.
3. Map, occupancy (with rays) and lanes of --grids made samples, extrapolated to --samples.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
VAL_SAMPLES = 6019


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--real', type=Path, default=ROOT.parent / 'shared' / 'real_frames' / 'nuscenes')
    parser.add_argument('--samples', type=int, default=VAL_SAMPLES)
    parser.add_argument('--boxes', type=int, default=200)
    parser.add_argument('--grids', type=int, default=500)
    parser.add_argument(
        '--parts', nargs='+', choices=['real', 'big', 'grids'], default=['real', 'big', 'grids']
    )
    parser.add_argument('--scratch', type=Path, help='where the made files go (default: a temporary folder)')
    parser.add_argument('--out', type=Path, help='write the figures as JSON')
    return parser.parse_args()


def main() -> None:
    """Run the parts and print the table."""
    args = parse_args()
    from perception.evaluation.timing.benchmark import time_big_file, time_grids, time_real_detections
    found: dict[str, dict[str, float]] = {}
    if args.scratch:
        Path(args.scratch).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        scratch = Path(folder)
        if 'real' in args.parts:
            if (args.real / 'detections').is_dir():
                found['81 real samples'] = time_real_detections(args.real, scratch)
            else:
                print(f'skipped: no real detections at {args.real}')
        if 'big' in args.parts:
            found['made results file'] = time_big_file(args.samples, args.boxes, scratch,
                                                       [sys.executable, str(ROOT / 'tools' / 'evaluate.py')])
        if 'grids' in args.parts:
            found['map, occupancy, lanes'] = time_grids(args.grids, args.samples)
    for part, figures in found.items():
        print(part)
        print('\n'.join(f'  {name:<44}{value:>14.6g}' for name, value in figures.items()))
    print(f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}')
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps({**found, 'load': os.getloadavg()[0], 'cores': os.cpu_count()}, indent=1)
        )


if __name__ == '__main__':
    main()
