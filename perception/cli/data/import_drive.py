"""Make a root in nuScenes format from a recording of your own car (ROS 2 bag, MCAP, ROS 1 bag).

    perception import-drive drive.mcap --list
    perception import-drive drive.mcap --suggest mapping.json
    perception import-drive drive.mcap --mapping mapping.json --out data/drive
    perception create-data nuscenes --root data/drive --version v1.0-drive

A run that was stopped goes on where it was when the same command is given again. docs/recordings.md describes
the mapping file and the report.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument(
        'recordings', nargs='+', type=Path, metavar='RECORDING',
        help='folder of a ROS 2 bag, .mcap, .db3 or .bag; several that ran together on one clock')
    parser.add_argument('--mapping', type=Path, help='which topic is which sensor (JSON or YAML)')
    parser.add_argument('--out', type=Path, help='root to write')

    # to begin a mapping
    parser.add_argument('--list', action='store_true', help='show topics, types and counts, and stop')
    parser.add_argument(
        '--suggest', type=Path, metavar='FILE', help='write a first mapping by types, and stop')

    # how messages are put in order
    parser.add_argument(
        '--window', type=float, default=0.5, metavar='S',
        help='seconds that a message is held back for earlier ones (default: %(default)s)')
    parser.add_argument(
        '--held-mib', type=int, default=512, help='largest content held back (default: %(default)s MiB)')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """A mapping and a root belong together, unless topics are only looked at."""
    if not args.list and args.suggest is None and (args.mapping is None or args.out is None):
        parser.error('give --mapping and --out, or --list, or --suggest FILE')


def main(args: argparse.Namespace) -> int:
    """List, suggest or import; 130 when stopped."""
    from ...recordings.order import OrderOptions
    from ...recordings.recording import Recording

    order = OrderOptions(args.window, args.held_mib)
    recordings = [Recording(path, order) for path in args.recordings]
    if args.list:
        for recording in recordings:
            print('\n'.join(topic_lines(recording)))
        return 0
    if args.suggest is not None:
        return _suggest(recordings[0], args.suggest)

    from ...recordings.drive.importer import VERSION, import_drive
    from ...recordings.drive.mapping import read_mapping
    try:
        report = import_drive(recordings, read_mapping(args.mapping), args.out)
    except KeyboardInterrupt:
        print('import-drive: stopped; the same command goes on from here', file=sys.stderr)
        return 130
    print('\n'.join(report.lines()))
    print(f'next: perception create-data nuscenes --root {args.out} --version {VERSION}')
    return 0


def topic_lines(recording: object) -> list[str]:
    """The topics of a recording as a table, and what is damaged."""
    width = max(map(len, recording.topics))
    lines = [f'{recording.path}']
    for topic in recording.topics.values():
        count = '?' if topic.count is None else topic.count
        encoding = '' if topic.encoding in ('cdr', 'ros1') else f'  (encoding {topic.encoding})'
        lines.append(f'  {topic.name:<{width}}  {count:>8}  {topic.type}{encoding}')
    return lines + [f'  damaged: {words}' for words in recording.problems]


def _suggest(recording: object, path: Path) -> int:
    from ...core.files import write_json
    from ...recordings.drive.suggest import suggest_mapping
    if path.exists():
        raise FileExistsError(17, 'is there already, expected a new file', str(path))
    write_json(path, suggest_mapping(recording), indent=2)
    print(f'{path}: written; correct names, frames and poses before you use it (docs/recordings.md)')
    return 0
