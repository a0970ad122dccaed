"""Exchange info files with mmdet3d (and BEVFusion, BEVDet, whose files have the same form).

    python tools/mmdet3d_infos.py import infos_val.pkl --split val --root data/nuscenes --out
    data/nuscenes/infos/imported python tools/mmdet3d_infos.py export data/nuscenes/infos/v1.0-trainval
    --split val --out nuscenes_infos_val.pkl

Import reads v1 and v2 pickles without running anything they ask for; export writes v2 (mmdet3d 1.1 and
later).
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perception.datasets.exchange.mmdet3d_infos import export_infos, import_infos  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = top.add_subparsers(dest='way', required=True)
    one = ways.add_parser('import', help='an mmdet3d pickle -> a split of our infos')
    one.add_argument('source', type=Path, help='the pickle')
    one.add_argument(
        '--root', type=Path, help='dataroot: marks files that are not there (default: none is marked)'
    )
    two = ways.add_parser('export', help='a split of our infos -> an mmdet3d v2 pickle')
    two.add_argument('source', type=Path, help='the folder of infos')
    for way in (one, two):
        way.add_argument('--split', required=True, help='name of the split, for example val')
        way.add_argument('--out', type=Path, required=True, help='where to write')
    return top


def main() -> int:
    """Convert and say what was written; 2 after an error in the data."""
    arguments = parser().parse_args()
    try:
        if arguments.way == 'import':
            index = import_infos(arguments.source, arguments.out, arguments.split, arguments.root)
            frames = len(index['splits'][arguments.split])
        else:
            frames = export_infos(arguments.source, arguments.split, arguments.out)
    except (OSError, ValueError) as error:
        print(f'mmdet3d_infos: {error}', file=sys.stderr)
        return 2
    print(f'{arguments.out}: {frames} frames of split {arguments.split}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
