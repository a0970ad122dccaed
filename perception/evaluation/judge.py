"""All tasks judged alike: a small summary per sample, then figures from all summaries, in whatever order they
come.

A summary is what is needed and no more: boxes as columns, cell counts of the map, voxel confusions (and, for
rays, the two grids packed to some ten kilobytes), hit or miss of every lane element. Summaries are put in the
order of scene and time and counted once each before any figure is made, so several processes give exactly one
process's numbers.
"""
from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.contracts import Annotations, Frame, OccupancyLabels, TaskOutput
from ..core.protocols import TASKS
from .detection.boxes import BoxTable
from .detection.file import DetectionResults
from .detection.metric import DetectionScores, align, judge_boxes
from .detection.truth import GroundTruth
from .errors import ResultError
from .lanes.metric import LaneMatches, judge_lanes, lane_scores
from .map_segmentation.metric import MapCounts, count_map, draw_truth, map_scores, on_grid
from .occupancy.metric import OccupancyCounts, count_occupancy, count_rays, occupancy_scores
from .occupancy.rays import scene_origins
from .storage.results import global_boxes


@dataclass(frozen=True)
class PackedGrids:
    """Predicted and true voxel classes, packed: what rays need once all poses of the drive are known."""

    shape: tuple[int, int, int]
    predicted: bytes
    truth: bytes

    @staticmethod
    def of(predicted_XYZ: np.ndarray, truth_XYZ: np.ndarray) -> PackedGrids:
        """Pack two uint8 grids of one shape."""
        packed = [
            zlib.compress(np.ascontiguousarray(g, dtype=np.uint8).tobytes(), 1)
            for g in (predicted_XYZ, truth_XYZ)
        ]
        return PackedGrids(predicted_XYZ.shape, *packed)

    def unpack(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true grid."""
        return tuple(
            np.frombuffer(zlib.decompress(g), np.uint8).reshape(self.shape)
            for g in (self.predicted, self.truth)
        )


@dataclass(frozen=True)
class Summary:
    """What one sample adds to the figures; None where a task has no answer or no truth."""

    frame: Frame
    boxes: BoxTable | None = None
    true_boxes: GroundTruth | None = None
    map_counts: MapCounts | None = None
    occupancy: OccupancyCounts | None = None
    grids: PackedGrids | None = None
    lanes: dict[str, LaneMatches] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Figures by name (`detection/NDS`, `map/mIoU`, ...) and what reports are drawn from."""

    metrics: dict[str, float]
    detection: DetectionScores | None = None
    boxes: BoxTable | None = None
    truth: GroundTruth | None = None
    occupancy: OccupancyCounts | None = None
    map_counts: MapCounts | None = None
    lanes: dict[str, LaneMatches] = field(default_factory=dict)


class Judge:
    """Judge of any of the four tasks.

    Args:
        tasks: which of `TASKS` to look at.
        lane_ranges: '60x30' (its figures are `lanes/...`), '100x50' (`lanes_100x50/...`).
        rays: RayIoU for occupancy (about 0.1 s a sample on 2 cores).
        detection_truth: truth of the whole split, read from tables, with bicycle racks; None takes each
            sample's annotations.
    """

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        lane_ranges: Sequence[str] = ('60x30',),
        rays: bool = True,
        detection_truth: GroundTruth | None = None,
    ) -> None:
        unknown = set(tasks) - set(TASKS)
        if unknown:
            raise ValueError(f'tasks: unknown {sorted(unknown)}; known: {", ".join(TASKS)}')
        self.tasks = tuple(tasks)
        self.lane_ranges = tuple(lane_ranges)
        self.rays = rays
        self.detection_truth = detection_truth

    def summarise(self, output: TaskOutput, truth: Annotations | None) -> Summary:
        """Look at one sample; the grids are forgotten afterwards.

        Raises:
            ResultError: an answer cannot be judged; names the sample.
        """
        try:
            return Summary(output.frame, **self._boxes(output, truth), **self._map(output, truth),
                           **self._occupancy(output, truth), lanes=self._lanes(output, truth))
        except ResultError:
            raise
        except ValueError as error:
            raise ResultError(f'sample {output.frame.token}: {error}') from None

    def _has(self, task: str, output: TaskOutput, truth: object) -> bool:
        return task in self.tasks and getattr(output, task) is not None and truth is not None

    def _boxes(self, output: TaskOutput, truth: Annotations | None) -> dict:
        if 'detection' not in self.tasks or output.detection is None:
            return {}
        labels = truth.boxes if truth is not None and self.detection_truth is None else None
        own = None if labels is None else GroundTruth.from_frames([(output.frame, labels)])
        return {'boxes': global_boxes(output.detection, output.frame), 'true_boxes': own}

    def _map(self, output: TaskOutput, truth: Annotations | None) -> dict:
        layers = truth and truth.map_layers
        if not self._has('map_segmentation', output, layers):
            return {}
        return {'map_counts': count_map(on_grid(output.map_segmentation), draw_truth(layers))}

    def _occupancy(self, output: TaskOutput, truth: Annotations | None) -> dict:
        labels: OccupancyLabels | None = truth and truth.occupancy
        if not self._has('occupancy', output, labels):
            return {}
        found = output.occupancy
        counts = count_occupancy(found.semantics_XYZ, labels, found.confidence_XYZ)
        grids = PackedGrids.of(found.semantics_XYZ, labels.semantics_XYZ) if self.rays else None
        return {'occupancy': counts, 'grids': grids}

    def _lanes(self, output: TaskOutput, truth: Annotations | None) -> dict[str, LaneMatches]:
        lanes = truth and truth.lanes
        if not self._has('lanes', output, lanes):
            return {}
        return {size: judge_lanes(output.lanes, lanes, size) for size in self.lane_ranges}

    def verdict(self, summaries: Iterable[Summary]) -> Verdict:
        """Figures of all tasks that have both answers and truth. Samples that come twice count once."""
        unique = {s.frame.token: s for s in summaries}
        ordered = sorted(unique.values(), key=lambda s: (s.frame.scene, s.frame.timestamp_ns, s.frame.token))
        parts = {
            **self._judge_boxes(ordered), **_judge_map(ordered), **_judge_occupancy(ordered),
            **self._judge_lanes(ordered)}
        metrics: dict[str, float] = {}
        for name in ('detection', 'map_counts', 'occupancy', 'lanes'):
            metrics |= parts.pop(f'{name} figures', {})
        return Verdict(metrics, **parts)

    def _judge_boxes(self, ordered: Sequence[Summary]) -> dict:
        with_boxes = [s for s in ordered if s.boxes is not None]
        truth = self.detection_truth
        if truth is None:
            with_boxes = [s for s in with_boxes if s.true_boxes is not None]
            truth = join_truths([s.true_boxes for s in with_boxes])
        if not with_boxes:
            return {}
        results = DetectionResults(
            tuple(s.frame.token for s in with_boxes), _numbered([s.boxes for s in with_boxes]), {}
        )
        boxes = align(results, truth)
        scores = judge_boxes(boxes, truth)
        return {'detection': scores, 'boxes': boxes, 'truth': truth, 'detection figures': scores.flat()}

    def _judge_lanes(self, ordered: Sequence[Summary]) -> dict:
        found, metrics = {}, {}
        for size in self.lane_ranges:
            parts = [s.lanes[size] for s in ordered if size in s.lanes]
            if parts:
                found[size] = LaneMatches.join(parts)
                metrics |= lane_scores(
                    found[size], 'lanes/' if size == self.lane_ranges[0] else f'lanes_{size}/'
                )
        return {'lanes': found, 'lanes figures': metrics} if found else {}


