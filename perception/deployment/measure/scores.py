"""The four tasks' scores of whatever answers graph inputs: an engine, or a network file that is being
quantised."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...model import MultiTaskPerception, unflatten_outputs
from ...registry import METRICS
from ..errors import ExportError
from ..export.graph import graph_inputs
from ..frames import Frames

Arrays = dict[str, np.ndarray]
Answer = Callable[[Arrays], Arrays]
SCORES = {'detection': 'detection/NDS', 'map_segmentation': 'map/mIoU', 'occupancy': 'occupancy/mIoU_camera',
          'lanes': 'lanes/mAP'}
"""The one figure of each task that engines are compared by."""


class Scorer:
    """Labelled frames and the configuration's judge.

    Args:
        model: prepares and decodes.
        frames: with labels.
        evaluator: the configuration's `test_evaluator`.
        samples: judge so many, evenly over the split; None for all. On a part of a split, boxes are judged
            against the samples' own annotations, since the tables hold the whole split.

    Raises:
        ExportError: the frames have no labels to be had.
    """

    def __init__(
        self,
        model: MultiTaskPerception,
        frames: Frames,
        evaluator: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        samples: int | None = None,
    ) -> None:
        if frames.labelled is None:
            raise ExportError('scores need labelled frames: a split with annotations')
        self.model, self.frames, self.indices = model, frames, frames.spread(samples)
        found = dict(evaluator if isinstance(evaluator, Mapping) else evaluator[0])
        if len(self.indices) < frames.count:
            found = {name: value for name, value in found.items() if name not in ('root', 'version', 'split')}
        self.evaluator = (
            {**found, 'results_dir': None, 'rays': False} if found['type'] == 'MultiTaskMetric' else found
        )

    @torch.no_grad()
    def __call__(self, answer: Answer) -> dict[str, float]:
        """{task: its score} of the model's tasks; NaN where a task has no truth in these frames."""
        metric = METRICS.build(dict(self.evaluator))
        for index in self.indices:
            batch, labels = self.frames.labelled(index)
            raw = answer(graph_inputs(self.model, batch))
            output = self.model.decode(
                unflatten_outputs({name: torch.from_numpy(value) for name, value in raw.items()}), batch
            )[0]
            metric.process({'data_samples': labels}, [output])
        figures = metric.compute_metrics(metric.results)
        return {
            task: float(figures.get(name, math.nan))
            for task, name in SCORES.items()
            if task in self.model.heads
        }


class ScoreLoss:
    """Network file -> the largest share of its float score that any task loses; a task that gains loses
    nothing.

    Args:
        scorer: judges.
        network: the float network, whose scores are the measure.
        report: hears every verdict.
        open_network: network file -> what answers graph inputs (default: ONNX Runtime).
        where: the name of that engine.

    Attributes:
        found, lost: {task: score} and {task: share of the float score that is gone} of the last network
        judged.

    Raises:
        ExportError: no task of the float network scores anything, so that there is nothing to hold.
    """

    def __init__(self, scorer: Scorer, network: str | Path, report: Callable[[str], None] | None = None,
                 open_network: Callable[[Path], Answer] | None = None, where: str = 'onnxruntime') -> None:
        self.scorer = scorer
        self.report = report or (lambda line: None)
        self.open_network = open_network
        self.where = where
        self.found: dict[str, float] = {}
        self.lost: dict[str, float] = {}
        self.reference = self._scores(Path(network))
        self.held = {task: score for task, score in self.reference.items() if score > 0}
        if not self.held:
            raise ExportError(
                f'{network}: no task scores above zero on {len(scorer.indices)} samples ({self.reference}): int8 '
                'has no score to keep; train first, judge more samples, or limit the output error instead'
            )

    def __call__(self, path: Path) -> float:
        self.found = self._scores(path)
        self.lost = {
            task: (score - self.found[task]) / score if self.found[task] == self.found[task] else math.inf
            for task, score in self.held.items()
        }
        return max(self.lost.values())

    def as_dict(self) -> dict[str, Any]:
        """For the sidecar: the float scores, those of the last network judged, and on how many samples."""
        return {'samples': len(self.scorer.indices), 'fp32': self.reference, 'int8': self.found}

    def _scores(self, path: Path) -> dict[str, float]:
        from ..int8.search import session_answer
        found = self.scorer((self.open_network or session_answer)(path))
        self.report(
            f'{path.name} in {self.where}: '
            + ', '.join(f'{SCORES[task]} {score:.4f}' for task, score in found.items())
        )
        return found
