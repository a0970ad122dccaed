"""What a frame costs, stage by stage and engine by engine, beside what this machine could do at best."""
from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contracts import Batch
from ..model import MultiTaskPerception
from .deployed import DeployedModel
from .engines import Engine, EngineUnavailable, network_files, open_engine
from .graph import ExportGraph, fixed_shapes, graph_inputs
from .pipeline import narrow, overlapped
from .timing import Latency, held_memory_mb, measure_together, summarise, timed

CHOICES = (('torch', 'fp32'), ('torch', 'bf16'), ('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'),
           ('onnxruntime', 'int8'), ('openvino', 'int8'), ('tensorrt', 'fp32'), ('tensorrt', 'fp16'), ('tensorrt', 'bf16'))
_PEAK_OF = {'fp32': 'matrix_fp32_gflops', 'bf16': 'matrix_bf16_gflops'}


@dataclass(frozen=True)
class Frames:
    """Where frames come from: `read(i)` takes frame i from its sensor files to a batch of one sample; `count` of them."""

    read: Callable[[int], Batch]
    count: int


@dataclass(frozen=True)
class Opened:
    """An engine, what opening it cost, and how much memory it came with (opening and first call)."""

    engine: Engine
    open_s: float
    memory_mb: float


def open_all(folder: str | Path, choices: Sequence[tuple[str, str]], model: MultiTaskPerception, inputs: dict[str, np.ndarray],
             threads: int = 0, report: Callable[[str], None] = print) -> dict[tuple[str, str], Opened]:
    """Every engine of `choices` that is to be had here, each after its first answer; `report` hears why one is not."""
    found = {}
    for name, precision in choices:
        options = {'threads': threads} if name in ('onnxruntime', 'openvino') else {}
        gc.collect()
        before_mb = held_memory_mb()
        try:
            engines: list[Engine] = []
            seconds = timed(lambda n=name, p=precision, o=options, e=engines: e.append(open_engine(n, folder, p, model, **o)))
        except (EngineUnavailable, FileNotFoundError) as error:
            report(f'{name} {precision}: not measured: {error}')
            continue
        engines[0].infer(inputs)
        found[name, precision] = Opened(engines[0], seconds, max(0.0, held_memory_mb() - before_mb))
    return found


def count_flops(model: MultiTaskPerception, inputs: dict[str, np.ndarray]) -> int:
    """Floating-point operations of one pass (matrix products, convolutions and attention; a multiply-add counts two)."""
    from torch.utils.flop_counter import FlopCounterMode
    tensors = tuple(torch.from_numpy(value) for value in inputs.values())
    # the counter's hooks stumble over parameters that are handed to a module as input, so none asks for a gradient meanwhile
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)
        with fixed_shapes(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            ExportGraph(model, list(inputs)).eval()(*tensors)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops()


def stage_latencies(model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int, budget_s: float) -> dict[str, Latency]:
    """The stages around the network, and the whole frame through `engine`, one after the other without overlap.

    Reading, preparing and decoding use one torch thread, as they do beside a running engine.
    """
    order, deployed = _Turns(frames.count), DeployedModel(model, engine)
    read = narrow(lambda: frames.read(order.next()))
    prepare, decode = narrow(lambda batch: graph_inputs(model, batch)), narrow(deployed.decode)
    batch = read()
    inputs = prepare(batch)
    raw = engine.infer(inputs)

    def whole() -> object:
        frame = read()
        return decode(engine.infer(prepare(frame)), frame)

    calls = {'read': read, 'prepare': lambda: prepare(batch), 'network': lambda: engine.infer(inputs),
             'decode': lambda: decode(raw, batch), 'frame': whole}
    return measure_together(calls, runs, budget_s=budget_s)


def pipelined_latency(model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int) -> Latency:
    """Time between answers when reading and preparing the next frame, computing this one and decoding the last overlap."""
    deployed = DeployedModel(model, engine)

    def prepared(index: int) -> tuple:
        batch = frames.read(index % frames.count)
        return batch, graph_inputs(model, batch)

    stages = (narrow(prepared), lambda found: (engine.infer(found[1]), found[0]), narrow(lambda found: deployed.decode(*found)))
    began, stamps = time.perf_counter(), []
    for _ in overlapped(range(runs + 3), stages):
        stamps.append(time.perf_counter())
    return summarise(stamps[0] - began, np.diff(stamps)[2:])


class _Turns:
    """0, 1, ... count - 1, 0, 1, ..."""

    def __init__(self, count: int) -> None:
        self.count, self.now = count, -1

    def next(self) -> int:
        self.now = (self.now + 1) % self.count
        return self.now


def engine_row(key: tuple[str, str], opened: Opened, latency: Latency, flops: int, peak: dict[str, float],
               folder: Path) -> dict[str, Any]:
    """One line of the table: plain values, None where something was not measured."""
    peak_gflops = peak.get(_PEAK_OF.get(key[1], ''))
    gflops = flops / latency.p50_ms / 1e6
    size = sum(path.stat().st_size for path in network_files(folder, *key))
    return {'engine': key[0], 'precision': key[1], 'network_ms_p50': latency.p50_ms, 'network_ms_p90': latency.p90_ms,
            'network_ms_p99': latency.p99_ms, 'network_per_second': latency.per_second, 'runs': latency.runs,
            'open_s': opened.open_s, 'first_ms': 1000 * opened.open_s + latency.first_ms, 'memory_mb': opened.memory_mb,
            'file_mb': size / 1e6,
            'gflops_per_second': gflops, 'share_of_peak': gflops / peak_gflops if peak_gflops else None}


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """The engines as a table for a person; speed-ups are against the first line."""
    head = f'{"engine":<22}{"p50 ms":>9}{"p90":>9}{"p99":>9}{"per s":>8}{"faster":>8}{"of peak":>9}{"open s":>8}{"MB":>7}'
    lines = [head]
    for row in rows:
        share = f'{100 * row["share_of_peak"]:.0f} %' if row['share_of_peak'] is not None else '-'
        lines.append(f'{row["engine"] + " " + row["precision"]:<22}{row["network_ms_p50"]:>9.1f}{row["network_ms_p90"]:>9.1f}'
                     f'{row["network_ms_p99"]:>9.1f}{row["network_per_second"]:>8.1f}'
                     f'{rows[0]["network_ms_p50"] / row["network_ms_p50"]:>7.1f}x{share:>9}{row["open_s"]:>8.1f}'
                     f'{row["memory_mb"]:>7.0f}')
    return '\n'.join(lines)
