"""What a world is made from: the arguments, checked at birth and recorded in `world.json`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.rig.file import DEFAULT_RIG_PATH, load_rig
from ..sensors.timing import KEY_FRAMES_PER_SCENE, MOST_RADAR_SWEEPS, TURNS_PER_KEY_FRAME
from .splits import SPLITS, VERSIONS, plan_scenes

FORMAT = 4
"""Raised when the same arguments no longer make the same bytes, so that an old world is not resumed with new
code."""


class WorldError(RuntimeError):
    """A world cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class WorldOptions:
    """Everything that decides the content of a world.

    Attributes:
        scenes: number of scenes.
        seed: any integer >= 0; the same seed makes the same bytes.
        split: `default` (both), `train` or `val`.
        version: name of the table folder, `v1.0-trainval` or `v1.0-mini`.
        image_size_hw: size of the written images in pixels.
        lidar_sweeps: LiDAR turns written before each key frame, 0 to 9.
        radar_sweeps: radar sweeps of 77 ms written before each key frame, 0 to 6.
        sweeps: write everything every sensor sees between key frames too.
        key_frames: key frames per scene, 1 to 40 at 2 Hz.
        radars: write the five radars.
        occupancy: write Occ3D-format voxel labels.
        rig: camera rig file.
        flat: the ground is a plane, without the cities' hills.

    Raises:
        ValueError: names the argument, the value that was found and those that are expected.
        FileNotFoundError: there is no such rig file.
    """

    scenes: int
    seed: int = 0
    split: str = SPLITS[0]
    version: str = VERSIONS[0]
    image_size_hw: tuple[int, int] = (900, 1600)
    lidar_sweeps: int = 0
    sweeps: bool = False
    key_frames: int = KEY_FRAMES_PER_SCENE
    radars: bool = True
    occupancy: bool = True
    rig: str = str(DEFAULT_RIG_PATH)
    radar_sweeps: int = 0
    flat: bool = False

    def __post_init__(self) -> None:
        _expect_within('seed', self.seed, 0, 2 ** 32 - 1)
        _expect_within('image-size height', self.image_size_hw[0], 16, 4096)
        _expect_within('image-size width', self.image_size_hw[1], 16, 4096)
        _expect_within('lidar-sweeps', self.lidar_sweeps, 0, TURNS_PER_KEY_FRAME - 1)
        _expect_within('radar-sweeps', self.radar_sweeps, 0, MOST_RADAR_SWEEPS)
        _expect_within('key-frames', self.key_frames, 1, KEY_FRAMES_PER_SCENE)
        plan_scenes(self.scenes, self.split, self.version)
        if not load_rig(self.rig).lidars:
            raise ValueError(
                f'{self.rig}: found no LiDAR, expected one: the world\'s key frames follow its turns')

    @property
    def lidar_turns_before(self) -> int:
        """LiDAR sweeps before each key frame."""
        return TURNS_PER_KEY_FRAME - 1 if self.sweeps else self.lidar_sweeps

    def to_record(self) -> dict[str, Any]:
        """What `world.json` says about these options; the rig is recorded by its content."""
        record = dataclasses.asdict(self) | {'image_size_hw': list(self.image_size_hw), 'format': FORMAT}
        if not self.radar_sweeps:
            del record['radar_sweeps']  # worlds of before do not know them
        return record | {'rig': _rig_record(self.rig)}


def _rig_record(path: str) -> dict[str, str]:
    content = Path(path).read_bytes()
    return {'name': os.path.basename(path), 'md5': hashlib.md5(content, usedforsecurity=False).hexdigest()}


def _expect_within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f'{name}: found {value}, expected {least} to {most}')


def parse_image_size(text: str) -> tuple[int, int]:
    """`'900x1600'` to (rows, columns).

    Raises:
        ValueError: when the text is not two whole numbers joined by an x.
    """
    parts = text.lower().split('x')
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f'image-size: found {text!r}, expected HEIGHTxWIDTH, for example 900x1600')
    return int(parts[0]), int(parts[1])


def expected_bytes(options: WorldOptions) -> int:
    """An upper estimate of the disk space a world needs, measured on dense scenes."""
    height, width = options.image_size_hw
    image_bytes = 4000 + 0.22 * height * width
    camera_measurements = 6 if options.sweeps else 1
    lidar_bytes = 720_000 * (1 + options.lidar_turns_before) + 36_000
    radar_measurements = 7 if options.sweeps else 1 + options.radar_sweeps
    radar_bytes = 30_000 * radar_measurements if options.radars else 0
    occupancy_bytes = 60_000 if options.occupancy else 0
    table_bytes = 80_000
    per_key_frame = (
        6 * image_bytes * camera_measurements + lidar_bytes + radar_bytes + occupancy_bytes + table_bytes
    )
    per_scene = options.key_frames * per_key_frame + 500_000
    return int(options.scenes * per_scene + 40_000_000)
