"""Checkpoints never execute code, and say what does not fit."""
from __future__ import annotations

import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

from perception.bev.ops.norms import PresentSensors, norms_by_sensors
from perception.core import checkpoint as checkpoint_file
from perception.core.checkpoint import extract_weights, load_weights, read_checkpoint
from perception.core.config import read_config
from perception.registry import MODELS
from perception.training.start import start_from

ROOT = Path(__file__).parents[2]


class _Evil:
    def __reduce__(self):
        return os.system, ('true',)


def test_a_checkpoint_with_histories_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'good.pth'
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save(
        {
            'state_dict': {'weight': torch.ones(2)}, 'message_hub': {'loss': history},
            'meta': {'n': np.float64(3.5)}},
        path,
    )
    found = read_checkpoint(path)
    assert found['message_hub']['loss'].mean() == 1.5
    assert found['meta']['n'] == 3.5


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'evil.pth'
    torch.save({'state_dict': {}, 'payload': _Evil()}, path)
    with pytest.raises(ValueError, match='could not read it safely'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'', b'not a checkpoint at all'])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='broken.pth'):
        read_checkpoint(path)


def test_a_long_pickle_of_something_else_is_refused_at_once(tmp_path: Path, monkeypatch) -> None:
    """As the infos of a data set are: to follow 70 MB of it took over a minute."""
    monkeypatch.setattr(checkpoint_file, 'OPCODES', 100)
    monkeypatch.setattr(pickletools, 'genops', lambda file: pytest.fail('it was read'))
    (tmp_path / 'infos.pkl').write_bytes(pickle.dumps({'infos': list(range(1000))}))
    with pytest.raises(ValueError, match='infos.pkl: .* it is not a file of torch, neither a zip archive'):
        read_checkpoint(tmp_path / 'infos.pkl')


