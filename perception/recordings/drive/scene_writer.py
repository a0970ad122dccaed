"""One scene of a drive on disk: its files and rows become visible together, or not at all."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ...core.nuscenes.storage import SCENE_ROWS, SceneFolder, publish, to_json
from .mapping import DriveMapping
from .measurements import WrittenForm
from .report import Reasons
from .scene_rows import DriveRows
from .sync import Placed


class SceneWriter:
    """Writes a scene.

    Args:
        out: root of the drive.
        name: of the scene.
        mapping: the mapping.
        finished: it is there already: nothing is written.
    """

    def __init__(self, out: Path, name: str, mapping: DriveMapping, finished: bool) -> None:
        self.out, self.name, self.mapping, self.finished = out, name, mapping, finished
        self.rows = DriveRows(mapping.name, name, mapping.location)
        self.in_key_frames: Counter[str] = Counter()
        self.sweeps: Counter[str] = Counter()
        self.dropped = Reasons()
        self._present: dict[int, set[str]] = {}
        self._folder: SceneFolder | None = None

    def add(self, placed: Placed, form: WrittenForm, global_T_ego: np.ndarray) -> None:
        """Write a measurement and its rows."""
        if self._folder is None:
            self._folder = SceneFolder(self.out, self.name).__enter__()
        kind = self.mapping.kind_of(placed.channel)
        camera = form.camera
        self.rows.add_calibration(
            placed.channel, form.ego_T_sensor, camera and camera.K_33, camera and camera.lens)
        file = self.rows.add_measurement(placed, kind, form.end, global_T_ego, form.size_hw)
        self._folder.write(file, form.content)

        if placed.is_key_frame:
            self.in_key_frames[placed.channel] += 1
            self._present.setdefault(placed.key_frame, set()).add(placed.channel)
        else:
            self.sweeps[placed.channel] += 1

    def close(self) -> bool:
        """Publish the scene; False where no key frame has a measurement, and nothing is left of it."""
        if self.finished:
            return True
        tables = self.rows.finish()
        if self._folder is None or not tables['sample']:
            self.discard()
            return False

        self._folder.write(SCENE_ROWS, to_json({**tables, 'lidarseg': [], 'notes': self.notes()}))
        self._folder.__exit__(None)
        publish(self.out, self.name)
        return True

    def discard(self) -> None:
        """Take away what is written of an unfinished scene."""
        if self._folder is not None:
            self._folder.__exit__(ValueError)
            self._folder = None

    def notes(self) -> dict[str, Any]:
        """What the report says of this scene."""
        absent = [
            [channel, self.name, index] for index in sorted(self._present)
            for channel in self.mapping.sensors if channel not in self._present[index]]
        return {
            'written': dict(self.in_key_frames), 'sweeps': dict(self.sweeps), 'dropped': dict(self.dropped),
            'absent': absent, 'key_frames': len(self._present)}
