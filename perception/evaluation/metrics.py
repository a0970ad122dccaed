"""The judges as mmengine metrics, so that the Runner's val and test loops print them."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from ..core.contracts import TaskOutput
from ..core.files import write_json
from ..core.processes import process_count
from ..core.protocols import TASKS
from ..registry import METRICS
from .detection.truth import GroundTruth
from .judge import Judge, Summary, Verdict
from .storage.results import ResultStore


@METRICS.register_module()
class MultiTaskMetric(BaseMetric):
    """Figures of all tasks of a model: `detection/NDS`, `map/mIoU`, `occupancy/mIoU_camera`, `lanes/mAP`, and
    more.

    `process` gets `data_batch = {'inputs': Batch, 'data_samples': list of Annotations or None}` and a list of
    `TaskOutput`. Samples without truth are written and not judged; without any truth the metrics are empty.

    Args:
        tasks: which of `TASKS` to judge.
        results_dir: where each sample's answers and the merged official files go; None writes nothing.
        meta: the nuScenes flags `use_camera` ... of the results file.
        lane_ranges, rays: as in `Judge`.
        root, version, split: where to read the detection truth from tables (exact official figures, bicycle
            racks included); without them the samples' own annotations are the truth.
        write_grids: keep occupancy and map answers in the results too (about 1 MB a sample).
    """

    default_prefix = None

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        results_dir: str | Path | None = None,
        meta: Mapping[str, bool] | None = None,
        lane_ranges: Sequence[str] = ('60x30',),
        rays: bool = True,
        root: str | Path | None = None,
        version: str | None = None,
        split: str | None = None,
        write_grids: bool = True,
        collect_device: str = 'cpu',
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, 'all', collect_dir)
        self.prefix = None  # names carry their task already
        if (root is None) != (version is None) or (root is None) != (split is None):
            raise ValueError(
                f'MultiTaskMetric: root, version and split go together, found {root}, {version}, {split}'
            )
        truth = (
            GroundTruth.from_tables(root, version, split)
            if root is not None and 'detection' in tasks
            else None
        )
        self.judge = Judge(tasks, lane_ranges, rays, truth)
        self.store = ResultStore(results_dir) if results_dir is not None else None
        self.meta, self.write_grids = dict(meta or {}), write_grids
        self.keep: Callable[[Summary], object] | None = None  # gets each summary as soon as it is made
        self.verdict: Verdict | None = None

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[TaskOutput]) -> None:
        """Summarise a batch and write its results."""
        truths = data_batch.get('data_samples') or [None] * len(data_samples)
        for output, truth in zip(data_samples, truths, strict=True):
            if self.store is not None:
                self.store.write(
                    output
                    if self.write_grids
                    else TaskOutput(output.frame, output.detection, lanes=output.lanes)
                )
            self.results.append(self.judge.summarise(output, truth))
            if self.keep is not None:
                self.keep(self.results[-1])

    @property
    def keeps_all(self) -> bool:
        """Do the written results hold everything that is judged?"""
        return self.write_grids or not {'map_segmentation', 'occupancy'} & set(self.judge.tasks)

    def evaluate(self, size: int) -> dict[str, float]:
        """Figures of all summaries, `size` or not: stored samples may have been added, and repeats that fill
        up the share of a process are known by their token and count once."""
        return super().evaluate(max(size, len(self.results) * process_count()))

    def compute_metrics(self, results: Sequence[Summary]) -> dict[str, float]:
        """Figures of all samples of all processes; merges the official files where results are written."""
        self.verdict = self.judge.verdict(results)
        if self.store is not None and results:
            self.store.merge(self.meta, sorted({s.frame.token for s in results}))
            write_json(self.store.folder / 'metrics.json', self.verdict.metrics)
        return dict(self.verdict.metrics)


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
