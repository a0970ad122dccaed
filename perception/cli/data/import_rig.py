r"""Write a rig file from a car's ROS calibration: camera_info files and a URDF or tf tree.

    perception import-rig --frames car.urdf --base base_footprint --out rig.json \
        --camera CAM_FRONT=front.yaml:front_optical_frame --camera CAM_BACK=back.yaml:back_optical_frame \
        --lidar LIDAR_TOP=velodyne --beams 32 --elevations -30.67 10.67 --radar RADAR_FRONT=radar_front

The base frame is the car's: x forward, y left, z up (ROS REP 103). Ours lies on the ground below the rear
axle: --base-xyz says where the base frame is in it. docs/rig.md has the formats and what is refused.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import at_least

if TYPE_CHECKING:
    from ...core.rig.frames import FrameTree
    from ...core.rig.sensors import SensorRig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    add = parser.add_argument
    add('--frames', type=Path, required=True, help='.urdf, or transforms as .json or .yaml')
    add('--base', default='base_link', help="the car's frame (default: %(default)s)")
    add(
        '--base-xyz', type=float, nargs=3, default=(0.0, 0.0, 0.0), metavar=('X', 'Y', 'Z'),
        help='its position in ego, metres: Z is the height of a base at the axle (default: 0 0 0)')
    add(
        '--camera', action='append', default=[], metavar='NAME=FILE:FRAME',
        help='a camera: its channel, its camera_info file, its optical frame')
    add('--rectified', action='store_true', help='its images are rectified: no lens, projection_matrix')
    add('--body-frames', action='store_true', help='frames of cameras are bodies (x forward), not optical')

    add('--lidar', metavar='NAME=FRAME', help='the LiDAR')
    add('--beams', type=at_least(2), help='of the LiDAR')
    add('--elevations', type=float, nargs=2, metavar=('LOW', 'HIGH'), help='of its outer beams, degrees')
    add('--azimuths', type=at_least(4), default=1084, help='measurements of a beam in a turn (%(default)s)')
    add('--lidar-range', type=float, default=100.0, metavar='M', help='how far it measures (%(default)s)')
    add('--radar', action='append', default=[], metavar='NAME=FRAME', help='a radar (x forward)')
    add('--out', type=Path, required=True, help='the rig file to write')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """A LiDAR needs its beams; every sensor its name, once."""
    if args.lidar and (args.beams is None or args.elevations is None):
        parser.error('--lidar: expected --beams and --elevations beside it, which no frame knows')
    if not (args.camera or args.lidar or args.radar):
        parser.error('expected a sensor: --camera, --lidar or --radar')

    given = [*args.camera, *([args.lidar] if args.lidar else []), *args.radar]
    for words in given:
        name, file, frame = _parts(words)
        if not name or not frame or (words in args.camera and not file):
            form = 'NAME=FILE:FRAME' if words in args.camera else 'NAME=FRAME'
            parser.error(f'found {words!r}, expected {form}')
    names = [_parts(words)[0] for words in given]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        parser.error(f'found {twice!r} for two sensors, expected a name of its own for each')


def main(args: argparse.Namespace) -> int:
    """Read everything, then write the rig."""
    from ...core.rig.file import write_rig
    from ...core.rig.frames import load_frames

    rig = _rig(args, load_frames(args.frames))
    write_rig(rig, args.out, f'From {args.frames.name}, base {args.base}.')
    for name in (*rig.cameras, *rig.lidars, *rig.radars):
        print(f'{name}: imported')
    print(f'{args.out}: written; look at it with `perception doctor --rig {args.out}`')
    return 0


def _rig(args: argparse.Namespace, tree: FrameTree) -> SensorRig:
    import numpy as np

    from ...core.geometry import make_transform
    from ...core.rig.ros import camera_of_info, optical_pose, read_camera_info
    from ...core.rig.sensors import LidarSensor, RadarSensor, SensorRig

    ego_T_base = make_transform(np.eye(3), np.array(args.base_xyz))

    cameras = {}
    for words in args.camera:
        name, file, frame = _parts(words)
        pose = ego_T_base @ optical_pose(tree, args.base, frame, args.body_frames)
        cameras[name] = camera_of_info(name, read_camera_info(file), pose, args.rectified)

    lidars = {}
    if args.lidar:
        name, _, frame = _parts(args.lidar)
        elevations_rad = np.linspace(*np.deg2rad(args.elevations), args.beams)
        lidars[name] = LidarSensor(
            name, elevations_rad, args.azimuths, args.lidar_range, ego_T_base @ tree.pose(args.base, frame))

    radars = {}
    for words in args.radar:
        name, _, frame = _parts(words)
        radars[name] = RadarSensor(name, ego_T_base @ tree.pose(args.base, frame))
    return SensorRig(cameras, lidars, radars)


def _parts(words: str) -> tuple[str, str, str]:
    """Name, file ('' where there is none) and frame of NAME=FILE:FRAME or NAME=FRAME."""
    name, _, rest = words.partition('=')
    file, _, frame = rest.rpartition(':')
    return name, file, frame
