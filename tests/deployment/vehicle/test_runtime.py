"""The loop of a vehicle against a simulated clock: sensors that die, burst, jump in time or send rubbish."""
from __future__ import annotations

import gc
import math
import sys
import threading
import time
from dataclasses import replace

import pytest

from perception.deployment.vehicle.records import FrameRequest, RuntimeOptions, SensorMeasurement, Stages
from perception.deployment.vehicle.runtime import Runtime

CAMERAS = tuple(f'CAM_{i}' for i in range(6))
CHANNELS = ('LIDAR_TOP', *CAMERAS)
SECOND = 1_000_000_000


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now_ns = 5 * SECOND

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)


def unpack(measurement: SensorMeasurement) -> tuple[float, ...]:
    if not all(map(math.isfinite, measurement.data)):
        raise ValueError('the image ends early')
    return measurement.data


class Car:
    """A simulated car: sensors at their rates, a runtime stepped by hand, what was delivered."""

    def __init__(self, infer=lambda inputs: inputs, **options: object) -> None:
        self.clock, self.delivered = Clock(), []
        stages = Stages(
            unpack, lambda request, values: values, lambda batch: sorted(batch), infer, lambda raw, batch: raw
        )
        self.runtime = Runtime(CHANNELS, stages, self.deliver, RuntimeOptions(**options), self.clock)
        self.stamp_shift_ns = 0

    def deliver(self, request: FrameRequest, answer: object, missing: tuple[str, ...]) -> None:
        self.delivered.append((request.number, request.now_ns, answer, missing))

    def say(self, channel: str, data: float = 1.0) -> None:
        self.runtime.offer(SensorMeasurement(channel, self.clock() + self.stamp_shift_ns, (data,) * 4))

    def drive(self, seconds: float, dead: tuple[str, ...] = (), bad: tuple[str, ...] = ()) -> None:
        """Everything speaks every 0.1 s, cameras first."""
        for _ in range(round(seconds * 10)):
            for channel in (*CAMERAS, 'LIDAR_TOP'):
                if channel not in dead:
                    self.say(channel, float('nan') if channel in bad else 1.0)
            self.runtime.step()
            self.clock.advance(0.1)

    @property
    def counts(self) -> dict[str, int]:
        return self.runtime.monitor.counts


def test_every_trigger_makes_a_frame_with_all_sensors():
    car = Car()
    car.drive(2.0)
    assert [number for number, *_ in car.delivered] == list(range(1, 21))
    assert all(answer == sorted(CHANNELS) and missing == () for _, _, answer, missing in car.delivered)
    assert car.counts == {'made': 20, 'answered': 20}
    assert all(car.runtime.monitor.healthy(car.clock(), 0.2).values())


def test_a_killed_camera_is_masked_and_comes_back():
    car = Car(max_age_s=0.35)
    car.drive(1.0)
    car.drive(1.0, dead=('CAM_2',))
    assert [missing for *_, missing in car.delivered[10:]] == [()] * 3 + [('CAM_2',)] * 7
    assert car.runtime.monitor.healthy(car.clock(), 0.5)['CAM_2'] is False
    car.drive(0.2)
    assert car.delivered[-1][3] == () and car.counts['answered'] == 22


def test_frames_go_on_without_the_trigger():
    car = Car(period_s=0.2, max_age_s=0.35)
    car.drive(1.0)
    car.drive(3.0, dead=('LIDAR_TOP',))
    later = car.delivered[10:]
    assert 9 <= len(later) <= 10  # every 0.3 s: one and a half periods
    assert later[-1][3] == ('LIDAR_TOP',)


def test_the_clock_starts_frames_when_the_trigger_never_spoke():
    car = Car(period_s=0.2)
    car.drive(1.0, dead=('LIDAR_TOP',))
    assert len(car.delivered) == 3 and all(missing == ('LIDAR_TOP',) for *_, missing in car.delivered)


def test_time_alone_can_make_frames():
    car = Car(trigger=None, period_s=0.5)
    car.drive(2.0)
    assert len(car.delivered) == 4 and car.delivered[1][1] - car.delivered[0][1] == SECOND // 2


def test_without_any_sensor_nothing_is_computed_and_it_recovers():
    car = Car(period_s=0.2, max_age_s=0.35)
    car.drive(0.5)
    car.drive(2.0, dead=CHANNELS)
    assert car.counts['blind'] >= 4 and car.counts['answered'] <= 7
    car.drive(0.5)
    assert car.delivered[-1][3] == ()


