"""What a frame costs, stage by stage and engine by engine, beside this machine's measured peak."""
from __future__ import annotations

import datetime
import gc
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.processes import peak_memory_mb
from ...model import MultiTaskPerception
from ..deployed import DeployedModel
from ..engines import Engine, EngineUnavailable, network_files, open_engine
from ..engines.choices import DEFAULT, VARIANTS, EngineChoice
from ..errors import ExportError
from ..export.graph import ExportGraph, fixed_shapes, graph_inputs
from ..export.half import export_half
from ..export.network import export_network
from ..export.sidecar import SIDECAR_NAME, Sidecar
from ..frames import Frames
from ..memory import sampled_inputs
from ..processor import machine_name
from .frame_latency import overlap, stage_latencies
from .timing import Latency, held_memory_mb, machine_peak, measure_together
from .yardstick import Yardstick, make_yardstick

YARDSTICK = 'yardstick'

_PEAK_OF = {
    (False, 'fp32'): 'matrix_fp32_gflops', (False, 'bf16'): 'matrix_bf16_gflops',
    (True, 'fp32'): 'gpu_fp32_gflops', (True, 'bf16'): 'gpu_bf16_gflops', (True, 'fp16'): 'gpu_fp16_gflops'}
"""{(on a GPU, precision): the measured peak to compare with}"""


@dataclass(frozen=True)
class OpenedEngine:
    """An engine that is ready to run.

    Attributes:
        engine: after its first inference.
        open_s: seconds that opening it took.
        memory_mb: held since, by opening and first inference.
    """

    engine: Engine
    open_s: float
    memory_mb: float


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
    yardstick: bool = False,
) -> dict[str, Any]:
    """Measure every engine in turns, this machine's peak, the stages around the fastest engine, and overlap.

    Args:
        model: prepares and decodes; its weights are those of the export.
        frames: to measure with.
        folder: of the export.
        choices: engines; those that are not available are reported and left out.
        runs: counted calls of everything.
        budget_s: seconds after which a round of calls is the last.
        threads: of ONNX Runtime and OpenVINO; 0 leaves the choice to them.
        peak_s: seconds for each measurement of the machine's peak.
        report: gets a line for each engine that is left out.
        yardstick: also time `make_yardstick`'s network, in the same turns.

    Returns:
        Plain values, see `format_result`.

    Raises:
        EngineUnavailable: none of the engines asked for is available here.
    """
    inputs = next(sampled_inputs(model, frames, [min(1, frames.count - 1)]))
    opened = open_engines(folder, choices, model, inputs, threads, report)
    if not opened:
        raise EngineUnavailable('none of the engines asked for is available here')

    # all engines in turns, so that other load affects all of them alike
    calls: dict[Any, Callable[[], object]] = {
        choice: partial(one.engine.infer, inputs) for choice, one in opened.items()}
    standard = _yardstick(threads) if yardstick else None
    if standard is not None:
        calls[YARDSTICK] = standard.call
    latencies = measure_together(calls, runs, budget_s=budget_s)
    fastest = min(opened, key=lambda choice: latencies[choice].p50_ms)

    flops = count_flops(model, inputs)
    machine = machine_name() | {'torch_threads': torch.get_num_threads()} | machine_peak(peak_s)
    rows = [engine_row(name, one, latencies[name], flops, machine, folder) for name, one in opened.items()]
    return {
        'date': datetime.date.today().isoformat(), 'machine': machine,
        'gflop': flops / 1e9, 'engines': rows,
        **({} if standard is None else {'yardstick': yardstick_row(standard, latencies[YARDSTICK])}),
        'stages_engine': [fastest.engine, fastest.precision, fastest.variant],
        **_measure_frame(model, frames, opened[fastest].engine, runs, budget_s),
        'peak_memory_mb': peak_memory_mb(),
    }


def _yardstick(threads: int) -> Yardstick:
    with tempfile.TemporaryDirectory(prefix='yardstick_') as folder:
        return make_yardstick(folder, threads)


def yardstick_row(standard: Yardstick, latency: Latency) -> dict[str, float]:
    """What the yardstick took, as plain values."""
    return {'gflop': standard.gflop, 'parameters': standard.parameters, **latency.as_dict()}


