"""What an import found: counts, gaps, drops, clocks; as JSON and as text."""
from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_REASONS = 500
MOST_LISTED = 50
"""Gaps and empty key frames that are listed one by one; all are counted."""
GAP_PERIODS = 2.5
"""A silence of so many usual steps is a gap."""


_NUMBER = re.compile(r'[-+]?\d+(\.\d*)?(e[-+]?\d+)?', re.IGNORECASE)


class Reasons(Counter[str]):
    """Why measurements were dropped, in bounded memory: {words: how often}.

    Words that differ in numbers alone, behind the sensor or topic at their beginning, count as one; the first
    of them are kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, str] = {}

    def add(self, words: str, count: int = 1) -> None:
        """Count measurements."""
        whose, _, why = words.partition(': ')
        pattern = f'{whose}: {_NUMBER.sub("#", why)}'
        if pattern not in self._first and len(self._first) >= MOST_REASONS:
            pattern = words = 'other reasons'
        self[self._first.setdefault(pattern, words)] += count


@dataclass
class SensorTimes:
    """When one sensor measured, in bounded memory: its usual step, and gaps against it.

    Attributes:
        count: measurements.
        gaps: (seconds since the first, length in s) of the first `MOST_LISTED`.
        gap_count: of all.
    """

    count: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    gap_count: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    _steps: list[float] = field(default_factory=list)

    def add(self, time_ns: int) -> None:
        """Count a measurement."""
        self.count += 1
        if self.first_ns is None:
            self.first_ns = time_ns
        if self.last_ns is not None:
            self._add_step((time_ns - self.last_ns) * 1e-9, (self.last_ns - self.first_ns) * 1e-9)
        self.last_ns = time_ns

    def end(self, time_ns: int) -> None:
        """The recording goes on to a time: a sensor that fell silent before it has a gap."""
        if self.first_ns is not None and self.last_ns is not None:
            self._add_step((time_ns - self.last_ns) * 1e-9, (self.last_ns - self.first_ns) * 1e-9)

    def _add_step(self, step_s: float, since_s: float) -> None:
        usual = self.period_s
        if usual and step_s > GAP_PERIODS * usual:
            self.gap_count += 1
            if len(self.gaps) < MOST_LISTED:
                self.gaps.append((round(since_s, 3), round(step_s, 3)))
        self._steps.append(step_s)
        del self._steps[:-101]

    @property
    def period_s(self) -> float:
        """The usual step: the median of the last hundred; 0 before the third measurement."""
        return float(np.median(self._steps)) if len(self._steps) > 1 else 0.0


@dataclass
class ImportReport:
    """What an import did and found.

    Attributes:
        times: {channel: when it measured}.
        written: {channel: files in key frames}; sweeps: {channel: files between them}.
        absent: {channel: key frames without it}, the first of them in `absent_at` as 'scene frame'.
        dropped: {reason: measurements}, with the channel in the reason.
        scenes, finished_before, key_frames: written now, there before, in all.
        cuts: why scenes began.
        order: late, stray and repeated stamps by topic; jumps of the clock.
        problems: what is damaged in the recording.
    """

    times: dict[str, SensorTimes] = field(default_factory=dict)
    written: Counter[str] = field(default_factory=Counter)
    sweeps: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    absent_at: dict[str, list[str]] = field(default_factory=dict)
    dropped: Reasons = field(default_factory=Reasons)
    scenes: int = 0
    finished_before: int = 0
    key_frames: int = 0
    cuts: list[str] = field(default_factory=list)
    order: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def note_absent(self, channel: str, scene: str, index: int) -> None:
        """A key frame lacks a sensor."""
        self.absent[channel] += 1
        places = self.absent_at.setdefault(channel, [])
        if len(places) < MOST_LISTED:
            places.append(f'{scene} {index}')

    def to_record(self) -> dict[str, Any]:
        """As plain values for JSON."""
        sensors = {
            channel: {
                'measurements': times.count, 'period_s': round(times.period_s, 4),
                'in_key_frames': self.written[channel], 'sweeps': self.sweeps[channel],
                'absent_in_key_frames': self.absent[channel], 'absent_at': self.absent_at.get(channel, []),
                'gaps': times.gap_count, 'gaps_at_s': [list(gap) for gap in times.gaps]}
            for channel, times in self.times.items()}
        return {
            'scenes': self.scenes, 'scenes_finished_before': self.finished_before,
            'key_frames': self.key_frames, 'sensors': sensors, 'dropped': dict(self.dropped),
            'scene_cuts': self.cuts, **self.order, 'problems': self.problems}

    def lines(self) -> list[str]:
        """As text for a person."""
        lines = [
            f'{self.scenes + self.finished_before} scenes, {self.key_frames} key frames '
            f'({self.scenes} scenes written now, {self.finished_before} were there)']
        for channel, times in self.times.items():
            rate = f'{1 / times.period_s:.1f} Hz' if times.period_s else 'once or never'
            lines.append(
                f'  {channel:<20} {times.count:>7} measurements, {rate:>9}, in {self.written[channel]} key '
                f'frames, absent in {self.absent[channel]}, {self.sweeps[channel]} sweeps, '
                f'{times.gap_count} gaps')
            lines += [f'      silent for {length:.2f} s at {since:.2f} s' for since, length in times.gaps[:5]]

        lines += [f'  dropped: {count} x {reason}' for reason, count in sorted(self.dropped.items())]
        for name, found in self.order.items():
            entries = found if isinstance(found, list) else [f'{topic}: {n}' for topic, n in found.items()]
            hint = ' (left out; a longer --window waits for them)' if name == 'late_stamps' else ''
            lines += [f'  {name.replace("_", " ")}: {entry}{hint}' for entry in entries]
        lines += [f'  scene cut: {words}' for words in self.cuts]
        return lines + [f'  damaged: {words}' for words in self.problems[:MOST_LISTED]]
