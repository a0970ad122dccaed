"""Lanes for the suite, the results on disk and the tables; the formula is in `protocol.py`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import Annotations, Frame, Lanes, TaskOutput
from ...core.protocols import LANE_CLASSES, LANE_PROTOCOLS, LANE_RANGES_M, LANE_THRESHOLDS_M
from ...registry import TASK_METRICS
from ..base import OfficialFile, ScoreTable, TaskMetric
from ..errors import ResultError
from ..storage.files import JsonFile
from .protocol import LaneMatches, averaged_classes, check_lanes, lane_scores, match_lanes

SCORES = (
    'mAP', *(f'mAP_{name}' for name in LANE_PROTOCOLS), 'mAP@0.5m', 'mAP@1m', 'mAP@1.5m', 'mAP@2m')


@dataclass(frozen=True)
class LaneSummary:
    """Matches by the name of their range, and the protocol of the truth."""

    by_range: dict[str, LaneMatches]
    protocol: str


@TASK_METRICS.register_module('lanes')
class ChamferLanes(TaskMetric):
    """Chamfer AP of lane elements, by the protocol that the labels were made with.

    Args:
        ranges: of `LANE_RANGES_M`; the first one's scores are `lanes/...`, another's `lanes_<range>/...`.

    Raises:
        ValueError: an unknown range.
    """

    task = 'lanes'
    prediction = Lanes
    summary = LaneSummary
    headline = {'lanes mAP': 'lanes/mAP'}
    tables = (
        ScoreTable('lanes', SCORES, LANE_CLASSES, ('AP',)),
        ScoreTable('lanes_100x50', SCORES, LANE_CLASSES, ('AP',)))
    classes = LANE_CLASSES
    official = 'lanes.json'

    def __init__(self, ranges: Sequence[str] = ('60x30',)) -> None:
        unknown = [name for name in ranges if name not in LANE_RANGES_M]
        if unknown or not ranges:
            known = ', '.join(LANE_RANGES_M)
            raise ValueError(f'lanes.ranges: expected some of {known}, found {list(ranges)}')
        self.ranges = tuple(ranges)

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> LaneSummary | None:
        """Match the sample's elements in every range."""
        if output.lanes is None or truth is None or truth.lanes is None:
            return None
        matches = {name: match_lanes(output.lanes, truth.lanes, name) for name in self.ranges}
        return LaneSummary(matches, truth.lanes.protocol)

    def accumulate(self, samples: Sequence[tuple[Frame, LaneSummary | None]]) -> LaneSummary | None:
        """Matches of the whole split by range.

        Raises:
            ResultError: samples were labelled by different protocols.
        """
        known = [summary for _, summary in samples if summary is not None]
        if not known:
            return None

        protocols = sorted({summary.protocol for summary in known})
        if len(protocols) > 1:
            raise ResultError(f'lanes: expected labels of one protocol, found {", ".join(protocols)}')
        matches = {
            name: LaneMatches.join([summary.by_range[name] for summary in known]) for name in self.ranges}
        return LaneSummary(matches, protocols[0])

    def scores(self, total: LaneSummary) -> dict[str, float]:
        """`lanes/mAP`, `lanes/mAP@0.5m`, ..., `lanes/AP_divider`, ..."""
        scores: dict[str, float] = {}
        for name in self.ranges:
            prefix = 'lanes/' if name == self.ranges[0] else f'lanes_{name}/'
            scores |= lane_scores(total.by_range[name], total.protocol, name, prefix)
        return scores

    def details(self, total: LaneSummary) -> dict[str, Any]:
        """By which rules the scores were made: protocol, and of each range its thresholds and the classes."""
        return {
            'lane_protocol': total.protocol,
            'lane_ranges': {
                name: {
                    'thresholds_m': list(LANE_THRESHOLDS_M[name]),
                    'mean_over': averaged_classes(matches, total.protocol)}
                for name, matches in total.by_range.items()}}

    @staticmethod
    def format_details(details: Mapping[str, Any]) -> list[str]:
        """A line a range."""
        return [
            f'lanes {name} m by protocol {details["lane_protocol"]}: mAP over '
            f'{", ".join(rules["mean_over"])} at {", ".join(map(str, rules["thresholds_m"]))} m'
            for name, rules in details.get('lane_ranges', {}).items()]

    def to_arrays(self, prediction: Lanes, frame: Frame) -> dict[str, np.ndarray]:
        """Points, scores, labels and the classes that the model answers."""
        check_lanes(prediction)
        return {
            'points': prediction.points_LP2, 'scores': prediction.scores_L, 'labels': prediction.labels_L,
            'classes': np.array(prediction.classes)}

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> Lanes:
        """Points, scores, labels and classes -> the record; results without the last answer all classes."""
        classes = tuple(arrays['classes'].tolist()) if 'classes' in arrays else LANE_CLASSES
        return Lanes(arrays['points'], arrays['scores'], arrays['labels'], classes)

    def official_file(self, folder: Path, meta: Mapping[str, bool]) -> OfficialFile:
        """`lanes.json` as MapTR writes it, but in ego metres."""
        def entry(frame: Frame, lanes: Lanes) -> dict[str, Any]:
            return {'sample_token': frame.token, 'vectors': lane_records(lanes)}

        return JsonFile(folder / self.official, meta, entry, by_token=False)


def lane_records(lanes: Lanes) -> list[dict[str, Any]]:
    """One sample's lane elements for `lanes.json`; `directed` ones run the way that traffic drives."""
    columns = zip(
        lanes.points_LP2.tolist(), lanes.labels_L.tolist(), lanes.scores_L.tolist(),
        lanes.directed_L.tolist(), strict=True)
    return [
        dict(
            pts=points, pts_num=len(points), cls_name=LANE_CLASSES[label], type=label, confidence_level=score,
            directed=directed)
        for points, label, score, directed in columns
    ]
