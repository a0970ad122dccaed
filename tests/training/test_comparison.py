"""Systems under one budget: what rows share and keep, weights that they start from, phases done once."""
from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from perception.cli.training.compare_systems import teach
from perception.core.checkpoint import load_shared, read_checkpoint
from perception.core.config import read_config
from perception.core.selection import spread
from perception.datasets.partial.files import OtherLabelsError
from perception.registry import MODELS, main_scores
from perception.training.compare.configure import changes, frozen_prefixes, row_config, with_changes
from perception.training.compare.files import row_folder
from perception.training.compare.phases import phases_of, run_row
from perception.training.compare.plan import Budget, Plan, Row
from perception.training.compare.table import cell, collect, markdown, mean_changes
from perception.training.runner import freeze_parameters
from perception.training.start import StartWeights, plan_start

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LIST, DEBUG = CONFIGS / 'comparisons' / 'systems.py', CONFIGS / 'debug.py'
PLAN = Plan.read(LIST)
ROWS = [(plan, row) for plan in map(Plan.read, sorted(LIST.parent.glob('*.py'))) for row in plan.rows]


def test_changes_and_merging_by_hand() -> None:
    old = {'a': 1, 'b': {'x': 1, 'y': 2}, 'pipeline': {'image': {'type': 'Crop'}, 'bev': {'type': 'Turn'}}}
    new = {
        'a': 1, 'b': {'x': 1, 'y': None},
        'pipeline': {'image': {'type': 'Crop', 'size': 3}, 'drop': {'type': 'Lose'}}}
    own = changes(new, old)
    assert own == {'b': {'y': None}, 'pipeline': {'drop': {'type': 'Lose'}}}
    recipe = {'a': 5, 'b': {'x': 7, 'y': 8}, 'pipeline': {'image': {'type': 'Crop', 'size': 4}}}
    merged = with_changes(recipe, own)
    assert merged == {
        'a': 5, 'b': {'x': 7, 'y': None},
        'pipeline': {'image': {'type': 'Crop', 'size': 4}, 'drop': {'type': 'Lose'}}}
    assert list(merged['pipeline']) == ['image', 'drop']
    assert recipe['b'] == {'x': 7, 'y': 8}


def test_a_stage_that_the_recipe_leaves_out_is_the_rows_at_its_place() -> None:
    """Ground-truth paste comes first, though the recipe has none."""
    old = {'pipeline': {'paste': None, 'image': {'type': 'Crop'}}}
    own = changes({'pipeline': {'paste': {'type': 'PasteObjects'}, 'image': {'type': 'Crop'}}}, old)
    assert own == {'pipeline': {'paste': {'type': 'PasteObjects'}}}
    assert list(with_changes(old, own)['pipeline']) == ['paste', 'image']
    assert changes(old, old) == {}


@pytest.mark.parametrize(('plan', 'row'), ROWS, ids=lambda value: getattr(value, 'folder', ''))
def test_every_row_follows_the_recipe_and_fits_together(plan: Plan, row: Row, tmp_path: Path) -> None:
    """One data recipe, one optimiser, one weight a head; the fuser expects what the encoders give."""
    config = row_config(plan, row, Budget(100), 3, tmp_path)
    shared = plan.recipe['train_dataloader']['dataset']['pipeline']
    stages = config.train_dataloader.dataset.pipeline
    assert list(stages)[:len(shared)] == list(shared)
    # a stage that the recipe leaves out may be the row's
    assert all(stages[name] == shared[name] or shared[name] is None for name in shared)
    assert (stages.get('paste') is not None) == ('paste' in row.config)
    own = {stages[name]['type'] for name in list(stages)[len(shared):]}
    assert own <= {'SensorDropout', 'HidePillars'}
    assert config.optim_wrapper == plan.recipe['optim_wrapper'] and config.train_cfg.max_iters == (
        row.steps or 100
    )
    for task, head in config.model.heads.items():
        if head is not None and task != 'reconstruction':
            expected = plan.recipe['model']['heads'][task]
            # a row about heads, or a narrower network, has other heads with the same losses
            differs = row.config == 'world/realtime_tiny.py' or any(
                option.startswith(f'model.heads.{task}.') for option in row.options)
            assert head == expected or (differs and head.get('losses') == expected.get('losses'))
    widths = {s: encoder.out_channels for s, encoder in config.model.encoders.items() if encoder is not None}
    fuser = config.model.fuser.get('fuser', config.model.fuser)
    assert {s: n for s, n in fuser.in_channels.items() if n is not None} == widths
    if 'fuser' in config.model.fuser:
        assert config.model.fuser.grid == config.model.encoders.camera.grid
        assert config.model.fuser.voxel_channels == config.model.encoders.camera.context_channels


