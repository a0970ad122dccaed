"""Files of others, read within bounds."""
from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from perception.core.reading import BadFile, check_array, read_arrays, read_file, read_json, read_unpacked

MIB = 1024 ** 2


@pytest.fixture
def write(tmp_path: Path):
    def write_one(data: bytes, name: str = 'file') -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name
    return write_one


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy_claiming(shape: tuple, content: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {'descr': '<f8', 'fortran_order': False, 'shape': shape})
    return stream.getvalue() + content


def archive(entry: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', compression) as file:
        file.writestr('a.npy', entry)
    return stream.getvalue()


@pytest.mark.parametrize('array', [
    np.arange(12.).reshape(3, 4), np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)),
    np.array(True), np.array('name'), np.zeros((0, 3), np.float16), np.array(''), np.array(['a', 'bcd'])],
    ids=lambda array: f'{array.dtype}{array.shape}')
def test_arrays_are_read_as_numpy_reads_them(write, array: np.ndarray) -> None:
    path = write(npz(a=array, b=np.ones(2)))
    found = read_arrays(path)
    assert list(found) == ['a', 'b'] and found['a'].dtype == array.dtype and found['a'].flags.writeable
    np.testing.assert_array_equal(found['a'], array)
    assert list(read_arrays(path, ['b', 'c'])) == ['b']


@pytest.mark.parametrize(('data', 'words'), [
    (b'no archive', 'BadZipFile'),
    (archive(b'no array'), 'ValueError'),
    (archive(npy_claiming((10 ** 12,), bytes(8))), r'8 bytes of elements, the header says shape \(10{12},\)'),
    (archive(npy_claiming((-1,), bytes(8))), r'shape \(-1,\)'),
    (archive(npy_claiming((1,), bytes(8)), zipfile.ZIP_LZMA)[:-40], 'BadZipFile'),
    (npz(a=np.array([{}], dtype=object)), 'elements of type object'),
    (npz(a=np.zeros(2, [('x', 'f4')])), 'expected numbers')])
def test_a_damaged_archive_is_one_error(write, data: bytes, words: str) -> None:
    with pytest.raises(BadFile, match=f'file: cannot be read as an archive of arrays.*{words}'):
        read_arrays(write(data))


@pytest.mark.parametrize('seed', range(40))
def test_any_damage_is_an_answer_or_one_error(write, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(npz(a=np.arange(50), b=np.array('words')))
    for at in rng.integers(len(data), size=rng.integers(1, 9)):
        data[at] = rng.integers(256)
    path = write(bytes(data[:rng.integers(1, len(data) + 1)] if seed % 3 == 0 else data))
    try:
        read_arrays(path)
    except BadFile as error:
        assert str(path) in str(error)


def test_bombs_are_refused_before_they_are_unpacked(write, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(65 * MIB)
    with pytest.raises(BadFile, match='unpacks to content of 65 MiB, expected at most 64'):
        read_arrays(write(archive(zeros)))
    path = write(gzip.compress(zeros, 1))
    with pytest.raises(BadFile, match='unpacks to content of 65 MiB.*PERCEPTION_SIZE_LIMIT=2 in'):
        read_unpacked(path)
    with pytest.raises(BadFile, match='unpacks to content of 4 MiB, expected at most 3'):
        read_unpacked(path, 3)
    monkeypatch.setenv('PERCEPTION_SIZE_LIMIT', '2')
    assert read_unpacked(path) == zeros


def test_the_factor_is_checked(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PERCEPTION_SIZE_LIMIT', 'much')
    with pytest.raises(ValueError, match="PERCEPTION_SIZE_LIMIT: expected a number above 0, found 'much'"):
        read_file(write(b'data'), 1)


@pytest.mark.parametrize(('data', 'words'), [
    (b'{"a": 1', 'JSONDecodeError'), (b'[' * 100_000, 'RecursionError'),
    (b'\xff\xfe{}', 'UnicodeDecodeError'),
    (gzip.compress(b'{}', mtime=0)[:-4], 'EOFError'),
    (gzip.compress(bytes(range(99)), mtime=0)[:30] + b'x' * 50, 'rror')])
def test_damaged_json_is_one_error(write, data: bytes, words: str) -> None:
    with pytest.raises(BadFile, match=f'file: cannot be read as .*{words}'):
        read_json(write(data))


def test_gzip_is_known_by_its_content(write) -> None:
    assert read_json(write(gzip.compress(json.dumps([1]).encode()), 'plain.json')) == [1]


@pytest.mark.parametrize(('array', 'words'), [
    (np.zeros((2, 3), complex), 'a: found elements of type complex128, expected whole numbers'),
    (np.zeros((2, 4), int), r'a: found shape \(2, 4\), expected \(any, 3\)'),
    (np.full((2, 3), 300), 'a: found values from 300 to 300, expected 0 to 255')])
def test_arrays_are_compared_with_what_is_expected(array: np.ndarray, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        check_array('file', 'a', array, 'iu', (None, 3), (0, 255))


def test_nan_is_in_no_range() -> None:
    with pytest.raises(BadFile, match='found values from nan'):
        check_array('file', 'a', np.array([0, np.nan]), 'f', (2,), (0, 1))
