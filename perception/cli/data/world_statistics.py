"""Print statistics of a synthetic world beside those of real frames.

    perception world-statistics data/world:v1.0-trainval data/nuscenes:v1.0-mini

Points per frame and per class by distance, boxes per frame, sizes, speeds and image brightness of datasets in
nuScenes format, side by side.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('datasets', nargs='+', metavar='ROOT:VERSION', help='data root and table folder')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the statistics as JSON too')


def main(args: argparse.Namespace) -> int:
    """Read and print; 0 done, 1 failed."""
    from ...core.files import write_bytes
    from ...core.nuscenes.storage import to_json
    from ...world.statistics import dataset_statistics, table_lines

    statistics: dict[str, object] = {}
    try:
        for dataset in args.datasets:
            root, colon, version = dataset.rpartition(':')
            if not (root and colon and version):
                raise ValueError(f'expected ROOT:VERSION, found {dataset!r}')
            name = Path(root).name
            statistics[name if name not in statistics else dataset] = dataset_statistics(root, version)
        if args.out:
            write_bytes(args.out, to_json(statistics, indent=2))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print('\n'.join(table_lines(statistics)))
    return 0