def _measure_frame(
    model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int, budget_s: float
) -> dict[str, Any]:
    """A frame from sensor files to predictions in one engine: stage by stage, and overlapped."""
    DeployedModel(model, engine).warm_up()
    stages = stage_latencies(model, frames, engine, runs, budget_s)
    overlapping = overlap(model, frames, engine, runs)

    return {
        'stages': {name: latency.as_dict() for name, latency in stages.items()},
        'frame_over_network': stages['frame'].p50_ms / stages['network'].p50_ms,
        'pipelined_ms': overlapping.pipelined_ms,
        'pipelined_over_network': overlapping.ratio,
        'pipelined_core_ms': overlapping.core_ms,
    }


def prepared_export(
    folder: str | Path | None,
    model: MultiTaskPerception,
    frames: Frames,
    model_config: dict[str, Any],
    data_config: dict[str, Any],
    checkpoint: str = 'none',
) -> Path:
    """The folder of an export: the one given where it holds one, else a new export is written there.

    Args:
        folder: None for a temporary one.
        model: to export.
        frames: the first one fixes the shapes.
        model_config: plain part of the configuration.
        data_config: the same of the dataset.
        checkpoint: where the model's weights are from, 'none' for random ones.

    Raises:
        ValueError: the export was made from other weights.
    """
    folder = Path(folder or tempfile.mkdtemp(prefix='export_'))
    if not (folder / SIDECAR_NAME).is_file():
        batch = frames.read(0)
        export_network(model, batch, folder, model_config, data_config)
        try:
            export_half(folder, [graph_inputs(model, batch)])
        except ExportError as error:  # engines of that precision are left out, with the reason
            warnings.warn(str(error), stacklevel=2)
        return folder

    sidecar = Sidecar.read(folder)
    if checkpoint != 'none':
        sidecar.check_weights(model, checkpoint)
    return folder


def open_engines(
    folder: str | Path,
    choices: Sequence[EngineChoice],
    model: MultiTaskPerception,
    inputs: dict[str, np.ndarray],
    threads: int = 0,
    report: Callable[[str], None] = print,
) -> dict[EngineChoice, OpenedEngine]:
    """Open every engine that is available here and run it once; `report` gets why one is not."""
    opened = {}
    for choice in choices:
        try:
            opened[choice] = _open(folder, choice, model, inputs, threads)
        except (EngineUnavailable, FileNotFoundError) as error:
            report(f'{choice}: not measured: {error}')
    return opened


def _open(
    folder: str | Path,
    choice: EngineChoice,
    model: MultiTaskPerception,
    inputs: dict[str, np.ndarray],
    threads: int,
) -> OpenedEngine:
    options: dict[str, Any] = dict(VARIANTS[choice.engine][choice.variant])
    if choice.engine in ('onnxruntime', 'openvino'):
        options['threads'] = threads

    gc.collect()
    before_mb = held_memory_mb()
    began = time.perf_counter()
    engine = open_engine(choice.engine, folder, choice.precision, model, **options)
    open_s = time.perf_counter() - began
    engine.infer(inputs)
    return OpenedEngine(engine, open_s, max(0.0, held_memory_mb() - before_mb))


