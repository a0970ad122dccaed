"""Make a database of objects: which ones, what is kept of each, scene by scene, in several processes.

A scene is made whole or not at all, and one that is finished and made in the same way is not made again, so
the same command goes on after a stop. What comes out does not depend on the number of processes.
"""
from __future__ import annotations

import hashlib
import heapq
import json
import multiprocessing
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.contracts import CENTRE, RADAR_TIME_LAG, TIME_LAG, VELOCITY, XY, XYZ, CameraRig, Sample
from ...core.files import file_name, is_writable
from ...core.geometry import points_in_boxes
from ...core.processes import FolderLock
from ...core.reading import BadFile
from ..reading.dataset import NuScenesDataset
from ..reading.labels import box_labels
from ..reading.records import BoxRecords
from .database import INDEX, Json, paste_facts, read_paste_index, write_paste_index
from .objects import StoredObject, StoredView, read_table, write_objects
from .pictures import SMALLEST_PX, cut_view, look_of, outlines_of
from .places import ground_height

MARGIN_M = 0.1
"""By which a box is widened: points on its surface belong to it."""
RADAR_MARGIN_M = 0.5
FEWEST_VISIBILITY = 3
"""nuScenes' level (60 to 80 percent visible) below which an object is not cut out of images: what hides it
may be no annotated object. Level 0, unknown, is taken."""
LEAST_VISIBLE = 0.7
"""Of an outline, that no annotated object stands before."""


@dataclass(frozen=True)
class PasteMaking:
    """What to keep.

    Args:
        out: folder of the database.
        workers: processes.
        min_points: fewest LiDAR points of the key frame in a box, as the tables count them.
        per_class: most objects of a class; a class with more keeps those whose tokens' hashes are smallest.
        overwrite: make finished scenes again.

    Raises:
        ValueError: a number below 1.
    """

    out: Path
    workers: int = 1
    min_points: int = 5
    per_class: int = 20_000
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ('workers', 'min_points', 'per_class'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}: found {getattr(self, name)}, expected at least 1')


@dataclass(frozen=True)
class PastePlan:
    """Which objects are kept.

    Attributes:
        chosen: {token of a frame: rows of its boxes}, of every frame that has some.
        counts: {class: {'annotated', 'with points', 'chosen': boxes}}.
    """

    chosen: dict[str, list[int]]
    counts: dict[str, dict[str, int]]


def plan_objects(dataset: NuScenesDataset, making: PasteMaking, progress: bool = True) -> PastePlan:
    """Choose objects of every class; only infos are read, one scene at a time.

    Boxes of frames whose labels are taken away (`reading.missing_labels`) are nobody's to paste.
    """
    missing = dataset.reading.missing_labels
    lacking = () if missing is None else missing.frames_of(dataset.tokens, 'detection')
    tokens = [token for token in dataset.tokens if token not in lacking]
    annotated: Counter[int] = Counter()
    measured: Counter[int] = Counter()
    kept: dict[int, list[tuple[int, str, int]]] = defaultdict(list)

    for token in _with_bar(tokens, len(tokens), 'frame', 'choosing objects', progress):
        boxes = dataset.record(token).boxes or BoxRecords.empty()
        for row, category in enumerate(boxes.categories):
            label = dataset.classes.label(category)
            annotated[label] += 1
            if label < 0 or boxes.num_lidar_points_M[row] < making.min_points:
                continue

            # a heap with the largest hash in front, which goes first
            measured[label] += 1
            entry = (-_hash(boxes.tokens[row]), token, row)
            add = heapq.heappushpop if len(kept[label]) >= making.per_class else heapq.heappush
            add(kept[label], entry)

    chosen: dict[str, list[int]] = defaultdict(list)
    for entries in kept.values():
        for _, token, row in entries:
            chosen[token].append(row)
    counts = {
        name: {'annotated': annotated[label], 'with points': measured[label], 'chosen': len(kept[label])}
        for label, name in enumerate(dataset.classes.names)}
    return PastePlan({token: sorted(rows) for token, rows in chosen.items()}, counts)


