"""What a whole frame costs: the stages around the network one by one, and overlapped."""
from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from ...model import MultiTaskPerception
from ..deployed import DeployedModel
from ..engines import Engine
from ..export.graph import graph_inputs
from ..frames import Frames
from ..pipeline import on_one_thread, overlapped
from .timing import Latency, latency_of, measure_together, timed


def stage_latencies(
    model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int, budget_s: float
) -> dict[str, Latency]:
    """Latencies of reading, preparing, network and decoding, and of the whole frame without overlap.

    Reading, preparing and decoding use one torch thread, as they do beside a running engine.
    """
    indices = cycle(range(frames.count))
    read = on_one_thread(lambda: frames.read(next(indices)))
    prepare = on_one_thread(lambda batch: graph_inputs(model, batch))
    decode = on_one_thread(DeployedModel(model, engine).decode)

    batch = read()
    inputs = prepare(batch)
    raw = engine.infer(inputs)

    def whole_frame() -> object:
        frame = read()
        return decode(engine.infer(prepare(frame)), frame)

    calls = {
        'read': read,
        'prepare': lambda: prepare(batch),
        'network': lambda: engine.infer(inputs),
        'decode': lambda: decode(raw, batch),
        'frame': whole_frame,
    }
    return measure_together(calls, runs, budget_s=budget_s)


def pipelined_latency(model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int) -> Latency:
    """Time between predictions when three frames overlap: one is read, one computed, one decoded.

    Its mean is the time a frame costs, the reciprocal of frames a second. The first two intervals, while the
    line fills, are not counted.
    """
    deployed = DeployedModel(model, engine)

    def prepared(index: int) -> tuple:
        batch = frames.read(index % frames.count)
        return batch, graph_inputs(model, batch)

    def inferred(work: tuple) -> tuple:
        batch, inputs = work
        return engine.infer(inputs), batch

    def decoded(work: tuple) -> object:
        return deployed.decode(*work)

    stages = (on_one_thread(prepared), inferred, on_one_thread(decoded))
    began = time.perf_counter()
    stamps = []
    for _ in overlapped(range(runs + 3), stages):
        stamps.append(time.perf_counter())
    return latency_of(stamps[0] - began, np.diff(stamps)[2:])


@dataclass(frozen=True)
class Overlap:
    """What overlapping brings, measured in turns with the network alone, so that other load affects both.

    Attributes:
        network_ms: p50 of the network alone.
        pipelined_ms: mean time of a frame from sensor files to predictions, stages overlapped.
        ratio: median over the turns of one by the other.
        core_ms: what one pipelined frame costs all cores together; where that is `pipelined_ms` times the
            cores, every core is at work all the time and overlapping can bring no more.
    """

    network_ms: float
    pipelined_ms: float
    ratio: float
    core_ms: float


def overlap(model: MultiTaskPerception, frames: Frames, engine: Engine, runs: int) -> Overlap:
    """Measure the network alone, then as many frames pipelined, in three turns (one where `runs` are few)."""
    turns = 3 if runs >= 9 else 1
    runs_per_turn = max(3, runs // turns)
    inputs = graph_inputs(model, frames.read(0))
    engine.infer(inputs)

    network_ms, pipelined_ms, core_ms = [], [], []
    for _ in range(turns):
        seconds = [timed(lambda: engine.infer(inputs)) for _ in range(runs_per_turn)]
        network_ms.append(1000 * float(np.median(seconds)))

        began_s = time.process_time()
        pipelined_ms.append(pipelined_latency(model, frames, engine, runs_per_turn).mean_ms)
        core_ms.append(1000 * (time.process_time() - began_s) / (runs_per_turn + 3))

    ratios = np.array(pipelined_ms) / np.array(network_ms)
    return Overlap(
        network_ms=float(np.median(network_ms)),
        pipelined_ms=float(np.median(pipelined_ms)),
        ratio=float(np.median(ratios)),
        core_ms=float(np.median(core_ms)),
    )
