"""Files that are whole or not there."""
from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from perception.core.files import finite, write_bytes, write_json, write_text, write_whole


def test_contents_come_back_and_nothing_else_stays(tmp_path: Path) -> None:
    folder = tmp_path / 'new' / 'deeper'
    assert write_text(folder / 'a.txt', 'Österreich').read_text(encoding='utf-8') == 'Österreich'
    assert write_bytes(str(folder / 'b'), b'\x00\xff').read_bytes() == b'\x00\xff'
    assert json.loads(write_json(folder / 'c.json', {'x': [1, None]}, indent=1).read_text()) == {
        'x': [1, None]
    }
    assert sorted(p.name for p in folder.iterdir()) == ['a.txt', 'b', 'c.json']


def test_a_file_appears_under_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / 'x'

    def write(file):
        file.write(b'half')
        assert not path.exists()
        file.write(b', whole')
    assert write_whole(path, write).read_bytes() == b'half, whole'


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = write_bytes(tmp_path / 'x', b'old')

    def stop(file):
        file.write(b'half')
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, stop)
    monkeypatch.setattr('os.replace', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError, match='disk full'):
        write_bytes(path, b'new')
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_nan_stays_unless_made_finite(tmp_path: Path) -> None:
    content = {'a': [math.nan, 1.5, (math.inf, 'b')], 'c': {'d': -math.inf}}
    assert math.isnan(json.loads(write_json(tmp_path / 'x.json', content).read_text())['a'][0])
    assert finite(content) == {'a': [None, 1.5, [None, 'b']], 'c': {'d': None}}
