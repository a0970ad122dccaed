"""What must not end or poison the loop: threads that die, deliveries that fail, stamps that are none."""
from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from perception.deployment.vehicle.records import RuntimeOptions, SensorMeasurement, Stages
from perception.deployment.vehicle.runtime import Runtime

CHANNELS = ('LIDAR_TOP', 'CAM_FRONT')


def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for what other threads do."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, 'it did not happen'
        time.sleep(0.002)


def make(deliver: Callable = lambda *frame: None, options: RuntimeOptions | None = None, **stages: Callable):
    """A runtime whose stages hand on what they get, but for those that are given."""
    plain = dict(unpack=lambda m: m.data, assemble=lambda r, values: values, prepare=lambda b: b,
                 infer=lambda i: i, decode=lambda raw, batch: raw)
    options = options or RuntimeOptions(deadline_s=9.0)
    return Runtime(CHANNELS, Stages(**{**plain, **stages}), deliver, options)


def say(runtime: Runtime, data: object = 1.0, stamp_ns: object = 1) -> None:
    runtime.offer(SensorMeasurement('LIDAR_TOP', stamp_ns, data))


def once(what: type[BaseException]) -> Callable:
    """A stage that ends its thread at its first frame and works from then on."""
    left = [what]

    def stage(*values: object) -> object:
        if left:
            raise left.pop()('the driver left')
        return values[0]
    return stage


@pytest.mark.parametrize(('stage', 'thread'), [
    ('unpack', 'prepare'), ('assemble', 'prepare'), ('prepare', 'prepare'), ('infer', 'infer'),
    ('decode', 'decode')])
def test_a_thread_that_dies_costs_its_frame_is_named_and_starts_again(stage: str, thread: str):
    runtime = make(**{stage: once(SystemExit)})
    runtime.start()
    say(runtime)
    until(lambda: runtime.monitor.deaths == {thread: 1})
    assert runtime.monitor.last_error == f'{thread}: SystemExit: the driver left'
    say(runtime)
    until(lambda: runtime.monitor.counts.get('answered') == 1)
    assert runtime.stop().counts == {'made': 2, 'failed': 1, 'answered': 1, 'dropped': 0}
    assert f'threads that died: {thread} 1' in runtime.monitor.report(0)


def test_the_thread_that_makes_frames_is_watched_too(monkeypatch: pytest.MonkeyPatch):
    runtime = make()
    due, calls = runtime.maker.due, iter([RuntimeError('no clock')])
    monkeypatch.setattr(runtime.maker, 'due', lambda now_ns: _raise_next(calls) or due(now_ns))
    runtime.start()
    until(lambda: runtime.monitor.deaths == {'frames': 1})
    say(runtime)
    until(lambda: runtime.monitor.counts.get('answered') == 1)
    assert runtime.stop().counts['made'] == 1


def _raise_next(errors) -> None:
    for error in errors:
        raise error


def test_a_delivery_that_fails_counts_once():
    def deliver(*frame: object) -> None:
        raise OSError('the bus is full')

    runtime = make(deliver)
    say(runtime)
    assert runtime.step() and runtime.monitor.counts == {'made': 1, 'failed': 1}
    assert runtime.monitor.last_error == 'decode: OSError: the bus is full'


@pytest.mark.parametrize('stamp_ns', [None, float('nan'), 1.5, '12', [3]])
def test_a_measurement_without_a_stamp_costs_itself(stamp_ns: object):
    got = []
    runtime = make(lambda request, values, missing: got.append(values))
    for stamp, data in ((1, 'first'), (stamp_ns, 'bad'), (2, 'second'), (stamp_ns, 'bad')):
        say(runtime, data, stamp)
    health = runtime.monitor.channels['LIDAR_TOP']
    assert runtime.step() and got == [{'LIDAR_TOP': 'second'}]
    assert (health.received, health.bad, health.clock_jumps) == (4, 2, 0)
    assert 'stamp_ns: expected nanoseconds, found' in health.last_error


@pytest.mark.parametrize(
    'name', ['period_s', 'max_age_s', 'deadline_s', 'max_jump_s', 'max_calibration_age_s'])
@pytest.mark.parametrize('value', [0, -1.0, float('inf'), float('nan'), '1', True])
def test_a_time_that_is_none_is_refused(name: str, value: object):
    with pytest.raises(ValueError, match=f'RuntimeOptions.{name}: expected more than 0 seconds .* found'):
        RuntimeOptions(**{name: value})


def test_other_options_are_checked():
    for inbox in (0, -1, 1.5, '4', True):
        with pytest.raises(ValueError, match='RuntimeOptions.inbox: expected a whole number above 0, found'):
            RuntimeOptions(inbox=inbox)
    with pytest.raises(ValueError, match="needs_calibration: expected channels, found 'CAM_FRONT'"):
        RuntimeOptions(needs_calibration='CAM_FRONT')
    with pytest.raises(ValueError, match=r"needs_calibration: expected some of .*, found \['CAM_BACK'\]"):
        make(options=RuntimeOptions(needs_calibration=('CAM_BACK',)))
    with pytest.raises(ValueError, match='BoundedQueue.size: expected a whole number above 0, found 0.5'):
        Runtime(CHANNELS, make().stages, print, waiting=0.5)
    with pytest.raises(ValueError, match='poll_s: expected more than 0 seconds, found nan'):
        make().start(poll_s=float('nan'))


def test_only_the_stage_that_hangs_is_named():
    import threading
    release = threading.Event()
    runtime = make(prepare=lambda batch: release.wait(10))
    runtime.start()
    say(runtime)
    until(lambda: runtime.monitor.counts.get('made') == 1)
    with pytest.raises(TimeoutError, match=r'did not end within 0.2 s: prepare \(frame 1\)$'):
        runtime.stop(timeout_s=0.2)
    release.set()


def test_predictions_that_are_missing_are_counted_by_task():
    runtime = make(masked=lambda predictions: ('lanes',), left_out=lambda: {'lidar points': 3})
    say(runtime)
    runtime.step()
    assert runtime.monitor.masked == {'lanes': 1} and runtime.monitor.left_out == {'lidar points': 3}
    report = runtime.monitor.report(0)
    assert 'not finite: lanes 1' in report and 'left out: lidar points 3' in report
