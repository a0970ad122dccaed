"""Judge results without a model.

    python tools/evaluate.py RESULTS --root ROOT --version V --split S [--judge fast|devkit] [--out metrics.json]

RESULTS is a nuScenes detection results file (.json, .json.gz) or a folder that tools/test.py wrote (all tasks). Boxes are judged
against the tables in ROOT/V; map, occupancy and lanes against the prepared infos (tools/create_data.py), where there are some.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', type=Path, help='results file or folder')
    parser.add_argument('--root', type=Path, required=True, help='nuScenes-format dataroot')
    parser.add_argument('--version', required=True, help='folder of tables below it, e.g. v1.0-trainval')
    parser.add_argument('--split', required=True, help='e.g. val, mini_val, a name of splits.json, or all')
    parser.add_argument('--infos', type=Path, help='folder of prepared infos (default: ROOT/infos/VERSION)')
    parser.add_argument('--judge', choices=['fast', 'devkit'], default='fast', help='devkit: the official one, boxes only')
    parser.add_argument('--lane-ranges', nargs='+', choices=['60x30', '100x50'], default=['60x30'])
    parser.add_argument('--no-rays', action='store_true', help='leave RayIoU out')
    parser.add_argument('--out', type=Path, help='write the figures as JSON')
    return parser.parse_args()


def annotations_source(args: argparse.Namespace):
    """Labels of a token from prepared infos, or None with a word why not."""
    folder = args.infos or args.root / 'infos' / args.version
    if not folder.is_dir():
        print(f'{folder}: no prepared infos, so only boxes are judged (tools/create_data.py writes them)', file=sys.stderr)
        return None
    from perception.datasets.dataset import NuScenesDataset
    return NuScenesDataset(args.root, args.version, args.split, infos=folder, sensors=(), test_mode=True).annotations_of


def main() -> int:
    """Judge, print one table, write the figures."""
    args = parse_args()
    from perception.evaluation.errors import ResultError
    from perception.evaluation.evaluate import Split, evaluate, evaluate_official
    from perception.evaluation.results import write_json
    from perception.evaluation.table import format_table
    started = time.perf_counter()
    try:
        if args.judge == 'devkit':
            metrics = evaluate_official(args.results, Split(args.root, args.version, args.split))
        else:
            source = annotations_source(args) if args.results.is_dir() else None
            split = Split(args.root, args.version, args.split, source)
            metrics = evaluate(args.results, split, lane_ranges=args.lane_ranges, rays=not args.no_rays,
                               progress=lambda text: print(text, file=sys.stderr)).metrics
    except ResultError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(format_table(metrics))
    print(f'judged by {args.judge} in {time.perf_counter() - started:.1f} s')
    if args.out is not None:
        write_json(args.out, {'metrics': metrics, 'results': str(args.results), 'split': args.split, 'judge': args.judge})
    return 0


if __name__ == '__main__':
    sys.exit(main())
