"""What a frame costs, stage by stage and engine by engine, beside what this machine could do at best."""
from __future__ import annotations

import datetime
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...model import MultiTaskPerception
from ..deployed import DeployedModel
from ..engines import Engine, EngineUnavailable, network_files, open_engine
from ..engines.choices import DEFAULT, VARIANTS, EngineChoice
from ..export.graph import ExportGraph, fixed_shapes, graph_inputs
from ..export.network import export_network
from ..export.sidecar import SIDECAR_NAME, Sidecar
from ..frames import Frames
from ..pipeline import on_one_thread, overlapped
from ..processor import machine_name
from .timing import (
    Latency,
    held_memory_mb,
    machine_peak,
    measure_together,
    peak_memory_mb,
    summarise,
    timed,
)

_PEAK_OF = {
    (False, 'fp32'): 'matrix_fp32_gflops', (False, 'bf16'): 'matrix_bf16_gflops',
    (True, 'fp32'): 'gpu_fp32_gflops', (True, 'bf16'): 'gpu_bf16_gflops', (True, 'fp16'): 'gpu_fp16_gflops'}
"""{(on a GPU, precision): the measured best to compare with}"""


@dataclass(frozen=True)
class Opened:
    """An engine, what opening it cost, and how much memory it came with (opening and first call)."""

    engine: Engine
    open_s: float
    memory_mb: float


def open_all(
    folder: str | Path,
    choices: Sequence[EngineChoice],
    model: MultiTaskPerception,
    inputs: dict[str, np.ndarray],
    threads: int = 0,
    report: Callable[[str], None] = print,
) -> dict[EngineChoice, Opened]:
    """Every engine of `choices` that is to be had here, each after its first answer; `report` hears why one
    is not."""
    found = {}
    for choice in choices:
        name, precision, variant = choice
        options: dict[str, Any] = dict(VARIANTS[name][variant])
        options |= {'threads': threads} if name in ('onnxruntime', 'openvino') else {}
        gc.collect()
        before_mb = held_memory_mb()
        try:
            engines: list[Engine] = []
            seconds = timed(
                lambda n=name, p=precision, o=options, e=engines: e.append(
                    open_engine(n, folder, p, model, **o)
                )
            )
        except (EngineUnavailable, FileNotFoundError) as error:
            report(f'{choice}: not measured: {error}')
            continue
        engines[0].infer(inputs)
        found[choice] = Opened(engines[0], seconds, max(0.0, held_memory_mb() - before_mb))
    return found