def test_an_unknown_row_is_named() -> None:
    with pytest.raises(ValueError, match="'world/mafia': expected one of .*'world/mafi'"):
        PLAN.row('world/mafia')
    assert PLAN.row('CoP') == PLAN.row('world/cop')


def test_samples_are_spread_evenly() -> None:
    assert spread(10, 2) == [2, 7]
    assert spread(3, 9) == [0, 1, 2]
    assert spread(400, 4) == [50, 150, 250, 350]


def test_weights_of_equal_name_and_shape_are_taken() -> None:
    encoders = nn.ModuleDict({'camera': nn.Linear(2, 3), 'radar': nn.Linear(2, 3)})
    model = nn.ModuleDict({'encoders': encoders, 'trunk': nn.Linear(2, 2)})
    before = copy.deepcopy(model.state_dict())
    given = {
        'encoders.camera.weight': torch.ones(3, 2), 'encoders.camera.bias': torch.ones(7),
        'trunk.weight': torch.ones(2, 2)}
    count, kept = load_shared(model, given)
    assert count == 1 and kept == ['encoders.camera.bias', 'encoders.radar.weight', 'encoders.radar.bias']
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ['encoders.camera.weight']


def test_frozen_parts_stay_as_they_are() -> None:
    """In training mode too: batch norms do not move nor look at the batch, no graph is built, copies are
    frozen alike."""
    part = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5))
    model = nn.ModuleDict({'encoders': nn.ModuleDict({'camera': part}), 'trunk': nn.BatchNorm2d(3)})
    freeze_parameters(model, ['encoders.camera.'])
    for whole in (model, copy.deepcopy(model)):
        whole.train()
        frozen = whole['encoders']['camera']
        assert whole['trunk'].training
        assert whole['encoders'].training
        assert not any(m.training for m in frozen.modules())
        x = torch.randn(4, 2, 5, 5) * 9
        first, second = frozen(x), frozen(x[:1])
        assert first.grad_fn is None and frozen[1].num_batches_tracked == 0
        torch.testing.assert_close(first[:1], second)
        assert whole['trunk'](first).requires_grad


def test_encoders_without_weights_are_not_frozen(tmp_path: Path) -> None:
    path = tmp_path / 'start.pth'
    torch.save({'encoders.camera.a': torch.zeros(1), 'trunk.b': torch.zeros(1)}, path)
    budget = Budget(1, load_from=str(path), freeze=('encoders',))
    assert frozen_prefixes({'camera': {}, 'lidar': None, 'radar': {}}, budget) == ['encoders.camera.']
    budget_of_one = Budget(1, load_from=str(path), freeze=('encoders.lidar.', 'trunk.'))
    assert frozen_prefixes({'camera': {}, 'lidar': {}}, budget_of_one) == ['encoders.lidar.', 'trunk.']
    with pytest.raises(ValueError, match='one of the encoders lidar, found camera'):
        frozen_prefixes({'lidar': {}}, budget)


