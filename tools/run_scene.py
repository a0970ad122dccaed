"""Replay a scene at its real rate through an engine, as a vehicle would hear it.

    python tools/run_scene.py CONFIG CHECKPOINT --export DIR [--engine openvino --precision bf16] [--kill
    CAM_FRONT@5]
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--export', required=True, metavar='DIR', help='folder of tools/export.py')
    parser.add_argument(
        '--engine', default='openvino', choices=['torch', 'onnxruntime', 'openvino', 'tensorrt']
    )
    parser.add_argument('--precision', default='fp32', choices=['fp32', 'fp16', 'bf16', 'int8'])
    parser.add_argument('--scene', help='name of a scene (default: the first of the test split)')
    parser.add_argument('--speed', type=float, default=1.0, help='2 replays twice as fast as it was')
    parser.add_argument('--frames', type=int, help='at most this many')
    parser.add_argument(
        '--kill', action='append', default=[], metavar='CHANNEL@SECOND', help='a sensor that falls silent'
    )
    parser.add_argument('--deadline-s', type=float, default=2.0, help='a frame older than this is given up')
    parser.add_argument('--out', metavar='FILE', help='write what was counted as JSON')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Replay and print what was counted."""
    args = parse_args()
    from perception.core.config import read_config
    from perception.deployment.deployed import DeployedModel
    from perception.deployment.vehicle.replay import make_runtime, parse_kills, replay, scene_frames
    from perception.registry import DATASETS
    config, answers = read_config(args.config, args.cfg_options), []
    data = config.test_dataloader
    dataset = DATASETS.build(data.dataset)
    try:
        frames = scene_frames(data.dataset, args.scene, args.frames)
    except ValueError as error:
        sys.exit(f'--scene: {error}')
    deployed = DeployedModel.open(args.export, args.engine, args.precision, args.checkpoint)
    runtime = make_runtime(
        deployed, dataset, data.collate_fn, lambda *answer: answers.append(answer), args.speed,
        args.deadline_s)
    monitor = replay(runtime, frames, args.speed, parse_kills(args.kill))
    print(monitor.report(runtime.clock()))
    for moment, answer, missing in answers[-1:]:
        boxes = 0 if answer.detection is None else len(answer.detection.scores_M)
        print(f'last answer: frame {moment.number}, {boxes} boxes, absent: {", ".join(missing) or "nothing"}')
    if args.out:
        found = {
            'counts': monitor.counts, 'stages': {name: h.as_dict() for name, h in monitor.stages.items()}}
        Path(args.out).write_text(json.dumps(found, indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