def count_flops(model: MultiTaskPerception, inputs: dict[str, np.ndarray]) -> int:
    """Floating-point operations of one pass (matrix products, convolutions and attention; a multiply-add
    counts two)."""
    from torch.utils.flop_counter import FlopCounterMode
    tensors = tuple(torch.from_numpy(value) for value in inputs.values())
    # the counter's hooks stumble over parameters that are handed to a module as input, so none asks for a
    # gradient meanwhile
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)
        with fixed_shapes(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            ExportGraph(model, list(inputs)).eval()(*tensors)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops()


def stage_latencies(
    model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int, budget_s: float
) -> dict[str, Latency]:
    """The stages around the network, and the whole frame through `engine`, one after the other without
    overlap.

    Reading, preparing and decoding use one torch thread, as they do beside a running engine.
    """
    order, deployed = _Turns(frames.count), DeployedModel(model, engine)
    read = on_one_thread(lambda: frames.read(order.next()))
    prepare, decode = on_one_thread(lambda batch: graph_inputs(model, batch)), on_one_thread(deployed.decode)
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
    """Time between answers when reading and preparing the next frame, computing this one and decoding the
    last overlap.

    Its mean is the time a frame costs: frames over seconds, upside down. The first two intervals, while the
    line fills, are not counted.
    """
    deployed = DeployedModel(model, engine)

    def prepared(index: int) -> tuple:
        batch = frames.read(index % frames.count)
        return batch, graph_inputs(model, batch)

    stages = (
        on_one_thread(prepared), lambda found: (engine.infer(found[1]), found[0]),
        on_one_thread(lambda found: deployed.decode(*found)))
    began, stamps = time.perf_counter(), []
    for _ in overlapped(range(runs + 3), stages):
        stamps.append(time.perf_counter())
    return summarise(stamps[0] - began, np.diff(stamps)[2:])


@dataclass(frozen=True)
class Overlap:
    """What overlapping brings, measured in turns with the network alone, so that both meet the same machine.

    Attributes:
        network_ms: p50 of the network alone.
        pipelined_ms: mean time of a frame from sensor files to answers, stages overlapped.
        ratio: median over the turns of one by the other.
        core_ms: what one pipelined frame costs all cores together; where that is `pipelined_ms` times the
            cores, every core is at work all the time and overlapping can bring no more.
    """

    network_ms: float
    pipelined_ms: float
    ratio: float
    core_ms: float


def overlap(model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int) -> Overlap:
    """Measure some calls of the network alone, then as many frames pipelined, in three turns (one where
    `runs` are few)."""
    turns = 3 if runs >= 9 else 1
    inputs, each = graph_inputs(model, frames.read(0)), max(3, runs // turns)
    engine.infer(inputs)
    network_ms, pipelined_ms, core_ms = [], [], []
    for _ in range(turns):
        network_ms.append(1000 * float(np.median([timed(lambda: engine.infer(inputs)) for _ in range(each)])))
        began_s = time.process_time()
        pipelined_ms.append(pipelined_latency(model, frames, engine, each).mean_ms)
        core_ms.append(1000 * (time.process_time() - began_s) / (each + 3))
    ratios = np.array(pipelined_ms) / np.array(network_ms)
    return Overlap(*(float(np.median(found)) for found in (network_ms, pipelined_ms, ratios, core_ms)))


class _Turns:
    """0, 1, ... count - 1, 0, 1, ..."""

    def __init__(self, count: int) -> None:
        self.count, self.now = count, -1

    def next(self) -> int:
        self.now = (self.now + 1) % self.count
        return self.now


def engine_row(key: EngineChoice, opened: Opened, latency: Latency, flops: int, peak: dict[str, float],
               folder: Path) -> dict[str, Any]:
    """One line of the table: plain values, None where something was not measured."""
    peak_gflops = peak.get(_PEAK_OF.get((key.on_gpu, key.precision), ''))
    gflops = flops / latency.p50_ms / 1e6
    size = sum(path.stat().st_size for path in network_files(folder, key.engine, key.precision))
    return {
        **key._asdict(), 'network_ms_p50': latency.p50_ms, 'network_ms_p90': latency.p90_ms,
        'network_ms_p99': latency.p99_ms, 'network_per_second': latency.per_second, 'runs': latency.runs,
        'open_s': opened.open_s, 'first_ms': 1000 * opened.open_s + latency.first_ms,
        'memory_mb': opened.memory_mb, 'file_mb': size / 1e6, 'gflops_per_second': gflops,
        'share_of_peak': gflops / peak_gflops if peak_gflops else None}


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """The engines as a table for a person; speed-ups are against the first line."""
    head = f'{"engine":<28}{"p50 ms":>9}{"p90":>9}{"p99":>9}{"per s":>8}{"faster":>8}{"of peak":>9}{"open s":>8}{"MB":>7}'
    lines = [head]
    for row in rows:
        share = f'{100 * row["share_of_peak"]:.0f} %' if row['share_of_peak'] is not None else '-'
        name = str(EngineChoice(*(row[part] for part in EngineChoice._fields)))
        lines.append(
            f'{name:<28}{row["network_ms_p50"]:>9.1f}{row["network_ms_p90"]:>9.1f}'
            f'{row["network_ms_p99"]:>9.1f}{row["network_per_second"]:>8.1f}'
            f'{rows[0]["network_ms_p50"] / row["network_ms_p50"]:>7.1f}x{share:>9}{row["open_s"]:>8.1f}'
            f'{row["memory_mb"]:>7.0f}'
        )
    return '\n'.join(lines)


def prepared_export(
    folder: str | Path | None,
    model: MultiTaskPerception,
    frames: Frames,
    model_config: dict[str, Any],
    data_config: dict[str, Any],
    checkpoint: str = 'none',
) -> Path:
    """The folder of the network: the one given when it holds an export, else a new one is written there, or
    to a new place.

    Raises:
        ValueError: the export was made from other weights.
    """
    folder = Path(folder or tempfile.mkdtemp(prefix='export_'))
    if (folder / SIDECAR_NAME).is_file():
        sidecar = Sidecar.read(folder)
        if checkpoint != 'none':
            sidecar.check_weights(model, checkpoint)
    else:
        export_network(model, frames.read(0), folder, model_config, data_config)
    return folder


def run_benchmark(
    model: MultiTaskPerception,
    frames: Frames,
    folder: Path,
    choices: Sequence[EngineChoice] = DEFAULT,
    runs: int = 30,
    budget_s: float = 120.0,
    threads: int = 0,
    peak_s: float = 1.5,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Everything in one run: this machine's best, every engine in turns, the stages around the fastest one,
    and overlapping.

    Returns:
        Plain values, see `format_result`.

    Raises:
        EngineUnavailable: none of the engines asked for is to be had here.
    """
    machine = machine_name() | {'torch_threads': torch.get_num_threads()} | machine_peak(peak_s)
    inputs = graph_inputs(model, frames.read(0))
    opened = open_all(folder, choices, model, inputs, threads, report)
    if not opened:
        raise EngineUnavailable('none of the engines asked for is to be had here')
    latencies = measure_together(
        {key: lambda e=o.engine: e.infer(inputs) for key, o in opened.items()}, runs, budget_s=budget_s
    )
    flops = count_flops(model, inputs)
    rows = [engine_row(key, opened[key], latencies[key], flops, machine, folder) for key in opened]
    best = min(opened, key=lambda key: latencies[key].p50_ms)
    engine = opened[best].engine
    DeployedModel(model, engine).warm_up()
    stages = stage_latencies(model, frames, engine, runs, budget_s)
    found = overlap(model, frames, engine, runs)
    return {
        'date': datetime.date.today().isoformat(), 'machine': machine, 'gflop': flops / 1e9, 'engines': rows,
        'stages_engine': list(best), 'stages': {name: latency.as_dict() for name, latency in stages.items()},
        'frame_over_network': stages['frame'].p50_ms / stages['network'].p50_ms,
        'pipelined_ms': found.pipelined_ms, 'pipelined_over_network': found.ratio,
        'pipelined_core_ms': found.core_ms, 'peak_memory_mb': peak_memory_mb()}


def format_result(result: dict[str, Any]) -> str:
    """Everything `run_benchmark` measured, for a person."""
    machine, cores = result['machine'], result['machine']['cores']
    lines = [
        f'{machine["processor"]}, {cores} cores, {" ".join(machine["instructions"])}; measured best: '
        f'{machine["matrix_fp32_gflops"]:.0f} GFLOP/s fp32, {machine["matrix_bf16_gflops"]:.0f} bf16, '
        f'{machine["copy_gb_per_s"]:.1f} GB/s copying',
        f'network alone, {result["gflop"]:.2f} GFLOP a frame',
        format_rows(result['engines']),
        f'\nfrom sensor files to answers with {EngineChoice(*result["stages_engine"])}, one after the other:',
    ]
    lines += [
        f'  {name:<12}{latency["p50_ms"]:>9.1f} ms p50{latency["p90_ms"]:>9.1f} p90{latency["p99_ms"]:>9.1f} p99'
        for name, latency in result['stages'].items()
    ]
    return '\n'.join(
        [
            *lines,
            f'  overlapped{result["pipelined_ms"]:>11.1f} ms a frame, of which the {cores} cores work '
            f'{result["pipelined_core_ms"]:.1f} ms in all',
            f'  over the network alone: frame {result["frame_over_network"]:.2f}, overlapped '
            f'{result["pipelined_over_network"]:.2f}; memory at most {result["peak_memory_mb"]:.0f} MB',
        ]
    )
