"""A nuScenes results file of boxes (JSON) -> columns, in one pass, with errors that name the entry.

Format (nuScenes task pages): `{'meta': {five use_* flags}, 'results': {sample_token: [box, ...]}}`, a box
having sample_token, translation, size (w, l, h), rotation (w, x, y, z), velocity, and for detection
detection_name, detection_score, attribute_name; for tracking tracking_id, tracking_name, tracking_score. A
box becomes 13 packed doubles the moment it is read, so a million boxes need 150 MB beside the text of the
file, not 2 GB. Results of other classes than nuScenes' ten say in `meta.detection_classes` what these are; no
official code reads those.
"""
from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.contracts import NUSCENES_CLASSES, DetectionClasses
from ...core.contracts.classes import FIELD
from ...core.reading import BadFile, read_text
from ..errors import ResultError
from .boxes import ATTRIBUTE_OF, BoxTable, yaw_of_quaternions

MAX_BOXES_PER_SAMPLE = 500
META_FLAGS = ('use_camera', 'use_lidar', 'use_radar', 'use_map', 'use_external')
_NUMBERS = {'translation': 3, 'size': 3, 'rotation': 4, 'velocity': 2}
_PACK = struct.Struct('<13d3i').pack
_ROW = np.dtype([('numbers', '<f8', 13), ('label', '<i4'), ('attribute', '<i4'), ('points', '<i4')])


@dataclass(frozen=True)
class BoxFormat:
    """The fields in which results files of two tasks differ.

    Attributes:
        task: 'detection' or 'tracking'; fields begin with it.
        label_of: name of a class -> its label.
        has_attribute: boxes have an attribute_name.
        has_id: boxes have a tracking_id, a text or a whole number.
        classes: what the labels mean.
    """

    task: str
    label_of: Mapping[str, int]
    has_attribute: bool = False
    has_id: bool = False
    classes: DetectionClasses = NUSCENES_CLASSES

    @staticmethod
    def detection(classes: DetectionClasses) -> BoxFormat:
        """The format of detections of some classes."""
        return BoxFormat('detection', classes.label_of, has_attribute=True, classes=classes)

    @staticmethod
    def tracking(classes: DetectionClasses) -> BoxFormat:
        """The format of tracks of those of the classes that are tracked."""
        label_of = {name: classes.label_of[name] for name in classes.tracked}
        return BoxFormat('tracking', label_of, has_id=True, classes=classes)

    def of_classes(self, classes: DetectionClasses) -> BoxFormat:
        """The same format for other classes."""
        return getattr(BoxFormat, self.task)(classes)

    @property
    def name_field(self) -> str:
        """The field with the class."""
        return f'{self.task}_name'

    @property
    def score_field(self) -> str:
        """The field with the score."""
        return f'{self.task}_score'


DETECTION = BoxFormat.detection(NUSCENES_CLASSES)
TRACKING = BoxFormat.tracking(NUSCENES_CLASSES)


@dataclass(frozen=True)
class DetectionResults:
    """What a results file says.

    Attributes:
        tokens: samples in file order.
        boxes: their boxes; `sample_M` counts `tokens`.
        meta: the flags.
        format: of detections or of tracks.
        ids: of tracks the id of each box, else empty.
    """

    tokens: tuple[str, ...]
    boxes: BoxTable
    meta: dict[str, Any]
    format: BoxFormat = DETECTION
    ids: tuple[str, ...] = ()

    def of_samples(self, row_of: Mapping[str, int]) -> DetectionResults:
        """The named samples alone, in the order of their numbers; each one's boxes in the order they had."""
        tokens = sorted((token for token in self.tokens if token in row_of), key=row_of.__getitem__)
        place_of = {token: i for i, token in enumerate(tokens)}

        places = np.array([place_of.get(token, -1) for token in self.tokens], dtype=np.int32)
        sample_M = places[self.boxes.sample_M]
        order = np.argsort(sample_M, kind='stable')
        kept = order[sample_M[order] >= 0]
        boxes = replace(self.boxes, sample_M=sample_M).select(kept)
        ids = tuple(self.ids[row] for row in kept.tolist()) if self.ids else ()
        return replace(self, tokens=tuple(tokens), boxes=boxes, ids=ids)


def results_text(path: str | Path) -> str:
    """Text of a file, unpacked where it is gzip.

    Raises:
        ResultError: the file is absent, no regular file, damaged, or too large.
    """
    try:
        return read_text(path)
    except BadFile as error:
        raise ResultError(str(error)) from None


def read_results_json(path: str | Path, object_hook=None) -> Any:
    """JSON of a file (.json or .json.gz).

    Raises:
        ResultError: the file is absent, or its JSON is damaged, truncated (says where) or nested too deeply.
    """
    text = results_text(path)
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        where = 'truncated' if error.pos >= len(text.rstrip()) - 1 else 'damaged'
        raise ResultError(
            f'{path}: {where} JSON at line {error.lineno}, column {error.colno}: {error.msg}'
        ) from None
    except (ValueError, RecursionError) as error:
        raise ResultError(f'{path}: cannot be read as JSON: {type(error).__name__}: {error}') from None


