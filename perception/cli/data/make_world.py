"""Make a synthetic world in the nuScenes format.

Invented cities, traffic and weather, seen by six cameras, a LiDAR and five radars, with exact labels, in the
format that the official devkit reads. A scene lasts 20 s, 40 key frames at 2 Hz. Validation scenes lie in a
city of their own.

    small images, all else complete:
        perception make-world --out data/world --scenes 12 --image-size 225x400
    a few seconds:
        perception make-world --out data/world --scenes 2 --key-frames 2 --image-size 112x200
    full images, ten LiDAR sweeps:
        perception make-world --out data/world_big --scenes 120 --lidar-sweeps 9

A run that was stopped goes on when the same command is given again. The same seed makes the same bytes,
whatever the number of workers. docs/world.md describes what is written.
"""
from __future__ import annotations

import argparse
import signal
import sys

from ..options import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    from ...world.sensors.timing import KEY_FRAMES_PER_SCENE
    from ...world.writing.splits import SPLITS, VERSIONS

    add = parser.add_argument
    add(
        '--out', required=True, metavar='DIR',
        help='folder of the world: new, empty, or a world to go on with')
    add('--scenes', type=at_least(1), required=True, metavar='N', help='number of scenes')
    add('--seed', type=int, default=0, metavar='S', help='seed of everything random (default: 0)')
    add(
        '--split', choices=SPLITS, default='default',
        help='default: about 5/6 of the scenes for training, the rest for validation; '
        'train or val: all of them there')
    add(
        '--version', choices=VERSIONS, default=VERSIONS[0],
        help='name of the table folder (default: %(default)s)')

    # what the sensors write
    add(
        '--image-size', default='900x1600', metavar='HxW',
        help='size of the images in pixels (default: %(default)s)')
    add(
        '--lidar-sweeps', type=int, default=0, metavar='N',
        help='LiDAR turns of 50 ms written before each key frame, 0 to 9 (default: 0)')
    add(
        '--radar-sweeps', type=int, default=0, metavar='N',
        help='radar sweeps of 77 ms written before each key frame, 0 to 6 (default: 0)')
    add('--sweeps', action='store_true', help='write what every sensor sees between key frames too')
    add(
        '--key-frames', type=int, default=KEY_FRAMES_PER_SCENE, metavar='N',
        help='key frames per scene (default: %(default)s)')
    add(
        '--radars', action=argparse.BooleanOptionalAction, default=True,
        help='write the five radars (default: yes)')
    add(
        '--occupancy', action=argparse.BooleanOptionalAction, default=True,
        help='write Occ3D-format voxel labels (default: yes)')
    add(
        '--rig', metavar='FILE',
        help='JSON file of another sensor rig (default: perception/core/rig/rig_nuscenes.json)')
    add('--flat', action='store_true', help='make all ground a plane (default: streets rise and fall)')
    add('--workers', type=at_least(1), metavar='N', help='processes (default: one per core)')


def main(args: argparse.Namespace) -> int:
    """Make the world; 0 done, 1 failed, 130 interrupted."""
    from ...world.writing.generate import make_world
    from ...world.writing.options import WorldError, WorldOptions, parse_image_size

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = WorldOptions(
            scenes=args.scenes, seed=args.seed, split=args.split, version=args.version,
            image_size_hw=parse_image_size(args.image_size), lidar_sweeps=args.lidar_sweeps,
            radar_sweeps=args.radar_sweeps, sweeps=args.sweeps, key_frames=args.key_frames,
            radars=args.radars, occupancy=args.occupancy, flat=args.flat,
            **({'rig': args.rig} if args.rig else {}))
        result = make_world(args.out, options, args.workers, lambda line: print(line, flush=True))
    except (ValueError, WorldError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped; finished scenes are kept, the same command goes on with them', file=sys.stderr)
        return 130
    print('\n'.join([*result.lines(), f'world: {args.out}']))
    return 0
