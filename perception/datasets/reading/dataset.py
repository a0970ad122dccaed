"""Info files and sensor files to `(Sample, Annotations)` pairs, one key frame at a time.

What is missing or unreadable is masked, not faked: a camera is marked absent, a sensor without any file is
None, a kind of label that does not exist is None. Infos are read scene by scene when first needed; every
worker keeps a few.
"""
from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ...core.config import build_record
from ...core.contracts import Annotations, Frame, Sample
from ...core.files import path_below
from ...core.protocols import (
    LANE_CLASSES,
    MAP_CLASSES,
    OCCUPANCY_CLASSES,
    RADARS,
    SENSORS,
    TASKS,
)
from ...core.selection import split_draw
from ...registry import DATASETS, known_tasks
from ..drives.frames import FollowsDrives
from ..maps.map_layers import layers_around
from ..maps.scene_map import SceneMap, read_scene_map
from ..partial.files import split_facts
from ..partial.table import LabelsByTask
from ..transforms.image import Compose, Pair, Transform, resizing_transforms
from ..transforms.view import Look
from .classes import check_categories, counts_of_split
from .contents import OwnLabels, SplitContents
from .infos import InfosError, SceneFrames, map_path, read_index, scene_path
from .io import REDUCTIONS, BadFile, DroppedPoints
from .labels import box_labels, lane_labels, load_occupancy
from .options import ReadingOptions, select_names
from .records import CameraRecord, FrameRecord, Json
from .sensors import load_cameras, load_lidar, load_radars


