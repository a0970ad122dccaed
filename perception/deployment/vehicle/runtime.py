"""The loop of a vehicle: measurements come when they come, frames leave at a steady rate.

    offer(measurement)  ->  inbox of each sensor  ->  FrameMaker.due  ->  prepare | infer | decode (a thread
    each)  ->  deliver

Whether a sensor is stale is decided by when its measurements *arrived* on the runtime's own clock, which
never goes back; the sensors' own time stamps may jump without stopping anything. A sensor without a fresh,
readable measurement is absent from the frame.

A thread that dies of what no frame catches (SystemExit in a driver, say) is counted by name, costs the frame
that it held, and is started again.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..pipeline import BoundedQueue, Closed, on_one_thread, one_torch_thread
from .frame_maker import FrameMaker
from .monitor import Monitor
from .records import LONGEST_S, FrameRequest, RuntimeOptions, SensorMeasurement, Stages

Clock = Callable[[], int]


class _NoSensor(Exception):
    """No sensor has a usable measurement: there is nothing to compute."""


@dataclass
class _Work:
    """A frame on its way through the stages."""

    request: FrameRequest
    value: Any = None
    batch: Any = None
    missing: tuple[str, ...] = ()


class Runtime:
    """Threads around a `FrameMaker` and `Stages`.

    Args:
        channels: the sensors that exist.
        stages: what is done with a frame.
        deliver: receives (request, predictions, channels that were absent) on the decoding thread.
        options: default: `RuntimeOptions()`.
        clock: nanoseconds that never go back.
        waiting: frames that may wait before each stage; more drop the oldest.

    `step` does everything on the calling thread, for simulation; `start` and `stop` use threads.
    """

    def __init__(
        self,
        channels: Sequence[str],
        stages: Stages,
        deliver: Callable[[FrameRequest, Any, tuple[str, ...]], None],
        options: RuntimeOptions | None = None,
        clock: Clock = time.monotonic_ns,
        waiting: int = 1,
    ) -> None:
        self.channels = tuple(channels)
        self.stages = stages
        self.deliver = deliver
        self.options = options or RuntimeOptions()
        self.clock = clock
        self.monitor = Monitor()
        self.maker = FrameMaker(channels, self.options, self.monitor)

        self._to_prepare = BoundedQueue(waiting)
        self._to_infer = BoundedQueue(waiting)
        self._to_decode = BoundedQueue(waiting)
        self._threads: list[threading.Thread] = []
        self._working_on: dict[str, int] = {}
        self._stop = threading.Event()
        self._warm = False

    def offer(self, measurement: SensorMeasurement) -> None:
        """Take a measurement from any thread; never waits."""
        self.maker.offer(measurement, self.clock())

    def calibrate(self, channel: str, value: Any) -> None:
        """Take a new calibration from any thread."""
        self.maker.calibrate(channel, value, self.clock())

    def warm_up(self) -> None:
        """Let the stages compile, allocate and read what they need before the first frame.

        Happens once; `start` does it if it has not happened yet. Its time is counted as the stage 'warm_up'.
        """
        if self._warm or self.stages.warm_up is None:
            return
        began = self.clock()
        on_one_thread(self.stages.warm_up)()
        self._warm = True
        self.monitor.took('warm_up', (self.clock() - began) / 1e6)

    def step(self) -> bool:
        """Compute one frame on this thread, if one is due; whether one was."""
        request = self.maker.due(self.clock())
        if request is None:
            return False
        self.monitor.count('made')

        work = _Work(request)
        for stage in (self._prepare, self._infer, self._decode):
            if not self._guarded(stage, work):
                break
        return True

    def start(self, poll_s: float = 0.002) -> None:
        """Warm up, then start the threads.

        Args:
            poll_s: how often it is asked whether a frame is due.

        Raises:
            RuntimeError: started before. ValueError: `poll_s` is no time.
            Exception: whatever a blank frame fails with, since no real one would fare better.
        """
        if self._threads:
            raise RuntimeError('the runtime was started before; make a new one')
        if not 0 < poll_s <= LONGEST_S:
            raise ValueError(f'poll_s: expected more than 0 seconds, found {poll_s!r}')
        self.warm_up()

        routes = [
            (self._prepare, self._to_prepare, self._to_infer),
            (self._infer, self._to_infer, self._to_decode),
            (self._decode, self._to_decode, None),
        ]
        self._threads = [self._thread('frames', self._to_prepare, self._watch, poll_s)]
        self._threads += [
            self._thread(_name(stage), target, self._serve, stage, source, target)
            for stage, source, target in routes
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> Monitor:
        """Finish the frames that are on their way, end all threads, return what was counted.

        Raises:
            TimeoutError: a stage did not end in time; names it.
        """
        self._stop.set()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

        queues = (self._to_prepare, self._to_infer, self._to_decode)
        self.monitor.counts['dropped'] = sum(queue.dropped for queue in queues)
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        if alive:
            # what waits behind the one that hangs may end now
            for queue in queues:
                queue.close()
            at = [f'{name} (frame {self._working_on[name]})' for name in alive if name in self._working_on]
            raise TimeoutError(
                f'these stages did not end within {timeout_s:g} s: {", ".join(at or alive)}'
            )
        return self.monitor

    def _guarded(self, stage: Callable[[_Work], None], work: _Work) -> bool:
        """Run one stage; whether the frame goes on.

        A frame without sensors, past its deadline or with an error is given up; the loop continues.
        """
        if self.clock() > work.request.deadline_ns:
            self.monitor.count('late')
            return False

        began = self.clock()
        try:
            stage(work)
        except _NoSensor:
            self.monitor.count('blind')
            return False
        except Exception as error:  # whatever a frame does, the next one gets its chance
            self.monitor.failed(_name(stage), error)
            return False

        self.monitor.took(_name(stage), (self.clock() - began) / 1e6)
        return True

    def _prepare(self, work: _Work) -> None:
        values = {}
        for name, measurement in work.request.measurements.items():
            health = self.monitor.channels[name]
            try:
                values[name] = self.stages.unpack(measurement)
                health.last_good_ns = max(health.last_good_ns or 0, work.request.now_ns)
            except Exception as error:  # a corrupt measurement makes its sensor absent, nothing else
                self.monitor.bad(name, f'{type(error).__name__}: {error}')

        work.missing = tuple(name for name in self.channels if name not in values)
        if not values:
            raise _NoSensor
        work.batch = self.stages.assemble(work.request, values)
        work.value = self.stages.prepare(work.batch)
        self.monitor.left_out = dict(self.stages.left_out())

    def _infer(self, work: _Work) -> None:
        inputs = self.stages.recall(work.value, work.batch)
        work.value = self.stages.infer(inputs)
        self.stages.keep(work.value, work.batch)
        self.monitor.resets = dict(self.stages.resets())

    def _decode(self, work: _Work) -> None:
        predictions = self.stages.decode(work.value, work.batch)
        self.monitor.mask(self.stages.masked(predictions))
        if self.stages.track is not None:
            began = self.clock()
            predictions = self.stages.track(predictions)
            self.monitor.took('track', (self.clock() - began) / 1e6)
        age_ms = (self.clock() - work.request.now_ns) / 1e6

        # a frame whose delivery fails has failed, and was not answered
        self.deliver(work.request, predictions, work.missing)
        self.monitor.took('age', age_ms)
        self.monitor.count('answered')

    def _thread(
        self, name: str, target: BoundedQueue | None, loop: Callable[..., None], *arguments: Any
    ) -> threading.Thread:
        """A thread that runs a loop to its end, again after every death; then its queue is closed."""
        def run() -> None:
            while True:
                try:
                    loop(*arguments)
                    break
                except BaseException as error:  # also what is no Exception: nobody else would notice
                    self.monitor.died(name, error)
                    if self._working_on.pop(name, None) is not None:
                        self.monitor.failed(name, error)
                    elif self._stop.wait(0.01):
                        break
            if target is not None:
                target.close()

        return threading.Thread(target=run, name=name, daemon=True)

    def _watch(self, poll_s: float) -> None:
        """Thread that asks for frames as they become due."""
        while not self._stop.wait(poll_s):
            request = self.maker.due(self.clock())
            if request is not None:
                self.monitor.count('made')
                self._to_prepare.put(_Work(request))

    def _serve(
        self, stage: Callable[[_Work], None], source: BoundedQueue, target: BoundedQueue | None
    ) -> None:
        """Thread of one stage, until its queue is closed and empty."""
        # the engine has threads of its own; what runs beside it must not compete with them
        if stage != self._infer:
            one_torch_thread()

        while True:
            try:
                work = source.get()
            except Closed:
                return

            self._working_on[_name(stage)] = work.request.number
            goes_on = self._guarded(stage, work)
            del self._working_on[_name(stage)]
            if goes_on and target is not None:
                target.put(work)


def _name(stage: Callable[[_Work], None]) -> str:
    return stage.__name__.strip('_')


def runtime_stages(
    model: Any,
    engine: Any,
    unpack: Callable[[SensorMeasurement], Any],
    assemble: Callable[[FrameRequest, Mapping[str, Any]], Any],
    track: Callable[[Any], Any] | None = None,
) -> Stages:
    """The stages of a model and an engine.

    They are one vehicle's: a model with a memory has here what it remembers of it, added where the network
    runs, since only there the frame before is done. `Frame.scene` names the drive; without a name all frames
    are of one.

    Args:
        model: as it was trained.
        engine: of its export.
        unpack: see `Stages`; the caller's, who knows the data.
        assemble: the same.
        track: see `Stages`.
    """
    from ..deployed import DeployedModel
    from ..export.graph import graph_inputs
    from ..memory import EngineMemory
    deployed, memory = DeployedModel(model, engine), EngineMemory.of_vehicle(model)
    before = deployed.left_out()

    def left_out() -> dict[str, int]:
        new = {kind: count - before.get(kind, 0) for kind, count in deployed.left_out().items()}
        return {kind: count for kind, count in new.items() if count}

    return Stages(
        unpack, assemble, lambda batch: graph_inputs(model, batch), engine.infer,
        lambda raw, batch: deployed.decode(raw, batch, mask=True), deployed.warm_up,
        masked=lambda output: output.masked, left_out=left_out, track=track,
        recall=lambda inputs, batch: memory.recalled(inputs, batch.frames),
        keep=lambda raw, batch: memory.keep(raw, batch.frames), resets=lambda: memory.resets)