def _hash(token: str) -> int:
    return int.from_bytes(hashlib.sha256(token.encode()).digest()[:8], 'big')


# -------------------------------------------------------------------- objects of a frame

def objects_of_frame(
    dataset: NuScenesDataset, token: str, rows: list[int], min_points: int
) -> list[StoredObject]:
    """The chosen objects of a frame, with their points and pictures.

    Those of which fewer of the key frame's points are there than the tables say and `min_points` asks for (a
    file is missing) are left out.
    """
    record = dataset.record(token)
    sample = dataset.load_sample(record)
    if sample.lidar is None or record.boxes is None:
        return []

    boxes = record.boxes
    attributes = box_labels(boxes, dataset.classes)
    known = np.flatnonzero([dataset.classes.label(name) >= 0 for name in boxes.categories])
    place_of = {int(row): place for place, row in enumerate(known)}
    views = views_of_frame(sample, boxes, set(rows))

    objects = []
    for row in rows:
        box_9 = boxes.boxes_M9[row]
        points_P6 = points_of_object(sample.lidar.points_P6, box_9, TIME_LAG, MARGIN_M)
        if (np.abs(points_P6[:, TIME_LAG]) < 1e-3).sum() < min_points:
            continue
        objects.append(StoredObject(
            box_9=box_9,
            category=boxes.categories[row],
            token=boxes.tokens[row],
            instance=boxes.instances[row],
            sample=token,
            attribute=int(attributes.attributes_M[place_of[row]]),
            visibility=int(boxes.visibility_M[row]),
            num_lidar_points=int(boxes.num_lidar_points_M[row]),
            num_radar_points=int(boxes.num_radar_points_M[row]),
            ground_m=ground_height(sample.lidar.points_P6, box_9),
            points_P6=points_P6,
            radar_R8=_radar_of(sample, box_9),
            views=tuple(views.get(row, ()))))
    return objects


def points_of_object(
    points: np.ndarray, box_9: np.ndarray, lag_column: int, margin_m: float
) -> np.ndarray:
    """Points of an object, x, y, z from its centre.

    A point of an earlier sweep is the object's where it lay in the box then: the box is moved back by its
    velocity (where that is known), not the point.

    Args:
        points: `(P, 6 or 8)` in ego.
        box_9: where the object is at the key frame.
        lag_column: which column says how old a point is.
        margin_m: by which the box is widened.
    """
    velocity = np.nan_to_num(box_9[VELOCITY])
    reach = float(np.linalg.norm(box_9[3:6])) / 2 + 2 * margin_m
    reach += float(np.linalg.norm(velocity)) * float(np.abs(points[:, lag_column]).max(initial=0))
    near = points[(np.abs(points[:, XY] - box_9[XY]) <= reach).all(1)]

    moved = near[:, XYZ].astype(np.float64)
    moved[:, XY] += near[:, lag_column, None] * velocity
    own = near[points_in_boxes(moved, box_9[None], margin_m)[:, 0]].copy()
    own[:, XYZ] -= box_9[CENTRE].astype(np.float32)
    return own


def _radar_of(sample: Sample, box_9: np.ndarray) -> np.ndarray:
    """Radar points of an object, whatever their height."""
    if sample.radar is None:
        return np.zeros((0, 8), np.float32)
    tall_9 = box_9.astype(np.float64)
    tall_9[5] = 1e4
    return points_of_object(sample.radar.points_P8, tall_9, RADAR_TIME_LAG, RADAR_MARGIN_M)


