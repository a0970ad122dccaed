"""The fuzz program: readers stand damage, and what it counts as a fault is one."""
from __future__ import annotations

import os
import time

import pytest

from tests.fuzz import formats, fuzz
from tests.fuzz.formats import FORMATS, damage_bytes


@pytest.mark.parametrize('name', [name for name in FORMATS if 'mmdet3d' not in name])
def test_damage_is_an_answer_or_the_documented_error(name: str) -> None:
    row = fuzz.fuzz_format(name, 25, seed=1)
    assert row['tries'] == 25 == row['answers'] + row['refused'], row['traces']
    assert row['runs'] == 0 and row['mib'] < 500


def read_well(path) -> None:
    path.read_bytes()


def refuse_without_name(path) -> None:
    if path.read_bytes() != b'sound':
        raise ValueError('damaged')


def refuse_otherwise(path) -> None:
    if path.read_bytes() != b'sound':
        raise KeyError(str(path))


def never_end(path) -> None:
    while path.read_bytes() != b'sound':
        time.sleep(0.01)


def start_a_program(path) -> None:
    if path.read_bytes() != b'sound':
        os.system('true')


def die(path) -> None:
    if path.read_bytes() != b'sound':
        os._exit(3)


@pytest.mark.parametrize(('read', 'kind', 'count'), [
    (read_well, 'answers', 2), (refuse_without_name, 'other', 2), (refuse_otherwise, 'other', 2),
    (never_end, 'hangs', 2), (start_a_program, 'runs', 2), (die, 'other', 1)],
    ids=lambda value: getattr(value, '__name__', None))
def test_every_kind_of_fault_is_counted(read, kind: str, count: int, monkeypatch) -> None:
    def make(folder):
        (folder / 'file').write_bytes(b'sound')
        return folder / 'file'
    made = formats.Format(make, read, (ValueError,), lambda data, rng: damage_bytes(data, rng) + b'!')
    monkeypatch.setitem(FORMATS, 'made', made)
    monkeypatch.setattr(fuzz, 'SECONDS_PER_TRY', 0.2)
    assert fuzz.fuzz_format('made', 2)[kind] == count
