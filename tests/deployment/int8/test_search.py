"""int8 networks: readable without plugins, near the float ones, and the layers that hurt stay as they
were."""
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from perception.deployment.engines import EngineUnavailable, network_files, open_engine, open_network
from perception.deployment.errors import ExportError
from perception.deployment.export.operators import walk
from perception.deployment.int8.quantiser import Quantiser
from perception.deployment.int8.records import Ranking
from perception.deployment.int8.search import search
from perception.deployment.onnx_session import open_session, run_network
from perception.deployment.processor import weight_bits as usable_weight_bits
from tests.deployment.conftest import Exported, sidecar_of_small


def test_the_layer_that_hurts_is_found_and_kept(small, tmp_path: Path):
    network, samples = small
    quantiser, said = Quantiser(network, samples), []
    report = quantiser.quantise(tmp_path / 'q.onnx', 0.1, report=said.append)
    assert report.layers == 3 and report.float_layers == (quantiser.layers[2],)
    assert report.drop_all_int8 > 0.2 and report.drop <= 0.1
    assert max(report.sensitivity, key=report.sensitivity.get) == quantiser.layers[2]
    assert report.attempts == ((0, report.drop_all_int8), (1, report.drop)) and '1 of 3' in said[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['q.onnx']
    expected = run_network(network, samples[0])['y']
    found = run_network(tmp_path / 'q.onnx', samples[0])['y']
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) <= 0.1
    assert not np.array_equal(found, expected)


def test_everything_is_quantised_where_that_is_good_enough(small, tmp_path: Path):
    network, samples = small
    report = Quantiser(network, samples).quantise(tmp_path / 'q.onnx', max_drop=10.0)
    assert report.float_layers == () and report.sensitivity == {} and report.as_dict()['layers'] == 3


def integer_weights(path: Path) -> np.ndarray:
    """All int8 values of a quantised network's convolutions."""
    tensors = onnx.load(str(path)).graph.initializer
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in tensors]
    return np.concatenate([array.ravel() for array in arrays if array.dtype == np.int8 and array.ndim == 4])


@pytest.mark.parametrize('target', ['any', 'cpu'])
def test_weights_of_7_and_of_8_bits(small, target: str, tmp_path: Path):
    network, samples = small
    quantiser = Quantiser(network, samples)
    assert quantiser.weight_bits == usable_weight_bits()
    for bits, largest in ((7, 64), (8, 127)):
        aimed = quantiser.for_target(target, bits)
        path = aimed.write(tmp_path / 'q.onnx', aimed.layers)
        assert np.abs(integer_weights(path).astype(int)).max() == largest
        assert aimed.quantise(tmp_path / 'q.onnx', max_drop=10.0).as_dict()['weight_bits'] == bits
    with pytest.raises(ValueError, match='expected 7, 8 or None, found 4'):
        Quantiser(network, samples, weight_bits=4)


@pytest.mark.parametrize('target', ['any', 'cpu'])
@pytest.mark.parametrize('engine', ['onnxruntime', 'openvino'])
def test_the_bits_chosen_for_this_processor_do_not_saturate(small, target: str, engine: str, tmp_path: Path):
    """With optimisation off, ONNX Runtime computes the same network in float from the integers."""
    network, samples = small
    quantiser = Quantiser(network, samples).for_target(target)
    path = quantiser.write(tmp_path / 'q.onnx', quantiser.layers[:2])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    exact = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    opened = open_network(engine, path, sidecar_of_small(network), 'int8', threads=1)
    for sample in samples:
        expected, value = run_network(exact, sample)['y'], opened.infer(sample)['y']
        assert np.linalg.norm(value - expected) / np.linalg.norm(expected) < 0.02


def test_a_drop_of_the_callers_own_decides(small, tmp_path: Path):
    network, samples = small
    asked: list[Path] = []

    def drop_fn(path: Path) -> float:
        asked.append(path)
        return 0.5 if len(asked) < 3 else 0.0

    report = Quantiser(network, samples).quantise(tmp_path / 'q.onnx', 0.01, drop_fn=drop_fn)
    assert [step[0] for step in report.attempts] == [0, 1, 2] and len(report.float_layers) == 2


@pytest.mark.parametrize('needed', [0, 1, 2, 3, 5, 6, 7, 8, 11, 19])
def test_no_more_layers_than_need_be_stay_in_float(needed: int, tmp_path: Path):
    """Every layer adds 0.1 to the drop and is ranked by its number; the last file measured is the one that
    stays."""

    class Words:
        network, layers = tmp_path / 'network.onnx', [f'layer{number}' for number in range(20)]
        weight_bits = 8

        def write(self, path: Path, layers: list[str]) -> Path:
            path.write_text(' '.join(layers))
            return path

    measured: list[str] = []

    def drop_fn(path: Path) -> float:
        measured.append(path.read_text())
        return 0.1 * len(measured[-1].split())

    found = search(Words(), tmp_path / 'q.onnx', 0.1 * (20 - needed) + 1e-6, drop_fn,
                   lambda: Ranking({layer: -float(layer[5:]) for layer in Words.layers}))
    assert found.float_layers == tuple(Words.layers[:needed])
    assert found.drop == pytest.approx(0.1 * (20 - needed))
    assert measured[-1] == (tmp_path / 'q.onnx').read_text() == ' '.join(Words.layers[needed:])
    assert [path.name for path in tmp_path.iterdir()] == ['q.onnx'] and len(measured) <= 11