@DATASETS.register_module()
class NuScenesDataset(FollowsDrives, Dataset):
    """Key frames of one split of a nuScenes-format root whose infos are written (`tools/create_data.py`).

    Args:
        root: the dataroot that the infos' file names are relative to.
        version: names the default folder of infos, `<root>/infos/<version>`.
        split: a split of the infos' index: train, val, test, mini_train, mini_val, one of `splits.json`, or
            'all'.
        infos: another folder of infos.
        sensors: those to load, each of which some frame of the split must have; None takes what there is.
        tasks: those whose labels to load.
        pipeline: transforms as `transforms.image` defines them, or their TRANSFORMS dictionaries: a list, or
            named stages in order (`dict(image=..., bev=...)`), of which None leaves one out.
        test_mode: no token may be left out or replaced by another.
        seed: of the transforms' randomness, which depends on nothing but the seed, the draw (see `sampler`)
            and the index.
        reading: the fields of `ReadingOptions` (sweeps, cameras, what an unreadable file does ...), or the
            record itself.

    Raises:
        InfosError: no infos, or of another schema. ValueError: an unknown name or category, more sweeps than
        the infos hold, an empty split.
    """

    accepts_draws = True

    def __init__(
        self,
        root: str | os.PathLike,
        version: str = 'v1.0-trainval',
        split: str = 'train',
        infos: str | os.PathLike | None = None,
        sensors: Sequence[str] | None = None,
        tasks: Sequence[str] = TASKS,
        pipeline: Sequence[Transform | dict] | Mapping[str, Transform | dict | None] = (),
        test_mode: bool = False,
        seed: int = 0,
        reading: ReadingOptions | Mapping[str, Any] | None = None,
    ) -> None:
        self.root = Path(root)
        self.split = split
        self.folder = Path(infos) if infos is not None else self.root / 'infos' / version
        self.sensors = SENSORS if sensors is None else select_names('sensors', sensors, SENSORS)
        self.tasks = select_names('tasks', tasks, known_tasks())

        self.reading = build_record(ReadingOptions, reading, 'NuScenesDataset.reading')
        self.test_mode = test_mode
        if test_mode and self.reading.bad_file == 'skip':
            raise ValueError(
                "bad_file: 'skip' would leave tokens out of a test; expected 'mask' or 'raise' with test_mode"
            )

        self.seed = seed
        self.pipeline = Compose(pipeline)
        self._resizing = resizing_transforms(self.pipeline.transforms)

        self._read_index(split)
        if sensors is not None:
            self._contents.check_sensors(self.sensors, f'split {split!r} in {self.folder}')
        self._scenes: OrderedDict[str, tuple[SceneFrames, SceneMap | None]] = OrderedDict()

        # shared memory: counts over all workers of the process; how often a plain index asked for each sample
        self._bad_count = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._dropped_count = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._plain_draws = torch.zeros(len(self.tokens), dtype=torch.int64).share_memory_()
        self._warned: set[str] = set()
        self.pipeline.bind(self)

    def _read_index(self, split: str) -> None:
        index = read_index(self.folder)
        scenes = index['scenes']
        self.tokens: list[str] = self._tokens_of(split, index)
        self._check_sweeps(index)

        self.indices = {token: i for i, token in enumerate(self.tokens)}
        self.scene_of = {token: name for name, scene in scenes.items() for token in scene['tokens']}
        self.order_of = {token: i for s in scenes.values() for i, token in enumerate(s['tokens'])}
        self._has_map = {name: scene['has_map'] for name, scene in scenes.items()}
        self._contents = SplitContents.of(index, {self.scene_of[token] for token in self.tokens})
        self.left_out: dict[str, int] = index['left_out']
        self.cameras = self._contents.cameras_of(self.reading.cameras)

        self.classes = self.reading.classes
        check_categories(self.folder, index, self.classes)
        facts = split_facts(index['version'], split, self.tokens, self.root)
        self._labels = LabelsByTask.of(self.reading, self.tasks, self.tokens, facts, self.test_mode)
        # boxes per frame and class (S, K); counting those of other classes than nuScenes' ten waits for need
        self._class_counts: np.ndarray | None = None
        if self.classes.is_nuscenes:
            self._class_counts = self._count(index)

        self._label_table: np.ndarray | None = None
        self.metainfo = {
            'classes': self.classes.names,
            'map_classes': MAP_CLASSES,
            'occupancy_classes': OCCUPANCY_CLASSES,
            'lane_classes': LANE_CLASSES,
            'version': index['version'],
            'split': split,
            'root': str(self.root),
        }

    def _tokens_of(self, split: str, index: Json) -> list[str]:
        if split == 'all':
            tokens = [token for scene in index['scenes'].values() for token in scene['tokens']]
        else:
            tokens = index['splits'].get(split)
        if not tokens:
            known = ', '.join(f'{name} ({len(frames)})' for name, frames in index['splits'].items())
            raise ValueError(
                f'split: found {split!r}, which has no frames in {self.folder}; expected one of {known}, all'
            )
        return list(tokens)

    def _check_sweeps(self, index: Json) -> None:
        for sensor in ('lidar', 'radar'):
            name = f'{sensor}_sweeps'
            sweeps = getattr(self.reading, name)
            # a sensor that is not loaded needs no sweeps
            if sensor in self.sensors and not 0 <= sweeps <= index[name]:
                raise ValueError(
                    f'{name}: found {sweeps}, the infos in {self.folder} hold up to {index[name]}'
                )

    def has_labels(self) -> bool | None:
        """Whether some frame of the split has labels of a chosen task; None where the infos do not tell."""
        return self._labels.pseudo is not None or self._contents.has_labels(self.tasks)

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[Pair]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, number: int) -> Pair:
        """The pair of one frame after the pipeline.

        Args:
            number: an index, or one with a draw in it (see `sampler`). A plain index that comes again is the
                next draw of its sample; with `test_mode` it is always the same one.

        Raises:
            BadFile: an unreadable file with bad_file='raise', or with 'skip' where no sample of the split is
            readable.
        """
        given, index = split_draw(number + len(self) * (number < 0), len(self))
        draw = self._count_plain(index) if given is None or self.test_mode else given
        for step in range(len(self)):
            try:
                pair = self.load((index + step) % len(self))
                return self.changed(pair, draw, index, given)
            except BadFile as error:
                if self.reading.bad_file != 'skip':
                    raise
                self._note_bad(error)
        raise BadFile(self.folder, f'no sample of the split {self.split!r} could be read')

    def _count_plain(self, index: int) -> int:
        """Draw of a plain index: how often it came before, over all workers; 0 in a test."""
        if self.test_mode:
            return 0
        self._plain_draws[index] += 1
        return int(self._plain_draws[index]) - 1

    def full_init(self) -> None:
        """Nothing is left to do; mmengine's dataset wrappers call it."""

    def set_epoch(self, epoch: int) -> None:
        """Tell the transforms that ask for it which pass over the data begins."""
        self.pipeline.set_epoch(epoch)

    def load(self, index: int) -> Pair:
        """The pair of one frame before the pipeline."""
        token = self.tokens[index]
        record = self.record(token)
        return self.load_sample(record), self.load_annotations(record, self._scene(token)[1])

    @property
    def bad_files(self) -> int:
        """How many unreadable files were met so far, in all workers of this process together."""
        return int(self._bad_count)

    @property
    def dropped_points(self) -> int:
        """How many points were dropped so far that no sensor measures, in all workers together."""
        return int(self._dropped_count)

    def class_counts(self, index: int | None = None) -> np.ndarray:
        """Annotated boxes per detection class, without reading any sensor file.

        Returns:
            Of one frame `(K,)`, of all `(S, K)`; K is 10 for nuScenes' classes. A frame whose boxes are
            taken away (`missing_labels`) has none.
        """
        if self._class_counts is None:
            self._class_counts = self._count(read_index(self.folder))
        return self._class_counts if index is None else self._class_counts[index]

    def _count(self, index: Json) -> np.ndarray:
        lacking = self._labels.lacking.get('detection', frozenset())
        return counts_of_split(self.folder, index, self.tokens, self.classes, lacking)

    def get_cat_ids(self, index: int) -> list[int]:
        """Detection classes that occur in one frame; mmengine's and mmdet3d's balanced datasets call it."""
        return np.flatnonzero(self.class_counts(index)).tolist()

    def record(self, token: str) -> FrameRecord:
        """What the infos know of one frame.

        Raises:
            InfosError: the folder has no such token, or its line is damaged.
        """
        return self._scene(token)[0].frame(token)

    def _scene(self, token: str) -> tuple[SceneFrames, SceneMap | None]:
        """Infos and map of a frame's scene, the most recently used ones kept in memory."""
        if token not in self.scene_of:
            raise InfosError(f'{self.folder}: no frame with token {token!r}')

        name = self.scene_of[token]
        if name not in self._scenes:
            frames = SceneFrames(scene_path(self.folder, name))
            needs_map = self._has_map[name] and not {'map_segmentation', 'lanes'}.isdisjoint(self.tasks)
            scene_map = self._map(map_path(self.folder, name)) if needs_map else None
            self._scenes[name] = frames, scene_map
            while len(self._scenes) > max(1, self.reading.scenes_in_memory):
                self._scenes.popitem(last=False)

        self._scenes.move_to_end(name)
        return self._scenes[name]

    def _map(self, path: Path) -> SceneMap | None:
        try:
            return read_scene_map(path)
        except BadFile as error:
            self._on_bad(error)
            return None

    def _note_bad(self, error: BadFile) -> None:
        self._bad_count += 1
        self._warn(error.path, f'unreadable file ({self.reading.bad_file}): {error}')

    def _note_dropped(self, notes: Sequence[DroppedPoints]) -> None:
        for note in notes:
            self._dropped_count += note.dropped
            # nuScenes writes a radar sweep without any detection as one point that is not finite
            if note.total > 1:
                self._warn(note.path, str(note))

    def _warn(self, path: str, words: str) -> None:
        """Once a file and process."""
        if path not in self._warned:
            self._warned.add(path)
            from mmengine.logging import print_log

            print_log(words, logger='current', level=30)

    def _on_bad(self, error: BadFile) -> None:
        """For a file that cannot be trusted: stop, or count it and go on without."""
        if self.reading.bad_file != 'mask':
            raise error
        self._note_bad(error)

    def _reduction(self, camera: CameraRecord) -> int:
        """How much smaller to decode one camera's image."""
        if self.reading.image_reduce is not None:
            return self.reading.image_reduce
        if not self._resizing:
            return 1

        size_hw = (camera.height_px, camera.width_px)
        look = Look(camera.K_33, camera.ego_T_sensor, size_hw, camera.distortion)
        widest_px = self._resizing[0].widest_px(look)
        return max(r for r in REDUCTIONS if r == 1 or camera.width_px >= r * widest_px)

    def load_sample(self, record: FrameRecord) -> Sample:
        """Load what the car knows of one frame."""
        reading = self.reading
        left_out: list[str] = []
        dropped: list[DroppedPoints] = []

        def bad(error: BadFile) -> None:
            self._on_bad(error)
            left_out.append(str(error))

        camera = lidar = radar = None
        if 'camera' in self.sensors:
            camera = load_cameras(
                self.root, record.cameras, self.cameras, self._reduction, bad, left_out)
        if 'lidar' in self.sensors:
            sweeps = record.lidar[: reading.lidar_sweeps + 1]
            lidar = load_lidar(self.root, sweeps, reading.own_returns_m, bad, left_out, dropped)
        if 'radar' in self.sensors:
            sweeps_of = {name: record.radars.get(name, ())[: reading.radar_sweeps + 1] for name in RADARS}
            radar = load_radars(self.root, sweeps_of, bad, left_out, dropped)
        self._note_dropped(dropped)

        frame = Frame(
            token=record.token,
            timestamp_ns=record.timestamp_us * 1000,
            global_T_ego=record.global_T_ego,
            scene=record.scene,
            location=record.location,
            ego_T_lidar=record.ego_T_lidar)
        return Sample(frame, camera, lidar, radar, tuple(left_out))

    def load_annotations(self, record: FrameRecord, scene_map: SceneMap | None) -> Annotations | None:
        """Load what the annotator knows of one frame; None where no chosen task has any label.

        Labels that a teacher made stand in for those that a frame lacks (`reading.pseudo_labels`).
        """
        fields = self._labels.wanted(record.token)
        labels: dict[str, Any] = {}
        if 'boxes' in fields and record.boxes is not None:
            labels['boxes'] = box_labels(record.boxes, self.classes)

        if 'map_layers' in fields and scene_map is not None:
            labels['map_layers'] = layers_around(scene_map, record.global_T_ego)
        if 'lanes' in fields and scene_map is not None:
            file = map_path(self.folder, record.scene)
            labels['lanes'] = lane_labels(record, scene_map, self.reading.lane_protocol, file)

        if 'occupancy' in fields and record.occupancy is not None:
            try:
                labels['occupancy'] = load_occupancy(path_below(self.root, record.occupancy))
            except BadFile as error:
                self._on_bad(error)
        labels |= self._labels.added(record.token, labels)
        return Annotations(record.token, **labels) if labels else None

    def label_table(self) -> np.ndarray:
        """Which tasks each frame has labels of, a teacher's too: bool `(S, T)` in the order of `tasks`.

        No sensor file is read; the frames' infos are where a scene has labels of some of its frames alone.
        """
        if self._label_table is None:
            own = OwnLabels(self.tokens, self.scene_of, self._contents, self.record)
            self._label_table = self._labels.table(self.tokens, own.of)
        return self._label_table

    def annotations_of(self, token: str) -> Annotations | None:
        """Load the labels of one frame alone, without reading its sensor files.

        Raises:
            InfosError: an unknown token.
        """
        return self.load_annotations(self.record(token), self._scene(token)[1])
