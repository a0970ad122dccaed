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


@pytest.mark.parametrize('configuration', ['m3net_transformer', 'm3net_mamba', 'm3net_queries'])
def test_batch_norms_at_one_sample_a_gpu_average_over_many(configuration: str) -> None:
    config = read_config(ROOT / f'configs/nuscenes/{configuration}.py')
    assert config.train_dataloader.batch_size == 1 and config.model.norm_momentum <= 0.03


@pytest.mark.parametrize('content', [b'name = "\xff"\n', b'name = (\n'], ids=['not UTF-8', 'not Python'])
def test_a_configuration_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'damaged.py'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'configuration {path}: expected Python in UTF-8'):
        read_config(path)


def waves(rising: int, epochs: int, momentum: bool = True) -> list[dict]:
    """The schedules of a one-cycle configuration, written out."""
    def wave(kind: str, begin: int, end: int, ratio: float) -> dict:
        return dict(type=kind, by_epoch=True, begin=begin, end=end, T_max=end - begin, eta_min_ratio=ratio,
                    convert_to_iter_based=True)
    rate, other = 'CosineAnnealingLR', 'CosineAnnealingMomentum'
    found = [wave(rate, 0, rising, 10), wave(rate, rising, epochs, 1e-5)]
    return found + [wave(other, 0, rising, 0.85 / 0.95), wave(other, rising, epochs, 1)] * momentum


@pytest.mark.parametrize('name, expected', [
    ('camera_lidar', waves(8, 20)), ('m3net_mamba', waves(6, 15)), ('metabev_switched', waves(3, 8)),
    ('ctab', waves(5, 12, momentum=False)), ('stages/m3net_1_boxes', waves(2, 6)),
    ('stages/m3net_2_map', waves(5, 12)), ('stages/metabev_1_boxes', waves(10, 26)),
    ('stages/metabev_2_tasks', waves(4, 10))])
def test_one_cycle_stands_for_the_schedules_that_make_it(name: str, expected: list[dict]) -> None:
    config = read_config(ROOT / 'configs' / 'nuscenes' / f'{name}.py')
    assert [part.to_dict() for part in config.param_scheduler] == expected
    assert config.train_cfg.max_epochs == expected[1]['end']


@pytest.mark.parametrize('options, message', [
    ('rising=20', '0 < rising < epochs, found rising 20 of 20 epochs'), ('risng=3', "did you mean 'rising'"),
    ('epochs=12', 'epochs: .* train_cfg.max_epochs 20, found a cycle of 12 epochs')])
def test_a_cycle_that_cannot_be_is_refused(options: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / 'cycle.py'
    path.write_text(
        f"param_scheduler = dict(type='OneCycle', {options})\ntrain_cfg = dict(max_epochs=20)\n",
        encoding='utf-8')
    with pytest.raises(ValueError, match=f'cycle.py: param_scheduler: .*{message}'):
        read_config(path)
