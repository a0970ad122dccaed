"""Names of configurations: where their runs are written and what tables call them."""
from __future__ import annotations

from pathlib import Path

import pytest

from perception.core.config import config_name, read_config


@pytest.mark.parametrize(('path', 'name'), [
    ('configs/demo.py', 'demo'),
    ('configs/world/robust.py', 'world/robust'),
    ('/home/me/configs/nuscenes/camera_lidar.py', 'nuscenes/camera_lidar'),
    ('/data/configs/old/configs/world/lidar.py', 'world/lidar')])
def test_a_configuration_is_named_by_its_path_below_configs(path: str, name: str) -> None:
    assert config_name(path) == name == config_name(Path(path))


def test_a_configuration_elsewhere_is_named_by_its_file(tmp_path: Path) -> None:
    assert config_name(tmp_path / 'mine.py') == 'mine'
    assert config_name(tmp_path / 'configs.py') == 'configs'


def test_the_folder_one_stands_in_does_not_matter(monkeypatch, tmp_path: Path) -> None:
    folder = tmp_path / 'configs' / 'world'
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert config_name('robust.py') == config_name('../world/robust.py') == 'world/robust'


@pytest.mark.parametrize('content', [b'name = "\xff"\n', b'name = (\n'], ids=['not UTF-8', 'not Python'])
def test_a_configuration_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'damaged.py'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'configuration {path}: expected Python in UTF-8'):
        read_config(path)
