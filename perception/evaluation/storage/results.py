"""Results on disk: one file per sample, written once, and the official files that are merged from them.

A store is a folder; `samples/<token>.npz` holds a model's predictions for a sample, in ego metres, plain
arrays only (nothing is ever unpickled). A file appears under its name when it is complete, so a run that was
stopped resumes with `store.missing(tokens)`, and several processes write side by side. What a task stores and
its official file are the business of its `TaskMetric`:

* `results_nusc.json`: the nuScenes detection format. Boxes move from ego to global here, once; at most 500 a
  sample, best first; yaw about the vertical; attribute '' where the model gave none.
* `lanes.json`: `{'meta', 'results': [{'sample_token', 'vectors': [{'pts', 'pts_num', 'cls_name', 'type',
  'confidence_level'}]}]}` as MapTR writes it, but in ego metres (x forward, y left).
* `occupancy/<token>.npz` with `semantics` in Occ3D order, `map/<token>.npz` with `probabilities`.
"""
from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import Frame, TaskOutput
from ...core.files import write_whole
from ...registry import task_metrics
from ..base import OfficialFile
from ..detection.file import META_FLAGS
from ..errors import ResultError
from .files import save_arrays
from .records import holds, part_of

_TOKEN = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,127}')
_FRAME_FIELDS = ('timestamp_ns', 'global_T_ego', 'scene', 'location')


def sample_path(folder: Path, token: str) -> Path:
    """Where a sample's file is in a folder of samples.

    Raises:
        ResultError: the token could not be a file name.
    """
    if not _TOKEN.fullmatch(token):
        raise ResultError(f'sample token {token!r}: expected letters, digits, ".", "_" or "-"')
    return folder / 'samples' / f'{token}.npz'


def stored_tokens(folder: Path) -> list[str]:
    """The samples that are there, sorted by name."""
    return sorted(p.stem for p in (folder / 'samples').glob('[!.]*.npz'))