@pytest.mark.parametrize(('bad', 'kept', 'asked'), [('c', 'cba', 2), ('ch', 'cbah', 4), ('cd', None, 4)])
def test_what_goes_whole_goes_first_and_is_not_parted(bad: str, kept: str | None, asked: int, tmp_path: Path):
    class Words:
        network, layers = tmp_path / 'network.onnx', list('abcdefgh')
        weight_bits = 8

        def write(self, path: Path, layers: list[str]) -> Path:
            path.write_text(''.join(sorted(layers, reverse=True)))
            return path

    measured: list[str] = []

    def drop_fn(path: Path) -> float:
        measured.append(path.read_text())
        return float(any(layer in measured[-1] for layer in bad))

    ranking = Ranking({layer: float(ord(layer)) for layer in 'abcdefgh'}, {'a', 'b', 'c'})
    if kept is None:
        with pytest.raises(ExportError, match='with a single layer in int8'):
            search(Words(), tmp_path / 'q', 0.5, drop_fn, lambda: ranking)
    else:
        assert ''.join(search(Words(), tmp_path / 'q', 0.5, drop_fn, lambda: ranking).float_layers) == kept
    assert measured[1] == 'hgfed' and len(measured) == asked


def test_a_goal_that_cannot_be_reached_is_reported_and_leaves_nothing(small, tmp_path: Path):
    network, samples = small
    with pytest.raises(ExportError, match='with a single layer in int8'):
        Quantiser(network, samples).quantise(tmp_path / 'q.onnx', 0.0, drop_fn=lambda path: float('nan'))
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_are_refused(small, tmp_path: Path):
    network, samples = small
    with pytest.raises(ExportError, match='found none'):
        Quantiser(network, [])
    with pytest.raises(ValueError, match="found 'npu'"):
        Quantiser(network, samples, target='npu')
    quantiser = Quantiser(network, samples)
    for layers in ([], ['flying']):
        with pytest.raises(ValueError, match='some of the 3 layers'):
            quantiser.write(tmp_path / 'q.onnx', layers)


def test_the_debug_network_in_int8_in_both_runtimes(exported: Exported, tmp_path: Path):
    folder = Path(shutil.copytree(exported.folder, tmp_path / 'export'))
    with pytest.raises(EngineUnavailable, match='tools/export.py --int8'):
        network_files(folder, 'openvino', 'int8')
    samples = [exported.inputs(seed=seed) for seed in range(2)]
    quantiser = Quantiser(folder / 'network.onnx', samples)
    path = folder / 'network.int8.onnx'
    quantiser.write(path, quantiser.layers)
    assert walk(path) == []
    assert path.stat().st_size < 0.5 * (folder / 'network.onnx').stat().st_size
    expected = run_network(folder / 'network.onnx', samples[0])

    # all layers in int8 of a network with random weights; OpenVINO computes what is left in bfloat16 on
    # top of that
    for name, least in (('onnxruntime', 0.85), ('openvino', 0.7)):
        found = open_engine(name, folder, 'int8', threads=1).infer(samples[0])
        for output, value in expected.items():
            cosine = (found[output] * value).sum() / np.linalg.norm(found[output]) / np.linalg.norm(value)
            assert cosine > least, (name, output, cosine)
            assert not np.array_equal(found[output], value)


def test_a_network_for_processors(small, tmp_path: Path):
    network, samples = small
    quantiser = Quantiser(network, samples).for_target('cpu')
    quantiser.write(tmp_path / 'network.onnxruntime.int8.onnx', quantiser.layers[:2])
    assert network_files(tmp_path, 'onnxruntime', 'int8') == [tmp_path / 'network.onnxruntime.int8.onnx']
    assert any(
        'zero point' in str(v) or 'INT32' in str(v) for v in walk(tmp_path / 'network.onnxruntime.int8.onnx')
    )
    open_session(tmp_path / 'network.onnxruntime.int8.onnx')
    with pytest.raises(ValueError, match="found 'npu'"):
        quantiser.for_target('npu')


def test_the_drop_of_outputs_is_that_of_the_network_that_is_opened(small):
    network, samples = small

    def open_fn(path: Path):
        return lambda inputs: {'y': (1.0 if path == network else 1.25) * run_network(network, inputs)['y']}

    drop_fn = Quantiser(network, samples).output_drop(open_fn=open_fn)
    assert drop_fn(network) == 0.0 and drop_fn(Path('other.onnx')) == pytest.approx(0.25)