def test_rows_take_the_lift_of_the_recipe() -> None:
    """Its encoders may start from weights of another lift; CoP's voxels follow it."""
    recipe = copy.deepcopy(PLAN.recipe)
    camera = recipe['model']['encoders']['camera']
    camera['grid'] = grid = {**camera['grid'], 'heights_m': (0.0, 1.5)}
    camera['lift'] = lift = dict(slots=2, read='nearest', heights=False)
    plan = replace(PLAN, recipe=recipe)
    for name in ('concat', 'CoP', 'LiDAR alone'):
        model = row_config(plan, plan.row(name), Budget(1), 0, Path('row')).model.to_dict()
        camera = model['encoders']['camera']
        assert camera is None if name == 'LiDAR alone' else (camera['lift'], camera['grid']) == (lift, grid)
        assert model['fuser'].get('grid', grid) == grid


def test_mean_and_spread() -> None:
    assert (cell([0.2, 0.3]), cell([0.25]), cell([])) == ('0.250 ± 0.050', '0.250', '-')


def test_a_row_from_training_to_the_table(tiny_world: Path, tmp_path: Path) -> None:
    path = tmp_path / 'configs' / 'comparisons' / 'rows.py'
    path.parent.mkdir(parents=True)
    again = path.parents[1] / 'again.py'
    again.write_text(f"_base_ = ['{DEBUG}']\nstart_weights = dict(file='absent.pth')\n")
    path.write_text(f"recipe = base = '{DEBUG}'\nrows = [dict(name='small', config='{DEBUG}'), "
                    f"dict(name='again', config='{again}', start='small'), "
                    f"dict(name='given', config='{again}', start='start.pth', steps=1)]\n")
    plan, start = Plan.read(path), tmp_path / 'start.pth'
    torch.manual_seed(9)
    first = MODELS.build(read_config(DEBUG).model.to_dict()).state_dict()
    torch.save({'state_dict': first, 'meta': {}}, start)
    budget = Budget(
        2, 1, str(tiny_world), str(start), ('encoders',), 2, ('lidar',),
        {'test_evaluator.options': {'occupancy': {'rays': False}}}
    )
    words: list[str] = []
    row, work = plan.rows[0], tmp_path / 'work'
    run_row(plan, row, budget, 0, work, report=words.append)
    run_row(plan, row, budget, 0, work, ['latency'], words.append)
    folder = row_folder(work, row, 0)
    trained = read_checkpoint(folder / 'iter_2.pth')['state_dict']
    moved = {name.split('.')[0] for name, value in trained.items() if not torch.equal(value, first[name])}
    assert 'encoders' not in moved and {'fuser', 'trunk', 'heads'} <= moved
    done = {p.stem: json.loads(p.read_text()) for p in folder.glob('*.json')}
    assert set(done) == {'train', 'test', 'without_lidar', 'latency'} and done['latency']['network_ms'] > 0
    assert done['train']['not_loaded'] == [] and done['train']['frozen'] == [
        'encoders.camera.', 'encoders.lidar.']
    assert 'map/mIoU' in done['test']['metrics'] and 'map/mIoU' in done['without_lidar']['metrics']
    words.clear()
    run_row(plan, row, budget, 0, work, report=words.append)
    assert [w.split(': ')[1] for w in words] == [
        f'{phase} is done already' for phase in ('train', 'test', 'without_lidar')
    ]
    table = markdown(collect(work, plan.rows[:1], [0]))
    assert '| small |' in table and 'without lidar' in table
    with pytest.raises(FileNotFoundError, match='seed1.*train the row that this one starts from first'):
        run_row(plan, plan.row('again'), budget, 1, work, ['train'], words.append)
    run_row(plan, plan.row('again'), budget, 0, work, ['train'], words.append)
    assert any(f'{len(trained)} tensors taken' in w for w in words)
    words.clear()
    run_row(plan, plan.row('given'), budget, 1, work, ['train'], words.append)
    assert f'{start}: {len(trained)} tensors taken' in words
    assert (row_folder(work, plan.row('given'), 1) / 'iter_1.pth').is_file()


