"""What a running system reports: latencies in bounded memory, and when each sensor last worked."""
from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

_LOWEST_MS, _PER_OCTAVE, _BUCKETS = 0.01, 8, 200


class Histogram:
    """Latencies in logarithmic buckets from 0.01 ms, an eighth of a doubling wide.

    Percentiles are right within 5 %.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_BUCKETS, dtype=np.int64)
        self.total, self.worst_ms = 0, 0.0

    def add(self, ms: float) -> None:
        """Count one latency; negative ones (a clock that went back) count as the least."""
        bucket = 0 if ms <= _LOWEST_MS else round(math.log2(ms / _LOWEST_MS) * _PER_OCTAVE)
        self.counts[min(bucket, _BUCKETS - 1)] += 1
        self.total += 1
        self.worst_ms = max(self.worst_ms, ms)

    def percentile(self, q: float) -> float:
        """The latency (ms) that q per cent do not exceed; NaN when nothing was counted."""
        if not self.total:
            return math.nan
        bucket = int(np.searchsorted(np.cumsum(self.counts), q / 100 * self.total))
        return min(_LOWEST_MS * 2 ** (bucket / _PER_OCTAVE), self.worst_ms)

    def as_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return {
            'count': self.total, **{f'p{q}_ms': self.percentile(q) for q in (50, 90, 99)},
            'worst_ms': self.worst_ms}


@dataclass
class ChannelHealth:
    """How one sensor is doing.

    Attributes:
        last_good_ns: when (runtime clock) its last readable measurement was used; None before the first.
        received, bad, dropped: measurements that came, could not be used, or had no place in the inbox.
        clock_jumps: how often its time stamps jumped.
        last_error: what was wrong with the last bad measurement.
    """

    last_good_ns: int | None = None
    received: int = 0
    bad: int = 0
    dropped: int = 0
    clock_jumps: int = 0
    last_error: str = ''

    def age_s(self, now_ns: int) -> float | None:
        """Seconds since the last good measurement; None before the first."""
        return None if self.last_good_ns is None else (now_ns - self.last_good_ns) / 1e9


@dataclass
class Monitor:
    """Everything counted by a runtime.

    Attributes:
        stages: latency of each stage, and 'age': from the request for a frame to its predictions.
        channels: health by sensor.
        counts: frames 'made', 'answered' (delivered), 'late' (past their deadline), 'failed', 'dropped' (a
            newer one was waiting), 'blind' (no sensor had a measurement). Every frame made ends in one of
            the others.
        masked: predictions that were left out because the network's outputs were not finite, by task.
        left_out: what of the measurements did not reach the network, by kind: points out of range, and 'cut
            clouds', which had more points than the graph has room for.
        resets: how often the memory started over, by reason ('new drive', 'no pose', 'order', 'age', 'pose
            jump', 'not finite').
        deaths: how often each thread ended by an exception that no frame catches, and was started again.
        last_error: of the last frame that failed, or the last thread that died.
    """

    stages: dict[str, Histogram] = field(default_factory=dict)
    channels: dict[str, ChannelHealth] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    masked: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    last_error: str = ''
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def took(self, stage: str, ms: float) -> None:
        """Add the latency of a stage."""
        self.stages.setdefault(stage, Histogram()).add(ms)

    def count(self, kind: str, number: int = 1) -> None:
        """Count frames of a kind, see `counts`; from any thread."""
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + number

    def failed(self, stage: str, error: BaseException) -> None:
        """Count a frame that an error ended."""
        self.count('failed')
        self.last_error = f'{stage}: {type(error).__name__}: {error}'

    def died(self, thread: str, error: BaseException) -> None:
        """Count the death of a thread."""
        with self.lock:
            self.deaths[thread] = self.deaths.get(thread, 0) + 1
        self.last_error = f'thread {thread} died: {type(error).__name__}: {error}'

    def mask(self, tasks: Iterable[str]) -> None:
        """Count predictions that are missing from a frame."""
        with self.lock:
            for task in tasks:
                self.masked[task] = self.masked.get(task, 0) + 1

    def bad(self, channel: str, error: str) -> None:
        """Count a measurement that cannot be used."""
        with self.lock:
            self.channels[channel].bad += 1
        self.channels[channel].last_error = error

    def healthy(self, now_ns: int, within_s: float) -> dict[str, bool]:
        """Which sensors gave a good measurement within the last `within_s` seconds."""
        ages = {name: channel.age_s(now_ns) for name, channel in self.channels.items()}
        return {name: age is not None and age <= within_s for name, age in ages.items()}

    def report(self, now_ns: int) -> str:
        """Counts, latencies and sensors as a few lines of text."""
        counts = ', '.join(f'{kind} {number}' for kind, number in sorted(self.counts.items()))
        lines = [f'frames: {counts}']
        kinds = {
            'not finite': self.masked, 'left out': self.left_out, 'memory resets': self.resets,
            'threads that died': self.deaths}
        for title, numbers in kinds.items():
            if numbers:
                listed = ', '.join(f'{name} {number}' for name, number in sorted(numbers.items()))
                lines.append(f'{title}: {listed}')
        if self.last_error:
            lines.append(f'last error: {self.last_error}')

        for name, histogram in self.stages.items():
            latencies = {key: ms for key, ms in histogram.as_dict().items() if key != 'count'}
            lines.append(f'{name:<10}' + ' '.join(f'{key} {ms:.1f}' for key, ms in latencies.items()))

        for name, health in self.channels.items():
            age_s = health.age_s(now_ns)
            last_good = 'never' if age_s is None else f'{age_s:.2f} s ago'
            error = f' ({health.last_error})' if health.last_error else ''
            lines.append(
                f'{name:<18} last good {last_good}, received {health.received}, bad {health.bad}, '
                f'dropped {health.dropped}, clock jumps {health.clock_jumps}{error}'
            )
        return '\n'.join(lines)
