"""A scene replayed at its rate: who speaks when, who falls silent, what is absent then."""
from __future__ import annotations

from pathlib import Path

import pytest

from perception.contracts import CAMERAS
from perception.deployment.replay import LIDAR, SceneFrame, only_heard, parse_kills, replay, scene_frames
from perception.deployment.runtime import Runtime, RuntimeOptions, Stages
from perception.registry import DATASETS

DATA = dict(type='NuScenesDataset', version='v1.0-trainval', sensors=('camera', 'lidar'), lidar_sweeps=0, radar_sweeps=0,
            split='val', test_mode=True)


def test_words_for_silent_sensors():
    assert parse_kills(['CAM_FRONT@5', 'LIDAR_TOP', 'CAM_BACK@0.5']) == {'CAM_FRONT': 5.0, 'LIDAR_TOP': 0.0, 'CAM_BACK': 0.5}


def test_frames_of_a_scene_in_order(tiny_world: Path):
    data = {**DATA, 'root': str(tiny_world)}
    frames = scene_frames(data)
    assert [f.index for f in frames] == [0, 1, 2] and frames[0].stamp_ns < frames[1].stamp_ns < frames[2].stamp_ns
    assert scene_frames(data, most=2) == frames[:2]
    with pytest.raises(ValueError, match="scene nowhere: no frame of the test split is in it; it has \\['scene-"):
        scene_frames(data, 'nowhere')


def test_what_was_not_heard_is_absent(tiny_world: Path):
    sample = DATASETS.build({**DATA, 'root': str(tiny_world)})[0][0]
    deaf = only_heard(sample, {'CAM_FRONT'})
    assert deaf.lidar is None and deaf.camera.present_N.tolist() == [name == 'CAM_FRONT' for name in CAMERAS]
    everyone = only_heard(sample, {*CAMERAS, LIDAR})
    assert everyone.lidar is sample.lidar and (everyone.camera.present_N == sample.camera.present_N).all()


def test_a_sensor_falls_silent_when_told():
    answers = []
    stages = Stages(lambda reading: reading.data, lambda moment, values: values, lambda batch: batch, lambda inputs: inputs,
                    lambda raw, batch: raw)
    runtime = Runtime(('CAM_FRONT', LIDAR), stages, lambda *answer: answers.append(answer),
                      RuntimeOptions(LIDAR, period_s=5.0, max_age_s=0.15, deadline_s=5.0))
    frames = [SceneFrame(7 + i, i * 500_000_000) for i in range(4)]
    monitor = replay(runtime, frames, speed=2.0, silent_from_s={'CAM_FRONT': 0.9})
    assert monitor.channels['CAM_FRONT'].received == 2 and monitor.channels[LIDAR].received == 4
    assert monitor.counts['answered'] == 4 and answers[-1][1] == {LIDAR: 10} and answers[-1][2] == ('CAM_FRONT',)
