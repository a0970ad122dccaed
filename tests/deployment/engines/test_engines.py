"""The same predictions from every runtime, for any rig and with sensors missing; bad input is refused in
words."""
from __future__ import annotations

import os
import shutil
import sys
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.bev.published.voxelnet import VoxelNet
from perception.deployment.deployed import DeployedModel
from perception.deployment.engines import Engine, open_engine
from perception.deployment.errors import EngineInputError, EngineUnavailable, ExportError
from perception.deployment.export.graph import graph_inputs
from perception.deployment.export.network import export_network, select_parts
from perception.deployment.export.sidecar import Sidecar
from perception.deployment.measure.compare import (
    compare_engines,
    difference,
    format_differences,
    require_parity,
)
from tests.deployment.conftest import CONFIGS, Exported, enliven, small_model, synthetic

Engines = dict[tuple[str, str], Engine]
SCENES = [
    dict(), dict(seed=3, focal=1.4, raised_m=0.5), dict(seed=4, blind=2), dict(seed=5, lidar=False),
    dict(seed=6, points=0)]
FP32 = [('onnxruntime', 'fp32'), ('openvino', 'fp32')]
BF16 = [('torch', 'bf16'), ('openvino', 'bf16')]


def free_answers(model: torch.nn.Module, batch: object) -> dict[str, np.ndarray]:
    """What the model itself says with shapes as they come, not padded to the engine's."""
    with torch.no_grad():
        raw = model.eval()(model.data_preprocessor({'inputs': batch})['inputs'])
    return {name: value.float().numpy() for name, value in raw.items()}


@pytest.mark.parametrize('key', [('torch', 'fp32'), *FP32])
@pytest.mark.parametrize('scene', range(len(SCENES)))
def test_one_engine_serves_rigs_and_missing_sensors_as_the_model(
    exported: Exported, engines: Engines, key: tuple, scene: int
):
    batch = synthetic(**SCENES[scene])
    expected, found = (
        free_answers(exported.model, batch), engines[key].infer(graph_inputs(exported.model, batch)))
    assert list(found) == list(expected)
    for name in expected:
        assert difference(name, found[name], expected[name]).relative < 1e-4, name


@pytest.mark.parametrize('key', BF16)
def test_bf16_engines_are_near(exported: Exported, engines: Engines, key: tuple):
    found = compare_engines(engines['torch', 'fp32'], engines[key], [exported.inputs()])
    assert min(d.cosine for d in found) > 0.975, format_differences(' '.join(key), found)
    assert max(d.relative for d in found) > 1e-5  # it really computed in another precision


def test_the_scenes_differ_from_each_other(exported: Exported, engines: Engines):
    """Otherwise the tests above would not see an engine that ignores an input."""
    answers = [engines['onnxruntime', 'fp32'].infer(exported.inputs(**scene)) for scene in SCENES[:4]]
    for name in answers[0]:
        for other in answers[1:]:
            assert difference(name, other[name], answers[0][name]).relative > 1e-3, name


def test_a_deployed_model_decodes_like_the_model(exported: Exported, engines: Engines):
    batch = synthetic(seed=8)
    with torch.no_grad():
        expected = exported.model(
            exported.model.data_preprocessor({'inputs': batch})['inputs'], mode='predict'
        )[0]
    found = DeployedModel(exported.model, engines['openvino', 'fp32'])(batch)[0]
    assert found.frame == expected.frame
    np.testing.assert_allclose(
        found.map_segmentation.probabilities_6YX, expected.map_segmentation.probabilities_6YX, atol=1e-4
    )
    np.testing.assert_allclose(found.detection.scores_M, expected.detection.scores_M, atol=1e-4)
    np.testing.assert_allclose(found.lanes.points_LP2, expected.lanes.points_LP2, atol=1e-2)
    assert (found.occupancy.semantics_XYZ == expected.occupancy.semantics_XYZ).mean() > 0.999
    with pytest.raises(ValueError, match="'predict' only"):
        DeployedModel(exported.model, engines['openvino', 'fp32'])(batch, mode='loss')


