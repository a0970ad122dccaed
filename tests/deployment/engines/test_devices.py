"""Where an engine runs: what is not here says so, and nothing is computed elsewhere in silence."""
from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from perception.deployment.deployed import DeployedModel
from perception.deployment.engines import open_network
from perception.deployment.engines.choices import device_options, parse_engines
from perception.deployment.engines.openvino_engine import hint_of
from perception.deployment.engines.providers import open_session_on
from perception.deployment.errors import EngineUnavailable
from tests.deployment.conftest import sidecar_of_small

RTX = 'NvTensorRTRTXExecutionProvider'


class Told(SimpleNamespace):
    """ONNX Runtime with a plug-in's devices, which tells what it was asked; `left_out` never starts."""

    def __init__(self, devices: int = 2, fails: str = '', left_out: str = '') -> None:
        super().__init__(devices=devices, fails=fails, left_out=left_out, registered=[], chosen=[])
        self.__version__ = '1.31.1'

    def get_available_providers(self) -> list[str]:
        return ['CUDAExecutionProvider', 'CPUExecutionProvider']

    def get_ep_devices(self) -> list:
        names = ['CPUExecutionProvider', *([RTX] * self.devices if self.registered else [])]
        return [SimpleNamespace(ep_name=name, number=i) for i, name in enumerate(names)]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self.fails:
            raise RuntimeError(f'{self.fails}\nmore')
        self.registered.append((name, path))

    def add_provider_for_devices(self, devices: list, options: dict) -> None:
        self.chosen.append(devices)

    def InferenceSession(self, network: str, options: object, **words: list) -> SimpleNamespace:
        asked = words.get('providers', [RTX])
        names = [name for name in asked if name != self.left_out]
        return SimpleNamespace(get_providers=lambda: [*names, 'CPUExecutionProvider'], asked=words)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plug-in's package, as its version 0.5.0 answers."""
    module = SimpleNamespace(get_ep_name=lambda: RTX, get_library_path=lambda: 'rtx.so')
    monkeypatch.setitem(sys.modules, 'onnxruntime_ep_nv_tensorrt_rtx', module)


def test_tensorrt_rtx_is_registered_once_and_takes_the_first_gpu(plugin: None):
    ort = Told()
    for _ in range(2):
        session = open_session_on(ort, 'tensorrt_rtx', 'network.onnx', ort)
        assert session.asked == {}  # the session's options say which devices
    assert ort.registered == [('tensorrt_rtx', 'rtx.so')]
    assert [[(d.ep_name, d.number) for d in devices] for devices in ort.chosen] == [[(RTX, 1)], [(RTX, 1)]]


@pytest.mark.parametrize(('ort', 'expected'), [
    (Told(fails='libcuda.so.1: cannot open'), 'cannot be loaded: libcuda.so.1: cannot open .libcuda is part'),
    (Told(devices=0), 'finds no NVIDIA RTX GPU here'),
    (Told(left_out=RTX), rf'could not start {RTX} here and took .*CPUExecutionProvider'),
    (SimpleNamespace(__version__='1.22.0'), 'loads plug-ins .1.23 or later., found 1.22.0')])
def test_tensorrt_rtx_that_cannot_run_says_why(plugin: None, ort: Told, expected: str):
    with pytest.raises(EngineUnavailable, match=expected):
        open_session_on(ort, 'tensorrt_rtx', 'network.onnx', ort)