def _judge_map(ordered: Sequence[Summary]) -> dict:
    parts = [s.map_counts for s in ordered if s.map_counts is not None]
    if not parts:
        return {}
    counts = sum(parts[1:], parts[0])
    return {'map_counts': counts, 'map_counts figures': map_scores(counts)}


def _judge_occupancy(ordered: Sequence[Summary]) -> dict:
    drives: dict[str, list[Frame]] = {}
    for summary in ordered:
        drives.setdefault(summary.frame.scene, []).append(summary.frame)
    counts = OccupancyCounts.zero()
    for s in ordered:
        if s.occupancy is not None:
            counts = counts + s.occupancy
        if s.grids is not None:
            drive = drives[s.frame.scene] if s.frame.scene else [s.frame]
            rays = count_rays(*s.grids.unpack(), scene_origins(s.frame, drive))
            counts = counts + OccupancyCounts(0, *rays, 0.0)
    if not counts.samples:
        return {}
    return {'occupancy': counts, 'occupancy figures': occupancy_scores(counts)}


def _numbered(tables: Sequence[BoxTable]) -> BoxTable:
    """Tables of single samples -> one, `sample_M` counting the tables."""
    joined = BoxTable.join(tables)
    sample_M = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t) for t in tables])
    return BoxTable(
        **{name: getattr(joined, name) for name in BoxTable.__dataclass_fields__ if name != 'sample_M'},
        sample_M=sample_M)


def join_truths(truths: Sequence[GroundTruth]) -> GroundTruth:
    """Truths of single samples -> one of all."""
    if not truths:
        return GroundTruth((), np.zeros((0, 3)), BoxTable.empty())
    return GroundTruth(tuple(t.tokens[0] for t in truths), np.concatenate([t.ego_S3 for t in truths]),
                       _numbered([t.boxes for t in truths]))