@pytest.mark.parametrize(
    ('name', 'change', 'expected'),
    [
        (
            'camera.images', lambda v: v[:, :, :, :-1],
            r'images: expected shape \(1, 6, 3, 64, 176\), found \(1, 6, 3, 63, 176\)'),
        ('camera.images', lambda v: v.astype(np.float64), 'camera.images: expected float32, found float64'),
        (
            'camera.images',
            lambda v: np.where(np.arange(v.size).reshape(v.shape) == 77, np.float32(np.nan), v), 'holds NaN'),
        ('lidar.points', lambda v: v + np.float32(np.inf), 'lidar.points: holds NaN or infinite'),
        ('camera.pixel_index', lambda v: v + 100_000, 'expected indices 0 to .* another calibration'),
        ('lidar.slot_map', lambda v: v - 1_000_000, 'lidar.slot_map: expected indices'),
        ('camera.images', lambda v: v.tolist(), 'expected a numpy array, found list'),
    ],
)
def test_a_bad_input_is_named(exported: Exported, engines: Engines, name: str, change, expected: str):
    inputs = exported.inputs()
    inputs[name] = change(inputs[name])
    with pytest.raises(EngineInputError, match=expected):
        engines['onnxruntime', 'fp32'].infer(inputs)


def test_large_inputs_pass_up_to_what_a_sensor_may_measure(exported: Exported, engines: Engines):
    inputs = exported.inputs()
    inputs['camera.images'] = np.full_like(inputs['camera.images'], 3e38)
    with pytest.raises(EngineInputError, match='camera.images: expected values from -1e'):
        engines['onnxruntime', 'fp32'].infer(inputs)

    inputs['camera.images'][:] = 1e6
    assert set(engines['onnxruntime', 'fp32'].infer(inputs)) == {
        spec.name for spec in engines['onnxruntime', 'fp32'].outputs
    }


def test_missing_and_unknown_inputs_are_named(exported: Exported, engines: Engines):
    inputs = exported.inputs()
    del inputs['lidar.points']
    with pytest.raises(EngineInputError, match=r"missing \['lidar.points'\]"):
        engines['torch', 'fp32'].infer(inputs)
    with pytest.raises(EngineInputError, match=r"unknown \['radar.points'\]"):
        engines['torch', 'fp32'].infer({**exported.inputs(), 'radar.points': np.zeros(1)})


def test_two_samples_at_once_are_refused(exported: Exported):
    from tests.helpers import make_batch
    with pytest.raises(ValueError, match='one sample at a time, found a batch of 2'):
        graph_inputs(exported.model, make_batch(2, 6, (64, 176), 100))


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / 'export'))


def test_a_truncated_network_is_refused(copied: Path):
    network = copied / 'network.onnx'
    network.write_bytes(network.read_bytes()[:-1000])
    with pytest.raises(ValueError, match='network.onnx: expected the network with sha256 .* .truncated'):
        open_engine('onnxruntime', copied)


@pytest.mark.parametrize('name', ['onnxruntime', 'openvino'])
def test_a_network_that_is_none_is_refused_by_the_runtime(copied: Path, exported: Exported, name: str):
    from perception.deployment.export.sidecar import file_hash
    (copied / 'network.onnx').write_bytes(b'this is no network')
    replace(exported.sidecar, network_hash=file_hash(copied / 'network.onnx')).write(copied)
    with pytest.raises(ValueError, match='network.onnx: not a network'):
        open_engine(name, copied)


def test_the_sidecar_of_another_model_is_refused(copied: Path, exported: Exported):
    replace(exported.sidecar, network_hash='0' * 64).write(copied)
    with pytest.raises(ValueError, match='of another export'):
        Sidecar.read(copied)


