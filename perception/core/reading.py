"""Files that others wrote, read within bounds: nothing in them runs, hangs or fills the memory.

Only regular files are opened, and none above a size that its kind can have; what a file would unpack to is
known from its header, or counted while it is unpacked, before it is believed. All that can go wrong with the
content of a file is one error, `BadFile`. `docs/security.md` lists the limits;
`PERCEPTION_SIZE_LIMIT=4` in the environment allows four times as much of each.
"""
from __future__ import annotations

import gzip
import io
import json
import math
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

PathLike = str | os.PathLike
Content = TypeVar('Content')

MIB = 1024 ** 2
SIZE_LIMIT_VARIABLE = 'PERCEPTION_SIZE_LIMIT'
ARCHIVE_MIB = 1024
"""Largest archive of arrays, unpacked."""
TEXT_MIB = 4096
"""Largest JSON, unpacked: the detections of nuScenes' validation split have one gigabyte at most."""
RATIO = 100
UNSUSPICIOUS_MIB = 64
"""Above this size, no file of ours unpacks to more than `RATIO` times its own."""
_MOST_ARRAYS = 100_000

DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
    zipfile.LargeZipFile, zlib.error)
"""What decoders raise for content they cannot read: the one list for archives of every kind. RuntimeError has
RecursionError and NotImplementedError in it, ValueError those of text and JSON."""


class BadFile(ValueError):
    """A file that is absent, unreadable, cut short or of another kind than its place says.

    Attributes:
        path: the file.
        reason: what was found and what was expected, in words.
    """

    def __init__(self, path: PathLike, reason: str) -> None:
        super().__init__(os.fspath(path), reason)
        self.path, self.reason = os.fspath(path), reason

    def __str__(self) -> str:
        return f'{self.path}: {self.reason}'


@contextmanager
def decoding(path: PathLike, kind: str) -> Iterator[None]:
    """Whatever a decoder raises inside becomes a BadFile that names the file and the `kind` expected."""
    try:
        yield
    except BadFile:
        raise
    except DAMAGE as error:
        words = ' '.join(str(error).split())[:200]
        raise BadFile(path, f'cannot be read as {kind}: {type(error).__name__}: {words}') from error


def decoded(
    path: PathLike, kind: str, read: Callable[[], Content], raised: type[ValueError] = BadFile
) -> Content:
    """What `read()` gives; whatever it raises for damaged content becomes `raised`, with file and kind."""
    try:
        with decoding(path, kind):
            return read()
    except BadFile as error:
        raise error if raised is BadFile else raised(str(error)) from error


# -------------------------------------------------------------------- limits

def allowed_bytes(mib: float) -> int:
    """A limit in bytes, after the factor of `PERCEPTION_SIZE_LIMIT`.

    Raises:
        ValueError: the variable is no number above 0.
    """
    word = os.environ.get(SIZE_LIMIT_VARIABLE, '1')
    try:
        factor = float(word)
    except ValueError:
        factor = 0.0
    if not 0 < factor < math.inf:
        raise ValueError(f'{SIZE_LIMIT_VARIABLE}: expected a number above 0, found {word!r}')
    return int(mib * MIB * factor)


def check_size(path: PathLike, size: int, mib: float, what: str) -> None:
    """Refuse a size in bytes above a limit.

    Raises:
        BadFile: says both, and how to allow more.
    """
    limit = allowed_bytes(mib)
    if size > limit:
        raise BadFile(
            path,
            f'found {what} of {size / MIB:.0f} MiB, expected at most {limit / MIB:.0f}; '
            f'{SIZE_LIMIT_VARIABLE}={math.ceil(size / (mib * MIB))} in the environment would allow it')


def check_unpacked(path: PathLike, packed: int, unpacked: int, mib: float) -> None:
    """Refuse what unpacks to more than a limit, or to more than a file of this size can hold of real data."""
    check_size(path, unpacked, mib, 'an archive that unpacks to content')
    check_size(
        path, unpacked, max(UNSUSPICIOUS_MIB, RATIO * packed / MIB),
        f'a file of {packed / MIB:.1f} MiB that unpacks to content')


# -------------------------------------------------------------------- bytes, text, JSON

def read_file(path: PathLike, mib: float, expected: str = 'data') -> bytes:
    """The whole content of a regular file of a plausible size; a pipe or a device is refused, not waited for.

    Args:
        path: the file.
        mib: largest size in MiB.
        expected: what it should hold, for the message of an empty file.

    Raises:
        BadFile: it is not there, cannot be read, is no regular file, is too large, or holds zero bytes.
    """
    if '\0' in os.fspath(path):
        raise BadFile(path, 'found no such file')
    try:
        # a pipe without a writer must not block the opening
        handle = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            raise BadFile(path, f'cannot be read: found {_kind(found.st_mode)}, expected a regular file')

        with open(handle, 'rb') as file:
            check_size(path, found.st_size, mib, 'a file')
            data = file.read(found.st_size)
    except (FileNotFoundError, NotADirectoryError):
        raise BadFile(path, 'found no such file') from None
    except OSError as error:
        raise BadFile(path, f'cannot be read ({error.strerror or error})') from error

    if not data:
        raise BadFile(path, f'found zero bytes, expected {expected}')
    return data


