"""A database of objects: its index, what it was made from, and its objects one by one.

`index.json` says of which root, version, split, classes, sweeps and cameras the objects are. A dataset that
differs in one of them is refused: objects of validation scenes never come into a training.
"""
from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...core.contracts import DetectionClasses
from ...core.files import file_name, write_text
from ...core.reading import BadFile, read_json
from ..reading.io import decode_image
from ..reading.options import ReadingOptions
from .objects import (
    POINT,
    RADAR_ROW_BYTES,
    ObjectTable,
    StoredView,
    bin_path,
    read_rows,
    read_table,
    stored_lens,
    unpack_object_points,
    unpack_radar,
)

SCHEMA, SCHEMA_VERSION = 'perception.paste', 1
INDEX = 'index.json'
INDEX_MIB = 64
AGAIN = 'make the database with `create-data paste CONFIG`'

_OF_SENSOR = {'lidar': ('lidar_sweeps', 'own_returns_m'), 'radar': ('radar_sweeps',)}
"""{sensor: facts that do not matter to a dataset without it}"""

Json = dict[str, Any]


class KnowsFrames(Protocol):
    """What a database needs to know of a dataset: `NuScenesDataset` is one."""

    root: Path
    split: str
    sensors: Sequence[str]
    cameras: Sequence[str]
    tokens: list[str]
    scene_of: Mapping[str, str]
    metainfo: Mapping[str, Any]
    classes: DetectionClasses
    reading: ReadingOptions

    def class_counts(self) -> np.ndarray:
        """Boxes per frame and class."""


def paste_folder(root: str | Path, version: str, split: str) -> Path:
    """Where the database of a split lies by default.

    Raises:
        ValueError: a name that could lead elsewhere.
    """
    return Path(root) / 'paste' / file_name(version, 'version') / file_name(split, 'split')


def paste_facts(dataset: KnowsFrames) -> Json:
    """What a database and the dataset that it is pasted into must have in common.

    `frames` is a fingerprint of the split: tokens of its frames and boxes of each class in them. Two roots
    with the same are the same data, wherever they lie. Labels of boxes that are taken away are no objects;
    what takes them away stands before the frames, whose fingerprint it changes.
    """
    missing = dataset.reading.missing_labels
    share = 0 if missing is None else missing.share_of('detection')
    seen = hashlib.sha256(json.dumps(dataset.tokens).encode())
    seen.update(np.ascontiguousarray(dataset.class_counts(), '<i4').tobytes())
    return {
        'version': dataset.metainfo['version'],
        'split': dataset.split,
        'classes': list(dataset.classes.names),
        'categories': dataset.classes.to_text(),
        'missing_labels': {'share': share, 'seed': missing.seed} if share else None,
        'frames': seen.hexdigest(),
        'lidar_sweeps': dataset.reading.lidar_sweeps,
        'radar_sweeps': dataset.reading.radar_sweeps if 'radar' in dataset.sensors else None,
        'own_returns_m': dataset.reading.own_returns_m}


