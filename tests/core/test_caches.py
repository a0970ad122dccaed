"""Importing works without places to write, beside other processes, after one that was killed."""
from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from perception.core.caches import CACHE_VARIABLE, choose_numba_cache


@pytest.fixture()
def nowhere(tmp_path, monkeypatch) -> Path:
    """A package below a file, which not even the administrator can write into; the home likewise."""
    file = tmp_path / 'file'
    file.touch()
    (tmp_path / 'temporary').mkdir()
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(file / 'cache'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    monkeypatch.setattr('numba.config.CACHE_DIR', '')
    return file / 'package'


def test_a_place_that_can_be_written_stays(nowhere, tmp_path, monkeypatch, recwarn) -> None:
    assert choose_numba_cache(tmp_path) is None
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
    assert choose_numba_cache(nowhere) is None
    monkeypatch.setenv(CACHE_VARIABLE, 'mine')
    assert choose_numba_cache(nowhere) is None
    assert not recwarn and os.environ[CACHE_VARIABLE] == 'mine'


def test_otherwise_a_private_temporary_folder_with_one_warning(nowhere, tmp_path) -> None:
    import numba
    with pytest.warns(UserWarning, match='cannot be written.*NUMBA_CACHE_DIR') as warned:
        folder = choose_numba_cache(nowhere)
        assert choose_numba_cache(nowhere) is None  # as a process started from here
    assert len(warned) == 1 and folder.parent == tmp_path / 'temporary'
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.environ[CACHE_VARIABLE] == numba.config.CACHE_DIR == str(folder)


def test_a_folder_that_others_can_write_is_not_used(nowhere, tmp_path) -> None:
    shared = tmp_path / 'temporary' / f'perception-numba-{os.getuid()}'
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.warns(UserWarning, match='cannot be written'):
        folder = choose_numba_cache(nowhere)
    assert folder != shared and stat.S_IMODE(folder.stat().st_mode) == 0o700


def import_it(cache: Path, count: int) -> list[int]:
    """Exit codes of that many processes that import the package side by side with this cache."""
    code = 'import perception, yapf'
    environment = os.environ | {'XDG_CACHE_HOME': str(cache)}
    started = [subprocess.Popen([sys.executable, '-c', code], env=environment) for _ in range(count)]
    return [process.wait() for process in started]


def test_a_grammar_cut_short_is_made_again(tmp_path) -> None:
    assert import_it(tmp_path, 2) == [0, 0]
    whole = {path: path.read_bytes() for path in tmp_path.rglob('*.pickle')}
    assert len(whole) == 2

    for path, content in whole.items():
        path.write_bytes(content[:len(content) // 2])
    assert import_it(tmp_path, 2) == [0, 0]
    assert all(path.stat().st_size == len(content) for path, content in whole.items())
