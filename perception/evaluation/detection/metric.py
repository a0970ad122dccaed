"""Detection for the suite, the results on disk and the tables; the formula is in `protocol.py`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import (
    NUSCENES_CLASSES,
    Annotations,
    Boxes3D,
    DetectionClasses,
    Frame,
    TaskOutput,
    check_same_classes,
)
from ...core.protocols import DETECTION_CLASSES
from ...registry import TASK_METRICS
from ..base import OfficialFile, ScoreTable, Tables, TaskMetric
from ..storage.files import JsonFile, results_folder
from .boxes import BoxTable
from .breakdown import box_details, format_box_details
from .file import BoxFormat, DetectionResults, meta_of_classes
from .protocol import DetectionScores, score_boxes
from .samples import align
from .storage import global_boxes, nuscenes_records
from .truth import GroundTruth


@dataclass(frozen=True)
class BoxSummary:
    """One sample's boxes in global; `truth` is None without labels, or where tables hold the truth."""

    boxes: BoxTable
    truth: GroundTruth | None = None
    classes: DetectionClasses = NUSCENES_CLASSES


@dataclass(frozen=True)
class BoxTotal:
    """Boxes and truth of a split, and the scores they have."""

    boxes: BoxTable
    truth: GroundTruth
    scores: DetectionScores


