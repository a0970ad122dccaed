"""When a frame is due, and which measurements and calibrations go into it."""
from __future__ import annotations

import operator
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from .monitor import ChannelHealth, Monitor
from .records import Calibration, FrameRequest, RuntimeOptions, SensorMeasurement


class FrameMaker:
    """Measurements in, requests for frames out; no threads, no waiting: the caller says what time it is.

    Args:
        channels: the sensors that exist; others are refused.
        options: of the runtime.
        monitor: counts what each sensor sends.
    """

    def __init__(self, channels: Sequence[str], options: RuntimeOptions, monitor: Monitor) -> None:
        if options.trigger is not None and options.trigger not in channels:
            raise ValueError(f'trigger: expected one of {tuple(channels)} or None, found {options.trigger!r}')
        unknown = [name for name in options.needs_calibration if name not in channels]
        if unknown:
            raise ValueError(f'needs_calibration: expected some of {tuple(channels)}, found {unknown}')
        self.options = options
        self.monitor = monitor

        # measurements with the time of their arrival, and since when the next frame is awaited
        self._inbox: dict[str, deque[tuple[SensorMeasurement, int]]] = {name: deque() for name in channels}
        self._calibrations: dict[str, Calibration] = {}
        self._triggered = False
        self._last_ns: int | None = None
        self._number = 0
        self._lock = threading.Lock()

        for name in channels:
            monitor.channels.setdefault(name, ChannelHealth())

    def offer(self, measurement: SensorMeasurement, now_ns: int) -> None:
        """Take a measurement; one without a whole number as its stamp is counted as bad and left out.

        Raises:
            ValueError: a channel that does not exist.
        """
        channel = measurement.channel
        if channel not in self._inbox:
            raise ValueError(f'measurement: expected a channel of {tuple(self._inbox)}, found {channel!r}')

        with self._lock:
            inbox = self._inbox[channel]
            health = self.monitor.channels[channel]
            health.received += 1
            try:
                stamp_ns = operator.index(measurement.stamp_ns)
            except TypeError:
                self.monitor.bad(channel, f'stamp_ns: expected nanoseconds, found {measurement.stamp_ns!r}')
                return

            # after a jump, older stamps and newer ones cannot be compared
            if inbox and self._jumped(inbox[-1][0].stamp_ns, stamp_ns):
                health.clock_jumps += 1
                inbox.clear()

            if len(inbox) >= self.options.inbox:
                inbox.popleft()
                health.dropped += 1
            inbox.append((measurement, now_ns))

            # the first measurement of all starts the clock
            if self._last_ns is None:
                self._last_ns = now_ns
                self._triggered = self.options.trigger is None
            self._triggered |= channel == self.options.trigger

    def calibrate(self, channel: str, value: Any, now_ns: int) -> None:
        """Take a new calibration; it counts from the next frame on."""
        with self._lock:
            self._calibrations[channel] = Calibration(value, now_ns)

    def due(self, now_ns: int) -> FrameRequest | None:
        """The frame that should be computed now; None before its time.

        A frame is due when the trigger spoke, or when it has been silent for one and a half periods.
        """
        with self._lock:
            if self._last_ns is None:
                return None
            patience = 1.0 if self.options.trigger is None else 1.5
            overdue = now_ns - self._last_ns >= round(patience * self.options.period_s * 1e9)
            if not (self._triggered or overdue):
                return None

            self._triggered = False
            self._last_ns = now_ns
            self._number += 1
            calibrations = self._valid_calibrations(now_ns)
            return FrameRequest(
                self._number, now_ns, self._fresh_measurements(now_ns, calibrations), calibrations,
                deadline_ns=now_ns + int(self.options.deadline_s * 1e9))

    def _jumped(self, last_ns: int, stamp_ns: int) -> bool:
        return not 0 <= stamp_ns - last_ns <= self.options.max_jump_s * 1e9

    def _fresh_measurements(self, now_ns: int, calibrations: dict[str, Any]) -> dict[str, SensorMeasurement]:
        """The newest of each sensor that is not too old and has the calibration it needs."""
        fresh = {}
        for name, inbox in self._inbox.items():
            # the newest is the one that counts
            while len(inbox) > 1:
                inbox.popleft()

            calibrated = name not in self.options.needs_calibration or name in calibrations
            if inbox and calibrated and now_ns - inbox[-1][1] <= self.options.max_age_s * 1e9:
                fresh[name] = inbox[-1][0]
        return fresh

    def _valid_calibrations(self, now_ns: int) -> dict[str, Any]:
        """The last of each channel, without those that are too old."""
        limit_s = self.options.max_calibration_age_s
        return {
            name: calibration.value
            for name, calibration in self._calibrations.items()
            if limit_s is None or now_ns - calibration.arrived_ns <= limit_s * 1e9
        }
