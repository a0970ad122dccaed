"""Files that are whole or not there, written under a temporary name and renamed; names from data as paths."""
from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

LINKS_VARIABLE = 'PERCEPTION_FOLLOW_LINKS'
"""Set to 1 in the environment, it allows links that lead out of a data root."""
_NAME = re.compile(r'\w[\w .,+=@-]{0,199}')


# -------------------------------------------------------------------- names from data

def file_name(name: Any, what: str) -> str:
    """A name that was read somewhere and shall name one file or folder: itself, or an error.

    Args:
        name: of a scene, a sample, a city ...
        what: which name it is, for the message.

    Raises:
        ValueError: it could name a file elsewhere, or none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f'{what}: found {name!r:.200}, expected a name of letters, digits, "_", ".", "-", ",", "+", "=", '
            '"@" and spaces that can name a file'
        )
    return name


def relative_path(name: Any, what: str) -> str:
    """A path that was read somewhere and shall lie below a folder: itself, or an error.

    Raises:
        ValueError: it is absolute, leads upwards, or is no path.
    """
    parts = name.replace('\\', '/').split('/') if isinstance(name, str) else ['']
    if not parts[0] or '..' in parts or '\0' in name or ':' in parts[0] or len(name) > 1000:
        raise ValueError(f'{what}: found {name!r:.200}, expected a path below the data root')
    return name


def path_below(root: str | Path, name: str) -> Path:
    """The file of a data root that a path in its tables or infos names.

    Raises:
        ValueError: it lies outside the root, by its name or by a link (which `PERCEPTION_FOLLOW_LINKS=1` in
            the environment allows).
    """
    path = Path(root) / relative_path(name, str(root))
    if os.environ.get(LINKS_VARIABLE) == '1':
        return path

    # only the last part can differ between the files of a folder
    folder = os.path.join(_resolved(os.path.abspath(path.parent)), path.name)
    real = os.path.realpath(folder) if os.path.islink(folder) else folder
    real_root = _resolved(os.path.abspath(root))
    if real != real_root and not real.startswith(os.path.join(real_root, '')):
        raise ValueError(
            f'{path}: a link leads to {real}, out of the data root {root}; {LINKS_VARIABLE}=1 in the '
            'environment allows that'
        )
    return path


@lru_cache(maxsize=4096)
def _resolved(folder: str) -> str:
    return os.path.realpath(folder)


# -------------------------------------------------------------------- content

def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2 ** 20):  # hashlib reads files itself from Python 3.11 on
            digest.update(part)
    return digest.hexdigest()


# -------------------------------------------------------------------- writing

def is_writable(folder: str | Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it is not there yet."""
    folder = Path(folder)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def write_whole(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Call `write(file)` on a temporary file beside `path`, then give it its name; folders are made.

    A failure leaves what stood at `path` before, and nothing beside it. Several processes may write the same
    file: the last wins.

    Raises:
        OSError: the file cannot be written (a full disk, no right to write); names it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f'cannot be written: {error.strerror}', str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_bytes(path: str | Path, content: bytes) -> Path:
    """As `write_whole`, of bytes."""
    return write_whole(path, lambda file: file.write(content))


def write_text(path: str | Path, text: str) -> Path:
    """As `write_whole`, of text in UTF-8."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any, indent: int | None = None) -> Path:
    """As `write_text`, of plain values.

    A float that is not a number stays NaN, as Python reads it (see `finite`).
    """
    return write_text(path, json.dumps(content, indent=indent))


def finite(content: Any) -> Any:
    """Plain values with None where a float is NaN or infinite, which JSON does not know."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and content - content != 0 else content
