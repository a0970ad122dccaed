"""A folder of a teacher's labels: `pseudo.json` and one `frames/<token>.npz` a frame.

`pseudo.json` says by whom the labels were made (digest of the weights), for which frames (version, split and
a digest of its tokens), which tasks with which confidence and classes, and, once all frames are done, which
frames have which. Files appear under their names when they are whole, so that a run that was stopped goes on.
"""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import LABELS_OF_TASK, DetectionClasses
from ...core.files import file_name, write_json, write_whole
from ...core.reading import DAMAGE, BadFile, read_arrays, read_json
from .records import FROM_ARRAYS, TO_ARRAYS

SCHEMA = 'perception.pseudo_labels'
SCHEMA_VERSION = 1
HEADER = 'pseudo.json'
FRAME_MIB = 64
"""Largest file of a frame, unpacked: two arrays of 0.6 million voxels and a map of 200 x 200 cells."""
_KEYS = ('teacher', 'data', 'tasks', 'frames')


def split_facts(version: str, split: str, tokens: Sequence[str], root: str | os.PathLike) -> dict[str, Any]:
    """What a header says of the data; `root` is for readers alone, data may move."""
    digest = hashlib.sha256('\n'.join(sorted(tokens)).encode()).hexdigest()
    return {'version': version, 'split': split, 'tokens': digest, 'root': os.fspath(root)}


def frame_file(folder: Path, token: str) -> Path:
    """Where a frame's labels lie. Raises ValueError for a token that could lead elsewhere."""
    return Path(folder) / 'frames' / f'{file_name(token, "sample token")}.npz'


class OtherLabelsError(ValueError):
    """A folder holds labels that were made otherwise, or that nobody knows the maker of."""


