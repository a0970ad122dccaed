"""What a model predicts for one key frame."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..protocols import DIRECTED_LANE_CLASSES, LANE_CLASSES, MAP_AND_VEHICLE_CLASSES, MAP_CLASSES, TASKS
from .checks import check_extra_tasks, check_shape
from .classes import NUSCENES_CLASSES, DetectionClasses
from .sample import Frame


@dataclass(frozen=True)
class Boxes3D:
    """Detected boxes in ego, best first.

    Attributes:
        boxes_M9: float32, columns as in `BoxLabels`.
        scores_M: 0..1.
        labels_M: into `classes`.
        attributes_M: into `ATTRIBUTES`, -1 none.
        classes: what the labels mean; nuScenes' ten by default.
    """

    boxes_M9: np.ndarray
    scores_M: np.ndarray
    labels_M: np.ndarray
    attributes_M: np.ndarray
    classes: DetectionClasses = NUSCENES_CLASSES

    def __post_init__(self) -> None:
        m = len(self.scores_M)
        check_shape('Boxes3D', 'boxes_M9', self.boxes_M9, m, 9)
        check_shape('Boxes3D', 'labels_M', self.labels_M, m)
        check_shape('Boxes3D', 'attributes_M', self.attributes_M, m)

    @property
    def boxes(self) -> np.ndarray:
        """The array `boxes_M9`."""
        return self.boxes_M9

    @property
    def scores(self) -> np.ndarray:
        """The array `scores_M`."""
        return self.scores_M

    @property
    def labels(self) -> np.ndarray:
        """The array `labels_M`."""
        return self.labels_M


@dataclass(frozen=True)
class MapSegmentation:
    """Probability of each map class per cell of a grid.

    Attributes:
        probabilities_6YX: float32 in the order of `MAP_CLASSES`, or of `MAP_AND_VEHICLE_CLASSES` (7); rows
            along +y, columns along +x.
        x_range_m, y_range_m: the ground that the grid covers, in ego.
    """

    probabilities_6YX: np.ndarray
    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]

    def __post_init__(self) -> None:
        with_vehicles = len(self.probabilities_6YX) == len(MAP_AND_VEHICLE_CLASSES)
        names = MAP_AND_VEHICLE_CLASSES if with_vehicles else MAP_CLASSES
        check_shape('MapSegmentation', 'probabilities_6YX', self.probabilities_6YX, len(names), 'Y', 'X')

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return MAP_AND_VEHICLE_CLASSES[:len(self.probabilities_6YX)]

    @property
    def probabilities(self) -> np.ndarray:
        """The array `probabilities_6YX`."""
        return self.probabilities_6YX


@dataclass(frozen=True)
class Occupancy:
    """Predicted voxels in Occ3D order.

    Attributes:
        semantics_XYZ: uint8 into `OCCUPANCY_CLASSES`.
        confidence_XYZ: float16, the probability of that class.
    """

    semantics_XYZ: np.ndarray
    confidence_XYZ: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_shape('Occupancy', 'semantics_XYZ', self.semantics_XYZ, 'X', 'Y', 'Z')

    @property
    def semantics(self) -> np.ndarray:
        """The array `semantics_XYZ`."""
        return self.semantics_XYZ


@dataclass(frozen=True)
class Lanes:
    """Predicted lane elements in ego metres, best first.

    Attributes:
        points_LP2: float32, x and y along each element; of a centre line from where traffic comes to where
            it drives (`directed_L`), of the other classes from either end.
        scores_L: 0..1.
        labels_L: into `LANE_CLASSES`.
        classes: those that the model answers, whether it found one here or not; the mean of the metric is
            over them.
    """

    points_LP2: np.ndarray
    scores_L: np.ndarray
    labels_L: np.ndarray
    classes: tuple[str, ...] = LANE_CLASSES

    def __post_init__(self) -> None:
        check_shape('Lanes', 'points_LP2', self.points_LP2, len(self.scores_L), 'P', 2)
        check_shape('Lanes', 'labels_L', self.labels_L, len(self.scores_L))
        if not self.classes or set(self.classes) - set(LANE_CLASSES):
            raise ValueError(f'Lanes.classes: expected names out of {LANE_CLASSES}, found {self.classes}')

    @property
    def directed_L(self) -> np.ndarray:
        """Elements whose points run the way that traffic drives, bool `(L,)`."""
        return np.isin(self.labels_L, [LANE_CLASSES.index(name) for name in DIRECTED_LANE_CLASSES])

    @property
    def points(self) -> np.ndarray:
        """The array `points_LP2`."""
        return self.points_LP2

    @property
    def scores(self) -> np.ndarray:
        """The array `scores_L`."""
        return self.scores_L

    @property
    def labels(self) -> np.ndarray:
        """The array `labels_L`."""
        return self.labels_L


@dataclass(frozen=True)
class TaskOutput:
    """A model's predictions for one sample; a task that the model does not have is None.

    Field names are `TASKS`; `extra` holds the predictions of other tasks, by the task's name. `of` and `get`
    treat all tasks alike. `masked` names tasks that are None because the network's outputs were not finite.
    """

    frame: Frame
    detection: Boxes3D | None = None
    map_segmentation: MapSegmentation | None = None
    occupancy: Occupancy | None = None
    lanes: Lanes | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    masked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_extra_tasks('TaskOutput', self.extra)

    @staticmethod
    def of(frame: Frame, predictions: Mapping[str, Any], masked: tuple[str, ...] = ()) -> TaskOutput:
        """The record of {task: prediction}."""
        built_in = {task: value for task, value in predictions.items() if task in TASKS}
        extra = {task: value for task, value in predictions.items() if task not in TASKS}
        return TaskOutput(frame, **built_in, extra=extra, masked=masked)

    def get(self, task: str) -> Any:
        """The prediction of a task; None where the model does not have it."""
        return getattr(self, task) if task in TASKS else self.extra.get(task)

    def predictions(self) -> dict[str, Any]:
        """{task: prediction} of the tasks that the model has."""
        found = {task: self.get(task) for task in (*TASKS, *self.extra)}
        return {task: prediction for task, prediction in found.items() if prediction is not None}
