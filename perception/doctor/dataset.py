"""What of a nuScenes-format root is there. Reads little even of large tables."""
from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from .finding import Finding

TABLES = (
    'attribute', 'calibrated_sensor', 'category', 'ego_pose', 'instance', 'log', 'map', 'sample',
    'sample_annotation', 'sample_data', 'scene', 'sensor', 'visibility')
LIDAR = 'LIDAR_TOP'
DOWNLOAD = 'https://www.nuscenes.org/download'
OCCUPANCY_FROM = 'unpack gts.tar.gz of the Occ3D-nuScenes project'
METADATA_STEP = f'unpack the metadata archive again ({DOWNLOAD})'
SAMPLED_FILES = 6000
SCAN_ALL_BYTES = 64 * 1024**2
_FILENAME = re.compile(rb'"filename"\s*:\s*"([^"]+)"')


def check_root(root: Path, version: str | None = None) -> list[Finding]:
    """Findings about a root; without `version` about every version whose tables are there."""
    if not root.is_dir():
        step = (
            'python tools/make_world.py --out data/world --scenes 2, '
            f'or link nuScenes there ({DOWNLOAD})'
        )
        return [Finding('data', str(root), 'absent', 'no such folder', step, required=True)]

    available = sorted(path.parent.name for path in root.glob('*/sample_data.json'))
    chosen = [version] if version else available
    if chosen and set(chosen) <= set(available):
        return [finding for name in chosen for finding in check_version(root, name)]

    folder = root / (version or 'v1.0-*')
    detail = f'no tables in {folder}; versions found: {", ".join(available) or "none"}'
    step = f'unpack the metadata archive of {DOWNLOAD} into {root}'
    if available:
        step = f'use --version {available[0]}'
    return [Finding('data', version or 'tables', 'absent', detail, step, required=True)]


def check_version(root: Path, version: str) -> list[Finding]:
    """Findings about one version of a root."""
    area = f'data {version}'
    tables = _check_tables(root, version, area)
    if tables.state != 'ok':
        return [tables]

    scenes = _table(root, version, 'scene')
    checks: dict[str, Callable[[], list[Finding]]] = {
        'sensor files': lambda: _check_files(root, version, area),
        'map pictures': lambda: [_check_maps(root, version, area)],
        'map expansion': lambda: [_check_expansion(root, version, area)],
        'can_bus': lambda: [_check_can_bus(root, scenes, area)],
        'lidarseg': lambda: [_check_lidarseg(root, version, area)],
        'occupancy': lambda: [_check_occupancy(root, scenes, area)],
        'infos': lambda: [_check_infos(root, version, area)],
        'paste': lambda: _check_paste(root, version, area)}
    return [tables, *(finding for name, check in checks.items() for finding in _examined(area, name, check))]