def views_of_frame(sample: Sample, boxes: BoxRecords, rows: set[int]) -> dict[int, list[StoredView]]:
    """{row of a box: its pictures} of those rows that are seen well enough."""
    if sample.camera is None:
        return {}
    found: dict[int, list[StoredView]] = defaultdict(list)
    for camera in np.flatnonzero(sample.camera.present_N):
        for row, view in _views_of_camera(sample.camera, int(camera), boxes, rows):
            found[row].append(view)
    return found


def _views_of_camera(
    rig: CameraRig, camera: int, boxes: BoxRecords, rows: set[int]
) -> Iterator[tuple[int, StoredView]]:
    look = look_of(rig, camera)
    outlines = dict(enumerate(outlines_of(look, boxes.boxes_M9)))
    height, width = look.size_hw
    for row, outline in outlines.items():
        if row not in rows or outline is None or outline.area_px < SMALLEST_PX:
            continue
        if 0 < boxes.visibility_M[row] < FEWEST_VISIBILITY:
            continue

        nearer = [
            other for number, other in outlines.items()
            if number != row and other is not None and other.depth_m < outline.depth_m]
        image = rig.images_NHW3[camera, :height, :width]
        view = cut_view(rig.names[camera], image, look, outline, nearer)
        if view.visible >= LEAST_VISIBLE:
            yield row, view


# -------------------------------------------------------------------- scenes

@dataclass
class _PasteWork:
    """What a worker process needs; set before the fork."""

    dataset: NuScenesDataset
    making: PasteMaking
    plan: PastePlan
    made_from: str


_work: _PasteWork | None = None


def _make_objects(scene: str) -> str:
    assert _work is not None
    dataset, chosen = _work.dataset, _work.plan.chosen
    tokens = [token for token in scenes_of(dataset)[scene] if token in chosen]
    fewest = _work.making.min_points
    objects = [one for token in tokens for one in objects_of_frame(dataset, token, chosen[token], fewest)]
    write_objects(_work.making.out, scene, objects, _work.made_from)
    return scene


def scenes_of(dataset: NuScenesDataset) -> dict[str, list[str]]:
    """{scene: its frames in the split}, in order."""
    scenes: dict[str, list[str]] = {}
    for token in dataset.tokens:
        scenes.setdefault(dataset.scene_of[token], []).append(token)
    return scenes


def is_made(folder: Path, scene: str, made_from: str) -> bool:
    """Whether a scene's files are there, whole by their digest, and made in the same way."""
    try:
        table = read_table(folder, scene)
    except BadFile:
        return False
    return str(table.made_from) == made_from and bool(str(table.bin_sha256))


def make_database(dataset: NuScenesDataset, making: PasteMaking, progress: bool = True) -> Json:
    """Make what is not there yet of a database, and its index.

    Args:
        dataset: of the training split, without a pipeline, its images whole.
        making: what to keep, and where.
        progress: show bars.

    Returns:
        The index.

    Raises:
        PermissionError: the folder cannot be written. ValueError: it holds a database of other data, or the
        dataset is a test's. FolderInUseError: another process works there.
    """
    _check(dataset, making)
    lock = FolderLock(making.out, 'making a database of objects')
    try:
        plan = plan_objects(dataset, making, progress)
        made_from = json.dumps({
            **paste_facts(dataset), 'cameras': _cameras(dataset), 'min_points': making.min_points,
            'per_class': making.per_class}, sort_keys=True)

        scenes = list(scenes_of(dataset))
        todo = [
            scene for scene in scenes if making.overwrite or not is_made(making.out, scene, made_from)]
        _write_index(dataset, making, plan, todo)
        _run_scenes(_PasteWork(dataset, making, plan, made_from), todo, progress)
        return _write_index(dataset, making, plan, [])
    finally:
        lock.release()