def test_a_row_starts_from_a_row_above_it(tmp_path: Path) -> None:
    path = tmp_path / 'list' / '_base_' / 'rows.py'
    path.parent.mkdir(parents=True)
    path.write_text(
        f"recipe = base = '{DEBUG}'\nrows = [dict(name='second', config='{DEBUG}', start='first')]\n"
    )
    with pytest.raises(ValueError, match="'second' starts from 'first', expected the name of a row above"):
        Plan.read(path)


def test_a_part_of_another_type_is_taken_whole() -> None:
    """A sampler has no argument of the one in whose place it stands."""
    old = {'sampler': {'type': 'SeededSampler', 'shuffle': True, 'seed': 1}}
    new = {'sampler': {'type': 'TaskBalancedSampler', 'seed': 1}}
    own = changes(new, old)
    assert own == new and with_changes(old, own) == new


def test_a_taught_row_asks_the_weights_it_starts_from(tmp_path: Path, monkeypatch) -> None:
    """The labels are made from the teacher's weights before the training reads them, and in a test never."""
    plan = Plan.read(CONFIGS / 'comparisons' / 'missing_labels.py')
    row, budget, asked = plan.row('pseudo-labels'), Budget(3), []
    trained: list[object] = []

    def train(config, budget, start, report):
        trained.append(config.train_dataloader.dataset.reading.pseudo_labels)
        return {}

    def teach(config, weights, folder):
        assert config.train_dataloader.dataset.reading.pseudo_labels is None
        asked.append((weights, folder))

    monkeypatch.setattr('perception.training.compare.phases.train_row', train)
    with pytest.raises(FileNotFoundError, match='train the row that teaches this one first'):
        run_row(plan, row, budget, 0, tmp_path, ['train'], teach=teach)
    weights = row_folder(tmp_path, plan.row('curriculum'), 0) / 'iter_3.pth'
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b'')
    with pytest.raises(ValueError, match='taught: expected a teacher'):
        run_row(plan, row, budget, 0, tmp_path, ['train'])

    run_row(plan, row, budget, 0, tmp_path, ['train'], teach=teach)
    labels = row_folder(tmp_path, row, 0) / 'labels'
    assert asked == [(weights, labels)] and trained == [str(labels)]
    heads = row_config(plan, plan.row('pseudo-labels, then heads'), budget, 0, tmp_path)
    assert heads['freeze'] == ['encoders.', 'fuser.', 'trunk.'] and heads.start_weights is None
    assert heads.train_dataloader.sampler == dict(type='TaskBalancedSampler')


@pytest.mark.parametrize(('error', 'is_kept'), [
    (ValueError('a weight does not fit'), True), (OtherLabelsError('labels of others'), False)])
