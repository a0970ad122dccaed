"""The rhythm of the sensors: 2, 12, 13 and 20 Hz, and cameras triggered by the turning LiDAR."""

import math

import numpy as np
import pytest

from perception.world.sensors.timing import (
    KEY_FRAMES_PER_SCENE,
    camera_measurements,
    key_time_us,
    lidar_measurements,
    radar_measurements,
    trigger_offset_us,
)

# azimuth of each nuScenes camera in degrees, and its trigger before the LiDAR's time in a real key frame, in
# us
REAL_TRIGGERS = {
    'CAM_FRONT': (0, -35_186), 'CAM_FRONT_RIGHT': (-56, -27_108), 'CAM_BACK_RIGHT': (-111, -19_477),
    'CAM_BACK': (180, -10_032), 'CAM_BACK_LEFT': (109, -185), 'CAM_FRONT_LEFT': (55, -42_791)}


@pytest.mark.parametrize('channel', REAL_TRIGGERS)
def test_cameras_fire_when_the_lidar_sweeps_past(channel):
    azimuth_deg, real_us = REAL_TRIGGERS[channel]
    assert abs(trigger_offset_us(math.radians(azimuth_deg)) - real_us) < 700


def test_key_frames_are_half_a_second_apart_and_fit_into_twenty_seconds():
    times = [key_time_us(k) for k in range(KEY_FRAMES_PER_SCENE)]
    assert set(np.diff(times)) == {500_000}
    assert times[0] == 450_000 and times[-1] + 38_500 < 20_000_000


@pytest.mark.parametrize(('sweeps', 'count'), [(0, 3), (2, 9), (9, 30)])
def test_lidar_sweeps_precede_their_key_frame(sweeps, count):
    measurements = lidar_measurements('LIDAR_TOP', 3, sweeps)
    assert len(measurements) == count
    assert [r.time_us for r in measurements if r.is_key_frame] == [450_000, 950_000, 1_450_000]
    assert all(0 <= key_time_us(r.key_frame) - r.time_us <= 450_000 for r in measurements)
    if sweeps == 9:
        assert set(np.diff([r.time_us for r in measurements])) == {50_000}


def test_cameras_run_at_twelve_hertz_between_key_frames():
    times = [r.time_us for r in camera_measurements('CAM_FRONT', 0.0, 10, sweeps=True)]
    assert set(np.diff(times)) == {50_000, 100_000}
    assert np.mean(np.diff(times)) == pytest.approx(1e6 / 12, rel=0.02)
    assert len(camera_measurements('CAM_FRONT', 0.0, 10, sweeps=False)) == 10


@pytest.mark.parametrize('index', range(5))
def test_the_radar_reading_nearest_to_the_lidar_is_the_key_frame(index):
    every = radar_measurements('RADAR', index, 8, sweeps=True)
    assert set(np.diff([r.time_us for r in every])) == {76_923}
    for k, measurement in enumerate(r for r in every if r.is_key_frame):
        nearest = min(every, key=lambda other, k=k: abs(other.time_us - key_time_us(k)))
        assert (measurement.key_frame, measurement.time_us) == (k, nearest.time_us)
    assert [r for r in every if r.is_key_frame] == radar_measurements('RADAR', index, 8, sweeps=False)

    # a few sweeps before each key frame: those of all that are the nearest before it
    few = radar_measurements('RADAR', index, 8, sweeps=False, sweeps_per_key_frame=3)
    keys = [i for i, r in enumerate(every) if r.is_key_frame]
    assert few == [every[i] for key in keys for i in range(max(0, key - 3), key + 1)]
    assert [r.key_frame for r in few if r.is_key_frame] == list(range(8))
