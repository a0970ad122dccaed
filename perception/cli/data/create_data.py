"""Write the info files of a dataset, which training and evaluation read.

    perception create-data nuscenes --root data/nuscenes --version v1.0-trainval --workers 8

One run makes what is not there yet. On a cluster, give every job its shard (--shard 0/16 ... --shard 15/16);
each finished run writes the index over all scenes finished so far.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..options import at_least


def shard(text: str) -> tuple[int, int]:
    """'i/n' -> (i, n)."""
    i, _, n = text.partition('/')
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise argparse.ArgumentTypeError(f'expected i/n with i < n, for example 0/4; found {text!r}')
    return int(i), int(n)


def channel(text: str) -> tuple[str, str]:
    """'OURS=THEIRS' -> (OURS, THEIRS)."""
    ours, _, theirs = text.partition('=')
    if not ours or not theirs:
        raise argparse.ArgumentTypeError(f'expected OURS=THEIRS, for example LIDAR_TOP=LIDAR; found {text!r}')
    return ours, theirs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    kinds = parser.add_subparsers(dest='dataset', required=True)
    nuscenes = kinds.add_parser(
        'nuscenes', help='a root in nuScenes format (nuScenes itself, or the synthetic world)'
    )
    nuscenes.add_argument(
        '--root', type=Path, required=True,
        help='the folder that holds samples/, sweeps/, maps/ and the tables')
    nuscenes.add_argument('--version', required=True, help='v1.0-mini, v1.0-trainval, v1.0-test')
    nuscenes.add_argument('--out', type=Path, help='where to write (default: ROOT/infos/VERSION)')

    # how much of it, and by how many processes
    nuscenes.add_argument('--workers', type=at_least(1), default=1, help='processes (default: %(default)s)')
    nuscenes.add_argument(
        '--shard', type=shard, default=(0, 1), metavar='i/n', help='make only every n-th scene, from the i-th'
    )
    nuscenes.add_argument(
        '--splits', nargs='+', default=(), help='make only these splits, for example mini_val'
    )
    nuscenes.add_argument(
        '--lidar-sweeps', type=at_least(0), default=10,
        help='earlier LiDAR sweeps per frame (default: %(default)s)'
    )
    nuscenes.add_argument(
        '--radar-sweeps', type=at_least(0), default=6,
        help='earlier radar sweeps per frame (default: %(default)s)'
    )
    nuscenes.add_argument(
        '--channels', nargs='+', type=channel, default=(), metavar='OURS=THEIRS',
        help='channels that the tables call otherwise, for example LIDAR_TOP=LIDAR_CONCAT')
    nuscenes.add_argument('--overwrite', action='store_true', help='make finished scenes again')


def main(args: argparse.Namespace) -> int:
    """Write infos and print the report; 2 after an error in the arguments or the data."""
    from ...datasets.create import CreateOptions, create_infos, describe

    options = {name: value for name, value in vars(args).items() if name not in ('dataset', 'words')}
    options['splits'] = tuple(args.splits)
    options['channels'] = dict(args.channels)
    try:
        print(describe(create_infos(CreateOptions(**options))))
    except (OSError, ValueError) as error:
        print(f'create-data: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('create-data: stopped; the same command goes on from here', file=sys.stderr)
        return 130
    return 0
