"""int8 networks: readable without plugins, near the float ones, and the layers that hurt stay as they were."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from perception.deployment.engines import EngineUnavailable, network_files, open_engine
from perception.deployment.errors import ExportError
from perception.deployment.operators import walk
from perception.deployment.quantise import Quantiser, open_session, quantise_export, run
from perception.deployment.sidecar import Sidecar, file_hash
from tests.deployment.conftest import Exported

pytestmark = pytest.mark.xdist_group('deployment')


class Small(nn.Module):
    """Three convolutions; the last one gets inputs of which one channel is a thousand times as large as the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = (nn.Conv2d(*sizes, 3, padding=1) for sizes in ((3, 8), (8, 8), (8, 2)))
        self.register_buffer('scale', torch.tensor([1000.0] + [1.0] * 7).view(1, 8, 1, 1))
        with torch.no_grad():
            self.last.weight[:, 0] = 0  # the large channel is not even needed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))) * self.scale)


@pytest.fixture(scope='module')
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, np.ndarray]]]:
    path = tmp_path_factory.mktemp('small') / 'network.onnx'
    torch.onnx.export(Small().eval(), (torch.zeros(1, 3, 8, 12),), str(path), dynamo=True, opset_version=18, input_names=['x'],
                      output_names=['y'], verbose=False)
    rng = np.random.default_rng(0)
    return path, [{'x': rng.normal(size=(1, 3, 8, 12)).astype(np.float32)} for _ in range(4)]


def test_the_layer_that_hurts_is_found_and_kept(small, tmp_path: Path):
    network, samples = small
    quantiser, said = Quantiser(network, samples), []
    report = quantiser.quantise(tmp_path / 'q.onnx', 0.1, report=said.append)
    assert report.layers == 3 and report.kept == (quantiser.layers[2],)
    assert report.loss_all > 0.2 and report.loss <= 0.1
    assert max(report.sensitivity, key=report.sensitivity.get) == quantiser.layers[2]
    assert report.steps == ((0, report.loss_all), (1, report.loss)) and '1 of 3' in said[-1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['q.onnx']
    expected, found = run(network, samples[0])['y'], run(tmp_path / 'q.onnx', samples[0])['y']
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) <= 0.1
    assert not np.array_equal(found, expected)


def test_everything_is_quantised_where_that_is_good_enough(small, tmp_path: Path):
    network, samples = small
    report = Quantiser(network, samples).quantise(tmp_path / 'q.onnx', allowed=10.0)
    assert report.kept == () and report.sensitivity == {} and report.as_dict()['layers'] == 3


def test_a_loss_of_the_callers_own_decides(small, tmp_path: Path):
    network, samples = small
    asked: list[Path] = []

    def loss(path: Path) -> float:
        asked.append(path)
        return 0.5 if len(asked) < 3 else 0.0

    report = Quantiser(network, samples).quantise(tmp_path / 'q.onnx', 0.01, loss=loss)
    assert [step[0] for step in report.steps] == [0, 1, 2] and len(report.kept) == 2


def test_a_goal_that_cannot_be_reached_is_said_and_leaves_nothing(small, tmp_path: Path):
    network, samples = small
    with pytest.raises(ExportError, match='with a single layer in int8'):
        Quantiser(network, samples).quantise(tmp_path / 'q.onnx', 0.0, loss=lambda path: float('nan'))
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


def test_the_debug_network_in_int8_in_both_runtimes(exported: Exported):
    with pytest.raises(EngineUnavailable, match='tools/export.py --int8'):
        network_files(exported.folder, 'openvino', 'int8')
    samples = [exported.inputs(seed=seed) for seed in range(2)]
    quantiser = Quantiser(exported.folder / 'network.onnx', samples)
    path = exported.folder / 'network.int8.onnx'
    try:
        quantiser.write(path, quantiser.layers)
        assert walk(path) == []
        assert path.stat().st_size < 0.5 * (exported.folder / 'network.onnx').stat().st_size
        expected = run(exported.folder / 'network.onnx', samples[0])
        # all layers in int8 of a network with random weights; OpenVINO computes what is left in bfloat16 on top of that
        for name, least in (('onnxruntime', 0.9), ('openvino', 0.7)):
            found = open_engine(name, exported.folder, 'int8', threads=1).infer(samples[0])
            for output, value in expected.items():
                cosine = (found[output] * value).sum() / np.linalg.norm(found[output]) / np.linalg.norm(value)
                assert cosine > least, (name, output, cosine)
                assert not np.array_equal(found[output], value)
    finally:
        path.unlink(missing_ok=True)


def test_a_network_of_its_own_for_onnx_runtime(small, tmp_path: Path):
    network, samples = small
    quantiser = Quantiser(network, samples, target='onnxruntime')
    quantiser.write(tmp_path / 'network.onnxruntime.int8.onnx', quantiser.layers[:2])
    assert network_files(tmp_path, 'onnxruntime', 'int8') == [tmp_path / 'network.onnxruntime.int8.onnx']
    assert any('zero point' in str(v) or 'INT32' in str(v) for v in walk(tmp_path / 'network.onnxruntime.int8.onnx'))
    open_session(tmp_path / 'network.onnxruntime.int8.onnx')


def test_an_export_is_quantised_until_every_task_keeps_its_score(small, tmp_path: Path):
    network, samples = small
    onnx.save(onnx.load(str(network)), str(tmp_path / 'network.onnx'))  # weights inside, as an export has them
    Sidecar({}, {}, (), (), '', '', file_hash(tmp_path / 'network.onnx'), 18).write(tmp_path)
    reference = run(network, samples[0])['y']

    class Judge:
        """Scores a network by how near its answers are to the float one's: what a task would feel."""

        indices, asked = range(4), 0

        def __call__(self, answer) -> dict[str, float]:
            self.asked += 1
            gap = np.linalg.norm(answer(samples[0])['y'] - reference) / np.linalg.norm(reference)
            return {'detection': float(0.5 * (1 - gap)), 'lanes': 0.0}

    report = quantise_export(tmp_path, samples, 0.1, judge := Judge(), report=lambda line: None)
    measured = Sidecar.read(tmp_path).measured['int8']
    assert len(report.kept) == 1 and judge.asked == 3  # float, all layers, all but the worst
    assert measured['limit'] == 'share of a score' and measured['kept'] == list(report.kept)
    assert measured['scores']['fp32'] == {'detection': 0.5, 'lanes': 0.0}
    assert 0.45 <= measured['scores']['int8']['detection'] < 0.5 and (tmp_path / 'network.int8.onnx').is_file()
    without = quantise_export(tmp_path, samples, 10.0, report=lambda line: None)
    assert without.kept == () and Sidecar.read(tmp_path).measured['int8']['limit'] == 'output error'
