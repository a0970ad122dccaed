"""Write a scene in nuScenes format as a ROS 2 bag, with the mapping that reads it back.

    perception export-drive data/demo_world --version v1.0-trainval --out drive_bag
    perception import-drive drive_bag --mapping drive_bag/mapping.json --out data/drive

So the whole path of a recording can be tried without a car.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from ..options import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('root', type=Path, help='root in nuScenes format')
    parser.add_argument('--version', required=True, help='name of the folder with the tables')
    parser.add_argument('--scene', help='name of the scene (default: the first)')
    parser.add_argument('--out', type=Path, required=True, help='folder of the bag; must not be there')
    parser.add_argument('--sweeps', action='store_true', help='measurements between key frames too')
    parser.add_argument(
        '--raw-images', action='store_true', help='sensor_msgs/Image instead of CompressedImage')
    parser.add_argument(
        '--storage', choices=('mcap', 'sqlite3'), default='mcap', help='kind of file (default: %(default)s)')
    parser.add_argument(
        '--repeat', type=at_least(1), default=1, help='play the scene so often (default: %(default)s)')


def main(args: argparse.Namespace) -> int:
    """Write the bag."""
    from ...recordings.export.scene import ExportOptions, SceneTables, export_scene

    tables = SceneTables(args.root, args.version, args.scene)
    options = ExportOptions(args.sweeps, args.raw_images, args.storage, args.repeat)
    mapping = export_scene(tables, args.out, options)
    print(f'{args.out}: scene {tables.name}; read it back with --mapping {mapping}')
    return 0
