"""What goes through the vehicle's loop: measurements, calibrations, requests for frames, and its options."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_S = 1e6
"""Of every time in the options: eleven days. A time without an end (inf) has no place on a clock."""


@dataclass(frozen=True)
class SensorMeasurement:
    """What one sensor measured.

    Attributes:
        channel: name of the sensor.
        stamp_ns: time on the sensor's own clock.
        data: whatever `Stages.unpack` understands.
    """

    channel: str
    stamp_ns: int
    data: Any


@dataclass(frozen=True)
class Calibration:
    """The calibration of one channel.

    Attributes:
        value: whatever `Stages.assemble` understands.
        arrived_ns: when it was made, on the runtime's clock.
    """

    value: Any
    arrived_ns: int


@dataclass(frozen=True)
class FrameRequest:
    """One frame to be computed.

    Attributes:
        number: counts frames from 1.
        now_ns: the frame's time, on the runtime's clock.
        measurements: the newest of each sensor that has a fresh one, by channel.
        calibrations: the last valid ones, by channel.
        deadline_ns: a later frame is given up.
    """

    number: int
    now_ns: int
    measurements: dict[str, SensorMeasurement]
    calibrations: dict[str, Any]
    deadline_ns: int


@dataclass(frozen=True)
class Stages:
    """What is done with a frame; all callables, so that the runtime knows no format and no model.

    Attributes:
        unpack: measurement -> value (decode an image, check a cloud); raises when the measurement is corrupt.
        assemble: (request, {channel: value}) -> batch; channels that are not in the dictionary are absent.
        prepare: batch -> graph inputs.
        infer: graph inputs -> raw outputs.
        decode: (raw outputs, batch) -> predictions.
        warm_up: a blank frame through the last three, before the first real one; None when there is nothing
            to warm.
        masked: predictions -> tasks that are missing from them because their outputs were not finite.
        recall: (graph inputs, batch) -> graph inputs with what is remembered; right before `infer`, when the
            frame before is done.
        keep: (raw outputs, batch): remember the new memory; right after `infer`.
        resets: how often the memory started over so far, by reason.
        left_out: how many points out of range and clouds without room, say, did not reach the network so
            far, by kind.
        track: predictions -> the same with numbers of objects, frame after frame in their order
            (`perception.tracking.FrameTracker`); None leaves them as they are. One for each vehicle.
    """

    unpack: Callable[[SensorMeasurement], Any]
    assemble: Callable[[FrameRequest, dict[str, Any]], Any]
    prepare: Callable[[Any], Any]
    infer: Callable[[Any], Any]
    decode: Callable[[Any, Any], Any]
    warm_up: Callable[[], Any] | None = None
    masked: Callable[[Any], Sequence[str]] = lambda predictions: ()
    left_out: Callable[[], Mapping[str, int]] = dict
    track: Callable[[Any], Any] | None = None
    recall: Callable[[Any, Any], Any] = lambda inputs, batch: inputs
    keep: Callable[[Any, Any], None] = lambda raw, batch: None
    resets: Callable[[], Mapping[str, int]] = dict


@dataclass(frozen=True)
class RuntimeOptions:
    """Times in seconds of the runtime's clock.

    Attributes:
        trigger: a measurement of this channel starts a frame; None: time alone does.
        period_s: longest time between frames, kept by the clock when the trigger is silent.
        max_age_s: older measurements count as absent.
        deadline_s: a frame that has not reached its next stage by then is given up.
        inbox: measurements kept of each sensor.
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
        for name in ('period_s', 'max_age_s', 'deadline_s', 'max_jump_s', 'max_calibration_age_s'):
            value = getattr(self, name)
            if value is None and name == 'max_calibration_age_s':
                continue
            if not (_is_number(value) and 0 < value <= LONGEST_S):
                raise ValueError(
                    f'RuntimeOptions.{name}: expected more than 0 seconds and at most {LONGEST_S:g}, found '
                    f'{value!r}'
                )

        if type(self.inbox) is not int or self.inbox < 1:
            raise ValueError(f'RuntimeOptions.inbox: expected a whole number above 0, found {self.inbox!r}')
        if isinstance(self.needs_calibration, str):
            raise ValueError(
                f'RuntimeOptions.needs_calibration: expected channels, found {self.needs_calibration!r}'
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
