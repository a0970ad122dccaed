"""Parts of a training start from another one's weights; every stage of the recipes fits the one before."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from perception.bev.ops.norms import PresentSensors, norms_by_sensors
from perception.core.checkpoint import read_checkpoint
from perception.core.config import config_name, read_config
from perception.fusion.concat import ConcatFuser
from perception.registry import MODELS, without_pretrained
from perception.training.start import StartWeights, plan_start, start_from, write_start
from tests.training.toy import toy_runner

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
STAGES = [
    path for path in sorted((CONFIGS / 'nuscenes' / 'stages').glob('*.py'))
    if read_config(path).get('start_weights')
] + [CONFIGS / 'nuscenes' / 'metabev_switched.py'] + [
    CONFIGS / 'world' / name
    for name in ('temporal.py', 'robust_camera.py', 'long/1_moments.py', 'long/2_drives.py',
                 'long/3_boxes.py', 'long/4_aligned.py')]


def shapes(path: Path) -> dict[str, torch.Tensor]:
    """State of a configuration's model, without values."""
    with torch.device('meta'):
        return MODELS.build(without_pretrained(read_config(path).model.to_dict())).state_dict()


@pytest.mark.parametrize('path', STAGES, ids=config_name)
def test_a_stage_starts_from_the_one_before(path: Path) -> None:
    """Everything but what is new fits, what is named as new is all that must be, and the file is its last."""
    start = StartWeights(**read_config(path).start_weights)
    file = Path(start.file)
    before = CONFIGS / file.relative_to('work_dirs').parent.with_suffix('.py')
    by_steps = not read_config(before).default_hooks.checkpoint.get('by_epoch', True)
    epochs = read_config(before).train_cfg.max_epochs
    assert file.stem == (f'iter_{epochs * 600}' if by_steps else f'epoch_{epochs}')

    weights, state = shapes(before), shapes(path)
    plan = plan_start(state, weights, start)
    assert plan.fitting.keys() | set(plan.new) == state.keys()
    assert {'encoders', 'trunk', 'heads'} <= {name.split('.')[0] for name in plan.fitting}
    for part in start.new:
        others = [other for other in start.new if other != part]
        with pytest.raises(ValueError, match='absent or of another shape'):
            plan_start(state, weights, StartWeights(start.file, new=others))


SHIPPED = 'data/weights/world_long.pth'
STARTED = [
    path for path in sorted(CONFIGS.rglob('*.py'))
    if path.parent.name != 'comparisons' and f"'{SHIPPED}'" in path.read_text(encoding='utf-8')
] + [CONFIGS / 'world' / 'realtime_tiny.py']


@pytest.mark.parametrize('path', STARTED, ids=config_name)
def test_the_shipped_weights_start_what_names_them(path: Path) -> None:
    start = StartWeights(**read_config(path).start_weights)
    weights = read_checkpoint(CONFIGS.parent / SHIPPED)['state_dict']
    assert start.file == SHIPPED and len(plan_start(shapes(path), weights, start).fitting) > 20


