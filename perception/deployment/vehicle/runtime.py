"""The loop of a vehicle: readings come when they come, frames leave at a steady rate, whatever a sensor does.

    offer(reading)  ->  inbox of each sensor  ->  FrameMaker.due  ->  prepare | infer | decode (a thread each)
    ->  deliver

Whether a sensor is stale is judged by when its readings *arrived* on the runtime's own clock, which never
goes back; the sensors' own time stamps may jump without stopping anything. A sensor without a fresh, readable
reading is absent from the frame.
"""
from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..pipeline import BoundedQueue, Closed, narrow, one_torch_thread
from .monitor import ChannelHealth, Monitor

Clock = Callable[[], int]


@dataclass(frozen=True)
class Reading:
    """What one sensor says: `channel` its name, `stamp_ns` its own time, `data` whatever `Stages.unpack`
    understands."""

    channel: str
    stamp_ns: int
    data: Any


@dataclass(frozen=True)
class Calibration:
    """The calibration of one channel, as `Stages.assemble` understands it, and when it was made (runtime
    clock)."""

    value: Any
    arrived_ns: int


@dataclass(frozen=True)
class Moment:
    """One frame to be computed: its time, the freshest reading of each sensor, the last calibrations, and how
    old it may get."""

    number: int
    now_ns: int
    readings: dict[str, Reading]
    calibrations: dict[str, Any]
    deadline_ns: int


@dataclass(frozen=True)
class Stages:
    """What is done with a frame; all callables, so that the runtime knows no format and no model.

    Attributes:
        unpack: reading -> value (decode an image, check a cloud); raising says that the reading is corrupt.
        assemble: (moment, {channel: value}) -> batch; channels that are not in the dictionary are absent.
        prepare: batch -> graph inputs.
        infer: graph inputs -> raw outputs.
        decode: (raw outputs, batch) -> answer.
        warm_up: a frame of nothing through the last three, before the first real one; None when there is
            nothing to warm.
    """

    unpack: Callable[[Reading], Any]
    assemble: Callable[[Moment, dict[str, Any]], Any]
    prepare: Callable[[Any], Any]
    infer: Callable[[Any], Any]
    decode: Callable[[Any, Any], Any]
    warm_up: Callable[[], Any] | None = None


@dataclass(frozen=True)
class RuntimeOptions:
    """Times in seconds of the runtime's clock.

    Attributes:
        trigger: a reading of this channel starts a frame; None: time alone does.
        period_s: longest time between frames, kept by the clock when the trigger is silent.
        max_age_s: older readings count as absent.
        deadline_s: a frame that has not reached its next stage by then is given up.
        inbox: readings kept of each sensor.
        max_calibration_age_s: older ones make their sensor absent (None: the last one counts for ever).
        needs_calibration: sensors that are absent without one.
        max_jump_s: a stamp that goes back, or ahead by more, is a jump of that sensor's clock.
    """

    trigger: str | None = 'LIDAR_TOP'
    period_s: float = 0.5
    max_age_s: float = 0.6
    deadline_s: float = 0.5
    inbox: int = 4
    max_calibration_age_s: float | None = None
    needs_calibration: tuple[str, ...] = ()
    max_jump_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ('period_s', 'max_age_s', 'deadline_s', 'max_jump_s'):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f'RuntimeOptions.{name}: expected more than 0 seconds, found {getattr(self, name)}'
                )


