"""Read pickles that hold plain data, without ever running what they ask for.

A pickle is a program: it may name any function of any module and call it. Here every name is refused but
those that rebuild numpy arrays and a few containers, and even these are stand-ins written in Python, since
numpy's own reconstruction trusts the flags it is given. Stand-ins become real arrays after the file has been
read.
"""
from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...core.reading import MIB, BadFile, read_file

PICKLE_MIB = 4096
"""Largest file: mmdet3d's infos of nuScenes have about 300 MiB."""
SECONDS, SECONDS_PER_MIB = 10.0, 2.0
MEMORY_MIB, MEMORY_PER_BYTE = 1024, 60
_NO_MEMORY = 3
_PLAIN_TYPE = re.compile(r'[biufUS?]\d*|O8?')
_MAX_DEPTH = 64


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that plain data does not need."""


class _Call:
    """A function that a pickle may call, and do nothing else with."""

    __slots__ = ('_function',)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, '_function', function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused('it tries to change a function')

    def __setstate__(self, state: Any) -> None:
        raise Refused('it tries to change a function')


class _Dtype:
    """A plain element type, before and after its byte order is set."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _PLAIN_TYPE.fullmatch(code):
            raise Refused(f'it holds elements of type {code!r}, expected numbers, truth values or text')
        self.code, self.order = code, '='

    def __setstate__(self, state: tuple) -> None:
        order, fields = state[1], state[2:5]
        if order not in ('<', '>', '=', '|') or any(f is not None for f in fields):
            raise Refused('it holds elements with inner structure, expected plain ones')
        self.order = order

    def real(self) -> np.dtype:
        """The numpy type it stands for."""
        return np.dtype(self.code) if self.code[0] in 'O?' else np.dtype(self.code).newbyteorder(self.order)


