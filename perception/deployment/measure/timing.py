"""How long calls take: percentiles over many of them, and what this machine could do at best."""
from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

T = TypeVar('T')


@dataclass(frozen=True)
class Latency:
    """How long one call takes.

    Attributes:
        first_ms: the first call.
        p50_ms, p90_ms, p99_ms, mean_ms: percentiles and mean of the counted calls.
        p99_9_ms: what one call in a thousand exceeds, MLPerf Automotive's metric of a single stream: the
            smallest counted time that at least 99.9 % of them do not exceed, so the worst of fewer than 1000.
        per_second: calls a second at the median.
        runs: number of counted calls.
    """

    first_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    runs: int
    mean_ms: float
    p99_9_ms: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def measure_latency(
    call: Callable[[], object], runs: int = 20, warmup: int = 3, budget_s: float = 60.0
) -> Latency:
    """Time `call`; stops early (never under three counted runs) when `budget_s` is spent."""
    began = time.perf_counter()
    first_s = timed(call)
    for _ in range(max(0, warmup - 1)):
        call()

    times_s: list[float] = []
    while len(times_s) < runs and (len(times_s) < 3 or time.perf_counter() - began < budget_s):
        times_s.append(timed(call))
    return latency_of(first_s, times_s)


def latency_of(first_s: float, times_s: Sequence[float]) -> Latency:
    """Percentiles of measured seconds.

    Raises:
        ValueError: no measurement.
    """
    if not len(times_s):
        raise ValueError('latency: expected at least one measured call, found none')
    p50, p90, p99 = (1000 * float(np.percentile(times_s, q)) for q in (50, 90, 99))
    mean_ms = 1000 * float(np.mean(times_s))
    p99_9 = 1000 * float(sorted(times_s)[-1 - len(times_s) // 1000])
    return Latency(1000 * first_s, p50, p90, p99, 1000 / p50, len(times_s), mean_ms, p99_9)


def measure_together(
    calls: Mapping[T, Callable[[], object]], runs: int = 20, block: int = 5, budget_s: float = 120.0
) -> dict[T, Latency]:
    """Time several calls in turns, so that other load affects all of them alike and their ratios hold.

    Each gets `block` counted calls in a row after one that is not counted (caches and threads change hands
    there), until all have `runs`; stops after the first round past `budget_s`.
    """
    began = time.perf_counter()
    first_s = {name: timed(call) for name, call in calls.items()}

    times: dict[T, list[float]] = {name: [] for name in calls}
    while calls and min(map(len, times.values())) < runs:
        for name, call in calls.items():
            call()
            times[name] += [timed(call) for _ in range(min(block, runs - len(times[name])))]
        if time.perf_counter() - began > budget_s:
            break
    return {name: latency_of(first_s[name], seconds) for name, seconds in times.items()}


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def machine_peak(seconds: float = 1.0) -> dict[str, float]:
    """This machine's measured peak: matrix products (fp32, bf16; GFLOP/s) and copying memory (GB/s).

    Where there is a GPU, `gpu_peak` is included.
    """
    import torch
    peak = {}
    for name, dtype in (('matrix_fp32_gflops', torch.float32), ('matrix_bf16_gflops', torch.bfloat16)):
        size = _product_size(dtype)
        a = torch.randn(size, size).to(dtype)
        peak[name] = _rate(lambda a=a: a @ a, 2 * size ** 3, seconds) / 1e9

    # 128 MB: more than a cache holds
    source = torch.empty(32 << 20)
    target = torch.empty_like(source)
    peak['copy_gb_per_s'] = _rate(lambda: target.copy_(source), 2 * source.numel() * 4, seconds) / 1e9
    return peak | (gpu_peak(seconds) if torch.cuda.is_available() else {})


def _product_size(dtype: Any) -> int:
    """Edge of the square matrices to multiply: 1536, or the first whose product takes 20 ms.

    A processor without instructions for bf16 would take ten seconds for a large product.
    """
    import torch
    size = 192
    while size < 1536:
        a = torch.randn(size, size).to(dtype)
        if min(timed(lambda a=a: a @ a) for _ in range(2)) > 0.02:
            break
        size *= 2
    return size


def gpu_peak(seconds: float = 1.0) -> dict[str, float]:
    """The first GPU's measured peak: matrix products (GFLOP/s) and copying memory (GB/s).

    Products are in fp32 (without TF32), bf16 and fp16.
    """
    import torch

    def waited(call: Callable[[], object]) -> Callable[[], None]:
        def wrapped() -> None:
            call()
            torch.cuda.synchronize()

        return wrapped

    peak = {}
    for word, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16), ('fp16', torch.float16)):
        a = torch.randn(8192, 8192, device='cuda', dtype=dtype)
        peak[f'gpu_{word}_gflops'] = _rate(waited(lambda a=a: a @ a), 2 * 8192 ** 3, seconds) / 1e9

    source = torch.empty(256 << 20, device='cuda')
    target = torch.empty_like(source)
    copied_bytes = 2 * source.numel() * 4
    peak['gpu_copy_gb_per_s'] = _rate(waited(lambda: target.copy_(source)), copied_bytes, seconds) / 1e9
    return peak


def _rate(call: Callable[[], object], work: float, seconds: float) -> float:
    call()
    best_s = float('inf')
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        best_s = min(best_s, timed(call))
    return work / best_s


def held_memory_mb() -> float:
    """The memory this process holds now (resident; 0 where the system does not say)."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2 ** 20
    except OSError:
        return 0.0
