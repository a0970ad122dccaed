"""Write info files for a nuScenes-format root: scene by scene, in parallel, resumable.

The report says what is absent. The tables are loaded once; worker processes are forked and share them. A
scene's files are renamed into place when they are whole, the header says with which arguments and from which
tables they were made, and a scene that is finished and made in the same way is not made again.
"""
from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.files import file_name, is_writable
from ..core.reading import BadFile
from .maps.city_map import ExpansionMap, load_city
from .maps.map_layers import scene_map
from .maps.scene_map import MAP_LAYOUT, read_scene_map, write_scene_map
from .reading.infos import (
    INDEX_NAME,
    INDEXED,
    InfosError,
    map_path,
    read_scene_header,
    scene_path,
    write_index,
    write_scene,
)
from .reading.nuscenes import CHANNELS, NO_ENTRY, Row, SceneReader, open_tables, read_scene, scenes_of_splits
from .reading.options import select_names
from .reading.records import Json

if TYPE_CHECKING:
    from nuscenes import NuScenes

_FINGERPRINT_TABLES = ('sample_data', 'ego_pose', 'calibrated_sensor', 'sample_annotation')
_WRITTEN = {*INDEXED, 'class_counts', 'left_out', 'channels', 'image_sizes'}
"""What a finished scene's header says of it, read again for the index."""
_PARTS_OF_A_ROOT = ('samples', 'sweeps', 'gts', 'occupancy', 'lidarseg')


@dataclass(frozen=True)
class CreateOptions:
    """What to write.

    Args:
        root: the dataroot.
        version: name of the folder with the tables.
        out: where to write (None: `<root>/infos/<version>`).
        workers: processes.
        shard: (i, n), this run makes scenes i, i + n, ... of the list.
        splits: make only these splits' scenes (empty: all).
        overwrite: make finished scenes again.
        lidar_sweeps, radar_sweeps: earlier sweeps listed per key frame.
        channels: {our name of a channel: the tables' name}, of those that differ.
    """

    root: Path
    version: str
    out: Path | None = None
    workers: int = 1
    shard: tuple[int, int] = (0, 1)
    splits: tuple[str, ...] = ()
    overwrite: bool = False
    lidar_sweeps: int = 10
    radar_sweeps: int = 6
    channels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        i, n = self.shard
        if not 0 <= i < n:
            raise ValueError(f'shard: expected i/n with 0 <= i < n, found {i}/{n}')
        for name in ('workers', 'lidar_sweeps', 'radar_sweeps'):
            if getattr(self, name) < (name == 'workers'):
                raise ValueError(f'{name}: found {getattr(self, name)}, which is too few')
        select_names('channels', list(self.channels), CHANNELS)

    @property
    def folder(self) -> Path:
        """Where the infos are written."""
        return Path(self.out) if self.out else Path(self.root) / 'infos' / self.version


@dataclass(frozen=True)
class CreateReport:
    """What a run did.

    Attributes:
        folder: of the infos.
        made, finished_before: scenes made now, and found finished.
        unfinished: scenes of the version that are not made yet.
        index: as written.
    """

    folder: Path
    made: tuple[str, ...]
    finished_before: tuple[str, ...]
    unfinished: tuple[str, ...]
    index: Json


def made_from(options: CreateOptions, location: str) -> Json:
    """The arguments and sources a scene's files depend on.

    A finished scene with another value is made again.
    """
    tables = {name: (options.root / options.version / f'{name}.json').stat() for name in _FINGERPRINT_TABLES}
    expansion = options.root / 'maps' / 'expansion' / f'{file_name(location, "log.location")}.json'
    return {
        'version': options.version,
        'lidar_sweeps': options.lidar_sweeps,
        'radar_sweeps': options.radar_sweeps,
        'channels': dict(options.channels),
        'map_layout': MAP_LAYOUT,
        'tables': {name: [stat.st_size, stat.st_mtime_ns] for name, stat in tables.items()},
        'map_expansion_bytes': expansion.stat().st_size if expansion.is_file() else 0,
        'parts': [part for part in _PARTS_OF_A_ROOT if (options.root / part).is_dir()],
    }