class PasteDatabase:
    """The objects of a folder that `create-data paste` filled, all their boxes in memory, the rest on disk.

    Args:
        folder: of the database.

    Attributes:
        index: content of its `index.json`.
        scenes: names, in the order of the tables.
        labels_N, points_N: of every object: its label, and how many LiDAR points it has.

    Raises:
        BadFile: absent, damaged, of another kind, or not finished.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.index = read_paste_index(self.folder)
        if self.index['unfinished']:
            raise BadFile(
                self.path, f'unfinished: found {len(self.index["unfinished"])} scenes without objects, '
                'expected none: the command that made it goes on when it is given again')

        self.scenes: list[str] = list(self.index['scenes'])
        self._tables = [read_table(self.folder, scene) for scene in self.scenes]
        undigested = [s for s, t in zip(self.scenes, self._tables, strict=True) if not str(t.bin_sha256)]
        if undigested:
            warnings.warn(
                f'{bin_path(self.folder, undigested[0])}: its table has no digest of it '
                f'({len(undigested)} of {len(self.scenes)} have none): of an older version, checked by '
                f'length alone; to have digests, {AGAIN}', stacklevel=2)

        sizes = [len(table) for table in self._tables]
        for scene, size, said in zip(self.scenes, sizes, self.index['scenes'].values(), strict=True):
            if size != said:
                raise BadFile(bin_path(self.folder, scene), f'found {size} objects, expected {said}')
        self._scene_N = np.repeat(np.arange(len(sizes)), sizes)
        self._place_N = np.concatenate([np.arange(size) for size in sizes] or [np.zeros(0, np.int64)])

        classes = self.classes
        names = np.concatenate([table.categories_M for table in self._tables] or [np.zeros(0, np.str_)])
        kinds, inverse = np.unique(names, return_inverse=True)
        self.labels_N = np.array([classes.label(str(kind)) for kind in kinds] or [0], np.int64)[inverse]
        self.points_N = np.concatenate(
            [table.lidar_M2[:, 1] for table in self._tables] or [np.zeros(0, np.int64)])

    @property
    def path(self) -> Path:
        """Its index."""
        return self.folder / INDEX

    @cached_property
    def classes(self) -> DetectionClasses:
        """What its labels mean."""
        return DetectionClasses.from_text(self.index['facts']['categories'])

    def __len__(self) -> int:
        return len(self.labels_N)

    def check_dataset(self, dataset: KnowsFrames) -> None:
        """Refuse a dataset of other data than the objects'.

        Raises:
            ValueError: names file, field, what was found and what was expected.
        """
        expected, found = paste_facts(dataset), self.index['facts']
        for sensor, names in _OF_SENSOR.items():
            for name in names if sensor not in dataset.sensors else ():
                expected.pop(name)
        for name, value in expected.items():
            if found.get(name) != value:
                raise ValueError(self._refusal(name, found.get(name), value, dataset))

        strangers = {str(token) for table in self._tables for token in table.samples_M} - set(dataset.tokens)
        if strangers:
            raise ValueError(
                f'{self.path}: samples: found objects of {min(strangers)!r}, expected frames of the split '
                f'{dataset.split!r} alone')
        lost = sorted(set(dataset.cameras) - set(self.index['cameras']))
        if 'camera' in dataset.sensors and lost:
            raise ValueError(
                f'{self.path}: cameras: found {", ".join(self.index["cameras"]) or "none"}, expected '
                f'{", ".join(lost)} among them, whose images the dataset reads; {AGAIN}')

    def _refusal(self, name: str, found: Any, expected: Any, dataset: KnowsFrames) -> str:
        if name == 'frames':
            return (
                f'{self.path}: root: found objects of {self.index["root"]}, whose frames and boxes are '
                f'others, expected those of {dataset.root}; {AGAIN}')
        return f'{self.path}: {name}: found {found!r}, expected {expected!r}; {AGAIN}'

    # ---------------------------------------------------------------- one object

    def _table(self, number: int) -> tuple[ObjectTable, int, str]:
        scene = int(self._scene_N[number])
        return self._tables[scene], int(self._place_N[number]), self.scenes[scene]

    def box(self, number: int) -> np.ndarray:
        """Its box `(9,)` in ego of its own frame, float64."""
        table, place, _ = self._table(number)
        return table.boxes_M9[place].astype(np.float64)

    def words(self, number: int) -> dict[str, str]:
        """Its category, and the tokens of its annotation, of the object and of its frame."""
        table, at, _ = self._table(number)
        return {
            'category': str(table.categories_M[at]), 'token': str(table.tokens_M[at]),
            'instance': str(table.instances_M[at]), 'sample': str(table.samples_M[at])}

    def numbers(self, number: int) -> dict[str, float]:
        """Its attribute, visibility, radar points and height of the ground."""
        table, at, _ = self._table(number)
        return {
            'attribute': int(table.attributes_M[at]), 'visibility': int(table.visibility_M[at]),
            'num_lidar_points': int(table.num_lidar_points_M[at]),
            'num_radar_points': int(table.num_radar_points_M[at]), 'ground_m': float(table.ground_M[at])}

    def points(self, number: int) -> np.ndarray:
        """Its LiDAR points in ego of its own frame: float32 `(P, 6)`."""
        table, at, scene = self._table(number)
        points = unpack_object_points(read_rows(self.folder, scene, table.lidar_M2[at], POINT.itemsize))
        points[:, :3] += table.boxes_M9[at, :3]
        return points

    def radar(self, number: int) -> np.ndarray:
        """Its radar points, likewise: float32 `(R, 8)`."""
        table, at, scene = self._table(number)
        points = unpack_radar(read_rows(self.folder, scene, table.radar_M2[at], RADAR_ROW_BYTES))
        points[:, :3] += table.boxes_M9[at, :3]
        return points

    def views(self, number: int) -> dict[str, int]:
        """Its pictures: camera -> their place, for `view`."""
        table, at, _ = self._table(number)
        first, last = np.searchsorted(table.view_object_V, [at, at + 1])
        return {str(table.view_camera_V[i]): i for i in range(first, last)}

    def view(self, number: int, place: int) -> tuple[StoredView, np.ndarray]:
        """One of its pictures, and what it shows: uint8 `(H, W, 3)`.

        Raises:
            BadFile: the picture is damaged, or of another size than the table says.
        """
        table, _, scene = self._table(number)
        path = bin_path(self.folder, scene)
        size_hw = tuple(table.view_hw_V2[place].tolist())
        jpeg = read_rows(self.folder, scene, table.view_jpeg_V2[place], 1)
        view = StoredView(
            camera=str(table.view_camera_V[place]), K_33=table.view_K_V33[place],
            ego_T_cam=table.view_ego_T_cam_V44[place], size_hw=size_hw,
            visible=float(table.view_visible_V[place]), depth_m=float(table.view_depth_V[place]),
            distortion=stored_lens(str(table.view_lens_V[place]), f'{path}: lens'), jpeg=jpeg)
        return view, decode_image(path, jpeg, size_hw=size_hw)


# -------------------------------------------------------------------- index

def write_paste_index(folder: Path, index: Json) -> None:
    """Write `index.json`; the schema is added."""
    content = {'schema': SCHEMA, 'schema_version': SCHEMA_VERSION, **index}
    write_text(folder / INDEX, json.dumps(content, indent=1, allow_nan=False) + '\n')


def read_paste_index(folder: Path) -> Json:
    """The index of a database.

    Raises:
        BadFile: absent, damaged, of another kind, or a field is missing.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise BadFile(path, f'found no such file, expected the index of a database of objects; {AGAIN}')
    index = read_json(path, INDEX_MIB)
    if not isinstance(index, dict) or index.get('schema') != SCHEMA:
        raise BadFile(path, f'schema: expected {SCHEMA!r}: not the index of a database of objects')
    if index.get('schema_version') != SCHEMA_VERSION:
        raise BadFile(
            path,
            f'schema_version: found {index.get("schema_version")!r}, expected {SCHEMA_VERSION}; {AGAIN}')

    kinds = {
        'root': str, 'facts': dict, 'cameras': list, 'scenes': dict, 'unfinished': list, 'classes': dict,
        'min_points': int}
    for name, kind in kinds.items():
        if not isinstance(index.get(name), kind):
            raise BadFile(path, f'{name}: found {index.get(name)!r:.80}, expected a {kind.__name__}')
    if not isinstance(index['facts'].get('categories'), str):
        raise BadFile(path, f'facts.categories: found {index["facts"].get("categories")!r:.80}, not text')
    for scene, count in index['scenes'].items():
        file_name(scene, f'{path}: scenes')
        if type(count) is not int:
            raise BadFile(path, f'scenes.{scene}: found {count!r:.80}, expected a whole number')
    return index
