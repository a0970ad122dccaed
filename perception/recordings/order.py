"""Messages in the order of their own times, from a stream that is nearly in order.

A message is held back for a while, so that an earlier one that was written later can overtake it. The clock
that made the times is watched: where it jumps, what is held is given out and a new stretch begins.
"""
from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from ..core.reading import MIB
from .decoding import MessageDecoder
from .storage.records import BagTopic, RawMessage

NS = 1_000_000_000


@dataclass(frozen=True)
class BagMessage:
    """A message in order.

    Attributes:
        topic: where it came from.
        time_ns: its own time: its header's, else the time it was written, put on the headers' clock.
        log_ns: when it was written.
        stretch: how many jumps of the clock come before it; times of two stretches cannot be compared.
        has_stamp: whether the time is its header's.
        data: its bytes.
    """

    topic: BagTopic
    time_ns: int
    log_ns: int
    stretch: int
    has_stamp: bool
    data: bytes = field(repr=False)
    decoder: MessageDecoder = field(repr=False, compare=False)

    def decode(self) -> Any:
        """The message as an object whose attributes are its fields.

        Raises:
            UndecodableMessage: the bytes are no message of their type.
        """
        return self.decoder.decode(self.topic, self.data)


@dataclass(frozen=True)
class OrderOptions:
    """How messages are put in order.

    Attributes:
        window_s: how long a message is held back for earlier ones.
        held_mib: largest content held back; then the earliest goes, before its while is over.
        jump_s: a change between a message's own time and the time it was written that is no delay any more.
    """

    window_s: float = 0.5
    held_mib: int = 512
    jump_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ('window_s', 'held_mib', 'jump_s'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name}: found {getattr(self, name)}, expected a number above 0')


@dataclass
class OrderReport:
    """What was found while messages were put in order.

    Attributes:
        late: topic -> messages that came after later ones had been given out; they are left out.
        strays: topic -> single messages whose time is off while those around are not; they are left out.
        repeated: topic -> messages with the time of the one before; they are given out.
        jumps: jumps of the clock, in words.
        other_clocks_s: topic -> seconds between its clock and the first one; ordered by when they were
            written.
    """

    late: Counter[str] = field(default_factory=Counter)
    strays: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    jumps: list[str] = field(default_factory=list)
    other_clocks_s: dict[str, float] = field(default_factory=dict)