class ResultStore:
    """A folder of per-sample results. Predictions of a task without a registered metric are not stored.

    Args:
        folder: made when the first sample is written.
        large: keep predictions that take about a megabyte a sample (map, occupancy).
    """

    def __init__(self, folder: str | Path, large: bool = True) -> None:
        self.folder = Path(folder)
        self.large = large
        self.metrics = {task: metric() for task, metric in task_metrics().items()}

    def path(self, token: str) -> Path:
        """Where a sample's file is.

        Raises:
            ResultError: the token could not be a file name.
        """
        return sample_path(self.folder, token)

    def has(self, token: str) -> bool:
        """Is this sample's result complete?"""
        return self.path(token).is_file()

    def tokens(self) -> list[str]:
        """Samples that are there, sorted by name."""
        return stored_tokens(self.folder)

    def missing(self, tokens: Iterable[str]) -> list[str]:
        """Those of `tokens` that have no result yet, in order."""
        done = set(self.tokens())
        return [token for token in tokens if token not in done]

    def write(self, output: TaskOutput) -> Path:
        """Write one sample's predictions.

        Raises:
            ResultError: a prediction holds what no metric could read (NaN score, wrong label); nothing is
                written then.
        """
        frame = output.frame
        arrays = {f'frame.{name}': np.asarray(getattr(frame, name)) for name in _FRAME_FIELDS}
        if frame.ego_T_lidar is not None:
            arrays['frame.ego_T_lidar'] = np.asarray(frame.ego_T_lidar)
        for task, prediction in output.predictions().items():
            arrays |= self._arrays_of(task, prediction, frame)

        path = self.path(frame.token)
        write_whole(path, lambda file: save_arrays(file, arrays))
        return path

    def _arrays_of(self, task: str, prediction: Any, frame: Frame) -> dict[str, np.ndarray]:
        metric = self.metrics.get(task)
        if metric is None or (metric.large and not self.large):
            return {}

        try:
            arrays = metric.to_arrays(prediction, frame)
        except ResultError:
            raise
        except ValueError as error:
            raise ResultError(f'sample {frame.token}: {error}') from None
        return {f'{task}.{name}': np.asarray(value) for name, value in arrays.items()}

    def read(self, token: str) -> TaskOutput:
        """Read one sample's predictions.

        Raises:
            ResultError: the sample is absent, or its file is damaged or lacks a field; names file and field.
        """
        path = self.path(token)
        if not path.is_file():
            raise ResultError(f'{path}: sample {token} has no result')

        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            raise ResultError(f'{path}: damaged or truncated file of sample {token}: {error}') from None

        part = 'frame'
        try:
            frame = _read_frame(token, part_of(arrays, part))
            predictions = {}
            for part, metric in self.metrics.items():
                if holds(arrays, part):
                    predictions[part] = metric.from_arrays(part_of(arrays, part))
            return TaskOutput.of(frame, predictions)
        except KeyError as error:
            raise ResultError(f'{path}: sample {token}: field "{part}.{error.args[0]}" is missing') from None
        except ValueError as error:
            raise ResultError(f'{path}: sample {token}: {error}') from None

    def clear(self) -> None:
        """Remove all samples and what was merged from them.

        `metrics.json` goes first, so that a rest is never taken for finished.
        """
        for name in ('metrics.json', 'run.json', *self._official('file')):
            (self.folder / name).unlink(missing_ok=True)
        for name in ('samples', *self._official('folder')):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _official(self, kind: str) -> list[str]:
        names = [metric.official for metric in self.metrics.values() if metric.official]
        return [name for name in names if bool(Path(name).suffix) == (kind == 'file')]

    def __iter__(self) -> Iterator[TaskOutput]:
        return (self.read(token) for token in self.tokens())

    def merge(self, meta: Mapping[str, bool], tokens: Sequence[str] | None = None) -> dict[str, Path]:
        """Write the official files of all tasks that the samples have.

        Args:
            meta: the five nuScenes flags; absent ones are False.
            tokens: the split, every one of which must be there; None takes the samples that are there.
                Samples follow each other by scene and time.

        Returns:
            task -> file (detection, lanes) or folder (occupancy, map_segmentation).

        Raises:
            ResultError: a sample of the split is missing (says how many), or a flag is unknown.
        """
        unknown = set(meta) - set(META_FLAGS)
        if unknown:
            raise ResultError(f'meta: unknown flags {sorted(unknown)}; known: {", ".join(META_FLAGS)}')
        absent = self.missing(tokens or ())
        if absent:
            raise ResultError(
                f'{self.folder}: {len(absent)} of {len(tokens)} samples have no result, '
                f'the first is {absent[0]}'
            )

        flags = {flag: bool(meta.get(flag, False)) for flag in META_FLAGS}
        files: dict[str, OfficialFile | None] = {}
        for token in self.in_time_order(tokens or self.tokens()):
            output = self.read(token)
            for task, prediction in output.predictions().items():
                if task not in files:
                    files[task] = self.metrics[task].official_file(self.folder, flags)
                if files[task] is not None:
                    files[task].add(output.frame, prediction)
        return {task: file.close() for task, file in files.items() if file is not None}

    def in_time_order(self, tokens: Sequence[str]) -> list[str]:
        """Tokens by scene and time."""
        def key(token: str) -> tuple[str, int, str]:
            with np.load(self.path(token), allow_pickle=False) as file:
                return str(file['frame.scene']), int(file['frame.timestamp_ns']), token
        return sorted(tokens, key=key)


def _read_frame(token: str, arrays: Mapping[str, np.ndarray]) -> Frame:
    timestamp_ns, global_T_ego, scene, location = (arrays[name] for name in _FRAME_FIELDS)
    return Frame(
        token, int(timestamp_ns), global_T_ego, str(scene), str(location), arrays.get('ego_T_lidar'))
