"""A recorded scene at its real rate through the runtime, as a vehicle would hear it.

A reading's data is the index of its frame in the dataset; the frame is read when the runtime assembles it.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.contracts import Sample
from ...core.protocols import CAMERAS
from ...registry import DATASETS, FUNCTIONS
from ..deployed import DeployedModel
from .monitor import Monitor
from .runtime import Moment, Reading, Runtime, RuntimeOptions, stages_of

LIDAR = 'LIDAR_TOP'


@dataclass(frozen=True)
class SceneFrame:
    """One frame of a recorded scene: its index in the dataset and when it was."""

    index: int
    stamp_ns: int


def scene_frames(
    data: Mapping[str, Any], scene: str | None = None, most: int | None = None
) -> list[SceneFrame]:
    """The frames of one scene of a split in order; no sensor file is read.

    Args:
        data: configuration of the dataset.
        scene: its name; None takes the first of the split.
        most: frames at most.

    Raises:
        ValueError: no frame of the split is in that scene; names those that are there.
    """
    bare = DATASETS.build({**data, 'sensors': (), 'tasks': (), 'pipeline': ()})
    frames = [(index, bare.load(index)[0].frame) for index in range(len(bare))]
    name = scene or frames[0][1].scene
    chosen = sorted((frame.timestamp_ns, index) for index, frame in frames if frame.scene == name)
    if not chosen:
        raise ValueError(
            f'scene {name}: no frame of the test split is in it; it has {sorted({f.scene for _, f in frames})}'
        )
    return [SceneFrame(index, stamp_ns) for stamp_ns, index in chosen[:most]]


def only_heard(sample: Sample, heard: set[str]) -> Sample:
    """The sample with only the sensors whose readings arrived."""
    camera, lidar = sample.camera, sample.lidar
    if camera is not None:
        camera = replace(camera, present_N=camera.present_N & [name in heard for name in camera.names])
    return replace(sample, camera=camera, lidar=lidar if LIDAR in heard else None)


def parse_kills(words: Sequence[str]) -> dict[str, float]:
    """['CAM_FRONT@5', 'LIDAR_TOP'] -> {'CAM_FRONT': 5.0, 'LIDAR_TOP': 0.0}: the second from which a sensor is
    silent."""
    return {channel: float(second or 0.0) for channel, _, second in (word.partition('@') for word in words)}


def make_runtime(
    deployed: DeployedModel,
    dataset: Any,
    collate: Mapping[str, Any],
    deliver: Callable[[Moment, Any, tuple[str, ...]], None],
    speed: float = 1.0,
    deadline_s: float = 2.0,
) -> Runtime:
    """The runtime of an exported model over the frames of a dataset.

    Args:
        dataset: its items are (Sample, Annotations), its `sensors` say which channels there are.
        collate: configuration of the function that makes a batch of them.
        deliver: gets every answer.
        speed: 2 is twice as fast as it was.
        deadline_s: a frame older than this is given up.
    """
    collate = dict(collate)
    make_batch = FUNCTIONS.get(collate.pop('type'))

    def assemble(moment: Moment, values: dict[str, int]) -> Any:
        sample, annotations = dataset[max(values.values())]
        return make_batch([(only_heard(sample, set(values)), annotations)], **collate)['inputs']

    stages = stages_of(deployed.model, deployed.engine, lambda reading: reading.data, assemble)
    sensors = dataset.sensors
    channels = [*(CAMERAS if 'camera' in sensors else ()), *((LIDAR,) if 'lidar' in sensors else ())]
    options = RuntimeOptions(LIDAR if 'lidar' in sensors else None, 0.5 / speed, 0.6 / speed, deadline_s)
    return Runtime(channels, stages, deliver, options)


def replay(
    runtime: Runtime,
    frames: Sequence[SceneFrame],
    speed: float = 1.0,
    silent_from_s: Mapping[str, float] | None = None,
    timeout_s: float = 60.0,
) -> Monitor:
    """Start the runtime, let every sensor speak when it did, `speed` times as fast, stop it and give what was
    counted.

    Args:
        silent_from_s: channel -> second of the scene from which it says nothing.
        timeout_s: for the last frames to end.

    Raises:
        TimeoutError: a stage did not end.
    """
    dead = dict(silent_from_s or {})
    runtime.start()
    began = time.monotonic()
    for frame in frames:
        since_s = (frame.stamp_ns - frames[0].stamp_ns) / 1e9
        time.sleep(max(0.0, began + since_s / speed - time.monotonic()))
        for channel in runtime.channels:
            if since_s < dead.get(channel, float('inf')):
                runtime.offer(Reading(channel, frame.stamp_ns, frame.index))
    return runtime.stop(timeout_s)