class FrameMaker:
    """Readings in, moments out; no threads, no waiting: the caller says what time it is.

    Args:
        channels: the sensors that exist; others are refused.
    """

    def __init__(self, channels: Sequence[str], options: RuntimeOptions, monitor: Monitor) -> None:
        if options.trigger is not None and options.trigger not in channels:
            raise ValueError(f'trigger: expected one of {tuple(channels)} or None, found {options.trigger!r}')
        self.options, self.monitor = options, monitor
        self._inbox: dict[str, deque[tuple[Reading, int]]] = {name: deque() for name in channels}
        self._calibrations: dict[str, Calibration] = {}
        self._triggered, self._last_ns, self._number = False, None, 0
        self._lock = threading.Lock()
        for name in channels:
            monitor.channels.setdefault(name, ChannelHealth())

    def offer(self, reading: Reading, now_ns: int) -> None:
        """Take a reading.

        Raises:
            ValueError: a channel that does not exist.
        """
        if reading.channel not in self._inbox:
            raise ValueError(
                f'reading: expected a channel of {tuple(self._inbox)}, found {reading.channel!r}'
            )
        with self._lock:
            inbox, health = self._inbox[reading.channel], self.monitor.channels[reading.channel]
            health.received += 1
            if inbox and not 0 <= reading.stamp_ns - inbox[-1][0].stamp_ns <= self.options.max_jump_s * 1e9:
                health.clock_jumps += 1
                inbox.clear()
            if len(inbox) >= self.options.inbox:
                inbox.popleft()
                health.dropped += 1
            inbox.append((reading, now_ns))
            if self._last_ns is None:
                self._last_ns, self._triggered = now_ns, self.options.trigger is None
            self._triggered |= reading.channel == self.options.trigger

    def calibrate(self, channel: str, value: Any, now_ns: int) -> None:
        """Take a new calibration; it counts from the next frame on."""
        with self._lock:
            self._calibrations[channel] = Calibration(value, now_ns)

    def due(self, now_ns: int) -> Moment | None:
        """The frame that should be computed now, if any: the trigger spoke, or has been silent for one and a
        half periods."""
        with self._lock:
            if self._last_ns is None:
                return None
            patience = 1.0 if self.options.trigger is None else 1.5
            waited = now_ns - self._last_ns >= round(patience * self.options.period_s * 1e9)
            if not (self._triggered or waited):
                return None
            self._triggered, self._last_ns, self._number = False, now_ns, self._number + 1
            return Moment(self._number, now_ns, self._fresh(now_ns), self._valid(now_ns),
                          now_ns + int(self.options.deadline_s * 1e9))

    def _fresh(self, now_ns: int) -> dict[str, Reading]:
        """The newest reading of each sensor that is not too old and has the calibration it needs."""
        found, valid = {}, self._valid(now_ns)
        for name, inbox in self._inbox.items():
            while len(inbox) > 1:  # the newest is the one that counts
                inbox.popleft()
            calibrated = name not in self.options.needs_calibration or name in valid
            if inbox and now_ns - inbox[-1][1] <= self.options.max_age_s * 1e9 and calibrated:
                found[name] = inbox[-1][0]
        return found

    def _valid(self, now_ns: int) -> dict[str, Any]:
        """The last calibrations, without those that are too old."""
        limit = self.options.max_calibration_age_s
        return {name: c.value for name, c in self._calibrations.items()
                if limit is None or now_ns - c.arrived_ns <= limit * 1e9}


class _Blind(Exception):
    """No sensor at all has anything to say: there is nothing to compute."""


@dataclass
class _Work:
    """A frame on its way through the stages."""

    moment: Moment
    value: Any = None
    batch: Any = None
    missing: tuple[str, ...] = field(default=())


