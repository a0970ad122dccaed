"""Read pickles that hold plain data, without ever running what they ask for.

A pickle is a program: it may name any function of any module and call it. Here every name is refused but
those that rebuild numpy arrays and a few containers, and even these are stand-ins written in Python, since
numpy's own reconstruction trusts the flags it is given. Stand-ins become real arrays after the file has been
read.
"""
from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..reading.io import BadFile

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

    Raises:
        BadFile: the file is absent, is no pickle, is cut short, or asks for anything else; nothing it names
        is imported or run.
    """
    try:
        with open(path, 'rb') as file:
            return _real(_PlainUnpickler(file).load())
    except FileNotFoundError:
        raise BadFile(path, 'found no such file') from None
    except Refused as error:
        raise BadFile(path, f'refused to read this pickle: {error}') from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise BadFile(path, f'found no readable pickle ({type(error).__name__}: {error})') from error