class _Row(int):
    """Index of a packed box: no number that stands in the file is one."""

    __slots__ = ()


class _Packer:
    """Turns box records into rows as the JSON scanner meets them.

    What is no valid box stays a record and is explained later.

    Args:
        formats: those that are allowed; the first record that has the name of a class decides.
    """

    def __init__(self, formats: Sequence[BoxFormat]) -> None:
        self.formats = tuple(formats)
        self.format: BoxFormat | None = self.formats[0] if len(self.formats) == 1 else None
        self.rows = bytearray()
        self.tokens: list[str] = []
        self.ids: list[str] = []

    def __call__(self, record: dict[str, Any]) -> Any:
        """The index of a packed box, or the record itself."""
        form = self.format
        if form is None:
            form = next((form for form in self.formats if form.name_field in record), None)
            if form is None:
                return record
            self.format = form

        try:
            t = record['translation']
            s = record['size']
            r = record['rotation']
            v = record['velocity']
            if len(t) != 3 or len(s) != 3 or len(r) != 4:
                return record
            attribute = ATTRIBUTE_OF[record['attribute_name']] if form.has_attribute else -1
            identity = _identity(record['tracking_id']) if form.has_id else ''
            self.rows += _PACK(
                *t, *s, *r, *v, record[form.score_field], form.label_of[record[form.name_field]], attribute,
                record.get('num_pts', -1))
        except (KeyError, TypeError, OverflowError, struct.error):
            return record

        if form.has_id:
            self.ids.append(identity)
        self.tokens.append(record.get('sample_token'))
        return _Row(len(self.tokens) - 1)


def _identity(value: Any) -> str:
    """The id of a track as text; TypeError where it is neither text nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == '':
        raise TypeError
    return str(value)


def read_detection_results(path: str | Path, max_boxes: int = MAX_BOXES_PER_SAMPLE) -> DetectionResults:
    """Read a results file of detections; as `read_box_results`."""
    return read_box_results(path, (DETECTION,), max_boxes)


def read_box_results(
    path: str | Path, formats: Sequence[BoxFormat] = (DETECTION, TRACKING),
    max_boxes: int = MAX_BOXES_PER_SAMPLE,
) -> DetectionResults:
    """Read a results file.

    Args:
        path: .json or .json.gz.
        formats: those that are allowed; a file without boxes is of the first.
        max_boxes: in a sample.

    Raises:
        ResultError: names the file and the entry: damaged JSON, a missing or wrong field, NaN or infinity in
            a score, place, size or rotation, an unknown class or attribute, a box filed under another sample,
            more than `max_boxes` in a sample; of tracks also no id, or one id twice in a sample.
    """
    packer = _Packer(formats)
    content = read_results_json(path, packer)
    if not isinstance(content, dict) or not isinstance(content.get('results'), dict):
        raise ResultError(
            f'{path}: expected a JSON object with a field "results" (sample token -> list of boxes)'
        )

    classes = classes_of_meta(content.get('meta'), str(path))
    if not classes.is_nuscenes:
        packer = _Packer([form.of_classes(classes) for form in formats])
        content = read_results_json(path, packer)
    return _assemble(str(path), content, packer, max_boxes)


def classes_of_meta(meta: Any, name: str) -> DetectionClasses:
    """The classes that a results file says it has, nuScenes' ten if it says none.

    Raises:
        ResultError: what it says is not valid.
    """
    try:
        return DetectionClasses.of(meta.get(FIELD) if isinstance(meta, dict) else None, f'meta.{FIELD}')
    except ValueError as error:
        raise ResultError(f'{name}: {error}') from None


def meta_of_classes(classes: DetectionClasses) -> dict[str, Any]:
    """What the meta of a results file says of its classes: nothing of nuScenes' ten."""
    return {} if classes.is_nuscenes else {FIELD: classes.as_data()}


def detection_results_from(
    content: Mapping[str, Any], name: str = 'results', formats: Sequence[BoxFormat] = (DETECTION,)
) -> DetectionResults:
    """The same for results that are already in memory as plain dictionaries."""
    packer = _Packer(formats)
    packed: dict[str, Any] = {}
    for token, boxes in content['results'].items():
        is_list = isinstance(boxes, list)
        packed[token] = [packer(box) if isinstance(box, dict) else box for box in boxes] if is_list else boxes
    return _assemble(name, {**content, 'results': packed}, packer)


