"""Models of single tasks into one: by hand, and the command."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perception.cli import run_verb
from perception.core.checkpoint import read_checkpoint
from perception.training.merging.arithmetic import MergeOptions, average_weights, breadcrumbs, merge_models

START = {
    'trunk.weight': torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 'trunk.norm.running_mean': torch.tensor([0.0]),
    'trunk.norm.num_batches_tracked': torch.tensor(7)}


def model(task: str, change: float, mean: float) -> dict[str, torch.Tensor]:
    head = {f'heads.{task}.weight': torch.full((2,), change)}
    return {
        'trunk.weight': START['trunk.weight'] + change * torch.eye(2),
        'trunk.norm.running_mean': torch.tensor([mean]), 'trunk.norm.num_batches_tracked': torch.tensor(9)
    } | head


def test_task_arithmetic_by_hand() -> None:
    models = {'a': model('a', 1.0, 2.0), 'b': model('b', -3.0, 4.0)}
    merged, report = merge_models(START, models, MergeOptions(strength=0.5))
    # 0.5 * (1 - 3) on the diagonal; the mean of the statistics; the start's counter; both heads
    assert merged['trunk.weight'].tolist() == [[0.0, 2.0], [3.0, 3.0]]
    assert merged['trunk.norm.running_mean'].tolist() == [3.0]
    assert int(merged['trunk.norm.num_batches_tracked']) == 7
    assert merged['heads.a.weight'].tolist() == [1.0, 1.0]
    assert merged['heads.b.weight'].tolist() == [-3.0, -3.0]
    assert report.cosines == {'a-b': pytest.approx(-1.0)}
    assert report.lengths['a'] == pytest.approx((2 / 30) ** 0.5)


def test_breadcrumbs_leave_out_the_largest_and_the_tail() -> None:
    vector = torch.tensor([[5.0, -4.0, 3.0, -2.0, 1.0], [1.0, 2.0, 3.0, 4.0, -6.0]])
    left = breadcrumbs(vector, drop_largest=0.2, keep=0.4)
    assert left.tolist() == [[0, -4.0, 3.0, 0, 0], [0, 0, 3.0, 4.0, 0]]
    assert torch.equal(breadcrumbs(vector, 0.0, 1.0), vector)

    models = {'a': model('a', 1.0, 0.0), 'b': model('b', 2.0, 0.0)}
    merged, _ = merge_models(START, models, MergeOptions('breadcrumbs', 1.0, drop_largest=0.5, keep=0.5))
    # the larger half, the diagonal, is left out
    assert torch.equal(merged['trunk.weight'], START['trunk.weight'])


def test_breadcrumbs_leave_out_the_outliers_of_a_convolution() -> None:
    """Whatever its kernel's width; a tensor without a tenth is not thinned."""
    for shape in ((5, 4, 1, 1), (2, 2, 5, 1), (2, 1, 2, 5)):
        left = breadcrumbs(torch.arange(1.0, 21).reshape(shape), drop_largest=0.1, keep=0.2)
        assert left.flatten().nonzero().flatten().tolist() == [14, 15, 16, 17]
    few = torch.tensor([1.0, -7.0, 2.0])
    assert torch.equal(breadcrumbs(few, 0.1, 0.2), few)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda models: models.pop('b'), 'expected at least 2 models, found 1'),
    (lambda models: models['a'].pop('trunk.weight'), r'a: trunk.weight: expected the shape \(2, 2\).*none'),
    (lambda models: models['a'].update(fuser=torch.ones(3)), r'a: fuser: found a tensor .* lacks \(1 in all'),
    (lambda models: models['b'].pop('heads.b.weight'), 'b: expected a head of that task, found none'),
    (lambda models: models['b'].update({'trunk.weight': START['trunk.weight']}), 'b: its shared weights')])
def test_models_that_do_not_fit(change, message) -> None:
    models = {'a': model('a', 1.0, 0.0), 'b': model('b', 2.0, 0.0)}
    change(models)
    with pytest.raises(ValueError, match=message):
        merge_models(START, models, MergeOptions())


@pytest.mark.parametrize(('options', 'message'), [
    (dict(method='mean'), "method: expected one of arithmetic, breadcrumbs, found 'mean'"),
    (dict(strength=-1), 'strength: expected a number from 0 to 2, found -1'),
    (dict(drop_largest=0.5, keep=0.6), 'expected at most 1 together')])
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MergeOptions(**options)


def test_the_command_writes_a_file_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    states = {'start': START, 'a': model('a', 1.0, 2.0), 'b': model('b', -3.0, 4.0)}
    for name, state in states.items():
        torch.save({'state_dict': state, 'meta': {}}, tmp_path / f'{name}.pth')
    out = tmp_path / 'merged.pth'
    assert run_verb('merge-models', [
        str(tmp_path / 'start.pth'), '--models', f'a={tmp_path / "a.pth"}', f'b={tmp_path / "b.pth"}',
        '--strength', '0.5', '--out', str(out)]) == 0
    assert read_checkpoint(out)['state_dict']['trunk.weight'].tolist() == [[0.0, 2.0], [3.0, 3.0]]
    assert 'a-b: cosine -1.00' in capsys.readouterr().out


def test_the_mean_of_weights() -> None:
    def state(value: float) -> dict[str, torch.Tensor]:
        return {
            'weight': torch.tensor([value, 2.0]), 'running_mean': torch.tensor([value], dtype=torch.float16),
            'count': torch.tensor(int(value))}

    found = average_weights({'a': state(1.0), 'b': state(2.0), 'c': state(6.0)})
    assert found['weight'].tolist() == [3.0, 2.0] and found['count'] == 1
    assert found['running_mean'] == 3 and found['running_mean'].dtype == torch.float16
    with pytest.raises(ValueError, match='expected at least 2 checkpoints, found 1'):
        average_weights({'a': state(1.0)})
    with pytest.raises(ValueError, match=r'average: b: weight: expected the shape \(2,\) of a, found \(3,\)'):
        average_weights({'a': state(1.0), 'b': {**state(1.0), 'weight': torch.zeros(3)}})
    with pytest.raises(ValueError, match=r'b: more: expected the shape none of a, found \(1,\)'):
        average_weights({'a': state(1.0), 'b': {**state(1.0), 'more': torch.zeros(1)}})


def test_the_command_writes_the_mean(tmp_path: Path) -> None:
    files = [str(tmp_path / f'{value}.pth') for value in (1, 3)]
    for file, value in zip(files, (1.0, 3.0), strict=True):
        torch.save({'state_dict': {'weight': torch.tensor(value)}, 'meta': {}}, file)
    assert run_verb('merge-models', [*files, '--out', str(tmp_path / 'mean.pth')]) == 0
    written = torch.load(tmp_path / 'mean.pth', weights_only=True)
    assert written['state_dict']['weight'] == 2 and written['meta'] == {'averaged': ['1.pth', '3.pth']}
