"""A recorded scene at its real rate through the runtime, as a vehicle would receive it.

A measurement's data is the index of its frame in the dataset; the runtime reads the frame when it assembles
it.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.contracts import Sample
from ...core.protocols import CAMERAS
from ...registry import DATASETS, FUNCTIONS
from ..deployed import DeployedModel
from .monitor import Monitor
from .records import FrameRequest, RuntimeOptions, SensorMeasurement
from .runtime import Runtime, runtime_stages

LIDAR = 'LIDAR_TOP'


@dataclass(frozen=True)
class SceneFrame:
    """One frame of a recorded scene: its index in the dataset and when it was."""

    index: int
    stamp_ns: int


def scene_frames(
    data: Mapping[str, Any], scene: str | None = None, most: int | None = None
) -> list[SceneFrame]:
    """List the frames of one scene of a split in order; no sensor file is read.

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
        known = sorted({frame.scene for _, frame in frames})
        raise ValueError(f'scene {name}: no frame of the test split is in it; it has {known}')
    return [SceneFrame(index, stamp_ns) for stamp_ns, index in chosen[:most]]


def with_sensors(sample: Sample, channels: set[str]) -> Sample:
    """The sample with only the sensors of these channels; the others are absent."""
    camera = sample.camera
    if camera is not None:
        camera = replace(camera, present_N=camera.present_N & [name in channels for name in camera.names])
    return replace(sample, camera=camera, lidar=sample.lidar if LIDAR in channels else None)


def scene_channels(sensors: Sequence[str]) -> tuple[str, ...]:
    """The channels that a replay sends for some kinds of sensors."""
    return (*(CAMERAS if 'camera' in sensors else ()), *((LIDAR,) if 'lidar' in sensors else ()))


def parse_kills(words: Sequence[str], channels: Sequence[str]) -> dict[str, float]:
    """Since when sensors are silent: ['CAM_FRONT@5', 'LIDAR_TOP'] -> {'CAM_FRONT': 5.0, 'LIDAR_TOP': 0.0}.

    Raises:
        ValueError: a channel that is not there, or no second.
    """
    silent_from_s = {}
    for word in words:
        channel, at, second = word.partition('@')
        try:
            since_s = float(second) if at else 0.0
        except ValueError:
            since_s = math.nan
        if channel not in channels or not since_s >= 0:
            raise ValueError(
                f'--kill: expected CHANNEL or CHANNEL@SECOND, a channel of {", ".join(channels)}, '
                f'found {word!r}')
        silent_from_s[channel] = since_s
    return silent_from_s


def make_runtime(
    deployed: DeployedModel,
    dataset: Any,
    collate: Mapping[str, Any],
    deliver: Callable[[FrameRequest, Any, tuple[str, ...]], None],
    speed: float = 1.0,
    deadline_s: float = 2.0,
    track: Callable[[Any], Any] | None = None,
) -> Runtime:
    """The runtime of an exported model over the frames of a dataset.

    Args:
        deployed: the model and its engine.
        dataset: its items are (Sample, Annotations), its `sensors` say which channels there are.
        collate: configuration of the function that makes a batch of them.
        deliver: receives the predictions of every frame, see `Runtime`.
        speed: 2 is twice as fast as it was.
        deadline_s: a frame older than this is given up.
        track: gives objects numbers, see `Stages`.
    """
    collate = dict(collate)
    make_batch = FUNCTIONS.get(collate.pop('type'))

    def assemble(request: FrameRequest, values: dict[str, int]) -> Any:
        # sensors of different frames may meet here: the newest one counts
        sample, annotations = dataset[max(values.values())]
        return make_batch([(with_sensors(sample, set(values)), annotations)], **collate)['inputs']

    stages = runtime_stages(
        deployed.model, deployed.engine, lambda measurement: measurement.data, assemble, track)

    channels = scene_channels(dataset.sensors)
    options = RuntimeOptions(LIDAR if LIDAR in channels else None, 0.5 / speed, 0.6 / speed, deadline_s)
    return Runtime(channels, stages, deliver, options)


def replay(
    runtime: Runtime,
    frames: Sequence[SceneFrame],
    speed: float = 1.0,
    silent_from_s: Mapping[str, float] | None = None,
    timeout_s: float = 60.0,
) -> Monitor:
    """Send a scene's measurements through a runtime, from its start to its stop; return what was counted.

    Args:
        runtime: not started yet.
        frames: of the scene, in order.
        speed: 2 is twice as fast as it was.
        silent_from_s: channel -> second of the scene from which it sends nothing.
        timeout_s: for the last frames to end.

    Raises:
        TimeoutError: a stage did not end.
    """
    silent_from_s = silent_from_s or {}
    runtime.start()

    began = time.monotonic()
    for frame in frames:
        since_s = (frame.stamp_ns - frames[0].stamp_ns) / 1e9
        time.sleep(max(0.0, began + since_s / speed - time.monotonic()))
        for channel in runtime.channels:
            if since_s < silent_from_s.get(channel, float('inf')):
                runtime.offer(SensorMeasurement(channel, frame.stamp_ns, frame.index))
    return runtime.stop(timeout_s)