def _kind(mode: int) -> str:
    kinds = {'a folder': stat.S_ISDIR, 'a pipe': stat.S_ISFIFO, 'a socket': stat.S_ISSOCK}
    return next((name for name, holds in kinds.items() if holds(mode)), 'a device')


def read_unpacked(path: PathLike, mib: float = TEXT_MIB) -> bytes:
    """The content of a file, unpacked where it is gzip (by its first bytes, whatever its name).

    Raises:
        BadFile: as `read_file`; or the gzip stream is damaged, or unpacks to too much.
    """
    data = read_file(path, mib)
    if not data.startswith(b'\x1f\x8b'):
        return data

    parts = []
    size = 0
    with decoding(path, 'gzip'), gzip.open(io.BytesIO(data)) as file:
        while part := file.read(MIB):
            parts.append(part)
            size += len(part)
            check_unpacked(path, len(data), size, mib)
    return b''.join(parts)


def read_text(path: PathLike, mib: float = TEXT_MIB) -> str:
    """As `read_unpacked`, as UTF-8, with or without a byte order mark."""
    data = read_unpacked(path, mib)
    with decoding(path, 'text'):
        return data.decode('utf-8-sig')


def parse_json(path: PathLike, text: str | bytes) -> Any:
    """Plain values of JSON text that was read from `path`.

    Raises:
        BadFile: it is not JSON, or nested too deeply.
    """
    with decoding(path, 'JSON'):
        return json.loads(text)


def read_json(path: PathLike, mib: float = TEXT_MIB) -> Any:
    """As `read_text`, parsed."""
    return parse_json(path, read_text(path, mib))


# -------------------------------------------------------------------- archives of arrays

def read_arrays(
    path: PathLike, names: Iterable[str] | None = None, mib: float = ARCHIVE_MIB
) -> dict[str, np.ndarray]:
    """The arrays of an .npz.

    Sizes are compared with the limit before anything is unpacked; an array that claims more elements than
    its entry has bytes is refused before memory is taken for it; objects are never unpickled.

    Args:
        path: the file.
        names: read these alone; those that are not there are passed over.
        mib: largest size of all entries together, in MiB.

    Raises:
        BadFile: absent, no such archive, damaged, or too large.
    """
    data = read_file(path, mib, 'arrays')
    with decoding(path, 'an archive of arrays (.npz)'), zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename.removesuffix('.npy'): entry for entry in archive.infolist()}
        if len(entries) > _MOST_ARRAYS:
            raise BadFile(path, f'found {len(entries)} arrays, expected at most {_MOST_ARRAYS}')

        total = sum(entry.file_size for entry in archive.infolist())
        check_unpacked(path, len(data), total, mib)
        chosen = entries if names is None else [name for name in names if name in entries]
        return {name: _array(archive.read(entries[name])) for name in chosen}


def _array(content: bytes) -> np.ndarray:
    """The array of a .npy file's content. Raises whatever damage leads to."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, columns_first, dtype = read_header(stream)
    if dtype.kind not in 'biufSU':
        raise TypeError(f'elements of type {dtype}, expected numbers, truth values or text')

    # Python's own integers, which do not overflow
    count = math.prod(map(int, shape))
    rest = memoryview(content)[stream.tell():]
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(rest):
        raise ValueError(f'{len(rest)} bytes of elements, the header says shape {shape} of {dtype}')
    if dtype.itemsize == 0:  # empty texts
        return np.zeros(shape if count < len(content) else 0, dtype)
    return np.frombuffer(rest, dtype).reshape(shape, order='F' if columns_first else 'C').copy()


def check_array(
    path: PathLike,
    name: str,
    array: np.ndarray,
    kinds: str,
    shape: Sequence[int | None],
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """The array, if it is of one of the kinds (letters as in `numpy.dtype.kind`), shape and range expected.

    Args:
        path: the file it is of.
        name: of the array, for the message.
        array: what was read.
        kinds: 'iu' whole numbers, 'f' floating-point ones, 'b' truth values, 'U' text.
        shape: None stands for any size.
        limits: lowest and highest value allowed; NaN is neither.

    Raises:
        BadFile: names the array, what was found and what was expected.
    """
    sizes = ', '.join('any' if size is None else str(size) for size in shape)
    if array.dtype.kind not in kinds:
        names = {'b': 'truth values', 'i': 'whole numbers', 'f': 'real numbers', 'U': 'text'}
        wanted = ' or '.join(names[kind] for kind in kinds if kind in names)
        raise BadFile(path, f'{name}: found elements of type {array.dtype}, expected {wanted}')

    fits = len(shape) == array.ndim and all(e in (None, s) for e, s in zip(shape, array.shape, strict=True))
    if not fits:
        raise BadFile(path, f'{name}: found shape {array.shape}, expected ({sizes})')

    if limits is not None and array.size:
        low, high = array.min(), array.max()
        if not (low >= limits[0] and high <= limits[1]):
            raise BadFile(
                path, f'{name}: found values from {low} to {high}, expected {limits[0]:g} to {limits[1]:g}'
            )
    return array
