"""What of a nuScenes-format root is there: the doctor's look at a dataset. Reads little even of large
tables."""
from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

from .doctor import Finding

TABLES = (
    'attribute', 'calibrated_sensor', 'category', 'ego_pose', 'instance', 'log', 'map', 'sample',
    'sample_annotation', 'sample_data', 'scene', 'sensor', 'visibility')
LIDAR = 'LIDAR_TOP'
DOWNLOAD = 'https://www.nuscenes.org/download'
OCCUPANCY_FROM = 'unpack gts.tar.gz of the Occ3D-nuScenes project'
SAMPLED_FILES = 6000
_SCAN_ALL_BYTES = 64 * 1024**2
_FILENAME = re.compile(rb'"filename"\s*:\s*"([^"]+)"')


def check_root(root: Path, version: str | None = None) -> list[Finding]:
    """Findings about a root; without `version` about every version whose tables are there."""
    if not root.is_dir():
        return [
            Finding(
                'data',
                str(root),
                'absent',
                'no such folder',
                'python tools/make_world.py --out data/world --scenes 2, '
                f'or link nuScenes there ({DOWNLOAD})',
                required=True,
            )
        ]
    found = sorted(p.parent.name for p in root.glob('*/sample_data.json'))
    wanted = [version] if version else found
    if not wanted or (version and version not in found):
        step = (
            f'use --version {found[0]}' if found else f'unpack the metadata archive of {DOWNLOAD} into {root}'
        )
        return [
            Finding(
                'data', version or 'tables', 'absent',
                f'no tables in {root / (version or "v1.0-*")}; versions found: {", ".join(found) or "none"}',
                step, required=True)
        ]
    return [finding for name in wanted for finding in check_version(root, name)]


def check_version(root: Path, version: str) -> list[Finding]:
    """Findings about one version of a root."""
    area = f'data {version}'
    tables = _check_tables(root, version, area)
    if tables.state != 'ok':
        return [tables]
    scenes = _table(root, version, 'scene')
    return [
        tables, *_check_files(root, version, area), _check_maps(root, version, area),
        _check_expansion(root, version, area), _check_can_bus(root, scenes, area),
        _check_lidarseg(root, version, area), _check_occupancy(root, scenes, area),
        _check_infos(root, version, area)]


def _table(root: Path, version: str, name: str) -> list[dict]:
    return json.loads((root / version / f'{name}.json').read_text())


def _check_tables(root: Path, version: str, area: str) -> Finding:
    absent = [name for name in TABLES if not (root / version / f'{name}.json').is_file()]
    if absent:
        return Finding(area, 'tables', 'broken', f'absent: {", ".join(absent)}',
                       f'unpack the metadata archive again ({DOWNLOAD})', required=True)
    try:
        scenes, samples = len(_table(root, version, 'scene')), len(_table(root, version, 'sample'))
    except ValueError as error:
        return Finding(area, 'tables', 'broken', f'scene.json or sample.json is not JSON: {error}',
                       f'unpack the metadata archive again ({DOWNLOAD})', required=True)
    return Finding(
        area, 'tables', 'ok', f'all {len(TABLES)}: {scenes} scenes, {samples} key frames', required=True
    )


# ----------------------------------------------------------------------------------------------------------
# sensor files

