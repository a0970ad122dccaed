"""The whole benchmark on an invented frame: every engine in turns, the stages around the fastest, and
overlapping."""
from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from perception.deployment.engines.choices import DEFAULT, VARIANTS, parse_engines
from perception.deployment.errors import EngineUnavailable
from perception.deployment.frames import random_frames
from perception.deployment.measure import benchmark, frame_latency
from tests.deployment.conftest import Exported


def test_everything_in_one_run(exported: Exported):
    said, frames = [], random_frames((64, 176), 2000)
    choices = parse_engines('onnxruntime:fp32,onnxruntime:bf16,torch:fp16:cuda_graph')
    found = benchmark.run_benchmark(
        exported.model, frames, exported.folder, choices, 2, 0.1, 1, 0.01, said.append
    )
    assert said[0] == (
        'onnxruntime bf16: not measured: onnxruntime runs the network as it is (fp32, fp16 or int8), found '
        "'bf16'"
    )
    if not torch.cuda.is_available():
        assert said[1].startswith(
            "torch fp16 cuda_graph: not measured: torch sees no GPU here (device 'cuda' needs one"
        )
    assert found['stages_engine'] == ['onnxruntime', 'fp32', '']
    assert set(found['stages']) >= {'read', 'prepare', 'decode', 'frame'}
    assert found['pipelined_over_network'] > 0 and found['pipelined_core_ms'] > 0 and found['gflop'] > 1
    text = benchmark.format_result(found)
    assert 'onnxruntime fp32' in text and f'{found["pipelined_ms"]:.1f} ms a frame' in text
    with pytest.raises(EngineUnavailable, match='none of the engines'):
        benchmark.run_benchmark(
            exported.model, frames, exported.folder, choices[1:2], 2, 0.1, 1, 0.01, said.append
        )


def test_engines_are_chosen_by_words():
    found = parse_engines('torch:fp32, torch:fp32:compile,onnxruntime:fp32:tensorrt')
    assert [str(choice) for choice in found] == [
        'torch fp32', 'torch fp32 compile', 'onnxruntime fp32 tensorrt']
    assert [choice.on_gpu for choice in found] == [False, False, True]
    assert all(choice.variant in VARIANTS[choice.engine] for choice in DEFAULT)
    assert len(set(DEFAULT)) == len(DEFAULT)
    for words, said in (
        ('ncnn:fp32', "found 'ncnn:fp32'"), ('torch', "found 'torch'"), ('torch:fp8', "found 'torch:fp8'"),
        ('openvino:fp32:cuda', "no variant of openvino or one of .'gpu', 'npu', 'auto'"),
        ('torch:fp32:fast', "'cuda', 'compile'")):
        with pytest.raises(ValueError, match=said):
            parse_engines(words)


def test_overlapping_is_compared_with_the_network_of_the_same_turn(monkeypatch: pytest.MonkeyPatch):
    """A network of 20 ms with 10 ms before and after it: overlapped, a frame costs what the network does."""
    def wait(ms: float, answer: object = None) -> object:
        time.sleep(ms / 1000)
        return answer

    monkeypatch.setattr(frame_latency, 'graph_inputs', lambda model, batch: {})
    deployed = SimpleNamespace(decode=lambda raw, batch: wait(10))
    monkeypatch.setattr(frame_latency, 'DeployedModel', lambda model, engine: deployed)
    engine = SimpleNamespace(infer=lambda inputs: wait(20, {}))
    frames = replace(random_frames((8, 8), 10), read=lambda i: wait(10, i))
    found = frame_latency.overlap(None, frames, engine, runs=9)
    # one after the other: 2
    assert found.network_ms >= 20 and 0.7 < found.ratio < 1.9 and found.pipelined_ms >= 19
    assert found.core_ms < found.pipelined_ms  # waiting is no work
