"""Results on disk: one file per sample, written once, and the official files that are merged from them.

A store is a folder; `samples/<token>.npz` holds everything a model answered for a sample, in ego metres,
plain arrays only (nothing is ever unpickled). A file appears under its name when it is complete, so a run
that was stopped goes on with `store.missing(tokens)`, and several processes write side by side. From it come:

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
from typing import Any, BinaryIO

import numpy as np

from ...core.contracts import Boxes3D, Frame, Lanes, MapSegmentation, Occupancy, TaskOutput
from ...core.files import write_json, write_whole
from ...core.protocols import ATTRIBUTES, DETECTION_CLASSES, LANE_CLASSES
from ..detection.boxes import BoxTable, ego_to_global
from ..detection.file import MAX_BOXES_PER_SAMPLE, META_FLAGS
from ..errors import ResultError
from ..lanes.metric import check_lanes

_TOKEN = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,127}')
_FRAME_FIELDS = ('timestamp_ns', 'global_T_ego', 'scene', 'location')


def save_arrays(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write an .npz as numpy reads it, packed for speed rather than for the last byte."""
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, value in arrays.items():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)


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


def global_boxes(
    boxes: Boxes3D, frame: Frame, sample: int = 0, max_boxes: int = MAX_BOXES_PER_SAMPLE
) -> BoxTable:
    """Detections in ego -> the best `max_boxes` of them in global, as the metric and the results file have
    them.

    Raises:
        ResultError: a score, place, size or yaw is not finite; names the sample and the box.
    """
    numbers = np.concatenate([np.asarray(boxes.boxes_M9)[:, :7], np.asarray(boxes.scores_M)[:, None]], 1)
    if not np.isfinite(numbers).all():
        row, column = np.argwhere(~np.isfinite(numbers))[0]
        name = ('x', 'y', 'z', 'length', 'width', 'height', 'yaw', 'score')[column]
        raise ResultError(
            f'sample {frame.token}: detection[{row}].{name} is {numbers[row, column]}, expected a finite number'
        )
    best = np.argsort(-np.asarray(boxes.scores_M), kind='stable')[:max_boxes]
    boxes_M9, labels_M, attributes_M, scores_M = (np.asarray(column)[best] for column in (
        boxes.boxes_M9, boxes.labels_M, boxes.attributes_M, boxes.scores_M))
    rows = ego_to_global(frame.global_T_ego, boxes_M9)
    return BoxTable.make(np.full(len(rows), sample), rows[:, :3], rows[:, [4, 3, 5]], rows[:, 6],
                         np.nan_to_num(rows[:, 7:9]), labels_M, attributes_M, scores_M)


def nuscenes_records(boxes: BoxTable, token: str) -> list[dict[str, Any]]:
    """One sample's boxes in the nuScenes results format."""
    half = boxes.yaw_M / 2
    rotation = np.stack([np.cos(half), np.zeros_like(half), np.zeros_like(half), np.sin(half)], 1).tolist()
    velocity = boxes.velocity_M2.tolist()
    return [dict(sample_token=token, translation=centre, size=size, rotation=q, velocity=v,
                 detection_name=DETECTION_CLASSES[label], detection_score=score,
                 attribute_name=ATTRIBUTES[attribute] if attribute >= 0 else '')
            for centre, size, q, v, label, score, attribute in zip(
                boxes.centre_M3.tolist(), boxes.size_M3.tolist(), rotation, velocity, boxes.label_M.tolist(),
                boxes.score_M.tolist(), boxes.attribute_M.tolist(), strict=True)]


class ResultStore:
    """A folder of per-sample results.

    Args:
        folder: made when the first sample is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

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
        """Write one sample's answers.

        Raises:
            ResultError: an answer holds what no judge could read (NaN score, wrong label); nothing is written
            then.
        """
        arrays = _to_arrays(output)
        path = self.path(output.frame.token)
        write_whole(path, lambda file: save_arrays(file, arrays))
        return path

    def read(self, token: str) -> TaskOutput:
        """Read one sample's answers.

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
        return _from_arrays(path, token, arrays)

    def clear(self) -> None:
        """Remove all samples and what was merged from them; `metrics.json` first, so that a rest is never
        taken for finished."""
        for name in ('metrics.json', 'run.json', 'results_nusc.json', 'lanes.json'):
            (self.folder / name).unlink(missing_ok=True)
        for name in ('samples', 'occupancy', 'map'):
            shutil.rmtree(self.folder / name, ignore_errors=True)

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
                f'{self.folder}: {len(absent)} of {len(tokens)} samples have no result, the first is {absent[0]}'
            )
        flags = {flag: bool(meta.get(flag, False)) for flag in META_FLAGS}
        return _Merger(self, flags).run(self.in_time_order(tokens or self.tokens()))

    def in_time_order(self, tokens: Sequence[str]) -> list[str]:
        """Tokens by scene and time."""
        def key(token: str) -> tuple[str, int, str]:
            with np.load(self.path(token), allow_pickle=False) as file:
                return str(file['frame.scene']), int(file['frame.timestamp_ns']), token
        return sorted(tokens, key=key)