@dataclass
class _Work:
    """What a worker process needs.

    It is set before the fork, so that the tables and maps are shared and never copied.
    """

    options: CreateOptions
    reader: SceneReader
    scenes: dict[str, Row]
    cities: dict[str, ExpansionMap | None]


_work: _Work | None = None


def _make_scene(name: str) -> str:
    """Make one scene's files, and say which scene it was when that fails."""
    try:
        _write_scene_files(name)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f'{name}: its info files cannot be made: {type(error).__name__}: {error}') from error
    return name


def _write_scene_files(name: str) -> None:
    """The header is written last and makes the scene finished."""
    assert _work is not None
    options = _work.options
    header, frames = read_scene(_work.reader, _work.scenes[name])
    city = _work.cities[header['location']]

    path = map_path(options.folder, name)
    if city is None:
        path.unlink(missing_ok=True)
        header['left_out']['no map expansion'] = len(frames)
    else:
        write_scene_map(path, scene_map(city, [frame.global_T_ego for frame in frames]))

    if not header['annotated']:
        header['left_out']['no annotations'] = len(frames)
    header['has_map'] = city is not None
    header['made_from'] = made_from(options, header['location'])
    write_scene(options.folder, header, frames)


def is_finished(options: CreateOptions, scene: str, location: str) -> bool:
    """Whether a scene's files are there, whole, and made in the same way."""
    try:
        header = read_scene_header(scene_path(options.folder, scene))
        if header['made_from'] != made_from(options, location):
            return False
        if header['has_map']:
            read_scene_map(map_path(options.folder, scene))
    except (BadFile, InfosError, KeyError):
        return False
    return _WRITTEN <= header.keys()


def create_infos(options: CreateOptions, progress: bool = True) -> CreateReport:
    """Make the info files that are not there yet and the index over all that are.

    Raises:
        FileNotFoundError: there is no such version below the root.
        PermissionError: the folder for the infos cannot be written.
        ValueError: an unknown split.
    """
    if not is_writable(options.folder):
        raise PermissionError(f'{options.folder}: cannot be written; name another folder with --out')
    if progress:
        print(f'reading the tables of {options.version} in {options.root}', file=sys.stderr)
    nusc = open_tables(options.root, options.version)
    splits = scenes_of_splits(nusc)
    scenes = {scene['name']: scene for scene in nusc.scene}
    locations = {name: nusc.get('log', scene['log_token'])['location'] for name, scene in scenes.items()}

    for name in scenes:
        file_name(name, f'{options.root / options.version}/scene.json: name')
    names = chosen_scenes(nusc, splits, options)
    options.folder.mkdir(parents=True, exist_ok=True)
    finished = [] if options.overwrite else [n for n in names if is_finished(options, n, locations[n])]
    todo = [name for name in names if name not in set(finished)]

    # maps are loaded before the workers fork, which then share them
    cities = {city: load_city(options.root, city) for city in sorted({locations[name] for name in todo})}
    reader = SceneReader(nusc, options.lidar_sweeps, options.radar_sweeps, options.channels)
    _run(_Work(options, reader, scenes, cities), todo, progress)

    index = build_index(options, splits, locations)
    write_index(options.folder, index)
    return CreateReport(options.folder, tuple(todo), tuple(finished), tuple(index['unfinished']), index)


def chosen_scenes(nusc: NuScenes, splits: dict[str, list[str]], options: CreateOptions) -> list[str]:
    """The scenes this run is to make: those of the chosen splits, every n-th of them for a shard."""
    unknown = [split for split in options.splits if split not in splits]
    if unknown:
        raise ValueError(f'splits: found {", ".join(unknown)}; {options.version} has {", ".join(splits)}')

    chosen = {name for split in options.splits for name in splits[split]}
    names = [s['name'] for s in nusc.scene if not options.splits or s['name'] in chosen]
    first, step = options.shard
    return names[first::step]


def _run(work: _Work, names: list[str], progress: bool) -> None:
    global _work
    _work = work
    try:
        workers = work.options.workers
        done = _in_processes(names, workers) if workers > 1 else map(_make_scene, names)
        for _ in _with_progress(done, len(names), progress):
            pass
    finally:
        _work = None


