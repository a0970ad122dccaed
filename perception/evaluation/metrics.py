"""The metric suite as mmengine metrics, so that the Runner's val and test loops print the scores."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from ..core.contracts import TaskOutput
from ..core.files import write_json
from ..core.processes import process_count
from ..registry import METRICS
from .base import Tables
from .storage.results import ResultStore
from .suite import MetricSuite, Report, Summary


@METRICS.register_module()
class MultiTaskMetric(BaseMetric):
    """Scores of all tasks: `detection/NDS`, `map/mIoU`, `occupancy/mIoU_camera`, `lanes/mAP`, and more.

    `process` gets `data_batch = {'inputs': Batch, 'data_samples': list of Annotations or None}` and a list of
    `TaskOutput`. Samples without truth are written and not evaluated; without any truth there are no scores.

    Args:
        tasks: which to evaluate; None takes every task that has a registered metric.
        results_dir: where each sample's predictions and the merged official files go; None writes nothing.
        meta: the nuScenes flags `use_camera` ... of the results file.
        options: {task: arguments of its metric}: `dict(occupancy=dict(rays=False))`,
            `dict(lanes=dict(ranges=('60x30', '100x50')))`.
        root, version, split: where to read the detection truth from tables (exact official scores, bicycle
            racks included); without them the samples' own annotations are the truth.
        write_grids: keep occupancy and map predictions in the results too (about 1 MB a sample).
        collect_device, collect_dir: of mmengine's `BaseMetric`.

    Attributes:
        suite: the tasks' metrics.
        store: the folder of results; None writes nothing.
        on_summary: called with each summary as soon as it is made; None by default.
        report: of the last evaluation.
    """

    default_prefix = None

    def __init__(
        self,
        tasks: Sequence[str] | None = None,
        results_dir: str | Path | None = None,
        meta: Mapping[str, bool] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        root: str | Path | None = None,
        version: str | None = None,
        split: str | None = None,
        write_grids: bool = True,
        collect_device: str = 'cpu',
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, 'all', collect_dir)
        self.prefix = None  # names carry their task already
        self.suite = MetricSuite(tasks, options)

        given = [value is not None for value in (root, version, split)]
        if any(given) and not all(given):
            raise ValueError(
                f'MultiTaskMetric: root, version and split go together, found {root}, {version}, {split}'
            )
        if all(given):
            self.suite.read_tables(Tables(Path(root), version, split))

        self.meta = dict(meta or {})
        self.write_grids = write_grids
        self.store = None if results_dir is None else ResultStore(results_dir, large=write_grids)
        self.on_summary: Callable[[Summary], object] | None = None
        self.report: Report | None = None

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[TaskOutput]) -> None:
        """Summarise a batch and write its results."""
        truths = data_batch.get('data_samples') or [None] * len(data_samples)

        for output, truth in zip(data_samples, truths, strict=True):
            if self.store is not None:
                self.store.write(output)
            self.results.append(self.suite.summarise(output, truth))
            if self.on_summary is not None:
                self.on_summary(self.results[-1])

    @property
    def keeps_all(self) -> bool:
        """Do the written results hold everything that is evaluated?"""
        return self.write_grids or not any(metric.large for metric in self.suite.metrics.values())

    def evaluate(self, size: int) -> dict[str, float]:
        """Scores of all summaries, `size` or not.

        Stored samples may have been added, and repeats that fill up the part of a process are known by their
        token and count once.
        """
        return super().evaluate(max(size, len(self.results) * process_count()))

    def compute_metrics(self, results: Sequence[Summary]) -> dict[str, float]:
        """Scores of all samples of all processes; merges the official files where results are written."""
        self.report = self.suite.report(results)
        if self.store is not None and results:
            self.store.merge(self.meta, sorted({summary.frame.token for summary in results}))
            write_json(self.store.folder / 'metrics.json', self.report.metrics)
        return dict(self.report.metrics)


class _OneTask(MultiTaskMetric):
    task = ''

    def __init__(self, **options: Any) -> None:
        super().__init__(tasks=(self.task,), **options)


@METRICS.register_module()
class DetectionMetric(_OneTask):
    """`MultiTaskMetric` of detection alone: nuScenes mAP, NDS and the true-positive errors."""

    task = 'detection'


@METRICS.register_module()
class MapSegmentationMetric(_OneTask):
    """`MultiTaskMetric` of map segmentation alone: BEVFusion's protocol and the fixed threshold."""

    task = 'map_segmentation'


@METRICS.register_module()
class OccupancyMetric(_OneTask):
    """`MultiTaskMetric` of occupancy alone: mIoU under three named masks, geometry IoU, RayIoU."""

    task = 'occupancy'


@METRICS.register_module()
class LaneMetric(_OneTask):
    """`MultiTaskMetric` of lanes alone: Chamfer AP."""

    task = 'lanes'
