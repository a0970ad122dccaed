"""Stages that work at the same time: threads with short queues between them that drop the oldest rather than
grow."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class Closed(Exception):
    """A queue was closed and is empty."""


class BoundedQueue:
    """First in, first out, for any number of threads. A full queue makes room by dropping its oldest item,
    and counts it.

    Args:
        size: most items it holds.
        wait_when_full: wait for room instead of dropping (for work that must not be lost).
    """

    def __init__(self, size: int, wait_when_full: bool = False) -> None:
        if size < 1:
            raise ValueError(f'BoundedQueue.size: expected at least 1, found {size}')
        self.size, self.wait_when_full, self.dropped = size, wait_when_full, 0
        self._items: deque = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Any) -> None:
        """Add an item; after `close` it is left aside."""
        with self._changed:
            while self.wait_when_full and len(self._items) >= self.size and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            if len(self._items) >= self.size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> Any:
        """The oldest item.

        Raises:
            Closed: closed and empty. TimeoutError: nothing came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._closed, timeout_s):
                raise TimeoutError
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more items come; what is there may still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def overlapped(items: Iterable[Any], stages: Sequence[Callable[[Any], Any]], depth: int = 1) -> Iterator[Any]:
    """Every item through all stages, in order; each stage has a thread of its own, so that the next item is
    prepared while this one is computed. Nothing is dropped; `depth` items wait between two stages.

    Raises:
        Exception: the first error of a stage or of `items`, where its item would have come.
    """
    queues = [BoundedQueue(depth, wait_when_full=True) for _ in range(len(stages) + 1)]
    threads = [threading.Thread(target=_feed, args=(items, queues[0]), daemon=True)]
    threads += [threading.Thread(target=_work, args=(stage, queues[i], queues[i + 1]), daemon=True)
                for i, stage in enumerate(stages)]
    for thread in threads:
        thread.start()
    try:
        while True:
            try:
                value, error = queues[-1].get()
            except Closed:
                return
            if error is not None:
                raise error
            yield value
    finally:
        for queue in queues:
            queue.close()
        for thread in threads:
            thread.join()


def _feed(items: Iterable[Any], queue: BoundedQueue) -> None:
    try:
        for item in items:
            if queue._closed:
                return
            queue.put((item, None))
    except Exception as error:  # handed to whoever takes the results
        queue.put((None, error))
    queue.close()


def _work(stage: Callable[[Any], Any], source: BoundedQueue, target: BoundedQueue) -> None:
    while True:
        try:
            value, error = source.get()
        except Closed:
            target.close()
            return
        if error is None:
            try:
                value = stage(value)
            except Exception as found:  # handed to whoever takes the results
                value, error = None, found
        target.put((value, error))


def one_torch_thread() -> None:
    """Let torch compute on the calling thread alone, when called from there; other threads keep their
    setting.

    Stages that run beside an engine share its cores: torch's own helpers would spin for each other (measured
    on two busy cores: decoding on two threads took ten times as long as on one).
    """
    import torch
    torch.set_num_threads(1)


def narrow(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, with torch on one thread meanwhile."""
    def narrowed(*arguments: Any) -> Any:
        import torch
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call(*arguments)
        finally:
            torch.set_num_threads(before)
    return narrowed
