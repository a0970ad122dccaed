"""How a dataset reads the files of a frame: a record built from a plain dictionary of a configuration."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.config import build_record
from ...core.contracts import DetectionClasses
from ...core.protocols import CAMERAS, LANE_PROTOCOLS
from ..partial.missing import MissingLabels
from .io import REDUCTIONS

BAD_FILE_CHOICES = ('mask', 'skip', 'raise')


@dataclass(frozen=True)
class ReadingOptions:
    """Which files of a frame are read, and what happens to those that cannot be.

    Args:
        cameras: channel names of the rig, in this order.
        lidar_sweeps: earlier LiDAR sweeps merged with the key frame's (the ten sweeps of published models are
            9 here).
        radar_sweeps: earlier sweeps of every radar, counted likewise.
        bad_file: what an unreadable file does: 'mask' marks that sensor absent, 'skip' gives the next sample
            instead, 'raise' stops.
        image_reduce: 1, 2, 4 or 8: decode images this much smaller, K follows (much cheaper than decoding all
            and resizing). None: as much as leaves the images no smaller than the pipeline's
            ResizeCropFlipRotate makes them at most.
        own_returns_m: LiDAR points nearer than this to the sensor in x and y are the car itself and left
            away; 0 keeps all.
        scenes_in_memory: scenes whose infos each worker keeps.
        clip_frames: frames of a clip that ends with the frame asked for; the earlier ones become its `before`
            (sensors alone, no labels), changed as the last one is. 1: single frames.
        lane_protocol: of `LANE_PROTOCOLS`: by whose rules lanes are made, and so scored (docs/evaluation.md).
        classes: {name: fields of `core.contracts.DetectionClass`}, what boxes are labelled as; None:
            nuScenes' ten. The key `detection_classes` of a configuration sets it everywhere.
        missing_labels: fields of `partial.missing.MissingLabels`: a share of each task's labels taken away at
            random. None: all there are.
        pseudo_labels: folder of `tools/pseudo_label.py`, whose labels stand in where a frame has none of its
            own. For training alone, as missing labels are.

    Raises:
        ValueError: names the field, what was found and what was expected.
    """

    cameras: Sequence[str] = CAMERAS
    lidar_sweeps: int = 9
    radar_sweeps: int = 5
    bad_file: str = 'mask'
    image_reduce: int | None = None
    own_returns_m: float = 1.0
    scenes_in_memory: int = 8
    clip_frames: int = 1
    lane_protocol: str = 'ours'
    classes: DetectionClasses | Mapping[str, Mapping[str, Any]] | None = None
    missing_labels: MissingLabels | Mapping[str, Any] | None = None
    pseudo_labels: str | os.PathLike | None = None

    def __post_init__(self) -> None:
        if self.missing_labels is not None:
            missing = build_record(MissingLabels, self.missing_labels, 'reading.missing_labels')
            object.__setattr__(self, 'missing_labels', missing)
        object.__setattr__(self, 'classes', DetectionClasses.of(self.classes, 'reading.classes'))
        object.__setattr__(self, 'cameras', tuple(self.cameras))
        select_names('bad_file', [self.bad_file], BAD_FILE_CHOICES)
        select_names('lane_protocol', [self.lane_protocol], tuple(LANE_PROTOCOLS))

        if type(self.clip_frames) is not int or self.clip_frames < 1:
            raise ValueError(f'clip_frames: found {self.clip_frames!r}, expected a whole number above 0')
        if self.image_reduce is not None and self.image_reduce not in REDUCTIONS:
            raise ValueError(
                f'image_reduce: found {self.image_reduce}, expected None or one of {REDUCTIONS}'
            )


def select_names(field: str, names: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The names in the order of `allowed`.

    Raises:
        ValueError: a name that is not allowed; `field` says where it was given.
    """
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise ValueError(
            f'{field}: found {", ".join(map(repr, unknown))}, expected some of {", ".join(allowed)}'
        )
    return tuple(name for name in allowed if name in names)