def test_a_burst_is_dropped_oldest_first_and_counted():
    car = Car(inbox=4)
    for i in range(1000):
        car.say('CAM_0', float(i))
    car.say('LIDAR_TOP')
    newest, old = [], car.runtime.stages
    car.runtime.stages = replace(old, unpack=lambda r: newest.append((r.channel, r.data[0])) or r.data)
    car.runtime.step()
    assert ('CAM_0', 999.0) in newest
    assert car.runtime.monitor.channels['CAM_0'].dropped == 996


def test_a_corrupt_measurement_masks_its_sensor_alone():
    car = Car()
    car.drive(0.5, bad=('CAM_3',))
    assert all(missing == ('CAM_3',) for *_, missing in car.delivered) and len(car.delivered) == 5
    health = car.runtime.monitor.channels['CAM_3']
    assert health.bad == 5 and health.last_good_ns is None and 'ends early' in health.last_error
    report = car.runtime.monitor.report(car.clock())
    assert 'CAM_3' in report and 'last good never' in report


@pytest.mark.parametrize('jump_s', [-3600.0, 86400.0])
def test_a_jump_of_the_sensors_clocks_stops_nothing(jump_s: float):
    car = Car()
    car.drive(1.0)
    car.stamp_shift_ns = int(jump_s * SECOND)
    car.drive(1.0)
    assert car.counts['answered'] == 20 and all(missing == () for *_, missing in car.delivered)
    assert [c.clock_jumps for c in car.runtime.monitor.channels.values()] == [1] * 7


def test_a_jump_ahead_of_the_runtimes_clock_makes_old_measurements_stale():
    car = Car(period_s=0.2)
    car.drive(1.0)
    car.clock.advance(3600)
    car.runtime.step()
    assert car.counts['blind'] == 1
    car.drive(1.0)
    assert car.delivered[-1][3] == () and car.counts['answered'] == 20


def test_calibration_is_kept_renewed_and_outdated():
    seen = []
    car = Car(needs_calibration=CAMERAS, max_calibration_age_s=1.0)
    car.runtime.stages = Stages(
        unpack, lambda request, values: seen.append(dict(request.calibrations)) or values, lambda b: b,
        lambda i: i, lambda raw, batch: raw)
    car.drive(0.1)
    assert car.delivered[-1][3] == CAMERAS
    for camera in CAMERAS:
        car.runtime.calibrate(camera, 'first')
    car.drive(0.5)
    assert car.delivered[-1][3] == () and seen[-1]['CAM_0'] == 'first'
    car.runtime.calibrate('CAM_0', 'second')
    car.drive(0.8)
    assert seen[-1] == {'CAM_0': 'second'} and car.delivered[-1][3] == CAMERAS[1:]


def test_objects_are_numbered_frame_by_frame_and_the_time_is_counted():
    """A tracker sees every answer once, in order; one that fails costs its frame alone."""
    car, seen = Car(), []

    def track(answer: object) -> tuple:
        seen.append(answer)
        if len(seen) == 2:
            raise ValueError('no class 11')
        return 'numbered', len(seen)

    car.runtime.stages = replace(car.runtime.stages, track=track)
    car.drive(2.0)
    answers = [answer for _, _, answer, _ in car.delivered]
    assert answers[0] == ('numbered', 1) and ('numbered', 2) not in answers
    assert answers[-1] == ('numbered', len(seen)) and car.counts['failed'] == 1
    assert car.runtime.monitor.stages['track'].total == len(seen) - 1


def test_a_late_frame_is_given_up():
    car = Car(deadline_s=0.3)
    car.runtime.stages = Stages(
        unpack, lambda m, v: v, lambda b: car.clock.advance(0.4) or b, lambda i: i, lambda r, b: r
    )
    car.drive(0.5)
    assert car.counts['late'] == 5 and not car.delivered


def test_a_failing_engine_costs_its_frame_alone():
    def infer(inputs: list) -> list:
        if len(car.delivered) == 2 and not failed:
            failed.append(1)
            raise RuntimeError('engine input camera.images: holds NaN')
        return inputs

    failed: list[int] = []
    car = Car(infer)
    car.drive(1.0)
    assert car.counts == {'made': 10, 'answered': 9, 'failed': 1}
    assert car.runtime.monitor.last_error == 'infer: RuntimeError: engine input camera.images: holds NaN'


