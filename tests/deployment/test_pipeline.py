"""Queues that drop the oldest, stages that overlap, latencies in bounded memory, images in one pass."""
from __future__ import annotations

import threading
import time
from itertools import count

import numpy as np
import pytest
import torch

from perception.deployment.measure.timing import latency_of, measure_latency, measure_together
from perception.deployment.pipeline import BoundedQueue, Closed, on_one_thread, one_torch_thread, overlapped
from perception.deployment.preprocess import normalise_images, normalised
from perception.deployment.vehicle.monitor import Histogram, Monitor
from perception.preprocessor import BatchPreprocessor
from tests.helpers import make_batch


def test_a_full_queue_drops_the_oldest_and_counts():
    queue = BoundedQueue(2)
    for i in range(5):
        queue.put(i)
    assert (queue.get(), queue.get(), queue.dropped) == (3, 4, 3)
    with pytest.raises(TimeoutError):
        queue.get(timeout_s=0.01)
    queue.put(9)
    queue.close()
    queue.put(10)
    assert queue.get() == 9
    with pytest.raises(Closed):
        queue.get()
    with pytest.raises(ValueError, match='BoundedQueue.size: expected a whole number above 0, found 0'):
        BoundedQueue(0)


def test_a_waiting_queue_loses_nothing():
    queue, taken = BoundedQueue(1, wait_when_full=True), []
    writer = threading.Thread(target=lambda: [queue.put(i) for i in range(50)])
    writer.start()
    while len(taken) < 50:
        taken.append(queue.get(timeout_s=5))
    writer.join()
    assert taken == list(range(50)) and queue.dropped == 0


def test_stages_overlap_and_keep_the_order():
    begun = [threading.Event() for _ in range(9)]
    begun[8].set()  # the last item has none behind it

    def first(value: int) -> int:
        begun[value].set()
        return value

    def second(value: int) -> int:
        assert begun[value + 1].wait(20), 'the first stage waits for the second'
        return value + 3

    assert list(overlapped(range(8), [first, second])) == list(range(3, 11))


@pytest.mark.parametrize('place', [0, 1, 2])
def test_an_error_of_a_stage_reaches_the_caller_and_ends_the_threads(place: int):
    def broken(value: int) -> int:
        if value >= 3:
            raise ValueError(f'no {value}')
        return value

    stages = [lambda v: v, lambda v: v]
    items = range(10)
    if place == 0:
        items = (broken(i) for i in range(10))
    else:
        stages[place - 1] = broken
    before, taken = threading.active_count(), []
    with pytest.raises(ValueError, match='no 3'):
        for value in overlapped(items, stages):
            taken.append(value)
    assert taken == [0, 1, 2] and threading.active_count() == before


def test_leaving_early_ends_the_threads():
    before = threading.active_count()
    answers = overlapped(count(), [lambda v: v])
    assert next(answers) == 0
    answers.close()
    assert threading.active_count() == before


def test_one_torch_thread_is_for_the_calling_thread_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        thread = threading.Thread(target=one_torch_thread)
        thread.start()
        thread.join()
        assert torch.get_num_threads() == 2
        assert on_one_thread(torch.get_num_threads)() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_histogram_keeps_percentiles_within_five_per_cent():
    times_ms = np.random.default_rng(0).lognormal(3, 1, 5000)
    histogram = Histogram()
    for ms in times_ms:
        histogram.add(ms)
    for q in (50, 90, 99):
        assert histogram.percentile(q) == pytest.approx(np.percentile(times_ms, q), rel=0.06)
    assert histogram.worst_ms == times_ms.max() and histogram.counts.nbytes == 1600
    assert np.isnan(Histogram().percentile(50))
    histogram.add(-1.0)
    histogram.add(1e12)
    assert histogram.total == 5002 and histogram.counts.sum() == 5002


def test_the_report_names_stages_and_sensors():
    monitor = Monitor()
    monitor.took('infer', 12.0)
    monitor.count('answered', 3)
    assert 'answered 3' in monitor.report(0) and 'infer' in monitor.report(0)


def test_latencies_are_what_one_computes_by_hand():
    found = latency_of(1.0, [0.001, 0.002, 0.003])
    assert (found.first_ms, found.p50_ms, found.per_second, found.runs) == (1000, 2, 500, 3)
    with pytest.raises(ValueError, match='found none'):
        latency_of(0.0, [])


def test_calls_are_measured_in_turns():
    order: list[str] = []
    found = measure_together(
        {'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, runs=4, block=2
    )
    assert ''.join(order) == 'ab' + 'aaabbb' * 2 and found['a'].runs == found['b'].runs == 4
    assert measure_latency(lambda: time.sleep(0.002), runs=3).p50_ms >= 2
    slow = measure_together({'slow': lambda: time.sleep(0.01)}, runs=1000, block=2, budget_s=0.01)
    assert slow['slow'].runs == 2


def test_images_in_one_pass_are_the_preprocessors():
    batch = make_batch(2, 3, (10, 14), 5)
    batch.camera_present_BN[1, 2] = False
    preprocessor = BatchPreprocessor()
    expected = preprocessor.normalise(batch.images_BN3HW, batch.camera_present_BN)
    found = normalise_images(batch.images_BN3HW, batch.camera_present_BN, preprocessor.mean, preprocessor.std)
    torch.testing.assert_close(found, expected.contiguous(), rtol=0, atol=1e-6)
    assert (found[1, 2] == 0).all() and found.is_contiguous()
    torch.testing.assert_close(normalised(batch, preprocessor).images_BN3HW, found)
    other = BatchPreprocessor(mean=(0, 0, 0), std=(255, 255, 255))
    assert normalised(batch, other).images_BN3HW.max() <= 1
