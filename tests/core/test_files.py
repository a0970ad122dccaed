"""Files that are whole or not there."""
from __future__ import annotations

import errno
import hashlib
import json
import math
from pathlib import Path

import pytest

from perception.core.files import (
    file_digest,
    file_name,
    finite,
    path_below,
    relative_path,
    write_bytes,
    write_json,
    write_text,
    write_whole,
)


def test_digest_of_a_file_longer_than_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.10 too, which has no `hashlib.file_digest`."""
    monkeypatch.delattr(hashlib, 'file_digest', raising=False)
    content = b'perception' * 200_000
    assert file_digest(write_bytes(tmp_path / 'a', content)) == hashlib.sha256(content).hexdigest()


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


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    def full(file):
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')
    with pytest.raises(OSError, match=f"cannot be written: No space left on device: '{tmp_path}/x'") as error:
        write_whole(tmp_path / 'x', full)
    assert error.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['scene-0061', 'n008-2018-08-01-15-16-36-0400', 'a b+c=d,e@f', 'Straße_1.x'])
def test_names_of_files_pass(name: str) -> None:
    assert file_name(name, 'scene') == name


@pytest.mark.parametrize('name', [
    '', '.', '..', '../up', 7, None, ['a'], '/etc/passwd',
    'a/b', 'a\\b', '.hidden', 'a\0b', 'a\nb', 'x' * 201])
def test_names_that_lead_elsewhere_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match='scene: found .*, expected a name'):
        file_name(name, 'scene')


@pytest.mark.parametrize('name', ['', '/etc/passwd', '../x', 'a/../../x', 'a\\..\\x', 'C:\\x', 'a\0', 7])
def test_paths_that_lead_elsewhere_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match='file: found .*, expected a path below'):
        relative_path(name, 'file')


def test_links_out_of_the_root_are_refused_unless_allowed(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / 'root' / 'samples').mkdir(parents=True)
    (tmp_path / 'secret').write_text('x')
    (tmp_path / 'root' / 'samples' / 'out').symlink_to(tmp_path / 'secret')
    (tmp_path / 'root' / 'samples' / 'in').symlink_to('plain')
    (tmp_path / 'root' / 'folder').symlink_to(tmp_path)
    (tmp_path / 'link').symlink_to(tmp_path / 'root')
    for root in (tmp_path / 'root', tmp_path / 'link'):
        assert path_below(root, 'samples/plain') == root / 'samples/plain'
        assert path_below(root, 'samples/in') == root / 'samples/in'
        for name in ('samples/out', 'folder/secret'):
            with pytest.raises(ValueError, match='a link leads to .*secret, out of the data root'):
                path_below(root, name)
    monkeypatch.setenv('PERCEPTION_FOLLOW_LINKS', '1')
    assert path_below(root, 'samples/out').read_text() == 'x'