def test_wrong_use_is_refused():
    car = Car()
    with pytest.raises(ValueError, match="found 'SONAR'"):
        car.say('SONAR')
    with pytest.raises(ValueError, match='period_s: expected more than 0 seconds .* found 0'):
        RuntimeOptions(period_s=0)
    with pytest.raises(ValueError, match="trigger: .*found 'X'"):
        Car(trigger='X')


def test_ten_minutes_of_trouble_hold_no_more_memory_than_one():
    """600 simulated seconds at 10 Hz: sensors die, send rubbish, burst and jump, one after the other, again
    and again."""
    car = Car(period_s=0.2, max_age_s=0.35)
    car.deliver = None
    answered: list[int] = [0]
    car.runtime.deliver = lambda request, answer, missing: answered.__setitem__(0, answered[0] + 1)

    def minute() -> None:
        for second in range(60):
            trouble = second % 6
            if trouble == 4:
                for _ in range(60):
                    car.say('CAM_1')
            car.stamp_shift_ns += -7 * SECOND if trouble == 5 else 0
            car.drive(1.0, dead=(('CAM_2',), ('LIDAR_TOP',), CHANNELS)[trouble] if trouble < 3 else (),
                      bad=('CAM_4',) if trouble == 3 else ())

    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    minute()
    after_one = blocks()
    for _ in range(9):
        minute()
    assert blocks() - after_one < 500  # 6000 frames: what keeps even one object of a tenth of them would show
    assert answered[0] == car.counts['answered'] > 10 * 380 and 'failed' not in car.counts
    assert car.runtime.monitor.channels['CAM_1'].dropped > 10 * 10 * 50
    assert car.runtime.monitor.channels['CAM_4'].bad == 10 * 10 * 10


def test_threads_prepare_the_next_frame_while_this_one_is_computed_and_end_cleanly():
    got = []
    before = threading.active_count()
    prepared = threading.Semaphore(0)
    beside = []

    def prepare(value: object) -> object:
        prepared.release()
        return value

    def infer(value: object) -> object:
        while prepared.acquire(blocking=False):
            pass
        beside.append(prepared.acquire(timeout=0.5))  # another frame is prepared before this one is done
        return value

    stages = Stages(lambda r: r.data, lambda m, v: v, prepare, infer, lambda raw, batch: raw)
    runtime = Runtime(CHANNELS, stages, lambda request, answer, missing: got.append(request.number),
                      RuntimeOptions(period_s=5.0, deadline_s=5.0), waiting=50)
    runtime.start()
    with pytest.raises(RuntimeError, match='started before'):
        runtime.start()
    for _ in range(20):
        for channel in CHANNELS:
            runtime.offer(SensorMeasurement(channel, time.monotonic_ns(), 1.0))
        time.sleep(0.022)
    monitor = runtime.stop()
    assert monitor.counts['answered'] == len(got) == monitor.counts['made'] >= 15
    assert got == sorted(got)
    assert sum(beside) >= 5
    assert threading.active_count() == before
    assert set(monitor.stages) == {'prepare', 'infer', 'decode', 'age'}


def test_a_slow_engine_drops_frames_and_counts_them():
    got = []
    stages = Stages(
        lambda r: r.data, lambda m, v: v, lambda b: b, lambda i: time.sleep(0.05) or i, lambda raw, batch: raw
    )
    runtime = Runtime(
        CHANNELS, stages, lambda request, answer, missing: got.append(request.number),
        RuntimeOptions(deadline_s=9.0))
    runtime.start()
    for _ in range(40):
        runtime.offer(SensorMeasurement('LIDAR_TOP', time.monotonic_ns(), 1.0))
        time.sleep(0.006)
    monitor = runtime.stop()
    assert monitor.counts['dropped'] > 5
    assert monitor.counts['answered'] + monitor.counts['dropped'] == monitor.counts['made']
    assert max(got) == monitor.counts['made']  # the newest frame is never the one that is dropped


def test_a_stage_that_hangs_is_named():
    release = threading.Event()
    stages = Stages(
        lambda r: r.data, lambda m, v: v, lambda b: b, lambda i: release.wait(5), lambda raw, batch: raw
    )
    runtime = Runtime(CHANNELS, stages, lambda *a: None)
    runtime.start()
    runtime.offer(SensorMeasurement('LIDAR_TOP', 1, 1.0))
    time.sleep(0.1)
    with pytest.raises(TimeoutError, match='infer'):
        runtime.stop(timeout_s=0.2)
    release.set()
