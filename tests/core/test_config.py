"""Names of configurations: where their runs are written and what tables call them."""
from __future__ import annotations

from pathlib import Path

import pytest

from perception.core.config import config_name, read_config

ROOT = Path(__file__).resolve().parents[2]


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


def test_kept_tasks_reach_experts_and_labels() -> None:
    """Experts by task are those of the kept tasks; a map with vehicles needs boxes among the labels."""
    kept = ('map_segmentation', 'occupancy')
    routed = read_config(ROOT / 'configs/nuscenes/metabev_moe_routed.py', {'tasks': kept})
    assert routed.model.fuser.ffn.tasks == kept and routed.train_dataloader.dataset.tasks == kept

    ctab = read_config(ROOT / 'configs/nuscenes/ctab.py', {'tasks': ('map_segmentation',)})
    assert ctab.train_dataloader.dataset.tasks == ('map_segmentation', 'detection')
    assert ctab.val_evaluator.tasks == ('map_segmentation',)


@pytest.mark.parametrize('configuration', ['m3net_transformer', 'm3net_mamba'])
def test_batch_norms_at_one_sample_a_gpu_average_over_many(configuration: str) -> None:
    config = read_config(ROOT / f'configs/nuscenes/{configuration}.py')
    assert config.train_dataloader.batch_size == 1 and config.model.norm_momentum <= 0.03


@pytest.mark.parametrize('content', [b'name = "\xff"\n', b'name = (\n'], ids=['not UTF-8', 'not Python'])
def test_a_configuration_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'damaged.py'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'configuration {path}: expected Python in UTF-8'):
        read_config(path)
