"""TensorRT without TensorRT: plans, cache names, and the builder's way through a library that only remembers
what it is told."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from perception.deployment.engines.tensorrt_build import BuildOptions, build, cache_key, parse_version, plan
from perception.deployment.engines.tensorrt_engine import (
    TensorRtEngine,
    cached_engine,
    check_tensors,
    import_tensorrt,
)
from perception.deployment.errors import EngineUnavailable
from perception.deployment.export.graph import TensorSpec

HAS_LIBRARY = importlib.util.find_spec('tensorrt') is not None


class Told:
    """Stands for the library: keeps every call, answers what a test needs."""

    __version__ = '10.3.0'

    def __init__(self, parses: bool = True, builds: bool = True) -> None:
        self.calls: list[tuple] = []
        self.Logger = type('Logger', (), {'WARNING': 1, '__init__': lambda s, level: None})
        self.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE='workspace')
        self.BuilderFlag = SimpleNamespace(FP16='FP16', BF16='BF16', INT8='INT8', TF32='TF32')
        note, config = self.calls.append, SimpleNamespace()
        config.set_memory_pool_limit = lambda *a: note(('pool', *a))
        config.set_flag, config.clear_flag = lambda f: note(('set', f)), lambda f: note(('clear', f))
        config.create_timing_cache = lambda old: SimpleNamespace(serialize=lambda: old + b'+timings')
        config.set_timing_cache = lambda cache, ignore_mismatch: setattr(
            config, 'get_timing_cache', lambda: cache
        )
        self.config = config
        self.Builder = lambda logger: SimpleNamespace(
            create_network=lambda flags: note(('network', flags)), create_builder_config=lambda: config,
            build_serialized_network=lambda network, c: note(('build',)) or (b'engine' if builds else None))
        self.OnnxParser = lambda network, logger: SimpleNamespace(
            parse=lambda data: note(('parse', len(data))) or parses, num_errors=1,
            get_error=lambda i: 'no importer for Det')


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / 'network.onnx'
    path.write_bytes(b'12345')
    return path


@pytest.mark.parametrize(('options', 'version', 'network_flags', 'builder_flags'), [
    ({'precision': 'fp32'}, (10, 3), (), ()), ({'precision': 'fp16'}, (10, 3), (), ('FP16',)),
    ({'precision': 'bf16'}, (10, 0), (), ('BF16',)),
    ({'precision': 'int8', 'held': 'int8'}, (10, 3), (), ('FP16', 'INT8')),
    ({'precision': 'fp32', 'tf32': True}, (10, 3), (), ('TF32',)),
    ({'precision': 'fp16'}, (8, 6), ('EXPLICIT_BATCH',), ('FP16',)),
    ({'precision': 'fp16', 'held': 'fp16'}, (8, 6), ('EXPLICIT_BATCH',), ('FP16',)),
    ({'precision': 'fp16', 'held': 'fp16'}, (10, 3), ('STRONGLY_TYPED',), ()),
    ({'precision': 'fp32'}, (11, 4), ('STRONGLY_TYPED',), ()),
    ({'precision': 'fp32', 'tf32': True}, (11, 4), ('STRONGLY_TYPED',), ('TF32',)),
    ({'precision': 'fp16', 'held': 'fp16'}, (11, 4), ('STRONGLY_TYPED',), ()),
    ({'precision': 'int8', 'held': 'int8'}, (11, 4), ('STRONGLY_TYPED',), ())])
def test_the_plan_of_each_precision_and_version(
    options: dict, version: tuple, network_flags: tuple, builder_flags: tuple
):
    found = plan(BuildOptions(**options), version)
    assert (found.network_flags, found.builder_flags) == (network_flags, builder_flags)
    assert found.workspace_bytes == 2 << 30


@pytest.mark.parametrize(
    ('options', 'version', 'expected'),
    [
        ({'precision': 'bf16'}, (8, 6), 'bf16 needs TensorRT 9'),
        ({'precision': 'fp16'}, (11, 4), "TensorRT 11.4 takes .* holds fp32, found 'fp16'"),
        ({'precision': 'bf16'}, (11, 4), "holds fp32, found 'bf16'; tools/export.py writes"),
        ({'precision': 'int8'}, (11, 4), "holds fp32, found 'int8'"),
        ({'precision': 'int8'}, (10, 3), "holds fp32, found 'int8'"),
        ({'precision': 'fp32', 'held': 'fp16'}, (10, 3), "holds fp16, found 'fp32'"),
        ({'precision': 'bf16', 'held': 'fp16'}, (11, 4), "holds fp16, found 'bf16'")],
)
def test_what_a_version_cannot_do_is_reported(options: dict, version: tuple, expected: str):
    with pytest.raises(EngineUnavailable, match=expected):
        plan(BuildOptions(**options), version)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'precision': 'fp8'}, "found 'fp8'"), ({'optimisation_level': 6}, 'found 6'),
        ({'workspace_mb': 0}, 'found 0'), ({'held': 'bf16'}, "held: .* found 'bf16'")],
)
def test_bad_options_are_refused(options: dict, expected: str):
    with pytest.raises(ValueError, match=expected):
        BuildOptions(**options)


def test_versions():
    assert parse_version('10.3.0.post1') == (10, 3) and parse_version('8.6.1') == (8, 6)
    with pytest.raises(EngineUnavailable, match='8.5.3 is too old'):
        parse_version('8.5.3')
    with pytest.raises(ValueError, match="found 'dev'"):
        parse_version('dev')


def test_a_cache_name_changes_with_everything_an_engine_depends_on():
    keys = [
        cache_key(*words)
        for words in [
            ('a' * 64, BuildOptions(), '10.3.0', 'NVIDIA H200'),
            ('b' * 64, BuildOptions(), '10.3.0', 'NVIDIA H200'),
            ('a' * 64, BuildOptions(tf32=True), '10.3.0', 'NVIDIA H200'),
            ('a' * 64, BuildOptions(), '10.4.0', 'NVIDIA H200'),
            ('a' * 64, BuildOptions(), '10.3.0', 'NVIDIA L4'),
            ('a' * 64, BuildOptions('int8'), '10.3.0', 'NVIDIA H200')]
    ]
    assert len(set(keys)) == 6
    assert keys[0] == cache_key('a' * 64, BuildOptions(), '10.3.0', 'NVIDIA H200')
    assert keys[0].startswith('fp16-trt10.3.0-nvidia-h200-') and '/' not in ''.join(keys)


def test_the_builder_is_told_what_was_planned(network: Path):
    trt, said = Told(), []
    engine, timings = build(
        trt, network, BuildOptions('int8', 'int8', 64, optimisation_level=5), b'old', said.append
    )
    assert (engine, timings) == (b'engine', b'old+timings')
    assert trt.calls == [
        ('network', 0), ('parse', 5), ('pool', 'workspace', 64 << 20), ('clear', 'TF32'), ('set', 'FP16'),
        ('set', 'INT8'), ('build',)]
    assert trt.config.builder_optimization_level == 5 and 'once' in said[0]
    build(trt, network, BuildOptions('fp16', 'fp16'))
    assert ('network', 2) in trt.calls


def test_a_refusal_is_passed_on_in_its_words(network: Path):
    with pytest.raises(ValueError, match='network.onnx: TensorRT cannot read it: no importer for Det'):
        build(Told(parses=False), network, BuildOptions())
    with pytest.raises(ValueError, match='built nothing'):
        build(Told(builds=False), network, BuildOptions())


def test_an_engine_is_built_once_and_kept(network: Path, tmp_path: Path):
    trt, folder = Told(), tmp_path / 'cache'
    assert cached_engine(trt, network, BuildOptions(), folder, 'GPU') == b'engine'
    assert cached_engine(trt, network, BuildOptions(), folder, 'GPU') == b'engine'
    assert trt.calls.count(('build',)) == 1
    cached_engine(trt, network, BuildOptions('bf16'), folder, 'GPU')
    network.write_bytes(b'another')
    cached_engine(trt, network, BuildOptions(), folder, 'GPU')
    assert trt.calls.count(('build',)) == 3
    assert len(list(folder.glob('*.engine'))) == 3 and len(list(folder.glob('timing-*.cache'))) == 1
    assert next(folder.glob('timing-*.cache')).read_bytes() == b'+timings+timings+timings'
    assert not list(folder.glob('*.partial'))


def test_an_engine_of_other_tensors_is_refused():
    def engine(shape: tuple) -> SimpleNamespace:
        return SimpleNamespace(
            num_io_tensors=2, get_tensor_name=lambda i: 'xy'[i], get_tensor_shape=lambda name: shape
        )

    inputs, outputs = [TensorSpec('x', (1, 4), 'float32')], [TensorSpec('y', (1, 4), 'float32')]
    check_tensors(engine((1, 4)), inputs, outputs)
    with pytest.raises(ValueError, match=r'the TensorRT engine: x: expected shape \(1, 4\), found \(1, 5\)'):
        check_tensors(engine((1, 5)), inputs, outputs)


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, network: Path):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(EngineUnavailable, match='pip install tensorrt'):
        TensorRtEngine(network, [], [], 'fp16')


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', SimpleNamespace(__version__='10.3.0'))
    with pytest.raises(EngineUnavailable, match='no NVIDIA GPU'):
        import_tensorrt()


@pytest.mark.gpu
@pytest.mark.skipif(
    not (HAS_LIBRARY and torch.cuda.is_available()), reason='needs TensorRT and an NVIDIA GPU'
)
@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_parity_on_a_gpu(exported, engines, precision: str):
    from perception.deployment.engines import open_engine
    from perception.deployment.measure.compare import compare_engines
    engine = open_engine('tensorrt', exported.folder, precision)
    found = compare_engines(
        engines['torch', 'fp32'], engine, [exported.inputs(), exported.inputs(seed=3, blind=1)]
    )
    assert min(d.cosine for d in found) > (0.9999 if precision == 'fp32' else 0.99)
