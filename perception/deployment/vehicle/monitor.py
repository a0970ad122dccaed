"""What a running system says of itself: latencies in bounded memory, and when each sensor was last well."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

_LOWEST_MS, _PER_OCTAVE, _BUCKETS = 0.01, 8, 200


class Histogram:
    """Latencies in logarithmic buckets, an eighth of a doubling wide (so percentiles are right within 5 %),
    from 0.01 ms."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BUCKETS, dtype=np.int64)
        self.total, self.worst_ms = 0, 0.0

    def add(self, ms: float) -> None:
        """Count one latency; negative ones (a clock that went back) count as the least."""
        place = 0 if ms <= _LOWEST_MS else round(math.log2(ms / _LOWEST_MS) * _PER_OCTAVE)
        self.counts[min(place, _BUCKETS - 1)] += 1
        self.total += 1
        self.worst_ms = max(self.worst_ms, ms)

    def percentile(self, q: float) -> float:
        """The latency (ms) that q per cent do not exceed; NaN when nothing was counted."""
        if not self.total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), q / 100 * self.total))
        return min(_LOWEST_MS * 2 ** (place / _PER_OCTAVE), self.worst_ms)

    def as_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return {
            'count': self.total, **{f'p{q}_ms': self.percentile(q) for q in (50, 90, 99)},
            'worst_ms': self.worst_ms}


@dataclass
class ChannelHealth:
    """One sensor: when (runtime clock) it last gave something good, and how much came, was bad, or was
    dropped as too much."""

    last_good_ns: int | None = None
    received: int = 0
    bad: int = 0
    dropped: int = 0
    clock_jumps: int = 0
    last_error: str = ''

    def age_s(self, now_ns: int) -> float | None:
        """Seconds since the last good reading; None before the first."""
        return None if self.last_good_ns is None else (now_ns - self.last_good_ns) / 1e9


@dataclass
class Monitor:
    """Everything counted by a runtime.

    Attributes:
        stages: latency of each stage, and 'age': from the newest reading to the answer.
        channels: health by sensor.
        counts: frames 'made', 'answered', 'late' (past their deadline), 'failed', 'dropped' (a newer one was
            waiting), 'blind'.
    """

    stages: dict[str, Histogram] = field(default_factory=dict)
    channels: dict[str, ChannelHealth] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    last_error: str = ''

    def took(self, stage: str, ms: float) -> None:
        """Note how long a stage took."""
        self.stages.setdefault(stage, Histogram()).add(ms)

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""
        self.counts[what] = self.counts.get(what, 0) + number

    def healthy(self, now_ns: int, within_s: float) -> dict[str, bool]:
        """Which sensors gave something good within the last `within_s` seconds."""
        ages = {name: channel.age_s(now_ns) for name, channel in self.channels.items()}
        return {name: age is not None and age <= within_s for name, age in ages.items()}

    def report(self, now_ns: int) -> str:
        """A few lines for a person."""
        lines = ['frames: ' + ', '.join(f'{name} {number}' for name, number in sorted(self.counts.items()))]
        lines += [
            f'{name:<10}'
            + ' '.join(f'{key} {value:.1f}' for key, value in h.as_dict().items() if key != 'count')
            for name, h in self.stages.items()
        ]
        for name, c in self.channels.items():
            age = c.age_s(now_ns)
            said = 'never' if age is None else f'{age:.2f} s ago'
            lines.append(
                f'{name:<18} last good {said}, received {c.received}, bad {c.bad}, dropped {c.dropped}, '
                f'clock jumps {c.clock_jumps}' + (f' ({c.last_error})' if c.last_error else '')
            )
        return '\n'.join(lines)
