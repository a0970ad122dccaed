"""Evaluate stored results without a model, by our metrics or by the official code."""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.contracts import Annotations
from .base import Tables
from .detection.file import read_detection_results, read_results_json, results_text
from .detection.metric import NuScenesDetection
from .detection.protocol import SHORT_NAMES
from .detection.truth import GroundTruth
from .errors import ResultError
from .storage.results import ResultStore
from .suite import MetricSuite, Report


@dataclass(frozen=True)
class Split(Tables):
    """Where the truth is: nuScenes-format tables and a split of them ('all' takes every scene).

    `annotations` gives the labels of a token (every task but detection needs it; boxes are read from the
    tables).
    """

    annotations: Callable[[str], Annotations | None] | None = None

    def truth(self) -> GroundTruth:
        """Boxes of the split, from the tables."""
        return GroundTruth.from_tables(self.root, self.version, self.split)


def evaluate(
    results: str | Path,
    split: Split,
    tasks: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], Any] | None = None,
) -> Report:
    """Evaluate a nuScenes results file (.json, .json.gz) or a folder of per-sample results.

    Args:
        results: file or folder.
        split: where the truth is.
        tasks: which of a folder's tasks; None takes every task that has a registered metric.
        options: {task: arguments of its metric}.
        progress: called with a line of text now and then.

    Raises:
        ResultError: something is missing or malformed; names the file and the entry.
    """
    results, truth = Path(results), split.truth()
    if results.is_dir():
        suite = MetricSuite(tasks, {**(options or {}), 'detection': {'truth': truth}})
        return _evaluate_store(ResultStore(results), truth, split, suite, progress)

    metric = NuScenesDetection(truth)
    total = metric.total_of(read_detection_results(results), truth)
    return Report(metric.scores(total), {metric.task: total}, {metric.task: metric})


def _evaluate_store(
    store: ResultStore,
    truth: GroundTruth,
    split: Split,
    suite: MetricSuite,
    progress: Callable[[str], Any] | None,
) -> Report:
    missing = store.missing(truth.tokens)
    if missing:
        raise ResultError(
            f'{store.folder}: {len(missing)} of {len(truth)} samples of split "{split.split}" have no '
            f'result, the first is {missing[0]}'
        )

    summaries = []
    for number, token in enumerate(truth.tokens, 1):
        labels = split.annotations(token) if split.annotations is not None else None
        summaries.append(suite.summarise(store.read(token), labels))
        if progress is not None and (number % 500 == 0 or number == len(truth)):
            progress(f'{number} of {len(truth)} samples')
    return suite.report(summaries)


def evaluate_official(results: str | Path, tables: Tables) -> dict[str, float]:
    """The devkit's scores of a detection results file under our names.

    Args:
        results: the file; of a folder its `results_nusc.json` is taken.
        tables: where the truth is.

    Raises:
        ResultError: the folder has no merged file, the devkit is not installed, or refuses the file (its own
            words).
    """
    path = Path(results)
    path = path / NuScenesDetection.official if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f'{path}: no such file; the official code reads the merged nuScenes results file')

    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == '.gz':
            plain = Path(folder) / path.stem
            plain.write_text(results_text(path), encoding='utf-8')
            path = plain
        return _devkit(path, tables, folder)


def _devkit(path: Path, tables: Tables, folder: str) -> dict[str, float]:
    try:
        from nuscenes import NuScenes
        from nuscenes.eval.detection.config import config_factory
        from nuscenes.eval.detection.evaluate import DetectionEval
    except ImportError as error:
        raise ResultError(f'the official code needs nuscenes-devkit: {error}') from None

    try:
        nuscenes = NuScenes(version=tables.version, dataroot=str(tables.root), verbose=False)
        metrics, _ = DetectionEval(
            nuscenes, config_factory('detection_cvpr_2019'), str(path), tables.split, folder, verbose=False
        ).evaluate()
    except (AssertionError, ValueError, KeyError) as error:
        raise ResultError(f'{path}: the official code says: {type(error).__name__}: {error}') from error

    scores = {'NDS': metrics.nd_score, 'mAP': metrics.mean_ap}
    scores |= {SHORT_NAMES[name]: value for name, value in metrics.tp_errors.items()}
    scores |= {f'AP_{name}': value for name, value in metrics.mean_dist_aps.items()}
    aps = metrics.serialize()['label_aps']
    scores |= {f'mAP@{d:g}m': sum(aps[name][d] for name in aps) / len(aps) for d in metrics.cfg.dist_ths}
    return {f'detection/{name}': float(value) for name, value in scores.items()}


def read_metrics(path: str | Path) -> dict[str, float]:
    """Scores written by an earlier evaluation.

    Raises:
        ResultError: not a JSON object of numbers.
    """
    content = read_results_json(path)
    scores = content.get('metrics', content) if isinstance(content, dict) else None
    if not isinstance(scores, dict) or not all(isinstance(v, (int, float)) for v in scores.values()):
        raise ResultError(f'{path}: expected an object of scores such as "detection/NDS": 0.5')
    return scores