class InOrder:
    """Puts one recording's messages in order; a new one for every pass.

    Args:
        decoder: finds the times.
        options: how long to hold back.
        unstamped: topics whose headers' times are not looked at.
    """

    def __init__(
        self, decoder: MessageDecoder, options: OrderOptions, unstamped: Collection[str] = ()
    ) -> None:
        self.report = OrderReport()
        self._unstamped = frozenset(unstamped)
        self._decoder, self._options = decoder, options

        self._numbers = count()
        self._heap: list[tuple[int, int, BagMessage]] = []
        self._arrived: deque[tuple[int, int]] = deque()
        self._held_bytes = 0
        self._stretch = 0
        self._given_ns: int | None = None
        self._newest_log_ns: int | None = None
        # own time minus time of writing: of every topic's last message, and of the clock that orders
        self._lag_ns: dict[str, int] = {}
        self._main_lag_ns: int | None = None
        self._waiting: dict[str, tuple[RawMessage, int]] = {}
        self._last_stamp: dict[str, int] = {}

    def __call__(self, messages: Iterable[RawMessage]) -> Iterator[BagMessage]:
        """The messages by their own times, in stretches between which the clock jumped."""
        for raw in messages:
            if self._log_went_back(raw):
                yield from self._new_stretch(
                    f'{raw.topic.name}: the times of writing went back by '
                    f'{(self._newest_log_ns - raw.log_ns) / NS:.3f} s')
                self._newest_log_ns = raw.log_ns
            self._newest_log_ns = max(raw.log_ns, self._newest_log_ns or raw.log_ns)

            yield from self._placed(raw)
            yield from self._released()
        yield from self._emptied()
        self.report.strays.update(list(self._waiting))

    def _log_went_back(self, raw: RawMessage) -> bool:
        limit_ns = max(self._options.jump_s, self._options.window_s) * NS
        return self._newest_log_ns is not None and self._newest_log_ns - raw.log_ns > limit_ns

    # ------------------------------------------------------------------------ the clock

    def _placed(self, raw: RawMessage) -> Iterator[BagMessage]:
        """Hold a message; one whose time is off waits for the next of its topic, to see if it is alone."""
        name = raw.topic.name
        stamp = None if name in self._unstamped else self._decoder.stamp_ns(raw.topic, raw.data)
        if stamp is None:
            self._hold(raw, raw.log_ns + (self._main_lag_ns or 0), False)
            return

        if stamp == self._last_stamp.get(name):
            self.report.repeated[name] += 1
        self._last_stamp[name] = stamp
        lag = stamp - raw.log_ns
        known = self._lag_ns.get(name, lag)

        if self._near(lag, known):
            if self._waiting.pop(name, None):
                self.report.strays[name] += 1
        elif name in self._waiting and self._near(lag, self._waiting[name][1]):
            yield from self._jumped(raw, lag, known)
        else:
            if name in self._waiting:
                self.report.strays[name] += 1
            self._waiting[name] = (raw, lag)
            return
        self._hold_at(raw, lag)

    def _near(self, lag_ns: int, other_ns: int | None) -> bool:
        return other_ns is None or abs(lag_ns - other_ns) <= self._options.jump_s * NS

    def _jumped(self, raw: RawMessage, lag_ns: int, known_ns: int) -> Iterator[BagMessage]:
        """Two messages agree on a new clock: a new stretch, unless other topics went to it before."""
        name = raw.topic.name
        if self._near(known_ns, self._main_lag_ns) and not self._near(lag_ns, self._main_lag_ns):
            yield from self._new_stretch(f'{name}: its clock jumped by {(lag_ns - known_ns) / NS:+.3f} s')
            self._main_lag_ns = lag_ns
        before, lag_before = self._waiting.pop(name)
        self._hold_at(before, lag_before)

    def _hold_at(self, raw: RawMessage, lag_ns: int) -> None:
        """Hold a message by its own time, or by that of writing where its topic has a clock of its own."""
        self._lag_ns[raw.topic.name] = lag_ns
        if self._main_lag_ns is None:
            self._shift_held(lag_ns)
        if self._near(lag_ns, self._main_lag_ns):
            self._main_lag_ns = lag_ns
            self.report.other_clocks_s.pop(raw.topic.name, None)
        else:
            self.report.other_clocks_s[raw.topic.name] = (lag_ns - self._main_lag_ns) / NS
        self._hold(raw, raw.log_ns + self._main_lag_ns, True, raw.log_ns + lag_ns)

    def _shift_held(self, lag_ns: int) -> None:
        """Put what is held on the clock of the first header, as its own times said nothing of it."""
        self._heap = [
            (place + lag_ns, number, replace(message, time_ns=message.time_ns + lag_ns))
            for place, number, message in self._heap]
        self._arrived = deque((log_ns, place + lag_ns) for log_ns, place in self._arrived)
        self._given_ns = None

    def _new_stretch(self, words: str) -> Iterator[BagMessage]:
        yield from self._emptied()
        self.report.jumps.append(words)
        self._stretch += 1
        self._given_ns = None

    # ------------------------------------------------------------------------ the held messages

    def _hold(self, raw: RawMessage, place_ns: int, has_stamp: bool, time_ns: int | None = None) -> None:
        """Hold a message at its place in the order; `time_ns` where its own time is another."""
        if self._given_ns is not None and place_ns < self._given_ns:
            self.report.late[raw.topic.name] += 1
            return

        message = BagMessage(
            raw.topic, place_ns if time_ns is None else time_ns, raw.log_ns, self._stretch, has_stamp,
            raw.data, self._decoder)
        heapq.heappush(self._heap, (place_ns, next(self._numbers), message))
        self._arrived.append((raw.log_ns, place_ns))
        self._held_bytes += len(raw.data)

    def _released(self) -> Iterator[BagMessage]:
        """What has been held long enough, and all that comes before it."""
        window_ns = self._options.window_s * NS
        while self._arrived and self._newest_log_ns - self._arrived[0][0] > window_ns:
            _, time_ns = self._arrived.popleft()
            yield from self._until(time_ns)

        while self._held_bytes > self._options.held_mib * MIB and len(self._heap) > 1:
            yield self._popped()

    def _until(self, time_ns: int) -> Iterator[BagMessage]:
        while self._heap and self._heap[0][0] <= time_ns:
            yield self._popped()

    def _emptied(self) -> Iterator[BagMessage]:
        self._arrived.clear()
        while self._heap:
            yield self._popped()

    def _popped(self) -> BagMessage:
        self._given_ns, _, message = heapq.heappop(self._heap)
        self._held_bytes -= len(message.data)
        return message

