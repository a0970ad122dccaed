"""What a running system reports: latencies in bounded memory, and when each sensor last worked."""
from __future__ import annotations

import math
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
        received, bad, dropped: measurements that came, could not be read, or had no place in the inbox.
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
            newer one was waiting), 'blind' (no sensor had a measurement); and 'cut clouds', which had more
            points than the graph has room for.
        last_error: of the last frame that failed.
    """

    stages: dict[str, Histogram] = field(default_factory=dict)
    channels: dict[str, ChannelHealth] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    last_error: str = ''

    def took(self, stage: str, ms: float) -> None:
        """Add the latency of a stage."""
        self.stages.setdefault(stage, Histogram()).add(ms)

    def count(self, kind: str, number: int = 1) -> None:
        """Count frames of a kind, see `counts`."""
        self.counts[kind] = self.counts.get(kind, 0) + number

    def healthy(self, now_ns: int, within_s: float) -> dict[str, bool]:
        """Which sensors gave a good measurement within the last `within_s` seconds."""
        ages = {name: channel.age_s(now_ns) for name, channel in self.channels.items()}
        return {name: age is not None and age <= within_s for name, age in ages.items()}

    def report(self, now_ns: int) -> str:
        """Counts, latencies and sensors as a few lines of text."""
        counts = ', '.join(f'{kind} {number}' for kind, number in sorted(self.counts.items()))
        lines = [f'frames: {counts}']

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