@pytest.mark.parametrize('zipped', [True, False])
def test_a_pickle_longer_than_tensors_need_is_not_followed_to_its_end(
    tmp_path: Path, monkeypatch, zipped: bool
) -> None:
    path, content = tmp_path / 'long.pth', {'state_dict': {'weight': torch.ones(2)}, 'meta': [0.5] * 200}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(path)['meta'] == [0.5] * 200
    monkeypatch.setattr(checkpoint_file, 'OPCODES', 200)
    with pytest.raises(ValueError, match='long.pth: .* more than 200 steps'):
        read_checkpoint(path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'cut.pth'
    torch.save({'state_dict': {'weight': torch.ones(10000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match='cut.pth'):
        read_checkpoint(path)


@pytest.mark.parametrize(('content', 'words'), [
    ({'state_dict': {'weight': torch.tensor([1, torch.nan])}}, 'weight: 1 of 2 numbers are NaN'),
    ({'state_dict': {'weight': torch.ones(2, dtype=torch.complex64)}}, 'weight: expected plain real numbers'),
    ({'state_dict': {'weight': torch.eye(2).to_sparse()}}, 'weight: expected plain real numbers'),
    ({'state_dict': {'weight': 3}}, "found 'weight': int"),
    ({'state_dict': [torch.ones(2)]}, 'state_dict: expected tensors by name, found list'),
    ({'network': {'weight': torch.ones(2)}}, "found 'network': dict"),
    ({'state_dict': {7: torch.ones(2)}}, 'found 7: Tensor')])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, content: dict, words: str) -> None:
    torch.save(content, tmp_path / 'odd.pth')
    with pytest.raises(ValueError, match=f'odd.pth: {words}|odd.pth: .*{words}'):
        read_checkpoint(tmp_path / 'odd.pth')


def test_weights_of_another_type_are_named_and_nothing_is_copied(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    torch.save({'weight': torch.ones(1, 2, dtype=torch.int8), 'bias': torch.ones(1)}, tmp_path / 'int8.pth')
    with pytest.raises(ValueError, match='int8.pth.*other type 1: weight: file torch.int8, model'):
        load_weights(model, tmp_path / 'int8.pth')
    assert torch.equal(model.weight, before)


def test_a_packed_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', bytes(65 * 1024 ** 2))
    with pytest.raises(ValueError, match='bomb.pth: found .* unpacks to content of 65 MiB'):
        read_checkpoint(tmp_path / 'bomb.pth')


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='none.pth'):
        read_checkpoint(tmp_path / 'none.pth')


def test_a_bare_state_dict_is_wrapped(tmp_path: Path) -> None:
    torch.save({'weight': torch.full((2, 3), 5.0), 'bias': torch.zeros(2)}, tmp_path / 'bare.pth')
    model = nn.Linear(3, 2)
    load_weights(model, tmp_path / 'bare.pth')
    assert (model.weight == 5).all()


def test_another_configuration_is_named_and_nothing_is_copied(tmp_path: Path) -> None:
    torch.save(
        {'state_dict': {'weight': torch.full((4, 3), 5.0), 'extra': torch.zeros(1)}}, tmp_path / 'other.pth'
    )
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(
        ValueError, match=r'another configuration.*weight: file \(4, 3\), model \(2, 3\).*bias.*extra'
    ):
        load_weights(model, tmp_path / 'other.pth')
    assert torch.equal(model.weight, before)


def two_parts(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.ModuleDict(
        {'camera': nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 'head': nn.Linear(4, 2)}
    )


def saved_part(folder: Path, half: bool = False) -> tuple[nn.Module, Path]:
    trained = two_parts(1)
    torch.save({'state_dict': trained.state_dict(), 'meta': {}}, folder / 'whole.pth')
    torch.save(extract_weights(folder / 'whole.pth', 'camera.', half), folder / 'part.pth')
    return trained, folder / 'part.pth'


@pytest.mark.parametrize('half', [False, True])
def test_a_part_starts_from_a_file_and_the_rest_keeps_its_own(tmp_path: Path, half: bool) -> None:
    trained, path = saved_part(tmp_path, half)
    model, before = two_parts(2), two_parts(2)
    start_from(model, dict(file=str(path), prefix='camera.'))
    torch.testing.assert_close(
        model['camera'][0].weight, trained['camera'][0].weight, rtol=1e-3 * half, atol=1e-3 * half
    )
    assert model['camera'][0].weight.dtype == torch.float32
    assert torch.equal(model['head'].weight, before['head'].weight)


def test_several_parts_start_from_one_file(tmp_path: Path) -> None:
    trained, _ = saved_part(tmp_path)
    model = two_parts(2)
    lines = start_from(model, dict(file=str(tmp_path / 'whole.pth'), prefix=['camera.', 'head.']))
    assert lines == [f'{tmp_path / "whole.pth"}: 9 tensors start from it']
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())


def test_statistics_by_sets_start_a_norm_that_keeps_one(tmp_path: Path) -> None:
    """The last row is that of all sensors; the other way round every set begins with the file's one row."""
    model = nn.ModuleDict({'trunk': nn.Sequential(nn.BatchNorm2d(3))})
    norms_by_sensors([sets := nn.ModuleDict({'trunk': nn.Sequential(nn.BatchNorm2d(3))})], PresentSensors(2))
    sets['trunk'][0].running_mean.copy_(torch.arange(12.0).view(4, 3))
    for name, module in (('sets', sets), ('plain', model)):
        torch.save({'state_dict': module.state_dict(), 'meta': {}}, tmp_path / f'{name}.pth')
    start_from(model, dict(file=str(tmp_path / 'sets.pth'), prefix='trunk.'))
    norm = model['trunk'][0]
    assert norm.running_mean.tolist() == [9, 10, 11] and norm.running_var.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match='updates'):
        start_from(sets, dict(file=str(tmp_path / 'plain.pth'), prefix='trunk.'))
    sets['trunk'][0].running_mean.zero_()
    model['trunk'][0].running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'plain.pth')
    start_from(sets, dict(file=str(tmp_path / 'plain.pth'), prefix='trunk.', new=['*.updates']))
    assert sets['trunk'][0].running_mean.tolist() == [[1, 2, 3]] * 4


def test_a_part_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    _, path = saved_part(tmp_path)
    with pytest.raises(ValueError, match='head.weight'):
        start_from(two_parts(2), dict(file=str(path), prefix='head.'))
    with pytest.raises(ValueError, match='no parameter there'):
        start_from(two_parts(2), dict(file=str(path), prefix='lidar.'))


def test_extracting_says_what_is_wrong(tmp_path: Path) -> None:
    saved_part(tmp_path)
    with pytest.raises(ValueError, match="below 'lidar.'"):
        extract_weights(tmp_path / 'whole.pth', 'lidar.')
    torch.save({'state_dict': {'a.b': torch.tensor([1e6])}}, tmp_path / 'large.pth')
    with pytest.raises(ValueError, match='a.b does not fit'):
        extract_weights(tmp_path / 'large.pth', 'a.', half=True)


def test_a_part_says_the_classes_of_its_training(tmp_path: Path) -> None:
    """A whole model of other classes is refused; where the data lay is nobody's business."""
    data = {'classes': ('car', 'tram'), 'lane_classes': ['divider'], 'version': 'v1.0'}
    torch.save(
        {'state_dict': two_parts(1).state_dict(), 'meta': {'dataset_meta': {**data, 'root': '/r'}}},
        tmp_path / 'w.pth')
    torch.save(extract_weights(tmp_path / 'w.pth', ''), tmp_path / 'part.pth')
    assert read_checkpoint(tmp_path / 'part.pth')['meta']['dataset_meta'] == data

    model = two_parts(2)
    model.heads = nn.ModuleDict({'detection': nn.Identity()})
    model.heads['detection'].classes = SimpleNamespace(names=['car', 'truck'])
    with pytest.raises(ValueError, match='was trained for boxes of the classes car, tram; .* car, truck'):
        load_weights(model, tmp_path / 'part.pth')


def test_the_shipped_encoders_fit_the_demo() -> None:
    config = read_config(ROOT / 'configs/demo.py')
    model = MODELS.build(config.model)
    path = ROOT / config.start_weights.file
    start_from(model, {**config.start_weights, 'file': str(path)})

    # statistics of norms are kept by sets of sensors in the file and are one here; parameters are the same
    stored, prefixes = read_checkpoint(path)['state_dict'], tuple(config.start_weights.prefix)
    state = model.state_dict()
    taken = {name: state[name] for name, _ in model.named_parameters() if name.startswith(prefixes)}
    assert len(taken) > 100
    assert all(torch.equal(value, stored[name].to(value.dtype)) for name, value in taken.items())


def test_the_shipped_weights_fit_their_configuration() -> None:
    path = ROOT / 'data/weights/world_long.pth'
    model = MODELS.build(read_config(ROOT / 'configs/world/long/2_drives.py').model)
    load_weights(model, path)
    stored = read_checkpoint(path)['state_dict']
    assert stored.keys() == model.state_dict().keys()


def test_a_module_of_another_name_is_named(tmp_path: Path) -> None:
    """A checkpoint of an earlier version, in which a module had another name."""
    old = {'look.weight': torch.ones(1, 1), 'look.bias': torch.ones(1)}
    torch.save({'state_dict': old}, tmp_path / 'old.pth')
    model = nn.ModuleDict({'cross_attention': nn.Linear(1, 1)})
    words = r'configuration or version.*missing.*cross_attention\.weight.*unknown.*look\.weight'
    with pytest.raises(ValueError, match=words):
        load_weights(model, tmp_path / 'old.pth')


@pytest.mark.parametrize('is_zip', [True, False])
def test_a_key_whose_hash_never_ends_is_refused(tmp_path, is_zip: bool) -> None:
    key: tuple = ()
    for _ in range(60):
        key = (key, key)  # 61 objects in the file, 2 ** 60 steps to a hash
    content = {'state_dict': {}, 'meta': {'at': [key]}}
    path = tmp_path / 'deep.pth'
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)

    with pytest.raises(ValueError, match='deep.pth.*tuples lie in tuples 60 deep, expected at most 20'):
        read_checkpoint(path)


@pytest.mark.parametrize('is_zip', [True, False])
def test_tuples_of_real_checkpoints_are_read(tmp_path, is_zip: bool) -> None:
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    content = {
        'state_dict': model.state_dict(), 'optimizer': optimiser.state_dict(),
        'meta': {'shape': ((1, 2), (3,))}}
    path = tmp_path / 'plain.pth'
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert read_checkpoint(path)['meta'] == content['meta']
