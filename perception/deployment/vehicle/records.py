"""What goes through the vehicle's loop: measurements, calibrations, requests for frames, and its options."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
        cut: how many clouds of point sensors `prepare` has cut so far, because they had no room in the graph
            inputs; None when it never does.
    """

    unpack: Callable[[SensorMeasurement], Any]
    assemble: Callable[[FrameRequest, dict[str, Any]], Any]
    prepare: Callable[[Any], Any]
    infer: Callable[[Any], Any]
    decode: Callable[[Any, Any], Any]
    warm_up: Callable[[], Any] | None = None
    cut: Callable[[], int] | None = None


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
        for name in ('period_s', 'max_age_s', 'deadline_s', 'max_jump_s'):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f'RuntimeOptions.{name}: expected more than 0 seconds, found {getattr(self, name)}'
                )