class PseudoWriter:
    """Write a folder of labels, or go on with one that was begun alike.

    Args:
        folder: made where it is not there.
        teacher: facts of the weights.
        data: of `split_facts`.
        tasks: {task: {'confidence', 'classes', 'area' ...}}.

    Raises:
        OtherLabelsError: the folder holds labels that were made otherwise, or nobody knows how.
        ValueError: its header is damaged.
    """

    def __init__(
        self, folder: str | os.PathLike, teacher: Mapping[str, Any], data: Mapping[str, Any],
        tasks: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.folder = Path(folder)
        # as it will be read again: lists in the place of tuples
        self.header = json.loads(json.dumps({
            'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, 'teacher': dict(teacher), 'data': dict(data),
            'tasks': {task: dict(facts) for task, facts in tasks.items()}}))

        path = self.folder / HEADER
        if path.is_file():
            found = read_header(self.folder)
            for key in ('teacher', 'data', 'tasks'):
                if _without_root(found[key]) != _without_root(self.header[key]):
                    raise OtherLabelsError(
                        f'{path}: {key}: found labels of {found[key]}, expected {self.header[key]}; take '
                        'another folder, or remove this one')
        else:
            nameless = next(self.folder.glob('frames/*.npz'), None)
            if nameless is not None:
                raise OtherLabelsError(
                    f'{path}: found no such file beside {nameless}, expected it: nobody knows who made those '
                    'labels; take another folder, or remove this one')
            write_json(path, {**self.header, 'frames': None}, indent=1)

    def has(self, token: str, tasks: Sequence[str]) -> bool:
        """Whether a frame's labels of these tasks are there and readable."""
        path = frame_file(self.folder, token)
        try:
            return path.is_file() and set(tasks) <= stored_tasks(path)
        except BadFile:
            return False

    def write(self, token: str, labels: Mapping[str, Any]) -> Path:
        """Write the labels of a frame, {task: labels}."""
        arrays = {
            f'{task}.{name}': array
            for task, one in labels.items() for name, array in TO_ARRAYS[task](one).items()}
        return write_whole(
            frame_file(self.folder, token), lambda file: np.savez_compressed(file, **arrays))

    def finish(self, frames: Mapping[str, Sequence[str]]) -> None:
        """Say that all is there: `frames` is {task: tokens}."""
        whole = {task: sorted(tokens) for task, tokens in frames.items()}
        write_json(self.folder / HEADER, {**self.header, 'frames': whole})


class PseudoLabels:
    """The labels of a folder that is whole.

    Args:
        folder: of `tools/pseudo_label.py`.
        data: of `split_facts`, what it must have been made for.
        classes: of boxes.
        lane_protocol: of lanes.

    Attributes:
        header: what `pseudo.json` holds.

    Raises:
        ValueError: not such a folder, not whole, or made for other data, classes or lanes.
    """

    def __init__(
        self, folder: str | os.PathLike, data: Mapping[str, Any], classes: DetectionClasses,
        lane_protocol: str = 'ours',
    ) -> None:
        self.folder, self.classes = Path(folder), classes
        self.header = read_header(self.folder)
        path = self.folder / HEADER
        if self.header['frames'] is None:
            raise ValueError(f'{path}: the labels are not whole; run tools/pseudo_label.py again to finish')

        for key in ('version', 'split', 'tokens'):
            if self.header['data'][key] != data[key]:
                what = 'tokens of the split (a digest)' if key == 'tokens' else key
                raise ValueError(
                    f'{path}: {what}: found {self.header["data"][key]}, expected {data[key]}: the labels are '
                    'of other frames')
        tasks = self.header['tasks']
        if 'detection' in tasks and tasks['detection']['classes'] != list(classes.names):
            raise ValueError(
                f'{path}: tasks.detection.classes: found {tasks["detection"]["classes"]}, expected '
                f'{list(classes.names)}')
        if 'lanes' in tasks and tasks['lanes']['protocol'] != lane_protocol:
            raise ValueError(
                f'{path}: tasks.lanes.protocol: found {tasks["lanes"]["protocol"]!r}, expected '
                f'{lane_protocol!r}')
        self._frames = {task: frozenset(tokens) for task, tokens in self.header['frames'].items()}

    def has(self, token: str, task: str) -> bool:
        """Whether there are labels of a task for a frame."""
        return token in self._frames.get(task, ())

    def read(self, token: str, tasks: Sequence[str]) -> dict[str, Any]:
        """The labels of a frame of those of the tasks that there are, by the fields of `Annotations`.

        Raises:
            BadFile: the file is absent, damaged, or holds what no such file may.
        """
        wanted = [task for task in tasks if self.has(token, task)]
        if not wanted:
            return {}

        path = frame_file(self.folder, token)
        arrays = read_arrays(path, mib=FRAME_MIB)
        labels = {}
        for task in wanted:
            own = {
                name.removeprefix(f'{task}.'): array
                for name, array in arrays.items() if name.startswith(f'{task}.')}
            labels[LABELS_OF_TASK[task]] = FROM_ARRAYS[task](
                path, own, self.header['tasks'][task], self.classes)
        return labels


def read_header(folder: Path) -> dict[str, Any]:
    """Read `pseudo.json`.

    Raises:
        ValueError: it is absent, damaged or of another schema.
    """
    path = Path(folder) / HEADER
    if not path.is_file():
        raise ValueError(f'{path}: no such file; tools/pseudo_label.py writes it')

    content = read_json(path, 256)
    if not isinstance(content, dict) or content.get('schema') != SCHEMA:
        raise ValueError(f"{path}: expected schema {SCHEMA!r}, found no header of a teacher's labels")
    if content.get('schema_version') != SCHEMA_VERSION:
        raise ValueError(
            f'{path}: schema_version: expected {SCHEMA_VERSION}, found {content.get("schema_version")}')

    try:
        _check_header(content)
    except BadFile:
        raise
    except DAMAGE as error:
        raise ValueError(f'{path}: damaged: {type(error).__name__}: {error}') from error
    return content


def _check_header(content: Mapping[str, Any]) -> None:
    """Raise whatever damage leads to where a field is absent or of another form."""
    for key in _KEYS:
        if key not in content:
            raise ValueError(f'found no field {key!r}')
    for key in ('version', 'split', 'tokens'):
        if not isinstance(content['data'][key], str):
            raise ValueError(f'data.{key}: expected text, found {content["data"][key]!r}')

    for task, facts in content['tasks'].items():
        if task not in FROM_ARRAYS:
            raise ValueError(f'tasks: expected some of {", ".join(FROM_ARRAYS)}, found {task!r}')
        (x_low, x_high), (y_low, y_high) = facts['area']
        if not (x_low < x_high and y_low < y_high):
            raise ValueError(f'tasks.{task}.area: expected low < high, found {facts["area"]}')
        list(facts['classes'])

    for task, tokens in (content['frames'] or {}).items():
        if task not in content['tasks'] or not all(isinstance(token, str) for token in tokens):
            raise ValueError(f'frames.{task}: expected tokens of one of the tasks')


def stored_tasks(path: Path) -> set[str]:
    """The tasks whose labels a frame's file holds.

    Raises:
        BadFile: it is damaged.
    """
    return {name.split('.')[0] for name in read_arrays(path, mib=FRAME_MIB)}


def _without_root(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ('root', 'file')}
