"""Replay a scene at its real rate through an engine, as a vehicle would hear it.

    perception run-scene CONFIG CHECKPOINT --export DIR [--engine openvino --precision bf16]
    perception run-scene CONFIG CHECKPOINT --export DIR --kill CAM_FRONT@5
    perception run-scene CONFIG CHECKPOINT --export DIR --track
    perception run-scene CONFIG CHECKPOINT --bag DRIVE.mcap --mapping FILE --out PREDICTIONS.mcap

Prints the ages of the predictions, the frames that were given up and the sensors that were absent; with
--track every object has a number that it keeps. With --bag a recording of your own car is played in place of
a scene, through an export or torch itself, and the predictions are written beside it (docs/own_car.md).
"""
from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..options import add_config_options, add_engine, at_least, check_device, positive
from .play_bag import add_bag_arguments, check_bag_arguments, play_bag

DEFAULT_ENGINE = 'openvino; torch without an export'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--export', metavar='DIR', help='folder of the export; --bag runs without one, too')
    add_engine(parser, default=DEFAULT_ENGINE)
    parser.add_argument('--scene', help='name of a scene (default: the first of the test split)')
    parser.add_argument(
        '--speed', '--rate', type=positive, default=1.0, help='2 replays twice as fast as it was')
    parser.add_argument('--frames', type=at_least(1), help='at most this many')
    parser.add_argument(
        '--kill', action='append', default=[], metavar='CHANNEL@SECOND', help='a sensor that falls silent'
    )
    parser.add_argument(
        '--deadline-s', type=positive, default=2.0, help='a frame older than this is given up')

    # what else is given out
    parser.add_argument(
        '--track', nargs='?', const='velocity', choices=['velocity', 'kalman'], metavar='MOTION',
        help='number the objects; MOTION is velocity (default) or kalman, as in perception track')
    parser.add_argument(
        '--out', metavar='FILE',
        help='write what was counted as JSON; with --bag the recording and the predictions as MCAP')
    add_bag_arguments(parser)
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """The engine must know the device; a recording needs a mapping."""
    if args.engine == DEFAULT_ENGINE:
        args.engine = 'torch' if args.export is None else 'openvino'
    check_bag_arguments(parser, args)
    check_device(parser, args, torch_too=True)


def main(args: argparse.Namespace) -> int:
    """Replay and print what was counted."""
    if args.bag is not None:
        return play_bag(args, open_tracker(args.track))
    from ...core.config import read_config
    from ...core.files import write_json
    from ...core.registered import foreign_scopes
    from ...deployment.deployed import DeployedModel
    from ...deployment.vehicle.replay import (
        make_runtime,
        parse_kills,
        replay,
        scene_channels,
        scene_frames,
    )
    from ...registry import DATASETS

    config = read_config(args.config, args.cfg_options)
    data = config.test_dataloader
    dataset = DATASETS.build(data.dataset)
    try:
        frames = scene_frames(data.dataset, args.scene, args.frames)
    except ValueError as error:
        sys.exit(f'--scene: {error}')
    silent_from_s = parse_kills(args.kill, scene_channels(dataset.sensors))

    deployed = DeployedModel.open(
        args.export, args.engine, args.precision, args.checkpoint, foreign_scopes(config.model),
        device=args.device)
    predictions: list[tuple] = []
    runtime = make_runtime(
        deployed, dataset, data.collate_fn, lambda *prediction: predictions.append(prediction), args.speed,
        args.deadline_s, open_tracker(args.track))
    monitor = replay(runtime, frames, args.speed, silent_from_s)

    print(monitor.report(runtime.clock()))
    for request, output, missing in predictions[-1:]:
        boxes = 0 if output.detection is None else len(output.detection.scores_M)
        absent = ', '.join(missing) or 'nothing'
        print(f'last prediction: frame {request.number}, {boxes} boxes, absent: {absent}')
    if args.track:
        print(tracks_line([output.get('tracking') for _, output, _ in predictions]))
    if args.out:
        stages = {name: histogram.as_dict() for name, histogram in monitor.stages.items()}
        counted = {name: getattr(monitor, name) for name in ('counts', 'masked', 'left_out', 'deaths')}
        write_json(args.out, {**counted, 'stages': stages}, indent=1)
    return 0


def open_tracker(motion: str | None) -> Callable | None:
    """A tracker for one vehicle, or None."""
    if motion is None:
        return None
    from ...tracking import FrameTracker, TrackerOptions
    return FrameTracker(TrackerOptions(motion))


def tracks_line(tracks: Sequence[Any]) -> str:
    """How many objects were followed, and for how long."""
    ids = [number for frame in tracks if frame is not None for number in frame.ids_M.tolist()]
    lengths = sorted(Counter(ids).values(), reverse=True)
    longest = f', the longest over {lengths[0]} of {len(tracks)} frames' if lengths else ''
    return f'tracks: {len(lengths)} objects in {len(ids)} boxes{longest}'
