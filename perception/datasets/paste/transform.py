"""Ground-truth paste as a transform of a dataset's pipeline.

SECOND's sampling of ground truth (Yan et al. 2018, Sensors 18, section 3.3) with pictures as PointAugmenting
(Wang et al., CVPR 2021) and Moca (Zhang et al. 2020, arXiv 2012.12741) draw them.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...core.contracts import (
    CENTRE,
    RADAR_INDEX,
    XYZ,
    Annotations,
    BoxLabels,
    LidarPoints,
    RadarPoints,
    Sample,
)
from ...core.protocols import DETECTION_CLASSES, TASKS
from ...registry import TRANSFORMS
from ..reading.dataset import NuScenesDataset
from ..transforms.bev import RandomFlipRotateScale
from ..transforms.image import Pair, flat_transforms
from .database import PasteDatabase, paste_folder
from .images import PastedImages
from .labels import PastedObject, with_objects, with_vehicle_cells, with_voxels
from .places import MOST_LIFT_M, Scan, ground_height, radar_outside, touching_boxes

PUBLISHED_COUNTS = {
    'car': 2, 'truck': 3, 'construction_vehicle': 7, 'bus': 4, 'trailer': 6, 'barrier': 2, 'motorcycle': 6,
    'bicycle': 6, 'pedestrian': 2, 'traffic_cone': 2}
"""Boxes of a class that a frame is filled up to (CBGS, Zhu et al. 2019, arXiv 1908.09492; CenterPoint)."""
TRIES = 3
"""Objects that are tried for each one that is missing."""
MOST_HIDDEN = 0.7
"""Of an object's points that one set before it may hide."""
_NEVER = 1 << 62