class _Merger:
    def __init__(self, store: ResultStore, flags: dict[str, bool]) -> None:
        self.store, self.flags, self.found = store, flags, {}

    def run(self, tokens: Sequence[str]) -> dict[str, Path]:
        detections: dict[str, list] = {}
        vectors: list[dict] = []
        for token in tokens:
            output = self.store.read(token)
            if output.detection is not None:
                detections[token] = nuscenes_records(global_boxes(output.detection, output.frame), token)
            if output.lanes is not None:
                vectors.append({'sample_token': token, 'vectors': lane_records(output.lanes)})
            self._grids(token, output)
        if detections:
            self._json('detection', 'results_nusc.json', detections)
        if vectors:
            self._json('lanes', 'lanes.json', vectors)
        return self.found

    def _json(self, task: str, name: str, results: Any) -> None:
        self.found[task] = self.store.folder / name
        write_json(self.found[task], {'meta': self.flags, 'results': results})

    def _grids(self, token: str, output: TaskOutput) -> None:
        if output.occupancy is not None:
            self.found['occupancy'] = self.store.folder / 'occupancy'
            semantics = output.occupancy.semantics_XYZ.astype(np.uint8)
            write_whole(
                self.found['occupancy'] / f'{token}.npz', lambda f: save_arrays(f, {'semantics': semantics})
            )
        if output.map_segmentation is not None:
            self.found['map_segmentation'] = self.store.folder / 'map'
            found = output.map_segmentation
            arrays = dict(
                probabilities=found.probabilities_6YX, x_range_m=found.x_range_m, y_range_m=found.y_range_m
            )
            write_whole(self.found['map_segmentation'] / f'{token}.npz', lambda f: save_arrays(f, arrays))


def lane_records(lanes: Lanes) -> list[dict[str, Any]]:
    """One sample's lane elements for `lanes.json`."""
    return [
        dict(
            pts=points, pts_num=len(points), cls_name=LANE_CLASSES[label], type=label, confidence_level=score
        )
        for points, label, score in zip(
            lanes.points_LP2.tolist(), lanes.labels_L.tolist(), lanes.scores_L.tolist(), strict=True
        )
    ]


def _to_arrays(output: TaskOutput) -> dict[str, np.ndarray]:
    frame = output.frame
    arrays: dict[str, Any] = {f'frame.{name}': np.asarray(getattr(frame, name)) for name in _FRAME_FIELDS}
    if output.detection is not None:
        global_boxes(output.detection, frame)
        found = output.detection
        arrays |= {
            'detection.boxes': found.boxes_M9, 'detection.scores': found.scores_M,
            'detection.labels': found.labels_M, 'detection.attributes': found.attributes_M}
    if output.map_segmentation is not None:
        found = output.map_segmentation
        if not np.isfinite(found.probabilities_6YX).all():
            raise ResultError(
                f'sample {frame.token}: map_segmentation.probabilities holds a number that is not finite'
            )
        arrays |= {
            'map_segmentation.probabilities': found.probabilities_6YX,
            'map_segmentation.x_range_m': found.x_range_m, 'map_segmentation.y_range_m': found.y_range_m}
    if output.occupancy is not None:
        arrays['occupancy.semantics'] = output.occupancy.semantics_XYZ
        if output.occupancy.confidence_XYZ is not None:
            steps = np.rint(np.asarray(output.occupancy.confidence_XYZ, dtype=np.float32) * 255)
            arrays['occupancy.confidence'] = np.clip(steps, 0, 255).astype(np.uint8)
    if output.lanes is not None:
        try:
            check_lanes(output.lanes)
        except ValueError as error:
            raise ResultError(f'sample {frame.token}: {error}') from None
        arrays |= {'lanes.points': output.lanes.points_LP2, 'lanes.scores': output.lanes.scores_L,
                   'lanes.labels': output.lanes.labels_L}
    return {name: np.asarray(value) for name, value in arrays.items()}


def _from_arrays(path: Path, token: str, arrays: dict[str, np.ndarray]) -> TaskOutput:
    def part(task: str, *names: str) -> list[np.ndarray] | None:
        if not any(name.startswith(f'{task}.') for name in arrays):
            return None
        absent = [name for name in names if f'{task}.{name}' not in arrays]
        if absent:
            raise ResultError(f'{path}: sample {token}: field "{task}.{absent[0]}" is missing')
        return [arrays[f'{task}.{name}'] for name in names]

    try:
        frame = part('frame', *_FRAME_FIELDS)
        if frame is None:
            raise ResultError(f'{path}: sample {token}: field "frame.{_FRAME_FIELDS[0]}" is missing')
        detection = part('detection', 'boxes', 'scores', 'labels', 'attributes')
        maps = part('map_segmentation', 'probabilities', 'x_range_m', 'y_range_m')
        occupancy, lanes = part('occupancy', 'semantics'), part('lanes', 'points', 'scores', 'labels')
        return TaskOutput(
            Frame(token, int(frame[0]), frame[1], str(frame[2]), str(frame[3])),
            detection and Boxes3D(*detection),
            maps and MapSegmentation(maps[0], tuple(maps[1].tolist()), tuple(maps[2].tolist())),
            occupancy and Occupancy(occupancy[0], _confidence(arrays)), lanes and Lanes(*lanes))
    except ResultError:
        raise
    except ValueError as error:
        raise ResultError(f'{path}: sample {token}: {error}') from None


def _confidence(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    steps = arrays.get('occupancy.confidence')
    return None if steps is None else (steps.astype(np.float32) / 255).astype(np.float16)