class _Array:
    """An array, first empty, then with its shape, type and content."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple | None = None

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def real(self, depth: int) -> np.ndarray:
        """The array it stands for; `depth` counts how deep it is nested."""
        if self.state is None or len(self.state) != 5 or not isinstance(self.state[2], _Dtype):
            raise Refused('it holds an array without content')

        _, shape, dtype, columns_first, content = self.state
        if dtype.code[0] == 'O':
            if not isinstance(content, list):
                raise Refused('it holds an array of objects whose content is not a list')
            flat = np.empty(len(content), dtype=object)
            flat[:] = [_real(item, depth + 1) for item in content]
        else:
            flat = _from_bytes(content, dtype)
        return flat.reshape(shape, order='F' if columns_first else 'C').copy()


def _from_bytes(content: Any, dtype: Any) -> np.ndarray:
    if (
        not isinstance(dtype, _Dtype)
        or dtype.code[0] == 'O'
        or not isinstance(content, (bytes, bytearray, memoryview))
    ):
        raise Refused('it holds an array whose content is not bytes of plain elements')
    return np.frombuffer(bytes(content), dtype.real())


def _from_buffer(content: Any, dtype: Any, shape: tuple, order: str) -> np.ndarray:
    return _from_bytes(content, dtype).reshape(shape, order='F' if order == 'F' else 'C').copy()


def _scalar(dtype: Any, content: Any = b'') -> Any:
    return _from_bytes(content, dtype)[0]


def _latin1(text: str, encoding: str = 'latin1') -> bytes:
    if encoding != 'latin1' or not isinstance(text, str):
        raise Refused(f'it encodes text as {encoding!r}')
    return text.encode('latin1')


def _bytearray(content: Any = b'') -> bytearray:
    if not isinstance(content, (bytes, bytearray)):
        raise Refused('it makes a bytearray of something else than bytes')
    return bytearray(content)


_OLD_NAMES = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}  # what protocol 2 calls them
_NUMPY_CORE = ('numpy.core', 'numpy._core')
_ALLOWED: dict[tuple[str, str], Any] = {
    ('numpy', 'dtype'): _Call(_Dtype), ('numpy', 'ndarray'): _Call(_Array),
    ('_codecs', 'encode'): _Call(_latin1), ('collections', 'OrderedDict'): _Call(dict),
    ('builtins', 'set'): _Call(set), ('builtins', 'frozenset'): _Call(frozenset),
    ('builtins', 'bytearray'): _Call(_bytearray),
    ('builtins', 'bytes'): _Call(lambda *content: bytes(_bytearray(*content))),
    **{(f'{core}.multiarray', '_reconstruct'): _Call(_Array) for core in _NUMPY_CORE},
    **{(f'{core}.multiarray', 'scalar'): _Call(_scalar) for core in _NUMPY_CORE},
    **{(f'{core}.numeric', '_frombuffer'): _Call(_from_buffer) for core in _NUMPY_CORE}}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = _OLD_NAMES.get(module, module)
        stand_in = _ALLOWED.get((module, name))
        if stand_in is None:
            raise Refused(f'it asks for {module}.{name}, which plain data does not need; nothing was run')
        return stand_in


def _real(value: Any, depth: int = 0) -> Any:
    """Containers with their stand-ins replaced by arrays."""
    if depth > _MAX_DEPTH:
        raise Refused(f'it is nested more than {_MAX_DEPTH} deep')
    if isinstance(value, _Array):
        return value.real(depth)
    if isinstance(value, dict):
        return {_real(k, depth + 1): _real(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_real(item, depth + 1) for item in value)
    if isinstance(value, (_Call, _Dtype)):
        raise Refused('it holds a function or a type, expected data')
    return value


def load_plain_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle of dictionaries, lists, tuples, sets, numbers, text and numpy arrays.

    A few hundred bytes can ask for hours of hashing or for all memory, inside Python's own reader. So a child
    process reads the file first, under limits of time and memory that grow with its size.

    Raises:
        BadFile: the file is absent, is no pickle, is cut short, asks for anything else, or for more time or
            memory than a file of its size can need; nothing it names is imported or run.
    """
    data = read_file(path, PICKLE_MIB, 'a pickle')
    _rehearse(path, data)
    try:
        return _plain(data)
    except Refused as error:
        raise BadFile(path, f'refused to read this pickle: {error}') from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise BadFile(path, f'found no readable pickle ({type(error).__name__}: {error})') from error


def _plain(data: bytes) -> Any:
    return _real(_PlainUnpickler(io.BytesIO(data)).load())


def _rehearse(path: str | os.PathLike, data: bytes) -> None:
    """Raise BadFile where a child process cannot read the pickle within its limits."""
    if 'fork' not in multiprocessing.get_all_start_methods():
        return

    seconds = SECONDS + SECONDS_PER_MIB * len(data) / MIB
    child = multiprocessing.get_context('fork').Process(target=_read_within_limits, args=(data,))
    child.start()
    child.join(seconds)

    if child.is_alive():
        child.kill()
        child.join()
        raise BadFile(path, f'refused to read this pickle: {len(data)} bytes take more than {seconds:.0f} s')

    if child.exitcode == _NO_MEMORY:
        raise BadFile(
            path, f'refused to read this pickle: {len(data)} bytes take more than {_memory(data)} MiB'
        )
    if child.exitcode:
        raise BadFile(path, f'refused to read this pickle: its reader ended with status {child.exitcode}')


def _memory(data: bytes) -> int:
    return MEMORY_MIB + MEMORY_PER_BYTE * len(data) // MIB


def _read_within_limits(data: bytes) -> None:
    """In the child: read, and say by the exit status whether memory ran out.

    What else goes wrong goes wrong again in the parent, which says it.
    """
    try:
        import resource

        pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[0])
        limit = pages * resource.getpagesize() + _memory(data) * MIB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):  # another system: the limit of time is left
        pass
    try:
        _plain(data)
    except MemoryError:
        os._exit(_NO_MEMORY)
    except BaseException:
        pass
    os._exit(0)
