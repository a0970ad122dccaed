"""When each sensor of a world measures, in nuScenes' rhythm.

A LiDAR turns 20 times a second, every tenth turn is a key frame (2 Hz). A camera is triggered when the
turning LiDAR sweeps past its optical axis, on six of the ten turns between two key frames (12 Hz). Radars run
on their own clocks at 13 Hz; the measurement nearest to the LiDAR's key time is their key frame. Times are
whole microseconds since the start of the scene, so that they are the same on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LIDAR_PERIOD_US = 50_000
TURNS_PER_KEY_FRAME = 10
FIRST_KEY_TURN = 9
"""The first key frame comes after nine turns, so that even it has a past to accumulate."""
KEY_FRAMES_PER_SCENE = 40
CAMERA_TURNS = (0, 2, 4, 5, 7, 9)
"""Turns after a key frame on which cameras fire: 100 or 50 ms apart, 12 Hz on average."""
RADAR_PERIOD_US = 76_923
MOST_RADAR_SWEEPS = 6  # between two key frames
RADAR_PHASE_STEP_US = 14_300
FORWARD_TRIGGER_US = -35_200
"""A camera that looks along +x is triggered this long before the end of the LiDAR's turn, as in nuScenes."""


@dataclass(frozen=True)
class Measurement:
    """One measurement of one sensor.

    Attributes:
        channel: sensor channel, for example `CAM_FRONT`.
        time_us: microseconds since the start of the scene.
        key_frame: index of the key frame the measurement belongs to (for a sweep: of the next key frame).
        is_key_frame: whether the measurement is the key frame's own.
    """

    channel: str
    time_us: int
    key_frame: int
    is_key_frame: bool

    @property
    def time_s(self) -> float:
        """Seconds since the start of the scene."""
        return self.time_us * 1e-6


def key_time_us(key_frame: int) -> int:
    """LiDAR time of a key frame in microseconds since the start of the scene."""
    return (FIRST_KEY_TURN + TURNS_PER_KEY_FRAME * key_frame) * LIDAR_PERIOD_US


def trigger_offset_us(azimuth_rad: float) -> int:
    """When a camera fires, relative to the end of the LiDAR's turn: in (-50, 0] ms.

    The LiDAR turns clockwise seen from above, 7.2 degrees a millisecond.

    Args:
        azimuth_rad: direction of the optical axis in the ego frame, counter-clockwise from +x.
    """
    turned_us = -azimuth_rad / (2 * math.pi) * LIDAR_PERIOD_US
    offset_us = round(FORWARD_TRIGGER_US + turned_us) % LIDAR_PERIOD_US
    return offset_us - LIDAR_PERIOD_US if offset_us > 0 else 0


def lidar_measurements(channel: str, key_frames: int, sweeps_per_key_frame: int) -> list[Measurement]:
    """Key frames of the LiDAR and the sweeps just before each of them, in time order.

    Args:
        channel: name of the LiDAR.
        key_frames: number of key frames.
        sweeps_per_key_frame: 0..9 turns written before each key frame.
    """
    measurements = []
    for key_frame in range(key_frames):
        for turns_before in range(sweeps_per_key_frame, -1, -1):
            time_us = key_time_us(key_frame) - turns_before * LIDAR_PERIOD_US
            measurements.append(Measurement(channel, time_us, key_frame, turns_before == 0))
    return measurements


def camera_measurements(channel: str, azimuth_rad: float, key_frames: int, sweeps: bool) -> list[Measurement]:
    """Measurements of one camera in time order; `sweeps` adds those between key frames."""
    offset_us = trigger_offset_us(azimuth_rad)
    measurements = []
    for key_frame in range(key_frames):
        end_us = key_time_us(key_frame) + offset_us
        for turn in CAMERA_TURNS[1:] if sweeps else ():
            time_us = end_us - (TURNS_PER_KEY_FRAME - turn) * LIDAR_PERIOD_US
            measurements.append(Measurement(channel, time_us, key_frame, False))
        measurements.append(Measurement(channel, end_us, key_frame, True))
    return [measurement for measurement in measurements if measurement.time_us >= 0]


def radar_measurements(
    channel: str, radar_index: int, key_frames: int, sweeps: bool, sweeps_per_key_frame: int = 0
) -> list[Measurement]:
    """Measurements of one radar in time order; the nearest to each LiDAR key time is the key frame's.

    Args:
        channel: name of the radar.
        radar_index: its place among the radars, which fire one after another.
        key_frames: number of key frames.
        sweeps: write all of them, also those between key frames.
        sweeps_per_key_frame: how many just before each key frame, without `sweeps`.
    """
    phase_us = radar_index * RADAR_PHASE_STEP_US % RADAR_PERIOD_US
    nearest = [round((key_time_us(k) - phase_us) / RADAR_PERIOD_US) for k in range(key_frames)]
    measurements, key_frame = [], 0
    for tick in range(nearest[-1] + 1 if nearest else 0):
        is_key_frame = tick == nearest[key_frame]
        before_key = nearest[key_frame] - tick
        if is_key_frame or sweeps or before_key <= sweeps_per_key_frame:
            time_us = phase_us + tick * RADAR_PERIOD_US
            measurements.append(Measurement(channel, time_us, key_frame, is_key_frame))
        key_frame += is_key_frame
    return measurements