def count_flops(model: MultiTaskPerception, inputs: dict[str, np.ndarray]) -> int:
    """Floating-point operations of one pass; a multiply-add counts two.

    Matrix products, convolutions and attention are counted.
    """
    from torch.utils.flop_counter import FlopCounterMode
    tensors = tuple(torch.from_numpy(value) for value in inputs.values())

    # the counter's hooks fail on parameters that are passed to a module as input, so none needs a gradient
    # meanwhile
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)
        with fixed_shapes(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            ExportGraph(model, list(inputs)).eval()(*tensors)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops()


def engine_row(
    choice: EngineChoice,
    opened: OpenedEngine,
    latency: Latency,
    flops: int,
    peak: dict[str, float],
    folder: Path,
) -> dict[str, Any]:
    """One line of the table: plain values, None where something was not measured."""
    gflops_per_second = flops / latency.p50_ms / 1e6
    measured = choice.on_processor or choice.on_gpu  # an Intel GPU or NPU has no peak here
    peak_gflops = peak.get(_PEAK_OF.get((choice.on_gpu, choice.precision), '')) if measured else None
    file_bytes = sum(path.stat().st_size for path in network_files(folder, choice.engine, choice.precision))

    return {
        **asdict(choice),
        'network_ms_p50': latency.p50_ms,
        'network_ms_p90': latency.p90_ms,
        'network_ms_p99': latency.p99_ms,
        'network_ms_p99_9': latency.p99_9_ms,
        'network_per_second': latency.per_second,
        'runs': latency.runs,
        'open_s': opened.open_s,
        'first_ms': 1000 * opened.open_s + latency.first_ms,
        'memory_mb': opened.memory_mb,
        'file_mb': file_bytes / 1e6,
        'gflops_per_second': gflops_per_second,
        'share_of_peak': gflops_per_second / peak_gflops if peak_gflops else None,
    }


def format_result(result: dict[str, Any]) -> str:
    """Everything `run_benchmark` measured, as text."""
    machine = result['machine']
    cores = machine['cores']
    fastest = EngineChoice(*result['stages_engine'])
    lines = [
        f'{machine["processor"]}, {cores} cores, {" ".join(machine["instructions"])}; measured peak: '
        f'{machine["matrix_fp32_gflops"]:.0f} GFLOP/s fp32, {machine["matrix_bf16_gflops"]:.0f} bf16, '
        f'{machine["copy_gb_per_s"]:.1f} GB/s copying',
        f'network alone, {result["gflop"]:.2f} GFLOP a frame',
        format_engine_rows(result['engines']),
        *format_yardstick(result),
        '',
        f'from sensor files to predictions with {fastest}, one after the other:',
    ]

    for name, latency in result['stages'].items():
        lines.append(
            f'  {name:<12}{latency["p50_ms"]:>9.1f} ms p50{latency["p90_ms"]:>9.1f} p90'
            f'{latency["p99_ms"]:>9.1f} p99{latency["p99_9_ms"]:>9.1f} p99.9'
        )

    lines += [
        f'  overlapped{result["pipelined_ms"]:>11.1f} ms a frame, of which the {cores} cores work '
        f'{result["pipelined_core_ms"]:.1f} ms in all',
        f'  over the network alone: frame {result["frame_over_network"]:.2f}, overlapped '
        f'{result["pipelined_over_network"]:.2f}; memory at most {result["peak_memory_mb"]:.0f} MB',
    ]
    return '\n'.join(lines)


def format_yardstick(result: dict[str, Any]) -> list[str]:
    """A line of what the yardstick took, and how much faster the fastest engine is; none without one."""
    if 'yardstick' not in result:
        return []
    row = result['yardstick']
    ratio = row['p50_ms'] / min(engine['network_ms_p50'] for engine in result['engines'])
    return [
        f"yardstick, BEVFormer-tiny's shape in ONNX Runtime fp32, random weights ({row['gflop']:.0f} GFLOP, "
        f"{row['parameters'] / 1e6:.1f} million): {row['p50_ms']:.1f} ms p50, {row['p99_9_ms']:.1f} p99.9; "
        f'the fastest engine is {ratio:.2f} times as fast']


def format_engine_rows(rows: Sequence[dict[str, Any]]) -> str:
    """The engines as a table of text; speed-ups are against the first line."""
    lines = [
        f'{"engine":<28}{"p50 ms":>9}{"p90":>9}{"p99":>9}{"p99.9":>9}{"per s":>8}{"faster":>8}{"of peak":>9}'
        f'{"open s":>8}{"MB":>7}'
    ]

    for row in rows:
        of_peak = '-' if row['share_of_peak'] is None else f'{100 * row["share_of_peak"]:.0f} %'
        choice = EngineChoice(row['engine'], row['precision'], row['variant'])
        speed_up = rows[0]['network_ms_p50'] / row['network_ms_p50']

        lines.append(
            f'{choice!s:<28}{row["network_ms_p50"]:>9.1f}{row["network_ms_p90"]:>9.1f}'
            f'{row["network_ms_p99"]:>9.1f}{row["network_ms_p99_9"]:>9.1f}'
            f'{row["network_per_second"]:>8.1f}{speed_up:>7.1f}x{of_peak:>9}'
            f'{row["open_s"]:>8.1f}{row["memory_mb"]:>7.0f}'
        )
    return '\n'.join(lines)
