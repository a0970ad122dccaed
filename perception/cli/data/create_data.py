"""Write the info files of a dataset, which training and evaluation read; or objects for pasting.

    perception create-data nuscenes --root data/nuscenes --version v1.0-trainval --workers 8
    perception create-data paste configs/nuscenes/stages/lidar_paste.py --workers 8

One run makes what is not there yet. On a cluster, give every job its shard (--shard 0/16 ... --shard 15/16);
each finished run writes the index over all scenes finished so far. `paste` keeps the annotated objects of a
configuration's training split, with their points and pictures, for `PasteObjects`.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..options import add_config_options, at_least


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
    _add_paste_arguments(kinds.add_parser(
        'paste', help='the objects of a training split, for PasteObjects (docs/data.md)'))


def _add_paste_arguments(paste: argparse.ArgumentParser) -> None:
    paste.add_argument('config', help='configuration whose training split, classes and sweeps are taken')
    paste.add_argument('--root', type=Path, help="the dataroot (default: the configuration's)")
    paste.add_argument('--out', type=Path, help='where to write (default: ROOT/paste/VERSION/SPLIT)')
    paste.add_argument('--workers', type=at_least(1), default=1, help='processes (default: %(default)s)')

    # how much of it
    paste.add_argument(
        '--sensors', nargs='+', choices=('camera', 'lidar', 'radar'), metavar='SENSOR',
        help="of lidar, camera, radar: what is kept of an object (default: the configuration's)")
    paste.add_argument(
        '--min-points', type=at_least(1), default=5,
        help='fewest LiDAR points of an object (default: %(default)s)')
    paste.add_argument(
        '--per-class', type=at_least(1), default=20_000,
        help='most objects of a class (default: %(default)s)')
    paste.add_argument('--overwrite', action='store_true', help='make finished scenes again')
    add_config_options(paste)


def main(args: argparse.Namespace) -> int:
    """Write infos or objects and print the report; 2 after an error in the arguments or the data."""
    try:
        print(_write_objects(args) if args.dataset == 'paste' else _write_infos(args))
    except (OSError, ValueError) as error:
        print(f'create-data: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('create-data: stopped; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


def _write_infos(args: argparse.Namespace) -> str:
    from ...datasets.create import CreateOptions, create_infos, describe

    options = {name: value for name, value in vars(args).items() if name not in ('dataset', 'words')}
    options['splits'] = tuple(args.splits)
    options['channels'] = dict(args.channels)
    return describe(create_infos(CreateOptions(**options)))


def _write_objects(args: argparse.Namespace) -> str:
    from ...core.config import inner_datasets, read_config

    given = inner_datasets(read_config(args.config, args.cfg_options).train_dataloader.dataset)
    if len(given) > 1 and (args.root or args.out):
        raise ValueError(
            f'{args.config}: train_dataloader.dataset: found {len(given)} data sets, expected one with '
            '--root or --out: each has its own root, where its objects go')
    return '\n'.join(_objects_of(args, settings.to_dict()) for settings in given)


def _objects_of(args: argparse.Namespace, settings: dict[str, Any]) -> str:
    """Write the objects of one data set and say which."""
    from ...datasets.paste.database import paste_folder
    from ...datasets.paste.making import PasteMaking, describe_objects, make_database
    from ...registry import DATASETS

    if args.root is not None:
        settings['root'] = str(args.root)
    if args.sensors:
        settings['sensors'] = tuple(args.sensors)

    # whole images; a file that cannot be read leaves its frame's objects out, or their pictures
    settings['pipeline'] = ()
    reading = settings.get('reading') or {}
    missing = reading.get('missing_labels')
    if missing and isinstance(missing.get('share'), Mapping):  # of boxes alone
        missing = {**missing, 'share': missing['share'].get('detection', 0)}
    settings['reading'] = {
        **reading, 'image_reduce': 1, 'bad_file': 'mask', 'missing_labels': missing, 'pseudo_labels': None}
    dataset = DATASETS.build({**settings, 'tasks': ('detection',)})
    out = args.out or paste_folder(dataset.root, dataset.metainfo['version'], dataset.split)
    making = PasteMaking(out, args.workers, args.min_points, args.per_class, args.overwrite)
    return describe_objects(make_database(dataset, making), out)