def _assemble(name: str, content: Mapping[str, Any], packer: _Packer,
              max_boxes: int = MAX_BOXES_PER_SAMPLE) -> DetectionResults:
    """Rows in the order in which the file lists them, checked."""
    meta = content.get('meta')
    if not isinstance(meta, dict):
        raise ResultError(
            f'{name}: expected a field "meta" with the flags {", ".join(META_FLAGS)}, found {meta!r}'
        )

    order, counts = [], []
    for token, entries in content['results'].items():
        if not isinstance(entries, list):
            raise ResultError(
                f'{name}: results["{token}"]: expected a list of boxes, found {type(entries).__name__}'
            )
        _check_entries(name, token, entries, packer)
        if len(entries) > max_boxes:
            raise ResultError(f'{name}: results["{token}"] has {len(entries)} boxes. '
                              f'Error: Only <= {max_boxes} boxes per sample allowed!')
        order += entries
        counts.append(len(entries))

    rows = np.frombuffer(packer.rows, dtype=_ROW)[np.array(order, dtype=np.int64)]
    sample_M = np.repeat(np.arange(len(counts)), counts)
    tokens = tuple(content['results'])
    form = packer.format or packer.formats[0]
    _check_finite(name, rows, sample_M, tokens, np.cumsum([0, *counts]), form)
    ids = tuple(packer.ids[row] for row in order) if form.has_id else ()
    return DetectionResults(tokens, _to_table(rows, sample_M), dict(meta), form, ids)


def _to_table(rows: np.ndarray, sample_M: np.ndarray) -> BoxTable:
    numbers = rows['numbers']
    return BoxTable.make(sample_M, numbers[:, :3], numbers[:, 3:6], yaw_of_quaternions(numbers[:, 6:10]),
                         numbers[:, 10:12], rows['label'], rows['attribute'], numbers[:, 12], rows['points'])


def _check_entries(name: str, token: str, entries: Sequence[Any], packer: _Packer) -> None:
    for k, entry in enumerate(entries):
        if type(entry) is not _Row:
            form = packer.format or packer.formats[0]
            raise ResultError(f'{name}: results["{token}"][{k}]: {_explain(entry, form)}')
        if packer.tokens[entry] != token:
            raise ResultError(f'{name}: results["{token}"][{k}].sample_token: expected "{token}", '
                              f'found "{packer.tokens[entry]}"')

    if packer.ids:
        ids = [packer.ids[entry] for entry in entries]
        if len(set(ids)) != len(ids):
            k = next(k for k, found in enumerate(ids) if found in ids[:k])
            raise ResultError(
                f'{name}: results["{token}"][{k}]: found tracking_id "{ids[k]}" twice in it, expected '
                'each track at one place at a time')


def _explain(entry: Any, form: BoxFormat) -> str:
    """Why a record is no box of a format."""
    if not isinstance(entry, dict):
        return f'expected a box (an object), found {entry!r}'

    for field, count in _NUMBERS.items():
        value = entry.get(field)
        if field not in entry:
            return f'field "{field}" is missing'
        right_length = isinstance(value, list) and len(value) == count
        if not right_length or not all(map(_is_number, value)):
            return f'field "{field}": expected {count} numbers, found {value!r}'

    score = entry.get(form.score_field)
    if not _is_number(score):
        return f'field "{form.score_field}": expected a number, found {score!r}'
    if form.has_id:
        identity = entry.get('tracking_id')
        if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == '':
            return f'field "tracking_id": expected a text or a whole number, found {identity!r}'

    words = {form.name_field: form.label_of}
    if form.has_attribute:
        words['attribute_name'] = ATTRIBUTE_OF
    for field, known in words.items():
        if not isinstance(entry.get(field), str) or entry[field] not in known:
            names = ', '.join(repr(name) for name in known)
            return f'field "{field}": expected one of {names}; found {entry.get(field)!r}'
    return f'field "num_pts": expected a whole number, found {entry.get("num_pts")!r}'


def _is_number(value: Any) -> bool:
    """One that a float64 can hold; NaN and infinity are looked for later, in all boxes together."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 1023)


def _check_finite(
    name: str, rows: np.ndarray, sample_M: np.ndarray, tokens: Sequence[str], starts: np.ndarray,
    form: BoxFormat,
) -> None:
    """Raise ResultError where a number is infinite, or NaN and not a velocity."""
    bad = ~np.isfinite(rows['numbers'])
    bad[:, 10:12] = np.isinf(rows['numbers'][:, 10:12])
    if not bad.any():
        return

    row, column = np.argwhere(bad)[0]
    fields = ('translation', 'size', 'rotation', 'velocity', form.score_field)
    field = fields[np.searchsorted([3, 6, 10, 12], column, 'right')]
    found = 'NaN' if np.isnan(rows['numbers'][row, column]) else 'infinite'
    sample = int(sample_M[row])
    raise ResultError(
        f'{name}: results["{tokens[sample]}"][{int(row - starts[sample])}]: field "{field}" may not be '
        f'{found}'
    )