def small() -> nn.ModuleDict:
    return nn.ModuleDict({'trunk': nn.Linear(3, 3), 'head': nn.Linear(3, 2), 'lanes': nn.Linear(3, 4)})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The small model under other names, its head with other classes."""
    old = nn.ModuleDict({'body': nn.Linear(3, 3), 'head': nn.Linear(3, 5), 'rest': nn.Linear(1, 1)})
    torch.save({'state_dict': old.state_dict()}, tmp_path / 'old.pth')
    return tmp_path / 'old.pth'


def test_renamed_parts_start_and_new_ones_keep_their_own(file: Path) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = dict(file=str(file), rename={'body.': 'trunk.'}, new=['head.', 'lan*.'])
    lines = start_from(model, options)
    old = torch.load(file)['state_dict']
    assert torch.equal(model['trunk'].weight, old['body.weight'])
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before if 'trunk' not in name)
    assert [line.removeprefix(f'{file}: ') for line in lines] == [
        '2 tensors start from it', 'new, by the configuration: head.weight (1), head.bias (1), '
        'lanes.weight (1), lanes.bias (1)', 'left in the file: head.weight (1), head.bias (1), '
        'rest.weight (1), rest.bias (1)']


@pytest.mark.parametrize(('options', 'words'), [
    ({}, r'every tensor below the model.*6 are absent.*trunk.weight \(absent, model \(3, 3\)\).*`rename`'),
    ({'rename': {'body.': 'trunk.'}, 'new': ['lanes.']}, r'head.weight \(file \(5, 3\), model \(2, 3\)\)'),
    ({'rename': {'bodi.': 'trunk.'}}, "no tensor below 'bodi.'"),
    ({'rename': {'body.': 'rest.', 'rest.': 'rest.'}}, 'two tensors of the file become rest.'),
    ({'new': ['lane.']}, "nothing below 'lane.'"), ({'prefix': 'heads.'}, "below 'heads.'.*no parameter"),
    ({'rename': {'body.': 'trunk.'}, 'new': ['lanes.', 'head.'], 'more_inputs': ['trunk.w']},
     "more_inputs: expected tensors below the model .*found 'trunk.w'"),
    ({'prefix': 'head.', 'new': ['head.']}, 'leaves nothing'), ({'strict': True}, "unknown option 'strict'"),
    ({'file': ''}, 'expected a file of weights')])
def test_what_does_not_fit_is_named_and_nothing_changes(file: Path, options: dict, words: str) -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        start_from(model, {'file': str(file), **options})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_fuser_that_gets_a_sensor_gives_what_it_gave() -> None:
    old = ConcatFuser({'camera': 2, 'lidar': 3}, 4)
    fuser = ConcatFuser({'camera': 2, 'lidar': 3, 'radar': 2}, 4)
    norms_by_sensors([old], PresentSensors(2))
    norms_by_sensors([fuser], PresentSensors(3))
    statistics = torch.arange(16.0).reshape(4, 4)
    old.mix[1].running_mean.copy_(statistics)

    start = StartWeights('old.pth', new=['absent.radar', 'mix.1.updates'], more_inputs=['mix.0.weight'])
    fuser.load_state_dict(plan_start(fuser.state_dict(), old.state_dict(), start).fitting, strict=False)
    x = torch.randn(1, 7, 5, 5)
    assert torch.allclose(fuser.mix[0](x), old.mix[0](x[:, :5]), atol=1e-6)
    # a set with a radar begins with that of its other sensors; without any of them, with that of all
    assert torch.equal(fuser.mix[1].running_mean, statistics[[3, 1, 2, 3, 3, 1, 2, 3]])

    # and back: the sets without a radar
    statistics = torch.arange(32.0).reshape(8, 4)
    fuser.mix[1].running_mean.copy_(statistics)
    norms = StartWeights('new.pth', prefix='mix.1.', new=['mix.1.updates'])
    plan = plan_start(old.state_dict(), fuser.state_dict(), norms)
    assert torch.equal(plan.fitting['mix.1.running_mean'], statistics[:4])

    with pytest.raises(ValueError, match=r'mix.0.weight \(file \(4, 5, 3, 3\), model \(4, 7, 3, 3\)\)'):
        plan_start(fuser.state_dict(), old.state_dict(), StartWeights('old.pth', new=start.new))
    with pytest.raises(ValueError, match=r'mix.0.weight \(file \(4, 7, 3, 3\), model \(4, 5, 3, 3\)\)'):
        plan_start(
            old.state_dict(), fuser.state_dict(),
            StartWeights('new.pth', new=['mix.1.'], more_inputs=['mix.0.weight']))


def test_load_from_with_another_model_points_to_start_weights(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    with pytest.raises(ValueError, match=r'^load_from: checkpoint .*old.pth.*start_weights takes parts'):
        toy_runner(tmp_path / 'work', load_from=str(file)).train()


def test_what_a_training_begins_with_can_be_written(make_runner, tmp_path: Path) -> None:
    """Started parts from the file, all others as the seed draws them: a training begins with the same."""
    torch.manual_seed(7)
    earlier = MODELS.build(read_config(CONFIGS / 'debug.py').model).state_dict()
    meta = {'dataset_meta': {'classes': ['car', 'tram'], 'place': 'moon'}}
    torch.save({'state_dict': earlier, 'meta': meta}, tmp_path / 'earlier.pth')

    start = dict(file=str(tmp_path / 'earlier.pth'), prefix=['encoders.', 'trunk.'])
    runner = make_runner({'start_weights': start})
    stored = torch.load(write_start(runner.cfg, tmp_path / 'new' / 'start.pth'))
    assert stored['meta'] == {'dataset_meta': {'classes': ['car', 'tram']}}

    begun = runner.model.state_dict()
    assert stored['state_dict'].keys() == begun.keys()
    assert all(torch.equal(value, begun[name]) for name, value in stored['state_dict'].items())
    new = {name.split('.')[0] for name, value in begun.items() if not torch.equal(value, earlier[name])}
    assert new == {'fuser', 'heads'}
