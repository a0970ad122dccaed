"""Stages that work at the same time: threads, and short queues between them that drop rather than grow."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class Closed(Exception):
    """A queue was closed and is empty."""


class BoundedQueue:
    """First in, first out, for any number of threads.

    A full queue makes room by dropping its oldest item, and counts it.

    Args:
        size: most items it holds.
        wait_when_full: wait for room instead of dropping (for work that must not be lost).
    """

    def __init__(self, size: int, wait_when_full: bool = False) -> None:
        if type(size) is not int or size < 1:
            raise ValueError(f'BoundedQueue.size: expected a whole number above 0, found {size!r}')
        self.size, self.wait_when_full, self.dropped = size, wait_when_full, 0
        self._items: deque = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether no more items are taken."""
        return self._closed

    def put(self, item: Any) -> None:
        """Add an item; after `close` it is ignored."""
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
        """Take the oldest item.

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
    """Yield every item after all stages, in order; each stage has a thread of its own.

    So the next item is prepared while this one is computed. Nothing is dropped; `depth` items wait between
    two stages.

    Raises:
        Exception: the first error of a stage or of `items`, where its item would have come.
    """
    # queue i feeds stage i; the last one holds results
    queues = [BoundedQueue(depth, wait_when_full=True) for _ in range(len(stages) + 1)]
    threads = [threading.Thread(target=_feed, args=(items, queues[0]), daemon=True)]
    for stage, source, target in zip(stages, queues[:-1], queues[1:], strict=True):
        threads.append(threading.Thread(target=_work, args=(stage, source, target), daemon=True))
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
        # also when the caller takes no more results: waiting threads wake up and end
        for queue in queues:
            queue.close()
        for thread in threads:
            thread.join()


def _feed(items: Iterable[Any], queue: BoundedQueue) -> None:
    try:
        for item in items:
            if queue.closed:
                return
            queue.put((item, None))
    except Exception as error:  # raised where the results are taken
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
            except Exception as failure:  # raised where the results are taken
                value, error = None, failure
        target.put((value, error))


def one_torch_thread() -> None:
    """Let torch compute on the calling thread alone; other threads keep their setting.

    Stages that run beside an engine share its cores: torch's own helpers would spin for each other (measured
    on two busy cores: decoding on two threads took ten times as long as on one).
    """
    import torch
    torch.set_num_threads(1)


def on_one_thread(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, during which torch computes on one thread."""
    def wrapped(*arguments: Any) -> Any:
        """Call, and give torch its threads back."""
        import torch
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call(*arguments)
        finally:
            torch.set_num_threads(before)

    return wrapped