class Runtime:
    """Threads around a `FrameMaker` and `Stages`.

    Args:
        deliver: receives (moment, answer, channels that were absent) on the decoding thread.
        clock: nanoseconds that never go back.
        waiting: frames that may wait before each stage; more drop the oldest.

    `step` does everything on the calling thread, for simulation; `start` and `stop` use threads.
    """

    def __init__(
        self,
        channels: Sequence[str],
        stages: Stages,
        deliver: Callable[[Moment, Any, tuple[str, ...]], None],
        options: RuntimeOptions = RuntimeOptions(),
        clock: Clock = time.monotonic_ns,
        waiting: int = 1,
    ) -> None:
        self.stages = stages
        self.deliver = deliver
        self.clock = clock
        self.options = options
        self.channels, self.monitor = tuple(channels), Monitor()
        self.maker = FrameMaker(channels, options, self.monitor)
        self._to_prepare, self._to_infer, self._to_decode = (BoundedQueue(waiting) for _ in range(3))
        self._threads: list[threading.Thread] = []
        self._stop, self._warm = threading.Event(), False

    def offer(self, reading: Reading) -> None:
        """Take a reading from any thread; never waits."""
        self.maker.offer(reading, self.clock())

    def calibrate(self, channel: str, value: Any) -> None:
        """Take a new calibration from any thread."""
        self.maker.calibrate(channel, value, self.clock())

    def warm_up(self) -> None:
        """Let the stages compile, allocate and read what they need before the first frame; once: `start` does
        it if nobody did. The time it takes is counted as the stage 'warm_up'.
        """
        if self._warm or self.stages.warm_up is None:
            return
        began = self.clock()
        narrow(self.stages.warm_up)()
        self._warm = True
        self.monitor.took('warm_up', (self.clock() - began) / 1e6)

    # ------------------------------------------------------------------------------------------------ one
    # frame's way

    def step(self) -> bool:
        """One frame through all stages on this thread, if one is due; whether one was."""
        moment = self.maker.due(self.clock())
        if moment is None:
            return False
        self.monitor.count('made')
        work = _Work(moment)
        for stage in (self._prepare, self._infer, self._decode):
            if not self._guarded(stage, work):
                break
        return True

    def _guarded(self, stage: Callable[[_Work], None], work: _Work) -> bool:
        """Run one stage; a frame that is blind, past its deadline or fails is given up, and the loop goes
        on."""
        if self.clock() > work.moment.deadline_ns:
            self.monitor.count('late')
            return False
        began = self.clock()
        try:
            stage(work)
        except _Blind:
            self.monitor.count('blind')
            return False
        except Exception as error:  # whatever a frame does, the next one gets its chance
            self.monitor.count('failed')
            self.monitor.last_error = f'{stage.__name__.strip("_")}: {type(error).__name__}: {error}'
            return False
        self.monitor.took(stage.__name__.strip('_'), (self.clock() - began) / 1e6)
        return True

    def _prepare(self, work: _Work) -> None:
        values = {}
        for name, reading in work.moment.readings.items():
            health = self.monitor.channels[name]
            try:
                values[name] = self.stages.unpack(reading)
                health.last_good_ns = max(health.last_good_ns or 0, work.moment.now_ns)
            except Exception as error:  # a corrupt reading makes its sensor absent, nothing else
                health.bad += 1
                health.last_error = f'{type(error).__name__}: {error}'
        work.missing = tuple(name for name in self.channels if name not in values)
        if not values:
            raise _Blind
        work.batch = self.stages.assemble(work.moment, values)
        work.value = self.stages.prepare(work.batch)

    def _infer(self, work: _Work) -> None:
        work.value = self.stages.infer(work.value)

    def _decode(self, work: _Work) -> None:
        answer = self.stages.decode(work.value, work.batch)
        self.monitor.count('answered')
        self.monitor.took('age', (self.clock() - work.moment.now_ns) / 1e6)
        self.deliver(work.moment, answer, work.missing)

    # --------------------------------------------------------------------------------------------------------
    # threads

    def start(self, poll_s: float = 0.002) -> None:
        """Warm up, then start the threads.

        Raises:
            RuntimeError: started before. Whatever a blank frame fails with: then no frame would fare better.
        """
        if self._threads:
            raise RuntimeError('the runtime was started before; make a new one')
        self.warm_up()
        ways = [
            (self._prepare, self._to_prepare, self._to_infer), (self._infer, self._to_infer, self._to_decode),
            (self._decode, self._to_decode, None)]
        self._threads = [threading.Thread(target=self._watch, args=(poll_s,), name='frames', daemon=True)]
        self._threads += [
            threading.Thread(target=self._serve, args=way, name=way[0].__name__.strip('_'), daemon=True)
            for way in ways
        ]
        for thread in self._threads:
            thread.start()

    def _watch(self, poll_s: float) -> None:
        while not self._stop.wait(poll_s):
            moment = self.maker.due(self.clock())
            if moment is not None:
                self.monitor.count('made')
                self._to_prepare.put(_Work(moment))
        self._to_prepare.close()

    def _serve(
        self, stage: Callable[[_Work], None], source: BoundedQueue, target: BoundedQueue | None
    ) -> None:
        if stage != self._infer:
            one_torch_thread()
        while True:
            try:
                work = source.get()
            except Closed:
                if target is not None:
                    target.close()
                return
            if self._guarded(stage, work) and target is not None:
                target.put(work)

    def stop(self, timeout_s: float = 10.0) -> Monitor:
        """Finish the frames that are on their way, end all threads, give what was counted.

        Raises:
            TimeoutError: a stage did not end in time; names it.
        """
        self._stop.set()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        dropped = sum(queue.dropped for queue in (self._to_prepare, self._to_infer, self._to_decode))
        self.monitor.counts['dropped'] = dropped
        if hanging:
            raise TimeoutError(f'these stages did not end within {timeout_s:g} s: {", ".join(hanging)}')
        return self.monitor


def stages_of(model: Any, engine: Any, unpack: Callable[[Reading], Any],
              assemble: Callable[[Moment, Mapping[str, Any]], Any]) -> Stages:
    """The stages of a model and an engine; reading and assembling are the caller's (it knows the data)."""
    from ..deployed import DeployedModel
    from ..export.graph import graph_inputs
    deployed = DeployedModel(model, engine)
    return Stages(
        unpack, assemble, lambda batch: graph_inputs(model, batch), engine.infer, deployed.decode,
        deployed.warm_up)