def _in_processes(names: list[str], workers: int) -> Iterator[str]:
    """Forked workers share the loaded tables; where there is no fork, one process does all."""
    if 'fork' not in multiprocessing.get_all_start_methods():
        yield from map(_make_scene, names)
        return
    with multiprocessing.get_context('fork').Pool(min(workers, max(1, len(names)))) as pool:
        yield from pool.imap_unordered(_make_scene, names)


def _with_progress(done: Iterable[str], total: int, progress: bool) -> Iterable[str]:
    if not progress or not total:
        return done
    from tqdm import tqdm

    return tqdm(done, total=total, unit='scene', desc='infos', mininterval=0.5)


def build_index(options: CreateOptions, splits: dict[str, list[str]], locations: dict[str, str]) -> Json:
    """The index over all finished scenes of the version.

    Args:
        options: of this run.
        splits: split -> names of its scenes.
        locations: name of every scene of the version -> its city, in the tables' order.
    """
    headers = {
        name: read_scene_header(scene_path(options.folder, name))
        for name, location in locations.items()
        if is_finished(options, name, location)}

    left_out: Counter[str] = Counter()
    channels: Counter[str] = Counter()
    image_sizes: dict[str, Counter[str]] = {}
    class_counts: dict[str, dict[str, int]] = {}
    for header in headers.values():
        left_out.update(header['left_out'])
        channels.update(header['channels'])
        class_counts.update(header['class_counts'])
        for camera, sizes in header['image_sizes'].items():
            image_sizes.setdefault(camera, Counter()).update(sizes)

    tokens = {
        split: [token for name in names if name in headers for token in headers[name]['tokens']]
        for split, names in splits.items()}
    scenes = {
        name: {key: header[key] for key in INDEXED}
        for name, header in headers.items()}
    return {
        'version': options.version,
        'lidar_sweeps': options.lidar_sweeps,
        'radar_sweeps': options.radar_sweeps,
        'splits': tokens,
        'scenes': scenes,
        'class_counts': class_counts,
        'channels': dict(sorted(channels.items())),
        'image_sizes': {camera: dict(sizes) for camera, sizes in sorted(image_sizes.items())},
        'left_out': dict(sorted(left_out.items())),
        'unfinished': [name for name in locations if name not in headers],
    }


def describe(report: CreateReport) -> str:
    """The report in words: what was written, and what is absent with how often."""
    index = report.index
    frames = sum(len(s['tokens']) for s in index['scenes'].values())
    lines = [
        f'{os.fspath(report.folder / INDEX_NAME)}: {len(index["scenes"])} scenes, {frames} frames '
        f'({len(report.made)} scenes made now, {len(report.finished_before)} were finished)'
    ]
    lines += [f'  {split}: {len(tokens)} frames' for split, tokens in index['splits'].items()]
    if report.unfinished:
        lines.append(
            f'  {len(report.unfinished)} scenes of this version are not made yet (other shards or splits)'
        )

    lines += _image_lines(index['image_sizes'])
    lines.append('What is absent, recorded as missing:' if index['left_out'] else 'Nothing is absent.')
    lines += [f'  {count:>8}  {what}' for what, count in index['left_out'].items()]
    return '\n'.join(lines + _channel_lines(index, frames))


def _image_lines(image_sizes: Json) -> list[str]:
    """Width and height of the images: in one line where all are alike, else a line a camera."""
    different = {size for sizes in image_sizes.values() for size in sizes}
    if len(different) < 2:
        return [f'  images: {size} pixels' for size in different]

    lines = ['Images differ in width x height (frames):']
    for name, sizes in image_sizes.items():
        lines.append(f'  {name}: ' + ', '.join(f'{size} ({count})' for size, count in sizes.items()))
    return lines


def _channel_lines(index: Json, frames: int) -> list[str]:
    """For every channel that no frame has: which ones there are instead."""
    lost = [
        what.removeprefix(NO_ENTRY) for what, count in index['left_out'].items()
        if what.startswith(NO_ENTRY) and count == frames]
    unread = [name for name in index['channels'] if name not in CHANNELS]
    if not lost or not unread:
        return []
    return [
        f'No {", ".join(lost)} in {frames} of {frames} frames; there are: {", ".join(unread)} '
        f'(--channels {lost[0]}={unread[0]} reads it)']
