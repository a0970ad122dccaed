"""A sidecar is data: whatever somebody writes into it, nothing runs, and what cannot be true is named."""
from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from perception.core.config import read_config
from perception.core.registered import check_registered, foreign_scopes
from perception.deployment.deployed import DeployedModel
from perception.deployment.export.graph import TensorSpec
from perception.deployment.export.network import plain
from perception.deployment.export.sidecar import Sidecar, file_hash
from perception.registry import MODELS, build_from_data, without_pretrained
from tests.deployment.conftest import CONFIGS, edit_sidecar

RUN = {'type': 'os.system', 'command': 'true'}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sidecar of the smallest configuration, beside a file that is never opened as a network."""
    (tmp_path / 'network.onnx').write_bytes(b'no network')
    config = plain(read_config(CONFIGS / 'debug.py').model)
    inputs = TensorSpec('lidar.points', (8, 10), 'float32'), TensorSpec('lidar.slot_map', (4, 4), 'int64', 8)
    Sidecar(
        config, {}, inputs, (TensorSpec('lanes.points', (3,), 'float32'),),
        '0' * 64, '1' * 64, file_hash(tmp_path / 'network.onnx'), 18, ('lidar.present',)).write(tmp_path)
    return tmp_path


def put(content: dict, place: str, value: object) -> None:
    """Set a value by its dotted place."""
    *above, last = place.split('.')
    for part in above:
        content = content[int(part) if part.isdigit() else part]
    content[last] = value


@pytest.mark.parametrize(
    ('place', 'value', 'expected'),
    [
        ('model_config', RUN, "model_config.type: found 'os.system', expected a name registered in percep"),
        ('model_config.encoders.lidar', RUN, "model_config.encoders.lidar.type: found 'os.system'"),
        ('model_config.trunk', {'type': 'Build', 'module': RUN}, "model_config.trunk.module.type: found 'os"),
        ('model_config.fuser', {'type': 'eval'}, "model_config.fuser.type: found 'eval'"),
        ('model_config.fuser.type', 'antigravity', "model_config.fuser.type: found 'antigravity'"),
        ('model_config.fuser.type', 'perception.registry.print', "fuser.type: found 'perception.registry"),
        ('model_config.fuser.type', 'ConcatFusr', "found 'ConcatFusr'.*did you mean 'ConcatFuser'"),
        ('model_config.fuser.type', ['os', 'system'], r"fuser.type: found \['os', 'system'\]"),
        ('model_config.heads.extra', [[{'type': 'subprocess.call'}]], r'heads.extra\[0\]\[0\].type: found'),
        ('model_config._scope_', 'antigravity', "model_config._scope_: found 'antigravity'"),
        ('model_config.trunk', {'type': 'mmdet3d.models.SECOND'}, "found 'mmdet3d.models.SECOND'"),
        ('model_config.trunk', {'type': 'mmpose.SECOND'}, 'registered in perception, or in mmdet or mmd')])
def test_a_type_that_is_not_registered_is_refused_before_anything_is_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, value: object, expected: str
):
    import os
    ran: list[str] = []
    monkeypatch.setattr(os, 'system', ran.append)
    monkeypatch.setattr(MODELS, 'build', ran.append)
    path = edit_sidecar(folder, lambda content: put(content, place, value))

    with pytest.raises(ValueError, match=f'{path}: .*{expected}'):
        DeployedModel.open(folder, 'onnxruntime', threads=1)
    assert not ran


def test_a_model_of_another_package_is_built_only_where_the_configuration_asks_for_it(folder: Path):
    trunk = {'type': 'mmdet3d.SECOND', 'norm_cfg': {'type': 'BN'}}
    edit_sidecar(folder, lambda content: put(content, 'model_config.trunk', trunk))
    with pytest.raises(ValueError, match=r"trunk.type: found 'mmdet3d.SECOND'.*foreign=\('mmdet3d',\)"):
        DeployedModel.open(folder, 'onnxruntime', threads=1)

    config = Sidecar.read(folder).model_config
    assert foreign_scopes(config) == ('mmdet3d',) and foreign_scopes({'type': 'os.system'}) == ()
    if find_spec('mmdet3d') is None:
        with pytest.raises(ModuleNotFoundError, match=r"'mmdet3d' is not installed.*\[mm\]"):
            build_from_data(config, MODELS, 'here', ('mmdet3d',))


def test_names_inside_a_module_of_another_package_are_looked_up_there():
    pytest.importorskip('mmcv', reason='needs the extra [mm]')
    second = {'type': 'mmdet3d.SECOND', 'norm_cfg': {'type': 'BN'}, 'init_cfg': {'type': 'Kaiming'}}
    check_registered({'trunk': second}, MODELS, 'x', ('mmdet3d',))
    for changed in ({'type': 'eval'}, {'type': 'os.system'}, {'type': 'Runner'}):
        with pytest.raises(ValueError, match='x.trunk.norm_cfg.type: found'):
            check_registered({'trunk': {**second, 'norm_cfg': changed}}, MODELS, 'x', ('mmdet3d',))
    ours = {'type': 'perception.Build', 'module': {'type': 'SECOND'}}
    with pytest.raises(ValueError, match="x.trunk.norm_cfg.module.type: found 'SECOND'"):
        check_registered({'trunk': {**second, 'norm_cfg': ours}}, MODELS, 'x', ('mmdet3d',))


def test_no_file_of_weights_is_loaded_for_a_model_that_was_read():
    loading = {'pretrained': 'x', 'init_cfg': {'type': 'Pretrained', 'checkpoint': 'y'}}
    assert without_pretrained({'a': loading}) == {'a': {'pretrained': None, 'init_cfg': None}}


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda c: c.pop('inputs'), 'inputs: missing, expected a list'),
        (lambda c: c.update(version=99), 'found perception-engine version 99'),
        (lambda c: c.update(inputs=3), 'inputs: expected a list, found int'),
        (lambda c: c.update(network_hash=[]), 'network_hash: expected a sha256, found list'),
        (lambda c: c.update(weights_hash='0'), "weights_hash: expected a sha256 of 64 .*found '0'"),
        (lambda c: c.update(opset=True), 'opset: expected 17 to 20, found True'),
        (lambda c: c['inputs'].append(7), r'inputs\[\d+\]: expected an object, found int'),
        (lambda c: c['inputs'][0].update(name=None), r'inputs\[0\].name: expected a name, found None'),
        (lambda c: c['inputs'][0].update(dtype='object'), r"inputs\[0\].dtype: .*found 'object'"),
        (lambda c: c['inputs'][0].update(shape=[-1, 3]), r'inputs\[0\].shape: expected a list of sizes'),
        (lambda c: c['inputs'][0].update(shape=[10**6] * 5), r'inputs\[0\].shape: expected at most'),
        (lambda c: c['inputs'][0].update(high='9'), r"inputs\[0\].high: .*found '9'"),
        (lambda c: c['inputs'].append(c['inputs'][0]), 'names that differ, found'),
        (lambda c: c.update(outputs=[]), 'outputs: expected at least one'),
        (lambda c: c['classes'].update(detection=['car']), r"classes.detection: .*found \['car'\]"),
        (lambda c: c.update(dropped_inputs=[[]]), r'names that differ, found \[\]')])
def test_a_field_that_cannot_be_true_is_named(folder: Path, change: Callable, expected: str):
    path = edit_sidecar(folder, change)
    with pytest.raises(ValueError, match=f'{path}: .*{expected}'):
        Sidecar.read(folder)


def altered(value: object) -> object:
    if value is None:
        return {}
    if isinstance(value, dict):
        return {**value, 'x': {}}
    return value[::-1] if isinstance(value, (list, str)) else value - 1


def test_the_hash_of_the_sidecar_covers_every_field(folder: Path):
    path = folder / 'sidecar.json'
    content = json.loads(path.read_text())
    for field in (name for name in content if name not in ('sidecar_hash', 'schema', 'version')):
        changed = {**content, field: altered(content[field])}
        if changed[field] != content[field]:
            path.write_text(json.dumps(changed))
            with pytest.raises(ValueError, match=r'sidecar_hash: .* was changed since|half\.file: expected'):
                Sidecar.read(folder)

    path.write_text('[' * 100_000)
    with pytest.raises(ValueError, match='sidecar.json: not a complete sidecar'):
        Sidecar.read(folder)


@pytest.mark.parametrize(
    ('place', 'value', 'expected'),
    [
        ('heads.detection.decoding', {'nms': 1}, "nms: expected 'circle', 'rotated' or None, found 1"),
        ('heads.detection.decoding', {'score_threshold': float('nan')}, 'score_threshold: .* found nan'),
        ('heads.lanes.decoding', {'max_lanes': 'all'}, "max_lanes: .* found 'all'"),
        ('heads.lanes.decoding', {'score_threshold': -1}, 'score_threshold: expected 0 to 1, found -1'),
        ('heads.lanes.decodng', {}, 'decodng'),
        ('encoders', {}, 'encoders: expected at least one entry')])
def test_values_that_the_parts_refuse_are_reported_with_the_file(
    folder: Path, place: str, value: object, expected: str
):
    path = edit_sidecar(folder, lambda content: put(content, f'model_config.{place}', value))
    with pytest.raises(ValueError, match=f'{path}: model_config: cannot be built: .*{expected}'):
        DeployedModel.open(folder, 'onnxruntime', threads=1)
