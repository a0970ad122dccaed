"""Replay a scene at its real rate through an engine, as a vehicle would hear it.

    python tools/run_scene.py CONFIG CHECKPOINT --export DIR [--engine openvino --precision bf16] [--kill CAM_FRONT@5]
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--export', required=True, metavar='DIR', help='folder of tools/export.py')
    parser.add_argument('--engine', default='openvino', choices=['torch', 'onnxruntime', 'openvino', 'tensorrt'])
    parser.add_argument('--precision', default='fp32', choices=['fp32', 'fp16', 'bf16', 'int8'])
    parser.add_argument('--scene', help='name of a scene (default: the first of the test split)')
    parser.add_argument('--speed', type=float, default=1.0, help='2 replays twice as fast as it was')
    parser.add_argument('--frames', type=int, help='at most this many')
    parser.add_argument('--kill', action='append', default=[], metavar='CHANNEL@SECOND', help='a sensor that falls silent')
    parser.add_argument('--deadline-s', type=float, default=2.0, help='a frame older than this is given up')
    parser.add_argument('--out', metavar='FILE', help='write what was counted as JSON')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def scene_indices(data: dict, name: str | None, most: int | None) -> list[tuple[int, int]]:
    """(index, time stamp in ns) of the frames of one scene of a split, in order; no sensor file is read."""
    from perception.registry import DATASETS
    bare = DATASETS.build({**data, 'sensors': (), 'tasks': (), 'pipeline': ()})
    frames = [(index, bare.load(index)[0].frame) for index in range(len(bare))]
    name = name or frames[0][1].scene
    chosen = sorted((frame.timestamp_ns, index) for index, frame in frames if frame.scene == name)
    if not chosen:
        sys.exit(f'--scene {name}: no frame of the test split is in it; it has {sorted({f.scene for _, f in frames})}')
    return [(index, stamp_ns) for stamp_ns, index in chosen[:most]]


def masked(sample: object, heard: set[str]) -> object:
    """The sample with only the sensors whose readings arrived."""
    camera, lidar = sample.camera, sample.lidar
    if camera is not None:
        camera = replace(camera, present_N=camera.present_N & [name in heard for name in camera.names])
    return replace(sample, camera=camera, lidar=lidar if 'LIDAR_TOP' in heard else None)


def kills(words: list[str]) -> dict[str, float]:
    """'CAM_FRONT@5' -> {'CAM_FRONT': 5.0}."""
    return {word.split('@')[0]: float(word.split('@')[1]) if '@' in word else 0.0 for word in words}


def make_runtime(args: argparse.Namespace, config: object, dataset: object, answers: list) -> object:
    """The runtime of a model's export over the frames of a dataset; a reading's data is the index of its frame."""
    from perception.contracts import CAMERAS
    from perception.deployment.deployed import DeployedModel
    from perception.deployment.runtime import Runtime, RuntimeOptions, stages_of
    from perception.registry import FUNCTIONS
    collate = dict(config.test_dataloader.collate_fn)
    make_batch = FUNCTIONS.get(collate.pop('type'))

    def assemble(moment: object, values: dict[str, int]) -> object:
        sample, annotations = dataset[max(values.values())]
        return make_batch([(masked(sample, set(values)), annotations)], **collate)['inputs']

    deployed = DeployedModel.open(args.export, args.engine, args.precision, args.checkpoint)
    stages = stages_of(deployed.model, deployed.engine, lambda reading: reading.data, assemble)
    sensors = dataset.sensors
    channels = [*(CAMERAS if 'camera' in sensors else ()), *(('LIDAR_TOP',) if 'lidar' in sensors else ())]
    options = RuntimeOptions('LIDAR_TOP' if 'lidar' in sensors else None, 0.5 / args.speed, 0.6 / args.speed, args.deadline_s)
    return Runtime(channels, stages, lambda moment, answer, missing: answers.append((moment, answer, missing)), options)


def replay(runtime: object, frames: list[tuple[int, int]], speed: float, dead: dict[str, float]) -> None:
    """Let every sensor speak when it did, `speed` times as fast."""
    from perception.deployment.runtime import Reading
    began, first_ns = time.monotonic(), frames[0][1]
    for index, stamp_ns in frames:
        since_s = (stamp_ns - first_ns) / 1e9
        time.sleep(max(0.0, began + since_s / speed - time.monotonic()))
        for channel in runtime.channels:
            if since_s < dead.get(channel, float('inf')):
                runtime.offer(Reading(channel, stamp_ns, index))


def main() -> None:
    """Replay and print what was counted."""
    args = parse_args()
    from perception.registry import DATASETS
    from perception.training.runner import read_config
    config = read_config(args.config, args.cfg_options)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    frames, answers = scene_indices(config.test_dataloader.dataset, args.scene, args.frames), []
    runtime = make_runtime(args, config, dataset, answers)
    runtime.start()
    replay(runtime, frames, args.speed, kills(args.kill))
    monitor = runtime.stop(timeout_s=60.0)
    print(monitor.report(runtime.clock()))
    for moment, answer, missing in answers[-1:]:
        boxes = 0 if answer.detection is None else len(answer.detection.scores_M)
        print(f'last answer: frame {moment.number}, {boxes} boxes, absent: {", ".join(missing) or "nothing"}')
    if args.out:
        found = {'counts': monitor.counts, 'stages': {name: h.as_dict() for name, h in monitor.stages.items()}}
        Path(args.out).write_text(json.dumps(found, indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
