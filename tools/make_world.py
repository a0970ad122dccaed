"""Make a synthetic world in the nuScenes format."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from perception.world.sensors.timing import KEY_FRAMES_PER_SCENE  # noqa: E402
from perception.world.writing.options import WorldError, WorldOptions, parse_image_size  # noqa: E402
from perception.world.writing.splits import SPLITS, VERSIONS  # noqa: E402

DESCRIPTION = """\
Make a synthetic world: invented cities, traffic and weather, seen by six cameras, a LiDAR and five radars, with exact
labels, in the nuScenes format that the official devkit reads. A scene lasts 20 s, 40 key frames at 2 Hz. Validation
scenes lie in a city of their own.

A run that was stopped goes on when the same command is given again. The same seed makes the same bytes, whatever the
number of workers. docs/world.md describes what is written.
"""
EXAMPLES = """\
examples:
  python tools/make_world.py --out data/world --scenes 12 --image-size 225x400   small images, all else complete
  python tools/make_world.py --out data/world --scenes 2 --key-frames 2 --image-size 112x200   a few seconds
  python tools/make_world.py --out data/world_big --scenes 120 --lidar-sweeps 9   full images, ten LiDAR sweeps
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        '--out', required=True, metavar='DIR',
        help='folder of the world: new, empty, or a world to go on with')
    add('--scenes', type=int, required=True, metavar='N', help='number of scenes')
    add('--seed', type=int, default=0, metavar='S', help='seed of everything random (default: 0)')
    add(
        '--split',
        choices=SPLITS,
        default='default',
        help='default: about 5/6 of the scenes for training, the rest for validation; train or val: all of them there',
    )
    add(
        '--version', choices=VERSIONS, default=VERSIONS[0],
        help='name of the table folder (default: %(default)s)')
    add(
        '--image-size', default='900x1600', metavar='HxW',
        help='size of the images in pixels (default: %(default)s)')
    add('--lidar-sweeps', type=int, default=0, metavar='N',
        help='LiDAR turns of 50 ms written before each key frame, 0 to 9 (default: 0)')
    add('--sweeps', action='store_true', help='write what every sensor sees between key frames too')
    add('--key-frames', type=int, default=KEY_FRAMES_PER_SCENE, metavar='N',
        help='key frames per scene (default: %(default)s)')
    add(
        '--radars', action=argparse.BooleanOptionalAction, default=True,
        help='write the five radars (default: yes)')
    add('--occupancy', action=argparse.BooleanOptionalAction, default=True,
        help='write Occ3D-format voxel labels (default: yes)')
    add(
        '--rig', metavar='FILE',
        help='JSON file of another sensor rig (default: perception/world/sensors/rig_nuscenes.json)')
    add('--workers', type=int, metavar='N', help='processes (default: one per core)')
    return parser


def main() -> int:
    """Runs the command; 0 done, 1 failed, 130 interrupted."""
    arguments = build_parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = WorldOptions(
            arguments.scenes, arguments.seed, arguments.split, arguments.version,
            parse_image_size(arguments.image_size), arguments.lidar_sweeps, arguments.sweeps,
            arguments.key_frames, arguments.radars, arguments.occupancy,
            **({'rig': arguments.rig} if arguments.rig else {}))
        from perception.world.writing.generate import make_world
        result = make_world(arguments.out, options, arguments.workers, lambda line: print(line, flush=True))
    except (ValueError, WorldError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('stopped; finished scenes are kept, the same command goes on with them', file=sys.stderr)
        return 130
    print('\n'.join([*result.lines(), f'world: {arguments.out}']))
    return 0


if __name__ == '__main__':
    sys.exit(main())
