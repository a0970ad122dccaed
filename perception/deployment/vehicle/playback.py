"""A recording at its real rate through the runtime, as the car heard it."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

from ...core.contracts import TaskOutput
from ...recordings.live.readings import LiveReadings, SensorReading
from ...recordings.outputs.definitions import Message
from ...recordings.outputs.frame import prediction_messages
from ...recordings.outputs.parts import OutputOptions
from ...recordings.storage.records import RawMessage
from .drive import VehicleDrive
from .monitor import Monitor
from .records import FrameRequest, SensorMeasurement
from .runtime import Runtime

NS = 1_000_000_000
LAST_FRAME_S = 0.05
"""From the last message to the end, so that the frame that it starts begins."""


@dataclass
class RecordingClock:
    """The time on a recording's own clock (ns) while it is played.

    Attributes:
        speed: 2 is twice as fast as it was.
        longest_gap_s: a longer gap, or a step back, is not waited for.
        gaps: how many there were.
        latest_s: how far behind its time a message was read at worst.
    """

    speed: float = 1.0
    longest_gap_s: float = 5.0
    gaps: int = 0
    latest_s: float = 0.0
    _began: tuple[float, int] | None = field(default=None, repr=False)
    _last_ns: int = field(default=0, repr=False)

    def wait_for(self, log_ns: int) -> None:
        """Wait until a message was written."""
        step_s = (log_ns - self._last_ns) / NS
        if self._began is None or not -self.longest_gap_s <= step_s <= self.longest_gap_s:
            self.gaps += self._began is not None
            self._began = (time.monotonic(), log_ns)
        self._last_ns = log_ns

        began_s, began_ns = self._began
        ahead_s = began_s + (log_ns - began_ns) / NS / self.speed - time.monotonic()
        self.latest_s = max(self.latest_s, -ahead_s)
        if ahead_s > 0:
            time.sleep(ahead_s)

    def now_ns(self) -> int:
        """The recording's time now; 0 before its first message."""
        if self._began is None:
            return 0
        began_s, began_ns = self._began
        return began_ns + int((time.monotonic() - began_s) * self.speed * NS)


class MessageSink(Protocol):
    """Where messages go: a `McapRecorder`, or the publishers of a ROS node."""

    def copy(self, message: RawMessage) -> None:
        """Take a message that was heard."""

    def write(self, topic: str, message: Message, log_ns: int, stamp_ns: int) -> None:
        """Take a message of predictions, see `McapRecorder.write`."""


@dataclass
class Player:
    """What plays one recording, or listens to a car.

    Attributes:
        readings: hears the messages.
        clock: the recording's time.
        recorder: receives everything heard and predicted; None writes nothing.
        outputs: what is written of predictions.
        answered: receives every prediction besides.
        silent_from_s: channel -> second of the recording from which its measurements are not heard.
    """

    readings: LiveReadings
    clock: RecordingClock = field(default_factory=RecordingClock)
    recorder: MessageSink | None = None
    outputs: OutputOptions = field(default_factory=OutputOptions)
    answered: Callable[[FrameRequest, TaskOutput, tuple[str, ...]], None] | None = None
    silent_from_s: Mapping[str, float] = field(default_factory=dict)

    def read(self, measurement: SensorMeasurement) -> SensorReading:
        """Decode a measurement that `play` offered."""
        return self.readings.read(measurement.channel, measurement.data)

    def deliver(self, request: FrameRequest, output: TaskOutput, missing: tuple[str, ...]) -> None:
        """Write the predictions of a frame with the time at which they were there."""
        if self.recorder is not None:
            now_ns = self.clock.now_ns()
            for topic, message in prediction_messages(output, self.outputs).items():
                self.recorder.write(topic, message, now_ns, output.frame.timestamp_ns)
        if self.answered is not None:
            self.answered(request, output, missing)

    def runtime(
        self, drive: VehicleDrive, deployed: Any, deadline_s: float = 2.0, track: Any = None
    ) -> Runtime:
        """The runtime whose answers come here.

        Args:
            drive: puts frames together.
            deployed: the `DeployedModel` of the drive's model.
            deadline_s: a frame older than this is given up.
            track: gives objects numbers, see `Stages`.
        """
        options = drive.options(self.clock.speed, deadline_s)
        return Runtime(drive.channels, drive.stages(deployed, track), self.deliver, options)

    def play(
        self, messages: Iterable[RawMessage], drive: VehicleDrive, runtime: Runtime, timeout_s: float = 60.0
    ) -> Monitor:
        """Play messages as they lie in the recording, from the runtime's start to its stop.

        Args:
            messages: of all topics; those that no sensor of the mapping has are only written.
            drive: whose sensors are heard.
            runtime: of `runtime`, not started yet.
            timeout_s: for the last frames to end.

        Raises:
            TimeoutError: a stage did not end.
        """
        runtime.start()
        try:
            first_ns: int | None = None
            for raw in self._in_time(messages):
                first_ns = raw.log_ns if first_ns is None else first_ns
                self.hear(raw, drive, runtime, (raw.log_ns - first_ns) / NS)
            time.sleep(LAST_FRAME_S)
        finally:
            runtime.stop(timeout_s)
        return runtime.monitor

    def _in_time(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        """The messages when they were written; of one moment poses and calibrations first."""
        for log_ns, together in groupby(messages, key=lambda raw: raw.log_ns):
            self.clock.wait_for(log_ns)
            yield from sorted(together, key=lambda raw: self.readings.is_measurement(raw.topic.name))

    def hear(
        self, raw: RawMessage, drive: VehicleDrive, runtime: Runtime, since_s: float = 0.0
    ) -> None:
        """Write a message, and take it in where the model reads its sensor.

        Args:
            raw: of any topic.
            drive: whose sensors are heard.
            runtime: receives measurements.
            since_s: since the first message, for `silent_from_s`.
        """
        if self.recorder is not None:
            self.recorder.copy(raw)
        if raw.topic.name not in self.readings.topics:
            return

        heard = self.readings.hear(raw)
        if heard is None:
            return
        channel, message = heard
        if channel in drive.channels and since_s < self.silent_from_s.get(channel, float('inf')):
            measurement = SensorMeasurement(channel, message.time_ns, message)
            drive.note(measurement)
            runtime.offer(measurement)
