"""Which files a recording has: a folder with `metadata.yaml`, one that was never finished, a bare file."""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from ...core.reading import BadFile, decoding, read_text
from ...core.rig.plain import plain_yaml
from .mcap_file import McapBag
from .records import BagFile
from .ros1_file import Ros1Bag
from .sqlite_file import SqliteBag

METADATA = 'metadata.yaml'
METADATA_MIB = 16
KINDS: dict[str, Callable[..., BagFile]] = {'.mcap': McapBag, '.db3': SqliteBag, '.bag': Ros1Bag}
"""End of a file's name -> its reader."""


def open_files(path: Path) -> tuple[list[BagFile], list[str]]:
    """The files of a recording in the order of their times, and what is wrong with the folder.

    Args:
        path: a folder of a ROS 2 bag, or a .mcap, .db3 or .bag file.

    Raises:
        BadFile: nothing there, or nothing that is a recording. MissingReader: the extra is not installed.
    """
    if path.is_file():
        return [_open_file(path)], []
    if not path.is_dir():
        raise BadFile(path, 'found no such recording, expected a folder of a ROS 2 bag, a .mcap or a .bag')

    problems: list[str] = []
    information = _information(path, problems)
    packed = _packing(path, information) == 'message'
    files = [path / name for name in _listed(path, information)]
    there = [file for file in files if file.is_file()]
    problems += [
        f'{file.name}: listed in {METADATA}, found no such file' for file in files if file not in there]
    if not there:
        there = sorted((p for p in path.iterdir() if p.suffix in KINDS and p.is_file()), key=_by_number)
    if not there:
        raise BadFile(path, f'found no {", ".join(KINDS)} file in it, expected a recording')

    opened = []
    for file in there:
        try:
            opened.append(_open_file(file, packed))
        except BadFile as error:
            problems.append(f'{file.name}: {error.reason}')
    if not opened:
        raise BadFile(path, f'found no file that can be read: {"; ".join(problems)}')
    return opened, problems


def _open_file(path: Path, packed: bool = False) -> BagFile:
    if path.suffix not in KINDS:
        raise BadFile(path, f'found a file of another kind, expected one of {", ".join(KINDS)}')
    if not path.stat().st_size:
        raise BadFile(path, 'found zero bytes, expected a recording')
    return SqliteBag(path, packed) if path.suffix == '.db3' else KINDS[path.suffix](path)


def _by_number(path: Path) -> list[Any]:
    """`drive_2` before `drive_10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', path.name)]


def _information(path: Path, problems: list[str]) -> dict[str, Any]:
    """What `metadata.yaml` says; empty where there is none or it is damaged, which is said."""
    file = path / METADATA
    if not file.is_file():
        problems.append(f'{METADATA}: found none, as after a crash; the folder was searched for files')
        return {}

    try:
        content = plain_yaml(file, read_text(file, METADATA_MIB))
        with decoding(file, 'YAML'):
            return dict(content['rosbag2_bagfile_information'])
    except BadFile as error:
        problems.append(f'{METADATA}: {error.reason}; the folder was searched for files')
        return {}


def _packing(path: Path, information: dict[str, Any]) -> str:
    """'' or 'message'.

    Raises:
        BadFile: whole files are packed, which are unpacked by hand.
    """
    mode = str(information.get('compression_mode') or '').lower()
    if mode == 'file':
        raise BadFile(
            path, 'found files that are packed as a whole (compression_mode FILE), expected plain ones: '
                  f'`zstd -d` unpacks them, then take away {METADATA}')
    return 'message' if mode == 'message' else ''


def _listed(path: Path, information: dict[str, Any]) -> list[str]:
    """The names of the files; only their last parts count, as a recording is moved about."""
    names = information.get('relative_file_paths')
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadFile(path / METADATA, f'relative_file_paths: found {names!r:.200}, expected a list of names')
    return [PurePath(name).name for name in names]
