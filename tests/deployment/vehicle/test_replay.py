"""A scene replayed at its rate: who speaks when, who falls silent, what is absent then."""
from __future__ import annotations

import time
from pathlib import Path

import pytest

from perception.core.protocols import CAMERAS
from perception.deployment.vehicle.records import SensorMeasurement
from perception.deployment.vehicle.replay import (
    LIDAR,
    SceneFrame,
    parse_kills,
    replay,
    scene_channels,
    scene_frames,
    with_sensors,
)
from perception.registry import DATASETS

DATA = dict(
    type='NuScenesDataset', version='v1.0-trainval', sensors=('camera', 'lidar'), split='val',
    test_mode=True, reading=dict(lidar_sweeps=0, radar_sweeps=0))


def test_words_for_silent_sensors():
    channels = scene_channels(('camera', 'lidar'))
    assert parse_kills(['CAM_FRONT@5', 'LIDAR_TOP', 'CAM_BACK@0.5'], channels) == {
        'CAM_FRONT': 5.0, 'LIDAR_TOP': 0.0, 'CAM_BACK': 0.5}
    for word in ('NOPE@1', 'CAM_FRONT@soon', 'CAM_FRONT@-1', 'CAM_FRONT@nan', 'CAM_FRONT@', ''):
        with pytest.raises(ValueError, match=f"--kill: expected .* CAM_BACK.*, found '{word}'"):
            parse_kills([word], channels)
    with pytest.raises(ValueError, match="a channel of LIDAR_TOP, found 'CAM_FRONT'"):
        parse_kills(['CAM_FRONT'], scene_channels(('lidar',)))


def test_frames_of_a_scene_in_order(tiny_world: Path):
    data = {**DATA, 'root': str(tiny_world)}
    frames = scene_frames(data)
    assert [f.index for f in frames] == [0, 1, 2]
    assert frames[0].stamp_ns < frames[1].stamp_ns < frames[2].stamp_ns
    assert scene_frames(data, most=2) == frames[:2]
    with pytest.raises(
        ValueError, match="scene nowhere: no frame of the test split is in it; it has \\['scene-"
    ):
        scene_frames(data, 'nowhere')


def test_what_was_not_heard_is_absent(tiny_world: Path):
    sample = DATASETS.build({**DATA, 'root': str(tiny_world)})[0][0]
    deaf = with_sensors(sample, {'CAM_FRONT'})
    assert deaf.lidar is None and deaf.camera.present_N.tolist() == [name == 'CAM_FRONT' for name in CAMERAS]
    everyone = with_sensors(sample, {*CAMERAS, LIDAR})
    assert everyone.lidar is sample.lidar and (everyone.camera.present_N == sample.camera.present_N).all()


class Listener:
    """Stands for a runtime and notes what it hears."""

    channels = ('CAM_FRONT', LIDAR)

    def __init__(self) -> None:
        self.heard: list = []

    def start(self) -> None:
        self.heard.append('start')

    def offer(self, measurement: SensorMeasurement) -> None:
        self.heard.append((measurement.channel, measurement.stamp_ns, measurement.data))

    def stop(self, timeout_s: float) -> str:
        self.heard.append('stop')
        return 'what was counted'


def test_every_sensor_speaks_when_it_did_until_it_is_silent():
    runtime, frames = Listener(), [SceneFrame(7 + i, i * 500_000_000) for i in range(3)]
    began = time.monotonic()
    assert replay(runtime, frames, speed=5.0, silent_from_s={'CAM_FRONT': 0.9}) == 'what was counted'
    assert time.monotonic() - began >= 0.2
    assert runtime.heard == [
        'start', ('CAM_FRONT', 0, 7), (LIDAR, 0, 7), ('CAM_FRONT', 500_000_000, 8), (LIDAR, 500_000_000, 8),
        (LIDAR, 1_000_000_000, 9), 'stop']