@TASK_METRICS.register_module('detection')
class NuScenesDetection(TaskMetric):
    """nuScenes AP, true-positive errors and NDS.

    Args:
        truth: boxes of the whole split with bicycle racks; None takes each sample's labels.
        classes: {name: fields of `core.contracts.DetectionClass`} of a truth that is read from tables; None:
            nuScenes' ten. Labels of samples say themselves what they mean.
    """

    task = 'detection'
    prediction = Boxes3D
    summary = BoxSummary
    headline = {'NDS': 'detection/NDS', 'mAP': 'detection/mAP'}
    tables = (
        ScoreTable(
            'detection',
            ('NDS', 'mAP', 'mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE', 'mAP@0.5m', 'mAP@1m', 'mAP@2m', 'mAP@4m',
             'NDS_present_classes', 'mAP_present_classes'),
            DETECTION_CLASSES, ('AP',), lower_is_better=('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE'),
            other_classes=True),
    )
    classes = DETECTION_CLASSES
    official = 'results_nusc.json'
    unofficial = 'results_own_classes.json'

    def __init__(
        self, truth: GroundTruth | None = None, classes: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.truth = truth
        self.table_classes = DetectionClasses.of(classes, 'detection.classes')

    def read_tables(self, tables: Tables) -> None:
        """Take boxes and bicycle racks from the tables: the official scores to the last digit."""
        self.truth = GroundTruth.from_tables(
            tables.root, tables.version, tables.split, self.table_classes)

    def forget_tables(self) -> None:
        """Take the labels of each sample."""
        self.truth = None

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> BoxSummary | None:
        """The sample's boxes moved to global.

        Raises:
            ValueError: predictions and truth have labels of different classes.
        """
        if output.detection is None:
            return None

        classes = output.detection.classes
        labels = truth.boxes if truth is not None and self.truth is None else None
        expected = labels if labels is not None else self.truth
        if expected is not None:
            check_same_classes(classes, expected.classes, ('predicted boxes', 'the annotated boxes'))
        own_truth = None if labels is None else GroundTruth.from_frames([(output.frame, labels)])
        return BoxSummary(global_boxes(output.detection, output.frame), own_truth, classes)

    def accumulate(self, samples: Sequence[tuple[Frame, BoxSummary | None]]) -> BoxTotal | None:
        """All boxes against the truth of the split, or against that of the samples which have labels."""
        known = [(frame, summary) for frame, summary in samples if summary is not None]
        if self.truth is None:
            known = [(frame, summary) for frame, summary in known if summary.truth is not None]
        if not known:
            return None

        tokens = tuple(frame.token for frame, _ in known)
        truth = join_truths([summary.truth for _, summary in known]) if self.truth is None else self.truth
        form = BoxFormat.detection(known[0][1].classes)
        boxes = _numbered([summary.boxes for _, summary in known])
        results = DetectionResults(tokens, boxes, {}, form)
        return self.total_of(results, truth)

    @staticmethod
    def total_of(results: DetectionResults, truth: GroundTruth) -> BoxTotal:
        """Results of a file or of many samples against a truth.

        Raises:
            ResultError: the samples or the classes of the two differ, or the results cannot be scored.
        """
        boxes = align(results, truth)
        return BoxTotal(boxes, truth, score_boxes(boxes, truth))

    def scores(self, total: BoxTotal) -> dict[str, float]:
        """`detection/NDS`, `detection/mAP`, `detection/mATE`, `detection/AP_car`, ..."""
        return total.scores.flat()

    def details(self, total: BoxTotal) -> dict[str, Any]:
        """Score histograms, calibration, scores by distance and by visibility."""
        return box_details(total.boxes, total.truth, total.scores)

    format_details = staticmethod(format_box_details)

    def to_arrays(self, prediction: Boxes3D, frame: Frame) -> dict[str, np.ndarray]:
        """Columns in ego, as the model gave them, and what the labels mean if not nuScenes' ten."""
        global_boxes(prediction, frame)  # refuses what no metric could read
        arrays = {
            'boxes': prediction.boxes_M9, 'scores': prediction.scores_M, 'labels': prediction.labels_M,
            'attributes': prediction.attributes_M}
        if not prediction.classes.is_nuscenes:
            arrays['classes'] = np.array(prediction.classes.to_text())
        return arrays

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Boxes3D:
        """Columns -> the record."""
        columns = (arrays[name] for name in ('boxes', 'scores', 'labels', 'attributes'))
        if 'classes' not in arrays:
            return Boxes3D(*columns)
        return Boxes3D(*columns, DetectionClasses.from_text(str(arrays['classes'])))

    def official_file(self, folder: Path, meta: Mapping[str, bool]) -> OfficialFile:
        """`results_nusc.json`, or `results_own_classes.json` for other classes than nuScenes' ten."""
        return BoxesFile(folder, meta)


class BoxesFile(OfficialFile):
    """Boxes in global, at most 500 a sample, best first; the first sample says of which classes.

    Args:
        folder: of the file.
        meta: the five nuScenes flags.
    """

    def __init__(self, folder: Path, meta: Mapping[str, bool]) -> None:
        self.folder = folder
        self.meta = dict(meta)
        self._file: JsonFile | None = None
        self._classes = NUSCENES_CLASSES

    def add(self, frame: Frame, prediction: Boxes3D) -> None:
        """Keep the sample's boxes.

        Raises:
            ValueError: they are of other classes than those of the samples before.
        """
        if self._file is None:
            self._open(prediction.classes)
        check_same_classes(prediction.classes, self._classes, (f'sample {frame.token}', 'other samples'))
        self._file.add(frame, prediction)

    def close(self) -> Path:
        """Write the file."""
        if self._file is None:
            self._open(NUSCENES_CLASSES)
        return self._file.close()

    def _open(self, classes: DetectionClasses) -> None:
        def entry(frame: Frame, boxes: Boxes3D) -> list[dict[str, Any]]:
            return nuscenes_records(global_boxes(boxes, frame), frame.token, classes)

        self._classes = classes
        name = NuScenesDetection.official if classes.is_nuscenes else NuScenesDetection.unofficial
        meta = {**self.meta, **meta_of_classes(classes)}
        self._file = JsonFile(self.folder / name, meta, entry, by_token=True)


def results_file(folder: Path) -> Path:
    """The file of boxes in a folder of results, the official one or that of one's own classes."""
    folder = results_folder(folder)
    own = folder / NuScenesDetection.unofficial
    return own if own.is_file() else folder / NuScenesDetection.official


def join_truths(truths: Sequence[GroundTruth]) -> GroundTruth:
    """Truths of single samples -> one of all."""
    if not truths:
        return GroundTruth((), np.zeros((0, 3)), BoxTable.empty())

    tokens = tuple(truth.tokens[0] for truth in truths)
    ego_S3 = np.concatenate([truth.ego_S3 for truth in truths])
    classes = truths[0].classes
    for truth in truths:
        check_same_classes(truth.classes, classes, (f'sample {truth.tokens[0]}', 'other samples'))
    return GroundTruth(tokens, ego_S3, _numbered([truth.boxes for truth in truths]), classes=classes)


def _numbered(tables: Sequence[BoxTable]) -> BoxTable:
    """Tables of single samples -> one, `sample_M` counting the tables."""
    joined = BoxTable.join(tables)
    columns = {f.name: getattr(joined, f.name) for f in fields(BoxTable)}
    columns['sample_M'] = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t) for t in tables])
    return BoxTable(**columns)