def test_another_checkpoint_than_the_exported_one_is_refused(exported: Exported, tmp_path: Path):
    torch.save(exported.model.state_dict(), tmp_path / 'right.pth')
    DeployedModel.open(exported.folder, 'onnxruntime', checkpoint=tmp_path / 'right.pth', threads=1)
    changed = {
        name: value + 1 if value.is_floating_point() else value
        for name, value in exported.model.state_dict().items()
    }
    torch.save(changed, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other.pth: the export was made from weights'):
        DeployedModel.open(exported.folder, 'onnxruntime', checkpoint=tmp_path / 'other.pth')


def test_missing_files_are_named(copied: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match='no such sidecar; tools/export.py'):
        open_engine('openvino', tmp_path)
    (copied / 'network.onnx').unlink()
    with pytest.raises(FileNotFoundError, match='no such network'):
        open_engine('openvino', copied)


@pytest.mark.parametrize(('name', 'module'), [('onnxruntime', 'onnxruntime'), ('openvino', 'openvino')])
def test_an_absent_runtime_says_how_to_get_it(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, name: str, module: str
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineUnavailable, match=f'{module} is not installed: pip install {module}'):
        open_engine(name, exported.folder)


@pytest.mark.parametrize(
    ('name', 'precision', 'options', 'expected'),
    [
        ('torch', 'fp16', {}, 'fp32 and bf16'),
        ('torch', 'fp32', {'mode': 'cuda_graph'}, "'cuda_graph' on cpu"),
        ('onnxruntime', 'bf16', {}, 'fp32, fp16 or int8'),
        ('onnxruntime', 'fp32', {'provider': 'cuda'}, 'CUDAExecutionProvider')],
)
def test_what_this_machine_cannot_run_is_reported(
    exported: Exported, name: str, precision: str, options: dict, expected: str
):
    if (
        options.get('provider') == 'cuda'
        and 'CUDAExecutionProvider' in __import__('onnxruntime').get_available_providers()
    ):
        pytest.skip('this ONNX Runtime has CUDA')
    with pytest.raises(EngineUnavailable, match=expected):
        open_engine(name, exported.folder, precision, exported.model, **options)


def test_bf16_is_computed_beside_int8_only_where_the_processor_can():
    from perception.deployment.engines.openvino_engine import hint_of
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert [hint_of(p, ['FP32', 'BF16', 'INT8']) for p in ('fp32', 'bf16', 'int8')] == [
            'f32', 'bf16', 'bf16']
        assert [hint_of(p, ['FP32', 'INT8']) for p in ('fp32', 'int8')] == ['f32', 'f32']
    with pytest.warns(UserWarning, match='no bf16 instructions'):
        assert hint_of('bf16', ['FP32', 'INT8']) == 'bf16'


def test_compiled_torch_agrees(exported: Exported, engines: Engines):
    if not os.environ.get('PERCEPTION_EXPORT_ALL'):
        pytest.skip('torch.compile takes minutes: set PERCEPTION_EXPORT_ALL=1')
    compiled = open_engine('torch', exported.folder, model=exported.model, mode='compile')
    found = compare_engines(engines['torch', 'fp32'], compiled, [exported.inputs()])
    assert found and all(one.finite and one.relative < 1e-4 for one in found), found


def test_unknown_names_are_refused(exported: Exported):
    with pytest.raises(ValueError, match="found 'ncnn'"):
        open_engine('ncnn', exported.folder)
    with pytest.raises(ValueError, match="found 'fp8'"):
        open_engine('openvino', exported.folder, 'fp8')
    with pytest.raises(EngineUnavailable, match='needs the model and its checkpoint'):
        open_engine('torch', exported.folder)


def test_parity_names_the_first_bad_output(exported: Exported, engines: Engines):
    class Spoilt(Engine):
        name = 'spoilt'

        def _run(self, inputs):
            found = engines['onnxruntime', 'fp32'].infer(inputs)
            found['occupancy.logits'] = found['occupancy.logits'] * self.factor
            return found

    spoilt = Spoilt(exported.sidecar.inputs, exported.sidecar.outputs, 'fp32')
    for spoilt.factor, expected in (
        (1.01, 'occupancy.logits differs by'), (np.nan, 'occupancy.logits is not finite')):
        found = compare_engines(engines['torch', 'fp32'], spoilt, [exported.inputs()])
        with pytest.raises(ExportError, match=expected):
            require_parity(found, 1e-3, 'spoilt')


def test_a_difference_is_what_one_computes_by_hand():
    found = difference('x', np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 5.0]))
    assert (found.max_abs, found.mean_abs, found.relative) == (1.0, pytest.approx(1 / 3), 0.2)
    assert found.cosine == pytest.approx(25 / np.sqrt(21 * 30))
    with pytest.raises(ValueError, match=r'x: expected shape \(3,\), found \(2,\)'):
        difference('x', np.zeros(2), np.zeros(3))