@TRANSFORMS.register_module()
class PasteObjects:
    """Set objects of other frames into a frame, with their points, pictures, radar targets and labels.

    Each object comes to the place in ego at which it was measured, so that its points are as dense and its
    picture as large as they would be there. It is raised or lowered by the difference between the ground
    around it there and here (the lower fifth of the LiDAR points beside the box; where either is not known it
    keeps its height). It is left out where its box would touch another, where the ground differs by over 0.5
    m, where fewer than `min_points` of its points would be seen, where it or an object behind it would lose
    70 percent of points or picture, and where a camera sees the place and the object's picture by that camera
    is missing or was taken from another side.

    Points of the frame in its box and behind it go, and so do points of it that the frame hides. Pictures are
    drawn the far ones first; what stands before them is not drawn over. Radar points are replaced within its
    ground. Occupancy: see `labels.with_voxels`; maps and lanes stay as they are.

    Only for single frames of a training, before `RandomFlipRotateScale`.

    Args:
        database: folder that `create-data paste` made of the same root, version, split, classes and sweeps;
            None: where it writes by itself, `<root>/paste/<version>/<split>`.
        counts: {class: boxes that a frame is filled up to}; None: those published for nuScenes' ten.
        min_points: fewest LiDAR points of an object, in the database and after what hides it.
        probability: of a frame being filled up at all.

    Raises:
        ValueError: an unknown class, or numbers that make no sense.
    """

    def __init__(
        self,
        database: str | Path | None = None,
        counts: Mapping[str, int] | None = None,
        min_points: int = 5,
        probability: float = 1.0,
    ) -> None:
        self.folder = None if database is None else Path(database)
        self.counts = dict(PUBLISHED_COUNTS if counts is None else counts)
        self.min_points = min_points
        self.probability = probability
        if not self.counts:
            raise ValueError('counts: found none, expected {class: boxes}; leave the stage out instead')
        for name, count in self.counts.items():
            if type(count) is not int or count < 0:
                raise ValueError(f'counts.{name}: found {count!r}, expected a whole number from 0 on')
        if not 0 <= probability <= 1 or min_points < 1:
            raise ValueError(
                'expected a probability from 0 to 1 and min_points from 1 on, found '
                f'{probability} and {min_points}')

        self._database: PasteDatabase | None = None
        # shared with workers that outlive a pass: this pass, and the first one without
        self._passes = torch.tensor([0, _NEVER]).share_memory_()

    # ---------------------------------------------------------------- when

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the pass over the data; the sampler calls it through the dataset."""
        self._passes[0] = epoch

    def stop_from(self, epoch: int) -> None:
        """Paste nothing from this pass on; `PasteOffHook` calls it before any worker starts."""
        self._passes.share_memory_()  # a copy of the data set is not shared
        self._passes[1] = epoch

    @property
    def is_on(self) -> bool:
        """Whether this pass pastes."""
        return bool(self._passes[0] < self._passes[1])

    # ---------------------------------------------------------------- into what

    def bind(self, dataset: NuScenesDataset) -> None:
        """Open the database and compare it with the dataset whose pipeline this is in.

        Raises:
            ValueError: the database is another's, or the dataset is none to paste into.
        """
        self._check_use(dataset)
        database = PasteDatabase(self.folder or paste_folder(
            dataset.root, dataset.metainfo['version'], dataset.split))
        database.check_dataset(dataset)

        unknown = [name for name in self.counts if name not in database.classes.names]
        if unknown and not set(unknown) <= set(DETECTION_CLASSES) or len(unknown) == len(self.counts):
            raise ValueError(
                f'PasteObjects.counts: found {unknown[0]!r}, expected some of '
                f'{", ".join(database.classes.names)}')
        if database.index['min_points'] > self.min_points:
            raise ValueError(
                f'{database.path}: min_points: found {database.index["min_points"]}, expected at most '
                f'{self.min_points}')

        enough = database.points_N >= self.min_points
        self._candidates = {
            label: np.flatnonzero(enough & (database.labels_N == label))
            for label in range(len(database.classes))}
        self._database = database

    def _check_use(self, dataset: NuScenesDataset) -> None:
        if dataset.test_mode:
            raise ValueError('PasteObjects: test_mode: found True, expected a dataset of a training')
        if 'detection' not in dataset.tasks:
            raise ValueError(
                f'PasteObjects: tasks: found {", ".join(dataset.tasks)}, expected detection among them: '
                'nothing is pasted where nobody knows which boxes are there')
        foreign = [task for task in dataset.tasks if task not in TASKS]
        if foreign:
            raise ValueError(
                f'PasteObjects: tasks: found {foreign[0]!r}, whose labels it cannot keep true; expected some '
                f'of {", ".join(TASKS)}')
        self.check_frames_alone(dataset)

        transforms = flat_transforms(dataset.pipeline.transforms)
        turned = [i for i, one in enumerate(transforms) if isinstance(one, RandomFlipRotateScale)]
        if turned and turned[0] < transforms.index(self):
            raise ValueError(
                'pipeline: found PasteObjects behind RandomFlipRotateScale, expected it before: objects come '
                'to their places in the car that measured them')

    def check_frames_alone(self, dataset: NuScenesDataset) -> None:
        """Refuse frames that are followed over time: the one before would not have the objects.

        Raises:
            ValueError: says so.
        """
        if dataset.reading.clip_frames > 1 or dataset.in_streams:
            found = 'a StreamSampler' if dataset.in_streams else (
                f'reading.clip_frames {dataset.reading.clip_frames}')
            raise ValueError(
                f'PasteObjects: found {found}, expected single frames: objects would stand in one frame of a '
                'drive and in none before it; leave the stage out (pipeline.paste=None)')

    # ---------------------------------------------------------------- pasting

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Fill a frame up."""
        happens = rng.uniform() < self.probability
        boxes = None if annotations is None else annotations.boxes
        if not (happens and self.is_on) or boxes is None or sample.present() == _NOTHING:
            return sample, annotations
        if self._database is None:
            raise ValueError('PasteObjects: expected to be in the pipeline of a dataset, found none')
        if annotations.extra:
            raise ValueError(
                f'PasteObjects: {annotations.token}: found labels of {", ".join(annotations.extra)}, which '
                'it cannot keep true, expected none beside those of the four tasks')

        filling = Filling(self._database, sample, boxes, self.min_points)
        for name, wanted in self.counts.items():
            label = self._database.classes.label_of.get(name)
            candidates = () if label is None else self._candidates[label]
            missing = 0 if label is None else wanted - int((boxes.labels_M == label).sum())
            if missing <= 0 or not len(candidates):
                continue

            tries = min(TRIES * missing, len(candidates))
            for number in rng.choice(candidates, tries, replace=False).tolist():
                missing -= filling.paste(number)
                if not missing:
                    break
        return filling.result(annotations)


_NOTHING = {'camera': False, 'lidar': False, 'radar': False}


@dataclass(frozen=True)
class _Place:
    """An object where it would stand: its number, box now, and how much it was raised."""

    number: int
    box_9: np.ndarray
    lift_3: np.ndarray


