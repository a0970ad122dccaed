"""What `run-scene --bag` does: a recording of one's own car through the vehicle's loop."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any


def add_bag_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments about recordings."""
    group = parser.add_argument_group('a recording in place of a scene')
    group.add_argument(
        '--bag', type=Path, metavar='FILE', help='ROS 2 bag (folder or file), MCAP or ROS 1 bag')
    group.add_argument(
        '--mapping', type=Path, metavar='FILE', help='which topic is which sensor (docs/recordings.md)')
    group.add_argument(
        '--frame-id', metavar='NAME',
        help='frame of the predictions: the car, on the ground below the rear axle (default: the base of the '
        'mapping, where that lies on the ground)')
    group.add_argument(
        '--score', type=float, default=0.3, help='boxes and lanes below this score are not drawn')


def check_bag_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """A recording and a mapping belong together, and an export or torch runs it."""
    if (args.bag is None) != (args.mapping is None):
        parser.error('--bag and --mapping belong together')
    if args.bag is None:
        if args.export is None:
            parser.error('the following arguments are required: --export')
        return

    for name in ('scene', 'frames'):
        if getattr(args, name) is not None:
            parser.error(f'--{name} chooses of a dataset; a recording is played as a whole')
    if args.export is None and args.engine != 'torch':
        parser.error(f'--engine {args.engine} needs --export DIR')
    if args.out is not None and not args.out.endswith('.mcap'):
        parser.error(f'--out: expected FILE.mcap with --bag, found {args.out}')
    if args.out is not None and args.bag.resolve() in Path(args.out, 'x').resolve().parents:
        parser.error(f'--out: found {args.out}, which is of the recording itself; expected another place')


def play_bag(args: argparse.Namespace, tracker: Callable[[Any], Any] | None) -> int:
    """Play the recording; prints what was counted.

    Returns:
        0, or 130 where it was interrupted: what was written until then can be read.
    """
    from ...api import load_model
    from ...deployment.vehicle.drive import VehicleDrive
    from ...deployment.vehicle.playback import Player, RecordingClock
    from ...deployment.vehicle.replay import parse_kills
    from ...recordings.drive.mapping import read_mapping
    from ...recordings.drive.streams import DriveStream
    from ...recordings.live.readings import LiveReadings
    from ...recordings.outputs.parts import OutputOptions
    from ...recordings.outputs.recorder import McapRecorder
    from ...recordings.recording import Recording

    mapping, recording = read_mapping(args.mapping), Recording(args.bag)
    DriveStream([recording], mapping)  # refuses topics that are not there
    silent_from_s = parse_kills(args.kill, mapping.sensors)
    try:
        frame = mapping.poses.ground_frame(args.frame_id or '')
    except ValueError as error:
        raise ValueError(f'{args.mapping}: {error}') from error
    outputs = OutputOptions(frame, args.score)
    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model = load_model(
        args.config, checkpoint, args.engine, args.export, args.precision, args.device, args.cfg_options)

    player = Player(
        LiveReadings(mapping), RecordingClock(args.speed), outputs=outputs, silent_from_s=silent_from_s)
    drive = VehicleDrive(
        model, mapping.sensors, player.read, player.readings.places.global_T_ego, mapping.name)
    deployed = model.deployed(args.precision, args.device or 'cpu')
    runtime = player.runtime(drive, deployed, args.deadline_s, tracker)

    interrupted = False
    with ExitStack() as stack:
        if args.out is not None:
            player.recorder = stack.enter_context(McapRecorder(args.out))
        try:
            player.play(recording.raw_messages(), drive, runtime)
        except KeyboardInterrupt:
            interrupted = True
    print('\n'.join(report_lines(player, runtime, recording.problems)))
    if args.out is not None:
        until = 'until the interruption, ' if interrupted else ''
        print(f'{args.out}: {until}the recording and what was predicted')
    return 130 if interrupted else 0


def report_lines(player: Any, runtime: Any, problems: list[str]) -> list[str]:
    """What was counted, and what the recording and its clock did, in words."""
    lines = [runtime.monitor.report(runtime.clock())]
    lines += [f'damaged recording: {words}' for words in problems]
    lines += [
        f'{topic}: {count} messages of poses or calibrations could not be used'
        for topic, count in sorted(player.readings.damaged.items())]

    clock = player.clock
    if clock.gaps:
        lines.append(f'gaps of more than {clock.longest_gap_s:g} s: {clock.gaps}, not waited for')
    if clock.latest_s > 0.1 * clock.speed:
        lines.append(
            f'messages were read up to {clock.latest_s:.2f} s late: this machine does not keep up with the '
            f'recording; --speed {clock.speed / 2:g} gives it time')
    if not len(player.readings.places.poses):
        lines.append('no poses: the car counted as standing')
    return lines
