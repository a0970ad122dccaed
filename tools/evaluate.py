"""Judge results without a model.

    python tools/evaluate.py RESULTS --root ROOT --version V --split S [--judge fast|devkit] [--out
    metrics.json] python tools/evaluate.py RUN1.json RUN2.json ... --scorecard PAGE.html

RESULTS is a nuScenes detection results file (.json, .json.gz) or a folder that tools/test.py wrote (all
tasks). Boxes are judged against the tables in ROOT/V; map, occupancy and lanes against the prepared infos
(tools/create_data.py), where there are some. With --scorecard the files are what --out wrote, and one HTML
page compares them.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'results', type=Path, nargs='+', help='results file or folder; with --scorecard: figures of runs'
    )
    parser.add_argument('--root', type=Path, help='nuScenes-format dataroot')
    parser.add_argument('--version', help='folder of tables below it, e.g. v1.0-trainval')
    parser.add_argument('--split', help='e.g. val, mini_val, a name of splits.json, or all')
    parser.add_argument('--infos', type=Path, help='folder of prepared infos (default: ROOT/infos/VERSION)')
    parser.add_argument(
        '--judge', choices=['fast', 'devkit'], default='fast', help='devkit: the official one, boxes only'
    )
    parser.add_argument('--lane-ranges', nargs='+', choices=['60x30', '100x50'], default=['60x30'])
    parser.add_argument('--no-rays', action='store_true', help='leave RayIoU out')
    parser.add_argument('--out', type=Path, help='write figures, histograms, calibration and tables as JSON')
    parser.add_argument(
        '--scorecard', type=Path, metavar='PAGE.html', help='compare the given runs on one page'
    )
    args = parser.parse_args()
    if args.scorecard is None and (len(args.results) != 1 or not (args.root and args.version and args.split)):
        parser.error('one RESULTS with --root, --version and --split, or runs with --scorecard')
    return args


def annotations_source(args: argparse.Namespace):
    """Labels of a token from prepared infos, or None with a word why not."""
    folder = args.infos or args.root / 'infos' / args.version
    if not folder.is_dir():
        print(
            f'{folder}: no prepared infos, so only boxes are judged (tools/create_data.py writes them)',
            file=sys.stderr)
        return None
    from perception.datasets.reading.dataset import NuScenesDataset

    return NuScenesDataset(
        args.root, args.version, args.split, infos=folder, sensors=(), test_mode=True
    ).annotations_of


def judge(args: argparse.Namespace) -> None:
    """Judge, print the tables, write the figures."""
    from perception.core.files import write_json
    from perception.evaluation.evaluate import Split, evaluate, evaluate_official
    from perception.evaluation.reports.breakdown import breakdown, format_breakdown
    from perception.evaluation.reports.table import format_table
    started, results, found = time.perf_counter(), args.results[0], {}
    if args.judge == 'devkit':
        metrics = evaluate_official(results, Split(args.root, args.version, args.split))
    else:
        source = annotations_source(args) if results.is_dir() else None
        verdict = evaluate(
            results, Split(args.root, args.version, args.split, source), lane_ranges=args.lane_ranges,
            rays=not args.no_rays, progress=lambda text: print(text, file=sys.stderr))
        metrics, found = verdict.metrics, breakdown(verdict)
    print(format_table(metrics))
    print(format_breakdown(found))
    print(f'judged by {args.judge} in {time.perf_counter() - started:.1f} s')
    if args.out is not None:
        write_json(
            args.out,
            {
                'name': results.stem if results.is_file() else results.name, 'metrics': metrics,
                'results': str(results), 'split': args.split, 'judge': args.judge, 'breakdown': found},
        )


def main() -> int:
    """What the command line asks for; 1 and one line where a file is not what it must be."""
    args = parse_args()
    from perception.evaluation.errors import ResultError
    try:
        if args.scorecard is None:
            judge(args)
        else:
            from perception.evaluation.reports.scorecard import Run, write_scorecard
            print(write_scorecard(args.scorecard, [Run.read(path) for path in args.results]))
    except ResultError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
