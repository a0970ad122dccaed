"""Print the statistics of a synthetic world beside those of real frames."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perception.core.files import write_bytes  # noqa: E402
from perception.world.statistics import dataset_statistics, table_lines  # noqa: E402
from perception.world.writing.storage import to_json  # noqa: E402


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description='Print points per frame and per class by distance, boxes per frame, sizes, speeds and '
        'image brightness of nuScenes-format datasets side by side.',
        epilog='example: python tools/world_statistics.py data/world:v1.0-trainval data/nuscenes:v1.0-mini',
    )
    parser.add_argument('datasets', nargs='+', metavar='ROOT:VERSION', help='data root and table folder')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the statistics as JSON too')
    return parser


def main() -> int:
    """Runs the command; 0 done, 1 failed."""
    arguments = build_parser().parse_args()
    try:
        statistics = {}
        for dataset in arguments.datasets:
            root, _, version = dataset.rpartition(':')
            name = Path(root).name
            statistics[name if name not in statistics else dataset] = dataset_statistics(root, version)
        if arguments.out:
            write_bytes(arguments.out, to_json(statistics, indent=2))
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print('\n'.join(table_lines(statistics)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