def sampled_files(path: Path, count: int = SAMPLED_FILES) -> list[str]:
    """File names that `sample_data.json` mentions: all of a small table, about `count` spread over a large
    one.

    The full table has a gigabyte; the names are found by their key without parsing it.
    """
    size = path.stat().st_size
    with open(path, 'rb') as file:
        if size <= _SCAN_ALL_BYTES:
            return [name.decode() for name in _FILENAME.findall(file.read())]
        names = {}
        for i in range(count):
            file.seek(size * i // count)
            found = _FILENAME.search(file.read(4096))
            if found:
                names[found[1].decode()] = None
        return list(names)


def _check_files(root: Path, version: str, area: str) -> list[Finding]:
    """One finding per channel and kind (key frames, sweeps): the share of sampled files that are there."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sampled_files(root / version / 'sample_data.json'):
        kind, channel = Path(name).parts[:2] if len(Path(name).parts) > 2 else ('other', 'other')
        groups[kind, channel].append(name)
    return [
        _check_channel(root, area, kind, channel, names) for (kind, channel), names in sorted(groups.items())
    ]


def _check_channel(root: Path, area: str, kind: str, channel: str, names: list[str]) -> Finding:
    names = names[::max(1, len(names) // (SAMPLED_FILES // 12))]
    there = sum((root / name).is_file() for name in names)
    state = 'ok' if there == len(names) else 'partly' if there else 'absent'
    step = (
        ''
        if state == 'ok'
        else f'unpack the sensor archives ({DOWNLOAD}); frames without them are loaded with a mask'
    )
    return Finding(
        area, f'{kind}/{channel}', state,
        f'{there} of {len(names)} files looked for ({there / len(names):.0%})', step)


# ------------------------------------------------------------------------------------------------------------
# other parts

def _share(area: str, name: str, there: int, of: int, unit: str, step: str) -> Finding:
    state = 'ok' if there >= of else 'partly' if there else 'absent'
    return Finding(area, name, state, f'{there} of {of} {unit}', '' if state == 'ok' else step)


def _check_maps(root: Path, version: str, area: str) -> Finding:
    names = [row['filename'] for row in _table(root, version, 'map')]
    there = sum((root / name).is_file() for name in names)
    return _share(
        area, 'map pictures', there, len(names), 'files', f'unpack the metadata archive again ({DOWNLOAD})'
    )


def _check_expansion(root: Path, version: str, area: str) -> Finding:
    cities = sorted({row['location'] for row in _table(root, version, 'log')})
    there = [c for c in cities if (root / 'maps' / 'expansion' / f'{c}.json').is_file()]
    return _share(
        area,
        'map expansion',
        len(there),
        len(cities),
        f'cities ({", ".join(cities)})',
        f'unpack the map expansion v1.3 into {root / "maps"} ({DOWNLOAD}); without it: no map and no lane labels',
    )


def _check_can_bus(root: Path, scenes: list[dict], area: str) -> Finding:
    there = sum((root / 'can_bus' / f'{scene["name"]}_pose.json').is_file() for scene in scenes)
    return _share(area, 'can_bus', there, len(scenes), 'scenes',
                  f'unpack the CAN bus expansion into {root} ({DOWNLOAD}), if wanted')


def _check_lidarseg(root: Path, version: str, area: str) -> Finding:
    step = f'unpack nuScenes-lidarseg into {root} ({DOWNLOAD}), if wanted'
    if not (root / version / 'lidarseg.json').is_file():
        return Finding(area, 'lidarseg', 'absent', f'no {version}/lidarseg.json', step)
    names = sampled_files(root / version / 'lidarseg.json', 200)[:200]
    return _share(
        area, 'lidarseg', sum((root / name).is_file() for name in names), len(names), 'files looked for', step
    )


def _check_occupancy(root: Path, scenes: list[dict], area: str) -> Finding:
    """Occ3D's `gts/<scene>/<token>/labels.npz`, or `occupancy/<token>/labels.npz`."""
    there = sum(any((root / 'gts' / scene['name']).glob('*/labels.npz')) for scene in scenes)
    single = sum(1 for _ in (root / 'occupancy').glob('*/labels.npz'))
    step = f'{OCCUPANCY_FROM} into {root / "gts"}; without it: no occupancy labels'
    if not there and single:
        return Finding(area, 'occupancy', 'partly', f'{single} frames in occupancy/', step)
    return _share(area, 'occupancy', there, len(scenes), 'scenes in gts/', step)


def _check_infos(root: Path, version: str, area: str) -> Finding:
    from .datasets.reading.infos import InfosError, read_index
    step = f'python tools/create_data.py nuscenes --root {root} --version {version}'
    folder = root / 'infos' / version
    if not (folder / 'index.json').is_file():
        return Finding(area, 'infos', 'absent', f'no {folder / "index.json"}', step)
    try:
        index = read_index(folder)
    except InfosError as error:
        return Finding(area, 'infos', 'broken', str(error), step)
    frames = sum(len(scene['tokens']) for scene in index['scenes'].values())
    unfinished = len(index.get('unfinished', ()))
    detail = f'{len(index["scenes"])} scenes, {frames} frames' + (
        f'; {unfinished} scenes not made yet' if unfinished else ''
    )
    return Finding(area, 'infos', 'partly' if unfinished else 'ok', detail, step if unfinished else '')
