"""Judge stored results without a model: a results file or a store of samples, by our judges or by the
official one."""
from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.contracts import Annotations
from ..core.protocols import TASKS
from .detection.file import read_detection_results, read_text
from .detection.metric import SHORT_NAMES, align, judge_boxes
from .detection.truth import GroundTruth
from .errors import ResultError
from .judge import Judge, Verdict
from .storage.results import ResultStore


@dataclass(frozen=True)
class Split:
    """Where the truth is: a nuScenes-format `root`, its `version`, and a `split` of it ('all' takes every
    scene).

    `annotations` gives the labels of a token (map, occupancy and lanes need it; boxes are read from the
    tables).
    """

    root: Path
    version: str
    split: str
    annotations: Callable[[str], Annotations | None] | None = None

    def truth(self) -> GroundTruth:
        """Boxes of the split, from the tables."""
        return GroundTruth.from_tables(self.root, self.version, self.split)


def evaluate(
    results: str | Path,
    split: Split,
    tasks: Sequence[str] = TASKS,
    lane_ranges: Sequence[str] = ('60x30',),
    rays: bool = True,
    progress: Callable[[str], Any] | None = None,
) -> Verdict:
    """Judge a nuScenes results file (.json, .json.gz) or a folder of per-sample results.

    Raises:
        ResultError: something is missing or malformed; names the file and the entry.
    """
    results, truth = Path(results), split.truth()
    if results.is_dir():
        return _evaluate_store(
            ResultStore(results), truth, split, Judge(tasks, lane_ranges, rays, truth), progress
        )
    boxes = align(read_detection_results(results), truth)
    scores = judge_boxes(boxes, truth)
    return Verdict(scores.flat(), detection=scores, boxes=boxes, truth=truth)


def _evaluate_store(store: ResultStore, truth: GroundTruth, split: Split, judge: Judge,
                    progress: Callable[[str], Any] | None) -> Verdict:
    missing = store.missing(truth.tokens)
    if missing:
        raise ResultError(
            f'{store.folder}: {len(missing)} of {len(truth)} samples of split "{split.split}" have no result, '
            f'the first is {missing[0]}'
        )
    summaries = []
    for number, token in enumerate(truth.tokens, 1):
        labels = split.annotations(token) if split.annotations is not None else None
        summaries.append(judge.summarise(store.read(token), labels))
        if progress is not None and (number % 500 == 0 or number == len(truth)):
            progress(f'{number} of {len(truth)} samples')
    return judge.verdict(summaries)


def evaluate_official(results: str | Path, split: Split) -> dict[str, float]:
    """The devkit's figures of a detection results file under our names. A folder is judged by its
    `results_nusc.json`.

    Raises:
        ResultError: the folder has no merged file, the devkit is not installed, or refuses the file (its own
        words).
    """
    path = Path(results)
    path = path / 'results_nusc.json' if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f'{path}: no such file; the official judge reads the merged nuScenes results file')
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix == '.gz':
            plain = Path(folder) / path.stem
            plain.write_text(read_text(path))
            path = plain
        return _devkit(path, split, folder)


def _devkit(path: Path, split: Split, folder: str) -> dict[str, float]:
    try:
        from nuscenes import NuScenes
        from nuscenes.eval.detection.config import config_factory
        from nuscenes.eval.detection.evaluate import DetectionEval
    except ImportError as error:
        raise ResultError(f'the official judge needs nuscenes-devkit: {error}') from None
    try:
        tables = NuScenes(version=split.version, dataroot=str(split.root), verbose=False)
        metrics, _ = DetectionEval(
            tables, config_factory('detection_cvpr_2019'), str(path), split.split, folder, verbose=False
        ).evaluate()
    except (AssertionError, ValueError, KeyError) as error:
        raise ResultError(f'{path}: the official judge says: {type(error).__name__}: {error}') from error
    found = {'NDS': metrics.nd_score, 'mAP': metrics.mean_ap}
    found |= {SHORT_NAMES[name]: value for name, value in metrics.tp_errors.items()}
    found |= {f'AP_{name}': value for name, value in metrics.mean_dist_aps.items()}
    aps = metrics.serialize()['label_aps']
    found |= {f'mAP@{d:g}m': sum(aps[name][d] for name in aps) / len(aps) for d in metrics.cfg.dist_ths}
    return {f'detection/{name}': float(value) for name, value in found.items()}


def read_metrics(path: str | Path) -> dict[str, float]:
    """Figures written by an earlier judging.

    Raises:
        ResultError: not a JSON object of numbers.
    """
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ResultError(f'{path}: damaged JSON: {error}') from None
    figures = found.get('metrics', found) if isinstance(found, dict) else None
    if not isinstance(figures, dict) or not all(isinstance(v, (int, float)) for v in figures.values()):
        raise ResultError(f'{path}: expected an object of figures such as "detection/NDS": 0.5')
    return figures