def _check(dataset: NuScenesDataset, making: PasteMaking) -> None:
    for scene in scenes_of(dataset):
        file_name(scene, 'scene')
    if dataset.test_mode:
        raise ValueError('test_mode: found a dataset of a test, expected one of training')
    if 'lidar' not in dataset.sensors:
        raise ValueError(f'sensors: found {", ".join(dataset.sensors)}, expected lidar among them')
    if not is_writable(making.out):
        raise PermissionError(f'{making.out}: cannot be written; name another folder with --out')

    if (making.out / INDEX).is_file() and not making.overwrite:
        there = read_paste_index(making.out)['facts']
        for name, value in paste_facts(dataset).items():
            if there.get(name) != value:
                raise ValueError(
                    f'{making.out / INDEX}: {name}: found {there.get(name)!r}, expected {value!r}: another '
                    'database lies there; name another folder with --out, or write over it with --overwrite')


def _cameras(dataset: NuScenesDataset) -> list[str]:
    return list(dataset.cameras) if 'camera' in dataset.sensors else []


def _write_index(
    dataset: NuScenesDataset, making: PasteMaking, plan: PastePlan, unfinished: list[str]
) -> Json:
    """Write the index over all scenes but those that are not made yet."""
    tables = {
        scene: read_table(making.out, scene) for scene in scenes_of(dataset) if scene not in set(unfinished)}
    statistics: dict[str, Counter[str]] = {name: Counter(plan.counts[name]) for name in dataset.classes.names}
    for table in tables.values():
        names = [dataset.classes.names[dataset.classes.label(str(c))] for c in table.categories_M]
        pictured = np.isin(np.arange(len(table)), table.view_object_V)
        for name, points, has_view in zip(names, table.lidar_M2[:, 1], pictured, strict=True):
            statistics[name].update(
                {'stored': 1, 'points': int(points), 'with a picture': int(has_view)})

    index = {
        'root': os.fspath(dataset.root.resolve()),
        'facts': paste_facts(dataset),
        'cameras': _cameras(dataset),
        'min_points': making.min_points,
        'per_class': making.per_class,
        'classes': {name: dict(counts) for name, counts in statistics.items()},
        'scenes': {scene: len(table) for scene, table in tables.items()},
        'unfinished': unfinished}
    write_paste_index(making.out, index)
    return index


def _run_scenes(work: _PasteWork, scenes: list[str], progress: bool) -> None:
    global _work
    _work = work
    try:
        workers = min(work.making.workers, max(1, len(scenes)))
        forks = workers > 1 and 'fork' in multiprocessing.get_all_start_methods()
        done = _forked(scenes, workers) if forks else map(_make_objects, scenes)
        for _ in _with_bar(done, len(scenes), 'scene', 'objects', progress):
            pass
    finally:
        _work = None


def _forked(scenes: list[str], workers: int) -> Iterator[str]:
    with multiprocessing.get_context('fork').Pool(workers) as pool:
        yield from pool.imap_unordered(_make_objects, scenes)


def _with_bar(done: Iterable[str], total: int, unit: str, title: str, progress: bool) -> Iterable[str]:
    if not progress or not total:
        return done
    from tqdm import tqdm

    return tqdm(done, total=total, unit=unit, desc=title, mininterval=0.5, file=sys.stderr)


def describe_objects(index: Json, folder: Path) -> str:
    """The index in words: how many objects of each class, and how large the database is."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in ('.npz', '.bin', '.json'))
    stored = sum(index['scenes'].values())
    lines = [
        f'{folder / INDEX}: {stored} objects of {len(index["scenes"])} scenes, {size / 1e6:.1f} MB',
        f'  {"class":<22}{"annotated":>10}{"with points":>12}{"stored":>8}{"pictured":>9}{"points each":>12}']
    for name, counts in index['classes'].items():
        each = counts.get('points', 0) / max(1, counts.get('stored', 0))
        lines.append(
            f'  {name:<22}{counts["annotated"]:>10}{counts["with points"]:>12}{counts.get("stored", 0):>8}'
            f'{counts.get("with a picture", 0):>9}{each:>12.0f}')
    return '\n'.join(lines)
