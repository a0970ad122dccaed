"""Score results without a model.

    perception evaluate RESULTS --root ROOT --version V --split S [--judge fast|devkit] [--out FILE]
    perception evaluate RUN1.json RUN2.json ... --scorecard PAGE.html

RESULTS is a nuScenes results file of detections or tracks (.json, .json.gz) or a folder that
`perception test` wrote (all tasks). Boxes are scored against the tables in ROOT/V; all other tasks against
the prepared infos (perception create-data), where there are some. With --scorecard the files are what --out
wrote, and one HTML page compares them.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument(
        'results', type=Path, nargs='+', help='results file or folder; with --scorecard: metrics of runs'
    )
    parser.add_argument('--root', type=Path, help='nuScenes-format dataroot')
    parser.add_argument('--version', help='folder of tables below it, e.g. v1.0-trainval')
    parser.add_argument('--split', help='e.g. val, mini_val, a name of splits.json, or all')
    parser.add_argument('--infos', type=Path, help='folder of prepared infos (default: ROOT/infos/VERSION)')

    # how it is scored
    parser.add_argument(
        '--judge', choices=['fast', 'devkit'], default='fast',
        help='fast: ours, all tasks (default); devkit: the official one, boxes only',
    )
    parser.add_argument(
        '--lane-protocol', choices=['ours', 'maptr', 'maptr_v2_centerline'], default='ours',
        help='by whose rules lanes are scored (default: ours)')
    parser.add_argument('--lane-ranges', nargs='+', choices=['60x30', '100x50'], default=['60x30'])
    parser.add_argument(
        '--map-centre', choices=['ego', 'lidar'], default='ego',
        help="what the map's window is around (default: ego; BEVFusion's: lidar)")
    parser.add_argument('--no-rays', action='store_true', help='leave RayIoU out')
    parser.add_argument('--out', type=Path, help='write scores, histograms, calibration and tables as JSON')
    parser.add_argument(
        '--scorecard', type=Path, metavar='PAGE.html', help='compare the given runs on one page'
    )


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """One results file or folder needs to know its split; runs need a page."""
    one_split = len(args.results) == 1 and args.root and args.version and args.split
    if args.scorecard is None and not one_split:
        parser.error('one RESULTS with --root, --version and --split, or runs with --scorecard')


def main(args: argparse.Namespace) -> int:
    """Evaluate or compare; 1 and one line where a file is not what it must be."""
    from ...datasets.reading.records import InfosError
    from ...evaluation.errors import ResultError

    try:
        if args.scorecard is None:
            score_results(args)
        else:
            from ...evaluation.reports.scorecard import Run, write_scorecard
            print(write_scorecard(args.scorecard, [Run.read(path) for path in args.results]))
    except (OSError, ResultError, InfosError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def score_results(args: argparse.Namespace) -> None:
    """Score one results file or folder, print the tables, write the scores."""
    from ...core.files import write_json
    from ...evaluation.evaluate import Split, evaluate, evaluate_official
    from ...evaluation.reports.table import format_details, format_scores

    started, results, details = time.perf_counter(), args.results[0], {}
    if args.judge == 'devkit':
        metrics = evaluate_official(results, Split(args.root, args.version, args.split))
    else:
        source = annotations_source(args) if results.is_dir() else None
        options = {
            'lanes': {'ranges': args.lane_ranges}, 'occupancy': {'rays': not args.no_rays},
            'map_segmentation': {'centre': args.map_centre}}
        report = evaluate(
            results, Split(args.root, args.version, args.split, source), options=options,
            progress=lambda text: print(text, file=sys.stderr))
        metrics, details = report.metrics, report.details()

    print(format_scores(metrics))
    print(format_details(details))
    print(f'evaluated by {args.judge} in {time.perf_counter() - started:.1f} s')
    if args.out is not None:
        name = results.stem if results.is_file() else results.name
        write_json(
            args.out,
            {
                'name': name, 'metrics': metrics, 'results': str(results), 'split': args.split,
                'judge': args.judge, 'breakdown': details},
        )


def annotations_source(args: argparse.Namespace) -> Callable | None:
    """Labels of a token from prepared infos; None, and a line that says so, where there are none."""
    folder = args.infos or args.root / 'infos' / args.version
    if not folder.is_dir():
        print(
            f'{folder}: no prepared infos, so only boxes are scored (perception create-data writes them)',
            file=sys.stderr)
        return None

    from ...datasets.reading.dataset import NuScenesDataset
    return NuScenesDataset(
        args.root, args.version, args.split, infos=folder, sensors=(), test_mode=True,
        reading={'lane_protocol': args.lane_protocol}
    ).annotations_of