def _examined(area: str, name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """What a check finds; rows of another form than the tables' are a finding too."""
    try:
        return check()
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        detail = f'rows of another form: {type(error).__name__}: {error}'
        return [Finding(area, name, 'broken', detail, METADATA_STEP)]


def _table(root: Path, version: str, name: str) -> list[dict]:
    return json.loads((root / version / f'{name}.json').read_text(encoding='utf-8-sig'))


def _check_tables(root: Path, version: str, area: str) -> Finding:
    absent = [name for name in TABLES if not (root / version / f'{name}.json').is_file()]
    if absent:
        return Finding(
            area, 'tables', 'broken', f'absent: {", ".join(absent)}', METADATA_STEP, required=True
        )

    try:
        scenes, samples = len(_table(root, version, 'scene')), len(_table(root, version, 'sample'))
    except (RecursionError, TypeError, ValueError) as error:
        detail = f'scene.json or sample.json is not JSON: {error}'
        return Finding(area, 'tables', 'broken', detail, METADATA_STEP, required=True)
    detail = f'all {len(TABLES)}: {scenes} scenes, {samples} key frames'
    return Finding(area, 'tables', 'ok', detail, required=True)


# -------------------------------------------------------------------- sensor files

def sampled_files(path: Path, count: int = SAMPLED_FILES) -> list[str]:
    """File names that `sample_data.json` mentions: all of a small table, about `count` of a large one.

    The full table has a gigabyte; the names are searched by their key, evenly spread, without parsing it.
    """
    size = path.stat().st_size
    with open(path, 'rb') as file:
        if size <= SCAN_ALL_BYTES:
            return [name.decode() for name in _FILENAME.findall(file.read())]

        names = {}  # in order, each once
        for i in range(count):
            file.seek(size * i // count)
            match = _FILENAME.search(file.read(4096))
            if match:
                names[match[1].decode()] = None
        return list(names)


def _check_files(root: Path, version: str, area: str) -> list[Finding]:
    """One finding per channel and kind (key frames, sweeps)."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sampled_files(root / version / 'sample_data.json'):
        kind, channel = Path(name).parts[:2] if len(Path(name).parts) > 2 else ('other', 'other')
        groups[kind, channel].append(name)
    return [_check_channel(root, area, '/'.join(key), names) for key, names in sorted(groups.items())]


def _check_channel(root: Path, area: str, channel: str, names: list[str]) -> Finding:
    """How many of the sampled files exist."""
    names = names[::max(1, len(names) // (SAMPLED_FILES // 12))]
    existing = _count_files(root, names)
    state = _state(existing, len(names))
    detail = f'{existing} of {len(names)} files looked for ({existing / len(names):.0%})'
    step = f'unpack the sensor archives ({DOWNLOAD}); frames without them are loaded with a mask'
    return Finding(area, channel, state, detail, '' if state == 'ok' else step)


def _count_files(root: Path, names: list[str]) -> int:
    return sum((root / name).is_file() for name in names)


def _state(existing: int, expected: int) -> str:
    if existing >= expected:
        return 'ok'
    return 'partly' if existing else 'absent'


# -------------------------------------------------------------------- other parts

def _check_count(area: str, name: str, existing: int, expected: int, unit: str, step: str) -> Finding:
    state = _state(existing, expected)
    return Finding(area, name, state, f'{existing} of {expected} {unit}', '' if state == 'ok' else step)


def _check_maps(root: Path, version: str, area: str) -> Finding:
    names = [row['filename'] for row in _table(root, version, 'map')]
    return _check_count(area, 'map pictures', _count_files(root, names), len(names), 'files', METADATA_STEP)


def _check_expansion(root: Path, version: str, area: str) -> Finding:
    cities = sorted({row['location'] for row in _table(root, version, 'log')})
    existing = sum((root / 'maps' / 'expansion' / f'{city}.json').is_file() for city in cities)
    step = (
        f'unpack the map expansion v1.3 into {root / "maps"} ({DOWNLOAD}); '
        'without it: no map and no lane labels'
    )
    return _check_count(
        area, 'map expansion', existing, len(cities), f'cities ({", ".join(cities)})', step
    )


def _check_can_bus(root: Path, scenes: list[dict], area: str) -> Finding:
    names = [f'can_bus/{scene["name"]}_pose.json' for scene in scenes]
    step = f'unpack the CAN bus expansion into {root} ({DOWNLOAD}), if wanted'
    return _check_count(area, 'can_bus', _count_files(root, names), len(scenes), 'scenes', step)


def _check_lidarseg(root: Path, version: str, area: str) -> Finding:
    step = f'unpack nuScenes-lidarseg into {root} ({DOWNLOAD}), if wanted'
    if not (root / version / 'lidarseg.json').is_file():
        return Finding(area, 'lidarseg', 'absent', f'no {version}/lidarseg.json', step)
    names = sampled_files(root / version / 'lidarseg.json', 200)[:200]
    return _check_count(
        area, 'lidarseg', _count_files(root, names), len(names), 'files looked for', step
    )


def _check_occupancy(root: Path, scenes: list[dict], area: str) -> Finding:
    """Occ3D's `gts/<scene>/<token>/labels.npz`, or `occupancy/<token>/labels.npz`."""
    existing = sum(any((root / 'gts' / scene['name']).glob('*/labels.npz')) for scene in scenes)
    single = sum(1 for _ in (root / 'occupancy').glob('*/labels.npz'))
    step = f'{OCCUPANCY_FROM} into {root / "gts"}; without it: no occupancy labels'
    if not existing and single:
        return Finding(area, 'occupancy', 'partly', f'{single} frames in occupancy/', step)
    return _check_count(area, 'occupancy', existing, len(scenes), 'scenes in gts/', step)


def _check_infos(root: Path, version: str, area: str) -> Finding:
    from ..datasets.reading.infos import InfosError, read_index

    step = f'python tools/create_data.py nuscenes --root {root} --version {version}'
    folder = root / 'infos' / version
    if not (folder / 'index.json').is_file():
        return Finding(area, 'infos', 'absent', f'no {folder / "index.json"}', step)
    try:
        index = read_index(folder)
    except InfosError as error:
        return Finding(area, 'infos', 'broken', str(error), step)

    frames = sum(len(scene['tokens']) for scene in index['scenes'].values())
    detail = f'{len(index["scenes"])} scenes, {frames} frames'
    unfinished = len(index.get('unfinished', ()))
    if unfinished:
        return Finding(area, 'infos', 'partly', f'{detail}; {unfinished} scenes not made yet', step)
    return Finding(area, 'infos', 'ok', detail)


def _check_paste(root: Path, version: str, area: str) -> list[Finding]:
    """Databases of objects where `create-data paste` writes them by itself; nothing where there is none."""
    from ..core.reading import BadFile
    from ..datasets.paste.database import read_paste_index
    from ..datasets.paste.objects import bin_path, table_path

    step = 'python tools/create_data.py paste CONFIG, with the configuration that it was made with'
    findings = []
    for path in sorted((root / 'paste' / version).glob('*/index.json')):
        folder, name = path.parent, f'objects of {path.parent.name}'
        try:
            index = read_paste_index(folder)
        except (BadFile, ValueError) as error:
            findings.append(Finding(area, name, 'broken', str(error), step))
            continue

        detail = f'{sum(index["scenes"].values())} objects of {len(index["scenes"])} scenes'
        lost = [
            scene for scene in index['scenes']
            if not (bin_path(folder, scene).is_file() and table_path(folder, scene).is_file())]
        if index['unfinished'] or lost:
            rest = len(index['unfinished']) + len(lost)
            findings.append(Finding(area, name, 'partly', f'{detail}; {rest} scenes are not there', step))
        else:
            findings.append(Finding(area, name, 'ok', detail))
    return findings