def test_tensorrt_rtx_says_how_to_get_it(small, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime_ep_nv_tensorrt_rtx', None)
    with pytest.raises(EngineUnavailable, match='pip install onnxruntime-ep-nv-tensorrt-rtx'):
        opened(small, 'onnxruntime', **device_options('onnxruntime', 'tensorrt_rtx'))


def test_a_provider_that_does_not_start_is_no_silent_processor():
    with pytest.raises(EngineUnavailable, match='could not start CUDAExecutionProvider here'):
        open_session_on(Told(left_out='CUDAExecutionProvider'), 'cuda', 'network.onnx', None)
    session = open_session_on(Told(), 'cuda', 'network.onnx', None)
    assert session.asked == {'providers': ['CUDAExecutionProvider']}
    with pytest.raises(EngineUnavailable, match='no TensorrtExecutionProvider here'):
        open_session_on(Told(), 'tensorrt', 'network.onnx', None)
    with pytest.raises(ValueError, match="provider: expected one of .* found 'rocm'"):
        open_session_on(Told(), 'rocm', 'network.onnx', None)


def opened(small: tuple, name: str, precision: str = 'fp32', **options: str):
    """An engine of `small` with one input x and one output y."""
    network: Path = small[0]
    return open_network(name, network, sidecar_of_small(network), precision, threads=1, **options)


def test_openvino_chooses_among_what_is_here(small):
    found, expected = (
        opened(small, 'openvino', **device_options('openvino', device)).infer(small[1][0])['y']
        for device in ('AUTO', 'CPU'))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize('device', ['GPU', 'NPU', 'NPU.3'])
def test_an_openvino_device_that_is_not_here_is_named(small, device: str):
    import openvino as ov
    if any(name.startswith(device[:3]) for name in ov.Core().available_devices):
        pytest.skip(f'this machine has a {device}')
    with pytest.raises(EngineUnavailable, match=rf"no {device} here \(it has \['CPU'.*need an Intel device"):
        opened(small, 'openvino', **device_options('openvino', device))


def test_openvino_computes_in_what_the_device_has():
    gpu, npu = ['FP32', 'FP16', 'INT8', 'BIN'], ['FP16', 'INT8', 'EXPORT_IMPORT']
    assert [hint_of(p, gpu, 'GPU') for p in ('fp32', 'fp16', 'int8')] == ['f32', 'f16', 'f16']
    assert [hint_of(p, npu, 'NPU') for p in ('fp16', 'int8')] == ['f16', 'f16']
    assert hint_of('int8', ['BIN', 'FP32', 'INT8'], 'AUTO') == 'f32'
    for precision, device, capabilities in (
        ('fp32', 'NPU', npu), ('bf16', 'GPU', gpu), ('fp16', 'CPU', ['FP32', 'INT8'])):
        with pytest.raises(EngineUnavailable, match=f"on {device} here, found precision '{precision}'"):
            hint_of(precision, capabilities, device)


def test_a_network_that_a_device_cannot_compile_is_no_bad_file(small, monkeypatch: pytest.MonkeyPatch):
    import openvino as ov

    class Core:
        available_devices = ('CPU', 'NPU')

        def get_property(self, device: str, name: str) -> list[str]:
            return ['FP16']

        def read_model(self, path: str) -> str:
            return path

        def compile_model(self, model: str, device: str, options: dict) -> None:
            assert 'INFERENCE_NUM_THREADS' not in options  # of processors alone
            raise RuntimeError('no kernel\nfor GridSample')

    monkeypatch.setattr(ov, 'Core', Core)
    with pytest.raises(EngineUnavailable, match='network.onnx: .* for NPU: no kernel for GridSample'):
        opened(small, 'openvino', 'fp16', device='NPU')


def test_devices_by_engine():
    assert device_options('openvino', 'npu') == {'device': 'NPU'}
    assert device_options('openvino', 'GPU.1') == {'device': 'GPU.1'}
    assert device_options('torch', 'CPU') == {} and device_options('tensorrt', 'cuda') == {}
    assert device_options('onnxruntime', 'tensorrt_rtx') == {'provider': 'tensorrt_rtx'}
    for engine, device in (('openvino', 'cuda'), ('onnxruntime', 'gpu.1'), ('openvino', 'gpu.x'),
                           ('openvino', 'auto.1'), ('tensorrt', 'cpu'), ('torch', 'cuda:1')):
        with pytest.raises(ValueError, match=f"one of .* for {engine}, found"):
            device_options(engine, device)

    words = 'torch:fp32,torch:fp32:compile,openvino:fp16:gpu,openvino:fp32:auto,onnxruntime:fp16:tensorrt_rtx'
    choices = parse_engines(words)
    assert [choice.on_processor for choice in choices] == [True, True, False, False, False]
    assert [choice.on_gpu for choice in choices] == [False, False, False, False, True]


def test_the_device_reaches_the_engine(exported, monkeypatch: pytest.MonkeyPatch):
    """Of the command line, of the API and of an export that is opened."""
    from perception import load_model
    from perception.cli.evaluation import test, visualize
    from tests.deployment.conftest import CONFIGS

    with pytest.raises(ValueError, match="device: expected one of .* for openvino, found 'cuda'"):
        DeployedModel.open(exported.folder, 'openvino', device='cuda')

    asked = []
    monkeypatch.setattr(
        DeployedModel, 'open',
        lambda folder, engine, *words, device=None, **more: asked.append(device or words[-1]) or 1 / 0)
    words = Namespace(
        engine='openvino', precision='fp16', device='NPU', export=exported.folder, checkpoint=None,
        ground_truth=False)
    config = SimpleNamespace(model={})
    runner = SimpleNamespace(cfg=config, replace_model=None)
    for call in (
        lambda: visualize.open_model(words, config),
        lambda: test.use_engine(runner, words, exported.folder),
        lambda: load_model(
            CONFIGS / 'debug.py', engine='openvino', export=exported.folder, precision='fp16', device='NPU',
            options={'test_dataloader.dataset.pipeline': []})):
        with pytest.raises(ZeroDivisionError):
            call()
    assert asked == ['NPU'] * 3
    assert test.engine_words(words) == 'openvino fp16 NPU'
    assert test.engine_words(replace_device(words, None)) == 'openvino fp16'


def replace_device(words: Namespace, device: str | None) -> Namespace:
    """The words of a command line with another device."""
    return Namespace(**{**vars(words), 'device': device})
