"""Configurations: unknown words are refused with the nearest one, parts can be left out, all build."""
from __future__ import annotations

from pathlib import Path

import pytest

from perception.core.config import config_name, pipeline_transforms, read_config
from perception.registry import MODELS, without_pretrained
from perception.training.runner import freeze_parameters

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DEBUG = CONFIGS / 'debug.py'


@pytest.mark.parametrize(
    'path', sorted(p for p in CONFIGS.rglob('*.py') if p.parent.name not in ('_base_', 'comparisons')),
    ids=config_name)
def test_every_configuration_builds(path: Path) -> None:
    model = MODELS.build(without_pretrained(read_config(path).model.to_dict()))
    assert set(model.heads) and set(model.encoders)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'wrong.py'
    path.write_text(f"_base_ = ['{DEBUG}']\ntrain_dataloder = dict(batch_size=3)\n")
    with pytest.raises(ValueError, match="unknown key 'train_dataloder'; did you mean 'train_dataloader'"):
        read_config(path)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="has no 'lane' there; did you mean 'lanes'"):
        read_config(DEBUG, {'model.heads.lane.width': 3})


def test_an_unknown_argument_of_a_part_is_refused() -> None:
    config = read_config(DEBUG).model.to_dict()
    config['trunk']['chanels'] = (1, 2)
    with pytest.raises(TypeError, match='chanels'):
        MODELS.build(config)


def test_an_absent_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match='nowhere.py'):
        read_config('nowhere.py')


def test_an_option_changes_a_value() -> None:
    assert read_config(DEBUG, {'train_dataloader.batch_size': 7}).train_dataloader.batch_size == 7


def test_tasks_and_sensors_can_be_left_out() -> None:
    config = read_config(DEBUG).model.to_dict()
    config['heads'] |= {'lanes': None, 'occupancy': None}
    config['encoders']['camera'] = None
    config['fuser']['in_channels']['camera'] = None
    model = MODELS.build(config)
    assert sorted(model.heads) == ['detection', 'map_segmentation']
    assert list(model.encoders) == ['lidar']


def test_tasks_keeps_those_tasks_alone(tmp_path: Path) -> None:
    path = tmp_path / 'boxes.py'
    path.write_text(f"_base_ = ['{DEBUG}']\ntasks = ('detection', 'lanes')\n")
    config = read_config(path)
    assert [task for task, head in config.model.heads.items() if head is not None] == ['detection', 'lanes']
    for part in (config.train_dataloader.dataset, config.test_dataloader.dataset, config.test_evaluator):
        assert tuple(part.tasks) == ('detection', 'lanes')
    assert read_config(DEBUG, {'tasks': 'lanes'}).test_evaluator.tasks == ('lanes',)
    with pytest.raises(ValueError, match="tasks: no head 'lane'; did you mean 'lanes'"):
        read_config(path, {'tasks': ('lane',)})


def test_tasks_reach_into_wrapped_data_sets(tmp_path: Path) -> None:
    path = tmp_path / 'several.py'
    path.write_text(
        f"_base_ = ['{DEBUG}']\ntasks = ('lanes',)\n_data = dict(type='NuScenesDataset', root='a')\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=dict("
        "type='ConcatDataset', datasets=[_data, dict(_data, root='b')])))\n")
    repeated = read_config(path).train_dataloader.dataset
    assert [part.tasks for part in repeated.dataset.datasets] == [('lanes',)] * 2 and 'tasks' not in repeated


def test_a_variant_changes_one_stage_of_a_pipeline(tmp_path: Path) -> None:
    path = tmp_path / 'variant.py'
    path.write_text(
        f"_base_ = ['{DEBUG}']\n"
        "train_dataloader = dict(dataset=dict(pipeline=dict(bev=None, sensors=dict(type='SensorDropout'))))\n"
    )
    base, variant = (
        [stage['type'] for stage in pipeline_transforms(read_config(p).train_dataloader.dataset.pipeline)]
        for p in (DEBUG, path)
    )
    assert base == ['ResizeCropFlipRotate', 'RandomFlipRotateScale', 'RangeFilter']
    assert variant == ['ResizeCropFlipRotate', 'RangeFilter', 'SensorDropout']
    assert pipeline_transforms(['any', 'list']) == ['any', 'list']


def test_freezing_names_what_it_cannot_find() -> None:
    model = MODELS.build(read_config(DEBUG).model.to_dict())
    count = freeze_parameters(model, ['encoders.camera.backbone'])
    assert count == len(list(model.encoders['camera'].backbone.parameters()))
    assert not any(p.requires_grad for p in model.encoders['camera'].backbone.parameters())
    with pytest.raises(ValueError, match="'encoders.kamera'"):
        freeze_parameters(model, ['encoders.kamera'])