@pytest.mark.parametrize(
    'name',
    sorted(
        p.relative_to(CONFIGS).as_posix()
        for p in CONFIGS.rglob('*.py')
        if p.parent.name not in ('_base_', 'comparisons') and p.name != 'debug.py'
    ),
)
def test_every_configuration_exports_and_agrees(tmp_path: Path, name: str):
    if not os.environ.get('PERCEPTION_EXPORT_ALL'):
        pytest.skip('exporting every configuration takes many minutes: set PERCEPTION_EXPORT_ALL=1')
    model, config = small_model(name)
    if 'lidar' in model.encoders and isinstance(model.encoders['lidar'], VoxelNet):
        with pytest.raises(ValueError, match='exported or recorded it is dense, and on .* voxels that needs'):
            export_network(model, synthetic(), tmp_path, config)
        return
    radar = bool(config['encoders'].get('radar'))
    sidecar = export_network(enliven(model, synthetic(radar=radar)), synthetic(radar=radar), tmp_path, config)
    batch = synthetic(seed=9, focal=1.2, blind=0, radar=radar)
    expected, inputs = free_answers(model, batch), graph_inputs(model, batch)
    assert {s.name.split('.')[0] for s in sidecar.outputs} == {
        task for task, head in config['heads'].items() if head
    }
    found = {
        engine: open_engine(engine, tmp_path, threads=1).infer(inputs)
        for engine in ('onnxruntime', 'openvino')
    }
    allowed, seeds = dict.fromkeys(expected, 1e-3), iter(range(4))
    while wrong := [
        (engine, output, diff.relative, allowed[output])
        for engine in found
        for output in expected
        if (diff := difference(output, found[engine][output], expected[output])).relative >= allowed[output]
    ]:
        seed = next(seeds, None)
        assert seed is not None, wrong
        nudged = nudged_answers(model, batch, seed)
        allowed = {
            output: max(allowed[output], 2 * difference(output, nudged[output], expected[output]).relative)
            for output in expected
        }


def nudged_answers(model, batch, seed: int, fraction: float = 1e-6) -> dict[str, np.ndarray]:
    """Outputs after every weight moved by a few units in its last place: what rounding alone may do to a deep
    network of random weights. The lanes of the published depth move by a hundredth and more; M3Net, which
    picks its 200 best cells as queries, picks another one now and then (0.002, 0.006, 0.042 and 0.066 of an
    output's range in four draws)."""
    model, generator = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + fraction * torch.randn(weight.shape, generator=generator))
    return free_answers(model, batch)


def test_some_sensors_and_tasks_export_alone(exported: Exported, tmp_path: Path):
    config = select_parts(exported.sidecar.model_config, sensors=['lidar'], tasks=['detection'])
    from perception.registry import MODELS
    model = MODELS.build(config).eval()
    sidecar = export_network(model, synthetic(), tmp_path, config)
    assert {s.name.split('.')[0] for s in sidecar.inputs} == {'lidar'}
    assert {s.name.split('.')[0] for s in sidecar.outputs} == {'detection'}
    found = compare_engines(open_engine('torch', tmp_path, model=model), open_engine('onnxruntime', tmp_path),
                            [graph_inputs(model, synthetic(seed=2))])
    require_parity(found, 1e-4, 'onnxruntime')
    with pytest.raises(ValueError, match="tasks: the configuration has .*found \\['flying'\\]"):
        select_parts(exported.sidecar.model_config, tasks=['flying'])
    with pytest.raises(ValueError, match='opset: expected 17 to 20, found 21'):
        export_network(model, synthetic(), tmp_path, config, opset=21)
