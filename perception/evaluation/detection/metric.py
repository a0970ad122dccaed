"""Detection for the suite, the results on disk and the tables; the formula is in `protocol.py`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import Annotations, Boxes3D, Frame, TaskOutput
from ...core.protocols import DETECTION_CLASSES
from ...registry import TASK_METRICS
from ..base import OfficialFile, ScoreTable, Tables, TaskMetric
from ..storage.files import JsonFile
from .boxes import BoxTable
from .breakdown import box_details, format_box_details
from .file import DetectionResults
from .protocol import DetectionScores, score_boxes
from .samples import align
from .storage import global_boxes, nuscenes_records
from .truth import GroundTruth


@dataclass(frozen=True)
class BoxSummary:
    """One sample's boxes in global; `truth` is None without labels, or where tables hold the truth."""

    boxes: BoxTable
    truth: GroundTruth | None = None


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
            DETECTION_CLASSES, ('AP',), lower_is_better=('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')),
    )
    classes = DETECTION_CLASSES
    official = 'results_nusc.json'

    def __init__(self, truth: GroundTruth | None = None) -> None:
        self.truth = truth

    def read_tables(self, tables: Tables) -> None:
        """Take boxes and bicycle racks from the tables: the official scores to the last digit."""
        self.truth = GroundTruth.from_tables(tables.root, tables.version, tables.split)

    def forget_tables(self) -> None:
        """Take the labels of each sample."""
        self.truth = None

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> BoxSummary | None:
        """The sample's boxes moved to global."""
        if output.detection is None:
            return None

        labels = truth.boxes if truth is not None and self.truth is None else None
        own_truth = None if labels is None else GroundTruth.from_frames([(output.frame, labels)])
        return BoxSummary(global_boxes(output.detection, output.frame), own_truth)

    def accumulate(self, samples: Sequence[tuple[Frame, BoxSummary | None]]) -> BoxTotal | None:
        """All boxes against the truth of the split, or against that of the samples which have labels."""
        known = [(frame, summary) for frame, summary in samples if summary is not None]
        if self.truth is None:
            known = [(frame, summary) for frame, summary in known if summary.truth is not None]
        if not known:
            return None

        tokens = tuple(frame.token for frame, _ in known)
        truth = join_truths([summary.truth for _, summary in known]) if self.truth is None else self.truth
        results = DetectionResults(tokens, _numbered([summary.boxes for _, summary in known]), {})
        return self.total_of(results, truth)

    @staticmethod
    def total_of(results: DetectionResults, truth: GroundTruth) -> BoxTotal:
        """Results of a file or of many samples against a truth.

        Raises:
            ResultError: the samples of the two differ, or the results cannot be scored.
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
        """Columns in ego, as the model gave them."""
        global_boxes(prediction, frame)  # refuses what no metric could read
        return {'boxes': prediction.boxes_M9, 'scores': prediction.scores_M, 'labels': prediction.labels_M,
                'attributes': prediction.attributes_M}

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Boxes3D:
        """Columns -> the record."""
        return Boxes3D(arrays['boxes'], arrays['scores'], arrays['labels'], arrays['attributes'])

    def official_file(self, folder: Path, meta: Mapping[str, bool]) -> OfficialFile:
        """`results_nusc.json`: boxes in global, at most 500 a sample, best first."""
        def entry(frame: Frame, boxes: Boxes3D) -> list[dict[str, Any]]:
            return nuscenes_records(global_boxes(boxes, frame), frame.token)

        return JsonFile(folder / self.official, meta, entry, by_token=True)


def join_truths(truths: Sequence[GroundTruth]) -> GroundTruth:
    """Truths of single samples -> one of all."""
    if not truths:
        return GroundTruth((), np.zeros((0, 3)), BoxTable.empty())

    tokens = tuple(truth.tokens[0] for truth in truths)
    ego_S3 = np.concatenate([truth.ego_S3 for truth in truths])
    return GroundTruth(tokens, ego_S3, _numbered([truth.boxes for truth in truths]))


def _numbered(tables: Sequence[BoxTable]) -> BoxTable:
    """Tables of single samples -> one, `sample_M` counting the tables."""
    joined = BoxTable.join(tables)
    columns = {f.name: getattr(joined, f.name) for f in fields(BoxTable)}
    columns['sample_M'] = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t) for t in tables])
    return BoxTable(**columns)
