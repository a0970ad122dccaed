"""Results on disk: one file per sample, written once, and the official files that are merged from them.

A store is a folder; `samples/<token>.npz` holds a model's predictions for a sample, in ego metres, plain
arrays only (nothing is ever unpickled). A file appears under its name when it is complete, so a run that was
stopped resumes with `store.missing(tokens)`, and several processes write side by side. What a task stores and
its official file are the business of its `TaskMetric`:

* `results_nusc.json` (`results_own_classes.json` for other classes than the ten): the nuScenes format.
  Boxes move from ego to global here, once; at most 500 a
  sample, best first; yaw about the vertical; attribute '' where the model gave none.
* `lanes.json`: `{'meta', 'results': [{'sample_token', 'vectors': [{'pts', 'pts_num', 'cls_name', 'type',
  'confidence_level', 'directed'}]}]}` as MapTR writes it, but in ego metres (x forward, y left), and with the
  classes named whose points run the way that traffic drives.
* `occupancy/<token>.npz` with `semantics` in Occ3D order, `map/<token>.npz` with `probabilities`.
"""
from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import FARTHEST_M, Frame, TaskOutput
from ...core.files import file_name, write_whole
from ...core.reading import DAMAGE, BadFile, check_array, read_arrays
from ...registry import task_metrics
from ..base import OfficialFile
from ..detection.file import META_FLAGS
from ..errors import ResultError
from .files import save_arrays
from .records import holds, part_of

_FRAME_FIELDS = ('timestamp_ns', 'global_T_ego', 'scene', 'location')


def sample_path(folder: Path, token: str) -> Path:
    """Where a sample's file is in a folder of samples.

    Raises:
        ResultError: the token could not be a file name.
    """
    try:
        return folder / 'samples' / f'{file_name(token, "sample token")}.npz'
    except ValueError as error:
        raise ResultError(str(error)) from None


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
        path, arrays = self.path(token), self._arrays(token)
        part = 'frame'
        try:
            frame = _read_frame(path, token, part_of(arrays, part))

            predictions = {}
            for part, metric in self.metrics.items():
                if holds(arrays, part):
                    predictions[part] = metric.from_arrays(part_of(arrays, part))
                    metric.to_arrays(predictions[part], frame)  # it refuses what may not be written
            return TaskOutput.of(frame, predictions)

        except KeyError as error:
            raise ResultError(f'{path}: sample {token}: field "{part}.{error.args[0]}" is missing') from None
        except ValueError as error:
            raise ResultError(f'{path}: sample {token}: {error}') from None
        except DAMAGE as error:
            raise ResultError(
                f'{path}: sample {token}: {part}: {type(error).__name__}: {error}'
            ) from None

    def frame(self, token: str) -> Frame:
        """The frame of one sample's predictions. Raises ResultError as `read`."""
        arrays = part_of(self._arrays(token, [f'frame.{name}' for name in _FRAME_FIELDS]), 'frame')
        try:
            return _read_frame(self.path(token), token, arrays)
        except KeyError as error:
            raise ResultError(
                f'{self.path(token)}: sample {token}: field "frame.{error.args[0]}" is missing'
            ) from None

    def _arrays(self, token: str, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        path = self.path(token)
        if not path.is_file():
            raise ResultError(f'{path}: sample {token} has no result')
        try:
            return read_arrays(path, names)
        except BadFile as error:
            raise ResultError(
                f'{path}: damaged or truncated file of sample {token}: {error.reason}'
            ) from None

    def clear(self) -> None:
        """Remove all samples and what was merged from them.

        `metrics.json` goes first, so that a rest is never taken for finished.
        """
        for name in ('metrics.json', 'run.json', *self._official('file')):
            (self.folder / name).unlink(missing_ok=True)
        for name in ('samples', *self._official('folder')):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _official(self, kind: str) -> list[str]:
        metrics = self.metrics.values()
        names = [name for metric in metrics for name in (metric.official, metric.unofficial) if name]
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
            frame = self.frame(token)
            return frame.scene, frame.timestamp_ns, token
        return sorted(tokens, key=key)


def _read_frame(path: Path, token: str, arrays: Mapping[str, np.ndarray]) -> Frame:
    timestamp_ns, global_T_ego, scene, location = (arrays[name] for name in _FRAME_FIELDS)
    ego_T_lidar = arrays.get('ego_T_lidar')
    poses = {'global_T_ego': global_T_ego} | ({} if ego_T_lidar is None else {'ego_T_lidar': ego_T_lidar})
    try:
        check_array(path, 'frame.timestamp_ns', timestamp_ns, 'iu', ())
        for name, word in (('scene', scene), ('location', location)):
            check_array(path, f'frame.{name}', word, 'U', ())
        for name, pose in poses.items():
            check_array(path, f'frame.{name}', pose, 'f', (4, 4), (-FARTHEST_M, FARTHEST_M))
    except BadFile as error:
        raise ResultError(f'{path}: sample {token}: {error.reason}') from None
    return Frame(token, int(timestamp_ns), global_T_ego, str(scene), str(location), ego_T_lidar)
