"""What the frames of a split have, by the index of their infos: sensors with files, labels of tasks."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.contracts import LABELS_OF_TASK
from ...core.protocols import CAMERAS
from .options import select_names
from .records import FrameRecord, Json


@dataclass(frozen=True)
class SplitContents:
    """The index's entries of the scenes that a split's frames are in.

    Attributes:
        by_name: the entries.
        channels: names of the tables' channels, none where the infos were written before they told.
        camera_names: our names of the cameras that some frame has; none likewise.
    """

    by_name: Mapping[str, Json]
    channels: tuple[str, ...] = ()
    camera_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, index: Json, names: set[str]) -> SplitContents:
        """Of the named scenes of an index."""
        scenes = {name: scene for name, scene in index['scenes'].items() if name in names}
        return cls(scenes, tuple(index.get('channels', ())), tuple(index.get('image_sizes', ())))

    def cameras_of(self, chosen: Sequence[str]) -> tuple[str, ...]:
        """The cameras to load, as chosen; nuScenes' six, the default, give way to those of another car.

        Raises:
            ValueError: a name that is neither one of the six nor in the infos.
        """
        if tuple(chosen) == CAMERAS and self.camera_names and not set(CAMERAS) & set(self.camera_names):
            return self.camera_names
        others = [name for name in self.camera_names if name not in CAMERAS]
        select_names('cameras', chosen, (*CAMERAS, *others))
        return tuple(chosen)

    def frames_having(self, kind: str) -> int | None:
        """In how many frames there is a file of a kind of sensor or of label.

        None where the infos were written before they told.
        """
        counts = [scene.get('frames_with') for scene in self.by_name.values()]
        return None if None in counts else sum(count[kind] for count in counts)

    def check_sensors(self, sensors: Sequence[str], where: str) -> None:
        """Refuse sensors of which no frame has a file; `where` names split and infos.

        Raises:
            ValueError: says which, what the tables have, and what to do.
        """
        absent = [name for name in sensors if self.frames_having(name) == 0]
        if absent:
            there = f' (channels of the tables: {", ".join(self.channels)})' if self.channels else ''
            raise ValueError(
                f'sensors: expected {", ".join(sensors)}, but no frame of {where} has a {absent[0]} file by '
                f'the infos{there}; name a channel that is called otherwise with create_data --channels, '
                'write the infos again with --overwrite after adding files, or leave '
                f'{absent[0]} out of the sensors'
            )

    def has_labels(self, tasks: Sequence[str]) -> bool | None:
        """Whether some frame has labels of one of the tasks.

        None where the infos do not tell: written before they did, or a task that is not one of the four.
        """
        fields = [LABELS_OF_TASK.get(task) for task in tasks]
        found = [self.frames_having(field) for field in fields if field in ('boxes', 'occupancy')]
        if not {'map_layers', 'lanes'}.isdisjoint(fields):
            found.append(any(scene['has_map'] for scene in self.by_name.values()))

        if any(found):
            return True
        return None if None in found or None in fields or not fields else False


@dataclass(frozen=True)
class OwnLabels:
    """Which frames have labels of their own, by their infos.

    Attributes:
        tokens: of S frames.
        scene_of: their scenes.
        contents: of the split.
        record: token -> what the infos know of a frame.
    """

    tokens: Sequence[str]
    scene_of: Mapping[str, str]
    contents: SplitContents
    record: Callable[[str], FrameRecord]

    def of(self, task: str) -> np.ndarray:
        """Bool `(S,)`; nothing is known of a task that is not one of the four: False."""
        field, scenes = LABELS_OF_TASK.get(task), self.contents.by_name
        if field in ('map_layers', 'lanes'):
            return np.array([scenes[self.scene_of[token]]['has_map'] for token in self.tokens], bool)
        if field is None:
            return np.zeros(len(self.tokens), bool)

        # a scene's frames are looked at one by one only where some have labels and others have not
        known: dict[str, bool | None] = {}
        for name, scene in scenes.items():
            count = (scene.get('frames_with') or {}).get(field)
            whole = {0: False, len(scene['tokens']): True}
            known[name] = whole.get(count) if count is not None else None
        return np.array([
            self.record(token).has()[field] if known[self.scene_of[token]] is None
            else known[self.scene_of[token]] for token in self.tokens], bool)
