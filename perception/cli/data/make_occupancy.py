"""Make dense occupancy labels from the LiDAR of whole scenes, for a root without Occ3D.

    perception create-data nuscenes --root data/nuscenes --version v1.0-trainval
    perception make-occupancy --root data/nuscenes --version v1.0-trainval
    perception create-data nuscenes --root data/nuscenes --version v1.0-trainval

The second run of create-data makes the infos know the new labels. Labels that are there already are kept.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ..options import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('--root', type=Path, required=True, help='the dataroot')
    parser.add_argument('--version', required=True, help='v1.0-mini, v1.0-trainval')
    parser.add_argument('--infos', type=Path, help='folder of infos (default: ROOT/infos/VERSION)')
    parser.add_argument('--out', type=Path, help='where to write SCENE/TOKEN/labels.npz (default: ROOT/gts)')
    parser.add_argument('--scenes', nargs='+', help='only these scenes')
    parser.add_argument(
        '--sweeps', type=at_least(0), default=0,
        help='earlier sweeps per key frame to add (default: %(default)s)'
    )
    parser.add_argument('--overwrite', action='store_true', help='make labels again that are there already')


def main(args: argparse.Namespace) -> int:
    """Scene by scene, one line each; 2 after an error in the arguments or the data."""
    from ...datasets.dense_occupancy import LabelOptions, write_scene_labels
    from ...datasets.reading.infos import read_index

    infos = args.infos or args.root / 'infos' / args.version
    out = args.out or args.root / 'gts'
    try:
        known = list(read_index(infos)['scenes'])
        unknown = sorted(set(args.scenes or ()) - set(known))
        if unknown:
            raise ValueError(f'--scenes: {", ".join(unknown)} not among the {len(known)} scenes of {infos}')

        for scene in args.scenes or known:
            start = time.perf_counter()
            frames = write_scene_labels(
                args.root, infos, scene, out, LabelOptions(sweeps=args.sweeps), args.overwrite)
            print(f'{scene}: {frames} key frames in {time.perf_counter() - start:.1f} s', flush=True)
    except (OSError, ValueError) as error:
        print(f'make-occupancy: {error}', file=sys.stderr)
        return 2
    return 0