def test_only_labels_of_others_are_removed(
    error: ValueError, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of a teacher's work are not lost because a file, an option or a weight is wrong."""
    asked = []

    def label_frames(*_: object) -> None:
        asked.append((tmp_path / 'labels').is_dir())
        if len(asked) == 1:
            raise error

    monkeypatch.setattr('perception.cli.training.teacher.label_frames', label_frames)
    (tmp_path / 'labels').mkdir()
    with pytest.raises(ValueError, match='a weight') if is_kept else nullcontext():
        teach(Config(), tmp_path / 'teacher.pth', tmp_path / 'labels')
    assert asked == ([True] if is_kept else [True, False])
    assert (tmp_path / 'labels').is_dir() == is_kept


def test_a_taught_row_needs_a_teacher(tmp_path: Path) -> None:
    path = tmp_path / 'list' / '_base_' / 'rows.py'
    path.parent.mkdir(parents=True)
    path.write_text(
        f"recipe = base = '{DEBUG}'\nrows = [dict(name='one', config='{DEBUG}', taught=True)]\n")
    with pytest.raises(ValueError, match="row 'one': taught: expected a start, the teacher; found none"):
        Plan.read(path)


def test_pre_training_has_no_scores_and_is_started_from(tmp_path: Path) -> None:
    """Its heads are not the recipe's; encoders, fuser and trunk are, name by name and shape by shape."""
    plan = Plan.read(CONFIGS / 'comparisons' / 'pretraining.py')
    before, after = (
        row_config(plan, plan.row(name), Budget(9), 0, tmp_path) for name in ('pre-training', 'pre-trained'))
    assert phases_of(before, Budget(9, without=('lidar',))) == ['train'] and after.start_weights is None
    assert before.train_dataloader.dataset.tasks == ()

    first, second = (MODELS.build(config.model.to_dict()).state_dict() for config in (before, after))
    shared = {name for name in second if not name.startswith('heads.')}
    assert {name for name in first if not name.startswith('heads.')} == shared
    assert all(first[name].shape == second[name].shape for name in shared)
    own = plan_start(second, first, StartWeights('x', ['encoders.', 'fuser.', 'trunk.']))
    started = ('encoders', 'fuser', 'trunk')
    assert set(own.fitting) == {name for name in shared if name.split('.')[0] in started}
    assert all(name.startswith('heads.reconstruction.') for name in own.left if name.startswith('heads.'))
    assert not own.new


def test_a_row_has_options_of_its_own_and_a_folder_of_its_own(tmp_path: Path) -> None:
    """Twenty balancers need no twenty configurations; hooks of theirs and what is frozen stay."""
    plan = Plan.read(CONFIGS / 'comparisons' / 'balancers.py')
    folders = [row.folder for row in plan.rows]
    assert len(set(folders)) == len(folders) and 'ablations/balancing/lanes_alone' in folders
    configs = {row.name: row_config(plan, row, Budget(9), 0, tmp_path) for row in plan.rows}
    still = ['encoders.lidar.point_net.', 'encoders.lidar.stages.0.']
    assert all(config['freeze'] == still for config in configs.values())
    assert configs['GradNorm'].balancer.type == 'GradNorm'
    assert configs['fixed by hand'].balancer.type == 'FixedWeights'
    assert configs['sparse'].custom_hooks[0]['type'] == 'SparseTrainingHook'
    lanes = configs['lanes alone']
    assert [task for task, head in lanes.model.heads.items() if head] == ['lanes']
    assert lanes.test_evaluator.tasks == ('lanes',)

    with pytest.raises(ValueError, match="row 'x': role: expected one of single task, plain, found 'best'"):
        Row('x', 'debug.py', role='best')


def test_change_against_single_tasks_by_hand() -> None:
    """Seed 0: +50 % and -10 %, mean +20 %; seed 1 lacks a reference and is left out; cost 3 / 2."""
    boxes, roads = main_scores()['detection'], main_scores()['map_segmentation']

    def record(row: str, role: str | None, ms: float, *scores: dict[str, float]) -> dict:
        seeds = {
            str(i): {'test': {'metrics': found}, 'train': {'step_cpu_ms': ms, 'parameters': 1}}
            for i, found in enumerate(scores)}
        return {'row': row, 'role': role, 'seeds': seeds}

    records = [
        record('boxes alone', 'single task', 1, {boxes: 0.2}, {boxes: 0.3}),
        record('map alone', 'single task', 1, {roads: 0.5}),
        record('fixed', 'plain', 2, {boxes: 0.2, roads: 0.5}),
        record('both', None, 3, {boxes: 0.3, roads: 0.45}, {boxes: 0.3, roads: 0.5})]
    assert mean_changes(records[3], records) == [pytest.approx(20)]
    assert mean_changes(records[2], records) == [0]
    table = markdown(records)
    assert 'Delta_m % | of plain' in table and '| +20.0 | 1.50 |' in table and '| - | - |' in table
    assert 'Delta_m' not in markdown(records[3:])
