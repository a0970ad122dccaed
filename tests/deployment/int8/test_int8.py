"""int8 by engine: each is scored itself, has a file of its own, and opens no other one."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import perception.deployment.engines as engines
import perception.deployment.int8.choices as choices
import perception.deployment.int8.export as int8
from perception.deployment.engines import EngineUnavailable, network_files, open_engine
from perception.deployment.errors import ExportError
from perception.deployment.export.network import export_network
from perception.deployment.export.sidecar import Sidecar, file_hash
from perception.deployment.int8.choices import Int8Choice, parse_int8_choices
from perception.deployment.int8.export import quantise_export
from perception.deployment.int8.layers import layers_by_head, quantisable_layers, read_named
from perception.deployment.int8.nncf_writer import NncfWriter, float_operations, operations_of
from perception.deployment.int8.ranking import rank_layers
from perception.deployment.int8.records import Ranking
from perception.deployment.measure.scores import ScoreDrop
from perception.deployment.measure.table import fill_table
from perception.deployment.onnx_session import run_network
from tests.deployment.conftest import Exported, edit_sidecar, sidecar_of_small, synthetic
from tests.helpers import make_model

BOTH = ('onnxruntime', 'openvino')
ROW = {'network_ms_p50': 1.0, 'machine': 'a processor with 2 cores', 'date': '2026-11-22'}


@pytest.fixture
def folder(small, tmp_path: Path) -> Path:
    """An export of the small network: weights inside, a sidecar that knows its input and output."""
    onnx.save(onnx.load(str(small[0])), str(tmp_path / 'network.onnx'))
    sidecar_of_small(tmp_path / 'network.onnx').write(tmp_path)
    return tmp_path


class NearFloat:
    """Scores outputs by how near they are to the float network's, as a task's score would drop."""

    indices, asked = range(4), 0

    def __init__(self, small) -> None:
        self.sample, self.reference = small[1][0], run_network(small[0], small[1][0])['y']

    def __call__(self, answer) -> dict[str, float]:
        self.asked += 1
        gap = np.linalg.norm(answer(self.sample)['y'] - self.reference) / np.linalg.norm(self.reference)
        return {'detection': float(0.5 * (1 - gap)), 'lanes': 0.0}


def quiet(line: str) -> None:
    """No report."""


def test_an_export_is_quantised_until_every_task_keeps_its_score(small, folder: Path):
    found = quantise_export(folder, small[1], 0.1, scorer := NearFloat(small), 'any', quiet)['any']
    record = Sidecar.read(folder).measured['int8']['any']
    assert len(found.float_layers) == 1 and scorer.asked == 3  # float, all layers, all but the worst
    assert record['limit'] == 'share of a score' and record['kept'] == list(found.float_layers)
    assert (record['judged_in'], record['file'], record['method']) == (
        'onnxruntime', 'network.int8.onnx', 'qdq')
    assert record['scores']['fp32'] == pytest.approx({'detection': 0.5, 'lanes': 0.0}, abs=1e-6)
    assert 0.45 <= record['scores']['int8']['detection'] < 0.5 and (folder / 'network.int8.onnx').is_file()
    without = quantise_export(folder, small[1], 10.0, engines='any', report=quiet)['any']
    assert without.float_layers == ()
    assert Sidecar.read(folder).measured['int8']['any']['limit'] == 'output error'


def test_each_engine_is_scored_itself_and_opens_its_own_network(
    small, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    real, asked = int8.open_network, []

    def open_network(name, path, sidecar, precision):
        """OpenVINO as it is, but its first two int8 networks answer with a quarter too much."""
        asked.append((name, precision))
        engine, spoilt = real(name, path, sidecar, precision), asked.count(('openvino', 'int8')) <= 2
        if name == 'openvino' and precision == 'int8' and spoilt:
            infer = engine.infer
            monkeypatch.setattr(
                engine, 'infer', lambda inputs: {'y': 1.25 * infer(inputs)['y']}, raising=False
            )
        return engine
    monkeypatch.setattr(int8, 'open_network', open_network)
    found = quantise_export(folder, small[1], 0.1, NearFloat(small), report=quiet)
    # the same layers hold in one and not in the other
    assert [len(found[name].float_layers) for name in BOTH] == [1, 2]
    assert asked[:2] == [(name, 'fp32') for name in BOTH] and asked.count(('onnxruntime', 'int8')) == 2
    assert asked.count(('openvino', 'int8')) == 3
    assert found['openvino'].sensitivity == found['onnxruntime'].sensitivity
    measured = Sidecar.read(folder).measured['int8']
    assert list(measured) == list(BOTH) and not (folder / 'network.int8.onnx').exists()
    for name in BOTH:
        file = folder / f'network.{name}.int8.onnx'
        assert network_files(folder, name, 'int8') == [file] and measured[name]['judged_in'] == name
        assert measured[name]['hashes'] == {file.name: file_hash(file)}
        assert len(measured[name]['kept']) == len(found[name].float_layers)
        sample, expected = small[1][0], run_network(small[0], small[1][0])['y']
        value = open_engine(name, folder, 'int8', threads=1).infer(sample)['y']
        assert 0 < np.linalg.norm(value - expected) / np.linalg.norm(expected) <= 0.1
    with pytest.raises(
        EngineUnavailable, match='no quantised network here for tensorrt.*--int8-engine tensorrt'
    ):
        network_files(folder, 'tensorrt', 'int8')


@pytest.mark.parametrize(('here', 'bits'), [(7, 7), (8, 8)])
def test_weights_have_the_bits_of_the_scoring_processor(
    small, folder: Path, monkeypatch: pytest.MonkeyPatch, here: int, bits: int
):
    for module in (choices, engines):
        monkeypatch.setattr(module, 'usable_weight_bits', lambda: here)
    lines: list[str] = []
    found = quantise_export(folder, small[1], 10.0, engines='onnxruntime', report=lines.append)
    assert found['onnxruntime'].weight_bits == bits and f'weights of {bits} bits' in lines[0]
    assert Sidecar.read(folder).measured['int8']['onnxruntime']['weight_bits'] == bits
    assert Int8Choice('tensorrt').weight_bits == 8 and Int8Choice('any').weight_bits == bits


def test_more_bits_than_this_processor_can_use_are_warned_of(
    small, folder: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
):
    quantise_export(folder, small[1], 10.0, report=quiet, weight_bits=8)
    monkeypatch.setattr(engines, 'usable_weight_bits', lambda: 8)
    open_engine('onnxruntime', folder, 'int8', threads=1)
    assert not [warning for warning in recwarn if 'saturate' in str(warning.message)]

    monkeypatch.setattr(engines, 'usable_weight_bits', lambda: 7)
    for name in BOTH:
        with pytest.warns(UserWarning, match=f'8 bits.*saturate.*no VNNI.*--int8-engine {name} on this'):
            open_engine(name, folder, 'int8', threads=1)

    quantise_export(folder, small[1], 10.0, report=quiet, weight_bits=7)
    recwarn.clear()
    open_engine('onnxruntime', folder, 'int8', threads=1)
    assert not [warning for warning in recwarn if 'saturate' in str(warning.message)]


def test_layers_are_ranked_by_the_tasks_that_dropped_too_much():
    """The first layer hurts the boxes, the second the map, a little, but all there is."""
    errors = {layer: {'detection.box': box, 'map_segmentation.logits': logits}
              for layer, box, logits in (('a', 0.3, 0.0), ('b', 0.1, 0.02), ('c', 0.1, 0.06))}
    heads = {'detection': ['a'], 'map_segmentation': ['b'], 'lanes': ['c']}
    drop_fn = object.__new__(ScoreDrop)
    drop_fn.drops = {'detection': -0.1, 'map_segmentation': 0.03, 'lanes': 0.01}
    found = rank_layers(errors, heads, drop_fn, 0.01)
    assert found.sensitivity == pytest.approx({'a': 0.0, 'b': 0.25, 'c': 0.75})
    assert found.float_first == {'b'} and found.order() == ['b', 'c', 'a']
    drop_fn.drops = {'detection': 0.02, 'map_segmentation': float('nan')}
    ranking = rank_layers(errors, heads, drop_fn, 0.01)
    assert ranking.sensitivity == pytest.approx({'a': 0.6, 'b': 0.25, 'c': 0.75})
    assert rank_layers(errors, heads, lambda path: 0.0, 0.01) == Ranking({'a': 0.3, 'b': 0.1, 'c': 0.1})


def test_every_engine_must_hold_and_those_that_do_keep_their_network(
    small, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    real = int8.open_network

    def open_network(name, path, sidecar, precision):
        engine = real(name, path, sidecar, precision)
        if name == 'openvino' and precision == 'int8':
            monkeypatch.setattr(
                engine, '_run', lambda inputs: {'y': np.zeros((1, 2, 8, 12), np.float32)}, raising=False
            )
        return engine
    monkeypatch.setattr(int8, 'open_network', open_network)
    with pytest.raises(
        ExportError, match='int8 for openvino: .*with a single layer in int8.*written: onnxruntime'
    ):
        quantise_export(folder, small[1], 0.1, report=quiet)
    assert list(Sidecar.read(folder).measured['int8']) == ['onnxruntime']
    assert sorted(path.name for path in folder.iterdir()) == [
        'network.onnx', 'network.onnxruntime.int8.onnx', 'sidecar.json']


def test_a_quantised_network_that_is_gone_or_changed_is_refused(small, folder: Path):
    quantise_export(folder, small[1], 10.0, engines='onnxruntime', report=quiet)
    file = folder / 'network.onnxruntime.int8.onnx'
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ValueError,
        match=r'network.onnxruntime.int8.onnx: expected .* with sha256 .*measured.int8.onnxruntime'):
        open_engine('onnxruntime', folder, 'int8')
    file.unlink()
    with pytest.raises(ValueError, match='network.onnxruntime.int8.onnx: expected .*found no such file'):
        open_engine('onnxruntime', folder, 'int8')


def test_a_new_export_forgets_the_networks_of_the_old_one(tmp_path: Path):
    for name in ('network.int8.onnx', 'network.openvino.int8.xml', 'network.openvino.int8.bin'):
        (tmp_path / name).write_bytes(b'of another network')
    export_network(make_model(('lidar',)).eval(), synthetic(points=300), tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ['network.onnx', 'sidecar.json']


def test_a_network_that_was_scored_elsewhere_says_so_and_runs(small, folder: Path):
    quantise_export(folder, small[1], 10.0, engines='any', report=quiet)
    with pytest.warns(UserWarning, match='measured in onnxruntime, not in openvino.*--int8-engine openvino'):
        assert np.isfinite(open_engine('openvino', folder, 'int8', threads=1).infer(small[1][0])['y']).all()


@pytest.mark.parametrize(
    ('int8_content', 'expected'),
    [
        ([1], 'measured.int8: expected an object by engine, found list'),
        ({'npu': {}}, "measured.int8.npu: .*found 'npu'"),
        ({'openvino': 3}, 'measured.int8.openvino: expected an object, found int'),
        ({'any': {}}, 'any.method: .*found None'),
        ({'any': {'method': 'qdq', 'judged_in': 'eye'}}, "any.judged_in: .*found 'eye'"),
        (
            {'any': {'method': 'qdq', 'judged_in': 'openvino', 'file': '../x.int8.onnx'}},
            r"any.file: .*found '\.\./x.int8.onnx'"),
        (
            {'any': {'method': 'qdq', 'judged_in': 'openvino', 'file': 'network.int8.onnx'}},
            'any.hashes: .*found None'),
        (
            {'any': {'method': 'qdq', 'judged_in': 'openvino', 'weight_bits': 4}},
            'any.weight_bits: expected 7 or 8, found 4'),
    ],
)
def test_invalid_records_are_refused(folder: Path, int8_content: object, expected: str):
    edit_sidecar(folder, lambda content: content.update(measured={'int8': int8_content}))
    with pytest.raises(ValueError, match=f'sidecar.json: .*{expected}'):
        Sidecar.read(folder)


def test_what_was_measured_of_a_network_goes_with_it(small, folder: Path, tmp_path: Path):
    quantise_export(folder, small[1], 10.0, engines='any,openvino', report=quiet)
    job = {'export': str(folder), 'samples': 0, 'runs': 1, 'threads': 0}
    measured: list[str] = []

    def measure(told: dict) -> dict:
        measured.append(f'{told["engine"]} {told["precision"]}')
        return dict(ROW)
    rows = [('onnxruntime', 'fp32'), ('onnxruntime', 'int8'), ('openvino', 'int8')]
    for _ in range(2):
        found = fill_table(job, rows, tmp_path / 'table.json', quiet, measure)
    assert measured == ['onnxruntime fp32', 'onnxruntime int8', 'openvino int8'] and list(found) == measured
    Sidecar.read(folder).with_rows(found).write(folder)
    quantise_export(folder, small[1][:1], 10.0, engines=(Int8Choice('openvino'),), report=quiet)
    assert list(Sidecar.read(folder).measured['engines']) == ['onnxruntime fp32', 'onnxruntime int8']
    fill_table(job, rows, tmp_path / 'table.json', quiet, measure)
    assert measured[3:] == ['openvino int8']


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ('', "found ''"), ('torch', "found 'torch'"), ('openvino:gptq', "a method of .*found 'gptq'"),
        ('onnxruntime:nncf', 'for openvino alone, found onnxruntime:nncf'),
        ('openvino,openvino:nncf', 'expected each once')],
)
def test_engines_that_cannot_be_quantised_for(words: str, expected: str):
    with pytest.raises(ValueError, match=expected):
        parse_int8_choices(words)


def test_engines_in_words():
    assert parse_int8_choices('onnxruntime, openvino:nncf,any') == (
        Int8Choice('onnxruntime'), Int8Choice('openvino', 'nncf'), Int8Choice('any'))
    assert [choice.file for choice in parse_int8_choices('any,openvino:nncf,tensorrt')] == \
        ['network.int8.onnx', 'network.openvino.int8.xml', 'network.tensorrt.int8.onnx']
    assert [choice.target for choice in parse_int8_choices('any,openvino,tensorrt')] == ['any', 'cpu', 'any']


def test_without_nncf_it_says_how_to_get_it_before_anything_is_searched(
    small, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, 'nncf', None)
    before = sorted(folder.iterdir())
    with pytest.raises(EngineUnavailable, match=r"pip install 'perception\[int8\]'"):
        quantise_export(folder, small[1], 0.1, engines='onnxruntime,openvino:nncf', report=quiet)
    assert sorted(folder.iterdir()) == before


def test_every_layer_has_its_operation_in_openvino(exported: Exported):
    import openvino as ov
    path = exported.folder / 'network.onnx'
    model, theirs = read_named(path), ov.Core().read_model(str(path))
    layers, outputs = quantisable_layers(model), {node.name: node.output[0] for node in model.graph.node}
    found = operations_of(theirs, {layer: outputs[layer] for layer in layers})
    assert sorted(found) == sorted(layers) and len(set(found.values())) == len(layers)
    assert operations_of(theirs, {'a': 'no such tensor'}) == {}


def test_heads_are_what_one_task_alone_reads(exported: Exported):
    model = read_named(exported.folder / 'network.onnx')
    heads = layers_by_head(model)
    assert set(heads) == {'detection', 'map_segmentation', 'occupancy', 'lanes'} and all(heads.values())
    every = [layer for head in heads.values() for layer in head]
    assert len(every) == len(set(every)) < len(quantisable_layers(model))  # encoders and trunk serve all


def test_what_does_not_lie_between_int8_layers_stays_in_float():
    """x -> scaled -> a -> relu -> b -> sum -> c, where the sum also reads the relu."""
    import openvino as ov
    from openvino import opset13 as op
    x, weight = op.parameter([4, 4], name='x'), np.eye(4, dtype=np.float32)
    scaled = op.multiply(x, np.float32(2), name='scaled')
    a = op.matmul(scaled, weight, False, False, name='a')
    relu = op.relu(a, name='relu')
    b = op.matmul(relu, weight, False, False, name='b')
    both = op.add(b, relu, name='sum')
    c = op.matmul(both, weight, False, False, name='c')
    model = ov.Model([op.relu(c, name='answer')], [x], 'small')

    def kept(*in_int8: str) -> set[str]:
        return set(float_operations(model, 'abc', in_int8))
    assert kept('a', 'b', 'c') == {'scaled', 'answer'}
    assert kept('a', 'c') == {'scaled', 'answer', 'b'}  # the relu's other reader, the sum, is before c
    assert kept('b', 'c') == {'scaled', 'answer', 'a', 'relu'}
    assert kept('a', 'b') == {'scaled', 'answer', 'c', 'sum'}
    assert kept('c') == {'scaled', 'answer', 'a', 'b', 'relu', 'sum'}


def test_nncf_keeps_layers_in_float(small, tmp_path: Path):
    pytest.importorskip('nncf', reason="needs NNCF: pip install 'perception[int8]'")
    import openvino as ov
    network, samples = small
    writer = NncfWriter(network, samples)
    with pytest.raises(ValueError, match='found network.onnx and 3'):
        writer.write(tmp_path / 'network.onnx', writer.layers)
    with pytest.raises(ValueError, match="expected an .xml and some of the 3 layers.*'flying'"):
        writer.write(tmp_path / 'q.xml', ['flying'])
    with pytest.raises(ExportError, match='found none'):
        NncfWriter(network, [])
    int8_weights = {}
    for count in (3, 1):
        path = writer.write(tmp_path / f'q{count}.xml', writer.layers[:count])
        constants = [o for o in ov.Core().read_model(str(path)).get_ops() if o.get_type_name() == 'Constant']
        int8_weights[count] = sum(
            o.get_element_type() == ov.Type.i8 and len(o.get_output_shape(0)) == 4 for o in constants
        )
    assert int8_weights == {3: 3, 1: 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['q1.bin', 'q1.xml', 'q3.bin', 'q3.xml']


def test_the_same_search_runs_over_nncf(small, folder: Path):
    pytest.importorskip('nncf', reason="needs NNCF: pip install 'perception[int8]'")
    quantise_export(folder, small[1], 10.0, engines='openvino', report=quiet)
    found = quantise_export(folder, small[1], 0.1, NearFloat(small), 'openvino:nncf', quiet)['openvino']
    assert len(found.float_layers) == 1 and len(found.attempts) == 2
    assert found.drop <= 0.1 < found.drop_all_int8
    files = [folder / 'network.openvino.int8.xml', folder / 'network.openvino.int8.bin']
    assert network_files(folder, 'openvino', 'int8') == files
    assert not (folder / 'network.openvino.int8.onnx').exists()
    record = Sidecar.read(folder).measured['int8']['openvino']
    assert record['method'] == 'nncf' and set(record['hashes']) == {file.name for file in files}
    assert not list(folder.glob('*attempt*')) + list(folder.glob('*partial*'))
    expected = run_network(small[0], small[1][0])['y']
    value = open_engine('openvino', folder, 'int8', threads=1).infer(small[1][0])['y']
    assert 0 < np.linalg.norm(value - expected) / np.linalg.norm(expected) <= 0.1
    files[1].write_bytes(files[1].read_bytes()[:-1])
    with pytest.raises(ValueError, match='network.openvino.int8.bin: expected .*truncated'):
        open_engine('openvino', folder, 'int8')
