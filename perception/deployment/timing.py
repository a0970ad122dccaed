"""How long things take: percentiles over many calls, and what this machine could do at best."""
from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: first call, 50th, 90th, 99th percentile, and calls a second at the median."""

    first_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    runs: int

    def as_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def measure(call: Callable[[], object], runs: int = 20, warmup: int = 3, budget_s: float = 60.0) -> Latency:
    """Time `call`; stops early (never under three counted runs) when `budget_s` is spent."""
    began = time.perf_counter()
    call()
    first = time.perf_counter() - began
    for _ in range(max(0, warmup - 1)):
        call()
    times: list[float] = []
    while len(times) < runs and (len(times) < 3 or time.perf_counter() - began < budget_s):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    p50, p90, p99 = (1000 * float(np.percentile(times, q)) for q in (50, 90, 99))
    return Latency(1000 * first, p50, p90, p99, 1000 / p50, len(times))


def machine_peak(seconds: float = 1.0) -> dict[str, float]:
    """This machine's measured best: matrix products (fp32, bf16; GFLOP/s) and copying memory (GB/s)."""
    import torch
    found = {}
    for name, dtype in (('matrix_fp32_gflops', torch.float32), ('matrix_bf16_gflops', torch.bfloat16)):
        a = torch.randn(1536, 1536).to(dtype)
        found[name] = _rate(lambda a=a: a @ a, 2 * 1536 ** 3, seconds) / 1e9
    source = torch.empty(32 << 20)
    target = torch.empty_like(source)
    found['copy_gb_per_s'] = _rate(lambda: target.copy_(source), 2 * source.numel() * 4, seconds) / 1e9
    return found


def _rate(call: Callable[[], object], work: float, seconds: float) -> float:
    call()
    best, began = float('inf'), time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return work / best


def peak_memory_mb() -> float:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
