"""Exchange info files with mmdet3d (and BEVFusion, BEVDet, whose files have the same form).

    perception mmdet3d-infos import infos_val.pkl --split val --root data/nuscenes --out infos/imported
    perception mmdet3d-infos export data/nuscenes/infos/v1.0-trainval --split val --out infos_val.pkl

Import reads v1 and v2 pickles without running anything they ask for; export writes v2 (mmdet3d 1.1 and
later).
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    directions = parser.add_subparsers(dest='direction', required=True)
    importing = directions.add_parser('import', help='an mmdet3d pickle -> a split of our infos')
    importing.add_argument('source', type=Path, help='the pickle')
    importing.add_argument(
        '--root', type=Path, help='dataroot: marks files that are not there (default: none is marked)'
    )
    exporting = directions.add_parser('export', help='a split of our infos -> an mmdet3d v2 pickle')
    exporting.add_argument('source', type=Path, help='the folder of infos')
    for direction in (importing, exporting):
        direction.add_argument('--split', required=True, help='name of the split, for example val')
        direction.add_argument('--out', type=Path, required=True, help='where to write')


def main(args: argparse.Namespace) -> int:
    """Convert and print what was written; 2 after an error in the data."""
    from ...datasets.exchange.mmdet3d_infos import import_infos
    from ...datasets.exchange.write_v2 import export_infos

    try:
        if args.direction == 'import':
            index = import_infos(args.source, args.out, args.split, args.root)
            frames = len(index['splits'][args.split])
        else:
            frames = export_infos(args.source, args.split, args.out)
    except (OSError, ValueError) as error:
        print(f'mmdet3d_infos: {error}', file=sys.stderr)
        return 2
    print(f'{args.out}: {frames} frames of split {args.split}')
    return 0
