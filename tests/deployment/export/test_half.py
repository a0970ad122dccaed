"""Half precision as a file: float32 at both ends and where values overflow; engines go by the file."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from perception.deployment.engines import network_files, open_engine
from perception.deployment.engines.onnxruntime_engine import OnnxRuntimeEngine
from perception.deployment.errors import EngineUnavailable, ExportError
from perception.deployment.export import half
from perception.deployment.export.graph import TensorSpec
from perception.deployment.export.half import export_half, file_precision
from perception.deployment.export.sidecar import Sidecar, file_hash
from tests.deployment.conftest import edit_sidecar

SAMPLES = [{'x': np.random.default_rng(seed).normal(size=(4, 8)).astype(np.float32)} for seed in range(2)]


def write_network(path: Path) -> None:
    """`y = relu(x A) B`, and `z = sqrt((300 x)^2) / 300` whose square overflows float16."""
    rng = np.random.default_rng(0)
    weights = {'A': rng.normal(size=(8, 16)), 'B': rng.normal(size=(16, 3)), 'scale': np.array([300.0])}
    node = helper.make_node
    nodes = [
        node('MatMul', ['x', 'A'], ['hidden']), node('Relu', ['hidden'], ['active']),
        node('MatMul', ['active', 'B'], ['y']),
        node('Mul', ['x', 'scale'], ['scaled']), node('Mul', ['scaled', 'scaled'], ['square']),
        node('Sqrt', ['square'], ['root']), node('Div', ['root', 'scale'], ['z'])]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]

    def info(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, 'g', [info('x', 4, 8)], [info('y', 4, 3), info('z', 4, 8)], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9), str(path))


def make_export(tmp_path: Path, last: int = 7) -> Path:
    """An export folder of the first `last` nodes of that network, the last of which gives z."""
    write_network(tmp_path / 'network.onnx')
    model = onnx.load(str(tmp_path / 'network.onnx'))
    del model.graph.node[last:]
    model.graph.node[-1].output[0] = 'z'
    onnx.save(model, str(tmp_path / 'network.onnx'))

    x, y, z = (TensorSpec(name, (4, width), 'float32') for name, width in (('x', 8), ('y', 3), ('z', 8)))
    network_hash = file_hash(tmp_path / 'network.onnx')
    Sidecar({}, {}, (x,), (y, z), '0' * 64, '0' * 64, network_hash, 18).write(tmp_path)
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of the whole network."""
    return make_export(tmp_path)


def test_the_network_is_half_but_for_islands_where_values_overflow(folder: Path):
    report = export_half(folder, SAMPLES)
    assert report.islands == ('4_Mul', '5_Sqrt') and report.nodes > 7 and 0 < report.error < 2e-3
    assert '2 ' not in report.summary().split('of')[0] and 'relative error' in report.summary()

    model = onnx.load(str(folder / 'network.fp16.onnx'))
    ends = (*model.graph.input, *model.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in ends}
    assert kinds == dict.fromkeys('xyz', TensorProto.FLOAT)
    assert {tensor.name: tensor.data_type for tensor in model.graph.initializer}['A'] == TensorProto.FLOAT16

    exact = open_engine('onnxruntime', folder, threads=1).infer(SAMPLES[0])
    found = open_engine('onnxruntime', folder, 'fp16', threads=1).infer(SAMPLES[0])
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in found.values())
    for name in 'yz':
        assert np.abs(found[name] - exact[name]).max() < 1e-2 * np.abs(exact[name]).max()


def test_an_output_beyond_half_precision_is_an_island(tmp_path: Path):
    """Nothing in float16 lies between the last node and the output."""
    folder = make_export(tmp_path, last=5)
    assert '4_Mul' in export_half(folder, SAMPLES).islands
    found, = ReferenceEvaluator(str(folder / 'network.fp16.onnx')).run(['z'], SAMPLES[0])
    assert found.max() > 65_504
    np.testing.assert_allclose(found, (300 * SAMPLES[0]['x']) ** 2, rtol=4e-3)


def test_values_stay_in_range_where_every_node_computes_as_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """ONNX Runtime computes much of a half network in float32 on processors; the reference does not."""
    def evaluated() -> np.ndarray:
        export_half(folder, SAMPLES)
        return ReferenceEvaluator(str(folder / 'network.fp16.onnx')).run(['z'], SAMPLES[0])[0]

    with np.errstate(over='ignore'):
        assert np.allclose(evaluated(), np.abs(SAMPLES[0]['x']), rtol=2e-3)
        monkeypatch.setattr(half, 'LARGEST_HALF', np.inf)
        assert np.isinf(evaluated()).any()  # without islands


def test_a_network_that_loses_too_much_is_refused_and_nothing_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(half, 'MOST_ERROR', 1e-9)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ExportError, match='network.fp16.onnx: y: expected a relative error of at most 1e-09'):
        export_half(folder, SAMPLES)
    assert sorted(path.name for path in folder.iterdir()) == before
    with pytest.raises(ValueError, match='expected samples'):
        export_half(folder, [])


def test_engines_take_the_precision_from_the_file(folder: Path):
    exported = folder / 'network.onnx'
    assert file_precision(exported) == 'fp32'
    with pytest.raises(EngineUnavailable, match='no network in half precision here, which onnxruntime needs'):
        network_files(folder, 'onnxruntime', 'fp16')
    assert network_files(folder, 'tensorrt', 'fp16') == [exported]  # before 11 it makes half of it itself
    with pytest.raises(EngineUnavailable, match="network.onnx: .* holds fp32, found 'fp16'"):
        specs = Sidecar.read(folder)
        OnnxRuntimeEngine(exported, specs.inputs, specs.outputs, 'fp16')

    export_half(folder, SAMPLES)
    path = folder / 'network.fp16.onnx'
    assert file_precision(path) == 'fp16'
    for name in ('onnxruntime', 'tensorrt'):
        assert network_files(folder, name, 'fp16') == [path]
    assert network_files(folder, 'openvino', 'fp16') == [exported]
    assert network_files(folder, 'tensorrt', 'fp32') == [exported]


def test_a_half_network_that_is_gone_or_changed_is_refused(folder: Path):
    export_half(folder, SAMPLES)
    path = folder / 'network.fp16.onnx'
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match='network.fp16.onnx: expected the network .* export again'):
        open_engine('onnxruntime', folder, 'fp16')
    path.unlink()
    with pytest.raises(ValueError, match='network.fp16.onnx: .* found no such file'):
        open_engine('tensorrt', folder, 'fp16')


@pytest.mark.parametrize(
    ('record', 'expected'),
    [([], 'half: expected an object or null, found list'),
     ({'file': '../network.fp16.onnx'}, r"half.file: expected network.fp16.onnx, found '\.\./"),
     ({'file': 'network.fp16.onnx', 'hash': 3}, "half.hash: expected a sha256, found '3'")])
def test_a_record_that_cannot_be_true_is_refused(folder: Path, record: object, expected: str):
    edit_sidecar(folder, lambda content: content.update(half=record))
    with pytest.raises(ValueError, match=f'sidecar.json: {expected}'):
        Sidecar.read(folder)
