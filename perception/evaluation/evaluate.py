"""Evaluate stored results without a model, by our metrics or by the official code."""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.contracts import NUSCENES_CLASSES, Annotations, DetectionClasses
from ..core.contracts.classes import FIELD
from .base import Tables
from .detection.file import TRACKING, read_box_results, read_results_json, results_text
from .detection.metric import NuScenesDetection, results_file
from .detection.protocol import SHORT_NAMES
from .detection.truth import GroundTruth
from .errors import ResultError
from .storage.results import ResultStore
from .suite import MetricSuite, Report
from .tracking.protocol import TRACKING_SCORES, TRACKING_TABLE, score_tracking


@dataclass(frozen=True)
class Split(Tables):
    """Where the truth is: nuScenes-format tables and a split of them ('all' takes every scene).

    `annotations` gives the labels of a token (every task but detection needs it; boxes are read from the
    tables).
    """

    annotations: Callable[[str], Annotations | None] | None = None

    def truth(self, classes: DetectionClasses = NUSCENES_CLASSES) -> GroundTruth:
        """Boxes of the split that are of some classes, from the tables."""
        return GroundTruth.from_tables(self.root, self.version, self.split, classes)


def evaluate(
    results: str | Path,
    split: Split,
    tasks: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], Any] | None = None,
) -> Report:
    """Evaluate a nuScenes results file (.json, .json.gz) or a folder of per-sample results.

    Whether a file holds detections or tracks is seen from the fields of its boxes.

    Args:
        results: file or folder.
        split: where the truth is.
        tasks: which of a folder's tasks; None takes every task that has a registered metric.
        options: {task: arguments of its metric}.
        progress: called with a line of text now and then.

    Raises:
        ResultError: something is missing or malformed; names the file and the entry.
    """
    results = Path(results)
    if results.is_dir():
        truth = split.truth(_stored_classes(ResultStore(results)))
        suite = MetricSuite(tasks, {**(options or {}), 'detection': {'truth': truth}})
        return _evaluate_store(ResultStore(results), truth, split, suite, progress)

    boxes = read_box_results(results)
    truth = split.truth(boxes.format.classes)
    if boxes.format.has_id:
        return Report(score_tracking(boxes, truth).flat())
    metric = NuScenesDetection(truth)
    total = metric.total_of(boxes, truth)
    return Report(metric.scores(total), {metric.task: total}, {metric.task: metric})


def _stored_classes(store: ResultStore) -> DetectionClasses:
    """The classes of the boxes in a folder of results, as its first sample says."""
    for output in store:
        return NUSCENES_CLASSES if output.detection is None else output.detection.classes
    return NUSCENES_CLASSES


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
    """The devkit's scores of a results file of detections or tracks under our names.

    Args:
        results: the file; of a folder its `results_nusc.json` is taken.
        tables: where the truth is.

    Raises:
        ResultError: the folder has no merged file, its classes are not nuScenes' ten, the devkit (for tracks
            also motmetrics) is not installed, or refuses the file (its own words).
    """
    path = Path(results)
    path = results_file(path) if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f'{path}: no such file; the official code reads the merged nuScenes results file')

    text = results_text(path)
    if path.name == NuScenesDetection.unofficial or f'"{FIELD}"' in text:
        raise ResultError(f"{path}: its classes are not nuScenes' ten; the official code knows no others")
    judge = _devkit_tracking if f'"{TRACKING.name_field}"' in text else _devkit_detection
    with tempfile.TemporaryDirectory() as folder:
        plain = path
        if path.suffix == '.gz':
            plain = Path(folder) / path.stem
            plain.write_text(text, encoding='utf-8')
        try:
            return judge(plain, tables, folder)
        except ImportError as error:
            raise ResultError(
                f'the official code needs nuscenes-devkit, for tracks also motmetrics 1.4.0: {error}'
            ) from None
        except (AssertionError, ValueError, KeyError) as error:
            raise ResultError(f'{path}: the official code says: {type(error).__name__}: {error}') from error


def _devkit_detection(path: Path, tables: Tables, folder: str) -> dict[str, float]:
    from nuscenes import NuScenes
    from nuscenes.eval.detection.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    nuscenes = NuScenes(version=tables.version, dataroot=str(tables.root), verbose=False)
    metrics, _ = DetectionEval(
        nuscenes, config_factory('detection_cvpr_2019'), str(path), tables.split, folder, verbose=False
    ).evaluate()

    scores = {'NDS': metrics.nd_score, 'mAP': metrics.mean_ap}
    scores |= {SHORT_NAMES[name]: value for name, value in metrics.tp_errors.items()}
    scores |= {f'AP_{name}': value for name, value in metrics.mean_dist_aps.items()}
    aps = metrics.serialize()['label_aps']
    scores |= {f'mAP@{d:g}m': sum(aps[name][d] for name in aps) / len(aps) for d in metrics.cfg.dist_ths}
    return {f'detection/{name}': float(value) for name, value in scores.items()}


def _devkit_tracking(path: Path, tables: Tables, folder: str) -> dict[str, float]:
    from unittest import SkipTest

    from nuscenes.eval.common.config import config_factory
    try:
        # without motmetrics the devkit raises what skips its own tests
        from nuscenes.eval.tracking.evaluate import TrackingEval
    except SkipTest as error:
        raise ImportError(str(error)) from None

    metrics, _ = TrackingEval(
        config_factory('tracking_nips_2019'), str(path), tables.split, folder, tables.version,
        str(tables.root), verbose=False).evaluate()
    summary = metrics.serialize()
    scores = {name.upper(): summary[name] for name in TRACKING_SCORES}
    for column in TRACKING_TABLE.columns:
        values = summary['label_metrics'][column.lower()]
        scores |= {f'{column}_{kind}': value for kind, value in values.items()}
    return {f'tracking/{name}': float(value) for name, value in scores.items()}


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
