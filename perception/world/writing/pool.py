"""Jobs spread over processes, each of which stays at one location and uses again what it built there."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Protocol, TypeVar

Result = TypeVar('Result')


class Job(Protocol):
    """Something to do at a location; jobs at the same one share what is expensive to build."""

    location: str


AnyJob = TypeVar('AnyJob', bound=Job)
_stop_event: multiprocessing.synchronize.Event | None = None


class Stopped(RuntimeError):
    """Raised inside a worker when the run is being stopped."""


def check_stop() -> None:
    """Stop the job if the run is being stopped; long jobs call this now and then.

    Raises:
        Stopped: the run is being stopped.
    """
    if _stop_event is not None and _stop_event.is_set():
        raise Stopped('the run was stopped')


def next_job(pending: Sequence[AnyJob], location: str | None) -> AnyJob:
    """The first pending job at `location`, else the first one where most jobs are pending."""
    count = Counter(job.location for job in pending)
    if location not in count:
        location = max(count, key=count.__getitem__)
    return next(job for job in pending if job.location == location)


def run_jobs(jobs: Sequence[AnyJob], function: Callable[[AnyJob], Result],
             workers: int) -> Iterator[tuple[AnyJob, Result]]:
    """Each job with its result, as they finish; on any error or interrupt all workers stop soon.

    Args:
        jobs: what to do.
        function: does one job; it and the jobs are pickled for the workers.
        workers: number of processes; with one, everything happens in this process.

    Raises:
        BrokenProcessPool: a worker died.
    """
    workers = min(workers, len(jobs))
    yield from _run_here(jobs, function) if workers <= 1 else _run_in_processes(jobs, function, workers)


def _run_here(
    jobs: Sequence[AnyJob], function: Callable[[AnyJob], Result]
) -> Iterator[tuple[AnyJob, Result]]:
    pending, location = list(jobs), None
    while pending:
        job = next_job(pending, location)
        pending.remove(job)
        location = job.location
        yield job, function(job)


def _run_in_processes(jobs: Sequence[AnyJob], function: Callable[[AnyJob], Result],
                      workers: int) -> Iterator[tuple[AnyJob, Result]]:
    context = multiprocessing.get_context('spawn')
    stop = context.Event()
    pools = [ProcessPoolExecutor(1, context, _start_worker, (stop,)) for _ in range(workers)]
    pending, running = list(jobs), {}

    def give(pool: ProcessPoolExecutor, location: str | None) -> None:
        if pending:
            job = next_job(pending, location)
            pending.remove(job)
            running[pool.submit(function, job)] = (pool, job)

    try:
        for pool in pools:
            give(pool, None)
        while running:
            done: set[Future] = wait(running, return_when=FIRST_COMPLETED).done
            for future in done:
                pool, job = running.pop(future)
                result = future.result()
                give(pool, job.location)
                yield job, result
    finally:
        stop.set()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(stop: multiprocessing.synchronize.Event) -> None:
    """Set up a worker: it leaves interrupts to its parent, uses one thread, and ends when its parent does."""
    global _stop_event
    import cv2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    _stop_event = stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