class Filling:
    """A frame while objects come into it.

    Args:
        database: where they come from.
        sample: the frame.
        boxes: those it has.
        min_points: fewest points of an object that must be seen.
    """

    def __init__(self, database: PasteDatabase, sample: Sample, boxes: BoxLabels, min_points: int) -> None:
        self.database = database
        self.sample = sample
        self.boxes = boxes
        self.min_points = min_points
        self.pasted: list[PastedObject] = []
        self.radar: list[np.ndarray] = []
        self.images = None if sample.camera is None else PastedImages(sample.camera, boxes.boxes_M9)

        pose = sample.frame.ego_T_lidar
        self.origin_3 = None if pose is None else pose[:3, 3]
        self.boxes_M9 = boxes.boxes_M9.astype(np.float64)
        self.scan = None
        if sample.lidar is not None:
            self.scan = Scan(sample.lidar.points_P6, self.origin_3, self.boxes_M9)
            self._all_M = self.scan.counts()
            self._key_M = self.scan.counts(self.scan.of_key_frame)

    def paste(self, number: int) -> bool:
        """Set an object into the frame, if it can stand there."""
        place = self._place(number)
        if place is None:
            return False

        points_P6, stay = np.zeros((0, 6), np.float32), None
        if self.scan is not None:
            points_P6 = self.database.points(number)
            points_P6[:, XYZ] += place.lift_3.astype(np.float32)
            seen, stay = self.scan.look(points_P6, place.box_9)
            points_P6 = points_P6[seen]
            if seen.sum() < self.min_points or seen.mean() < 1 - MOST_HIDDEN or self._hides_others(stay):
                return False
        if self.images is not None and not self.images.paste(
                self.database, number, place.box_9, place.lift_3):
            return False

        self._keep(place, points_P6, stay)
        return True

    def _place(self, number: int) -> _Place | None:
        """Where an object would stand; None where it cannot."""
        box_9 = self.database.box(number)
        if touching_boxes(box_9, self.boxes_M9).any():
            return None

        lift_3 = np.zeros(3)
        if self.scan is not None:
            ground = ground_height(self.scan.points_P6, box_9)
            lift_m = np.nan_to_num(ground - self.database.numbers(number)['ground_m'])
            if abs(lift_m) > MOST_LIFT_M:
                return None
            lift_3[2] = lift_m
            box_9[CENTRE] += lift_3
        return _Place(number, box_9, lift_3)

    def _hides_others(self, stay: np.ndarray) -> bool:
        """Whether an object in the frame would have lost too many of its points."""
        lost_M = self._all_M - self.scan.counts(stay)  # those before it hid some already
        return bool((lost_M > MOST_HIDDEN * self._all_M).any())

    def _keep(self, place: _Place, points_P6: np.ndarray, stay: np.ndarray | None) -> None:
        number, box_9 = place.number, place.box_9
        label = int(self.database.labels_N[number])
        words, numbers = self.database.words(number), self.database.numbers(number)
        if self.scan is not None:
            self.scan.add(points_P6, stay)
            self._all_M = np.append(self._all_M, len(points_P6))

        self.boxes_M9 = np.concatenate([self.boxes_M9, box_9[None]])
        self.radar.append(self.database.radar(number))
        self.pasted.append(PastedObject(
            box_9=box_9, label=label, attribute=numbers['attribute'], visibility=numbers['visibility'],
            num_lidar_points=numbers['num_lidar_points'],
            num_radar_points=numbers['num_radar_points'] if self.sample.radar is not None else 0,
            category=words['category'], instance=f'pasted.{len(self.pasted)}.{words["instance"]}',
            points_P3=points_P6[:, XYZ]))

    def result(self, annotations: Annotations) -> Pair:
        """The frame with its objects, and its labels."""
        if not self.pasted:
            return self.sample, annotations
        sample, boxes = self.sample, self.boxes
        if self.scan is not None:
            sample = replace(sample, lidar=LidarPoints(self.scan.points_P6))
            boxes = self._recounted(boxes)
        if self.images is not None:
            sample = replace(sample, camera=self.images.drawn())
        if sample.radar is not None:
            sample = replace(sample, radar=self._radar())

        origin_3 = np.array([0.0, 0.0, 1.8]) if self.origin_3 is None else self.origin_3
        occupancy = annotations.occupancy
        if occupancy is not None:
            occupancy = with_voxels(occupancy, self.pasted, origin_3)
        labels = replace(
            annotations, boxes=with_objects(boxes, self.pasted), occupancy=occupancy,
            map_layers=with_vehicle_cells(annotations.map_layers, self.pasted, self.database.classes))
        return sample, labels

    def _recounted(self, boxes: BoxLabels) -> BoxLabels:
        """The frame's own boxes with as many points less as objects before them hide; pasted ones counted."""
        counts = self.scan.counts(self.scan.of_key_frame)
        own = len(boxes.labels_M)
        lost_M = self._key_M - counts[:own]
        self.pasted = [
            replace(one, num_lidar_points=int(count))
            for one, count in zip(self.pasted, counts[own:], strict=True)]
        had_M = boxes.num_lidar_points_M
        left_M = np.where(had_M < 0, had_M, np.maximum(had_M - lost_M, 0))  # -1: a teacher's, unknown
        return replace(boxes, num_lidar_points_M=left_M.astype(boxes.num_lidar_points_M.dtype))

    def _radar(self) -> RadarPoints:
        """Radar points with the objects', of radars that are there, in the place of what was there."""
        radar = self.sample.radar
        added = np.concatenate(self.radar)
        added = added[radar.present_R[added[:, RADAR_INDEX].astype(np.int64)]]
        outside = radar_outside(radar, np.stack([one.box_9 for one in self.pasted]))
        return replace(radar, points_P8=np.concatenate([radar.points_P8[outside], added]))
