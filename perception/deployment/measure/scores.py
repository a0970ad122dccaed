"""The tasks' scores of an engine, or of a network file that is being quantised."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...model import MultiTaskPerception, unflatten_outputs
from ...registry import METRICS, main_scores
from ..errors import ExportError
from ..export.graph import graph_inputs
from ..frames import Frames
from ..memory import EngineMemory
from ..onnx_session import InferFn, OpenFn, open_with_onnxruntime


class Scorer:
    """Labelled frames and the configuration's metrics.

    Args:
        model: prepares and decodes.
        frames: with labels.
        evaluator: the configuration's `test_evaluator`.
        samples: number of frames, evenly over the split (in runs of eight for a model with a memory); None
            for all. On a part of a split, boxes are compared with the samples' own annotations, since the
            tables hold the whole split.

    Raises:
        ExportError: the frames have no labels.
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
        self.model = model
        self.frames = frames
        self.indices = frames.spread(samples) if model.memory is None else frames.runs(samples)

        settings = dict(evaluator if isinstance(evaluator, Mapping) else evaluator[0])
        if len(self.indices) < frames.count:
            of_whole_split = ('root', 'version', 'split')
            settings = {name: value for name, value in settings.items() if name not in of_whole_split}
        if settings['type'] == 'MultiTaskMetric':
            settings['results_dir'] = None
        self.evaluator = settings

    @torch.no_grad()
    def __call__(self, infer: InferFn) -> dict[str, float]:
        """{task: its score} of the model's tasks; NaN where a task has no annotations in these frames."""
        metric = METRICS.build(dict(self.evaluator))
        if self.evaluator['type'] == 'MultiTaskMetric':
            metric.suite.headline_only()
        memory = EngineMemory.of_vehicle(self.model)
        for index in self.indices:
            batch, labels = self.frames.labelled(index)
            raw = infer(memory.recalled(graph_inputs(self.model, batch), batch.frames))
            memory.keep(raw, batch.frames)
            tensors = unflatten_outputs({name: torch.from_numpy(value) for name, value in raw.items()})
            predictions = self.model.decode(tensors, batch)[0]
            metric.process({'data_samples': labels}, [predictions])

        scores = metric.compute_metrics(metric.results)
        return {
            task: float(scores.get(name, math.nan))
            for task, name in main_scores().items()
            if task in self.model.heads
        }


class ScoreDrop:
    """Network file -> the largest fraction of its float score that any task loses.

    A task that gains loses nothing.

    Args:
        scorer: computes scores.
        network: the float network, whose scores are compared with.
        report: gets a line for each network.
        open_fn: network file -> function of graph inputs (default: ONNX Runtime).
        engine: name of the runtime that `open_fn` uses.

    Attributes:
        float_scores: {task: score} of the float network.
        scores: {task: score} of the last network.
        drops: {task: fraction of the float score that the last network lost}.

    Raises:
        ExportError: no task of the float network scores anything, so that there is nothing to keep.
    """

    def __init__(
        self,
        scorer: Scorer,
        network: str | Path,
        report: Callable[[str], None] | None = None,
        open_fn: OpenFn | None = None,
        engine: str = 'onnxruntime',
    ) -> None:
        self.scorer = scorer
        self.report = report or (lambda line: None)
        self.open_fn = open_fn or open_with_onnxruntime
        self.engine = engine
        self.scores: dict[str, float] = {}
        self.drops: dict[str, float] = {}

        self.float_scores = self._scores(Path(network))
        self._to_keep = {task: score for task, score in self.float_scores.items() if score > 0}
        if not self._to_keep:
            raise ExportError(
                f'{network}: no task scores above zero on {len(scorer.indices)} samples '
                f'({self.float_scores}): int8 has no score to keep; train first, score more samples, or '
                'limit the output error instead'
            )

    def __call__(self, path: Path) -> float:
        """The drop of the worst task of one network."""
        self.scores = self._scores(path)
        self.drops = {
            task: math.inf if math.isnan(self.scores[task]) else (before - self.scores[task]) / before
            for task, before in self._to_keep.items()
        }
        return max(self.drops.values())

    def as_dict(self) -> dict[str, Any]:
        """For the sidecar: the float scores, those of the last network, and on how many samples."""
        return {'samples': len(self.scorer.indices), 'fp32': self.float_scores, 'int8': self.scores}

    def _scores(self, path: Path) -> dict[str, float]:
        scores = self.scorer(self.open_fn(path))
        names = main_scores()
        words = ', '.join(f'{names[task]} {score:.4f}' for task, score in scores.items())
        self.report(f'{path.name} in {self.engine}: {words}')
        return scores
