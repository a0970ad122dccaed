"""Which measurement belongs to which key frame, decided while a recording streams by.

Letters: no arrays here; times are nanoseconds.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .mapping import KeyFrameOptions

NS = 1_000_000_000


@dataclass
class KeyFrame:
    """A key frame.

    Attributes:
        scene: number of its scene, from 0.
        index: number in its scene, from 0.
        time_ns: of its reference measurement.
        filled: channels that have their measurement.
    """

    scene: int
    index: int
    time_ns: int
    filled: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Placed:
    """A measurement with its place in the drive.

    Attributes:
        channel, time_ns: of the measurement.
        message: what was held.
        scene: number of its scene.
        key_frame: number of the key frame in that scene that it is of, or for a sweep comes before.
        is_key_frame: whether it is the key frame's own.
        key_time_ns: of that key frame, then.
    """

    channel: str
    time_ns: int
    message: Any
    scene: int
    key_frame: int
    is_key_frame: bool
    key_time_ns: int = 0


class KeyFrameChooser:
    """Chooses key frames among the reference's measurements, and the nearest of every other sensor.

    Measurements come in the order of time. Each is held until all that could be nearer to its key frame have
    come: twice the tolerance.

    Args:
        reference: channel whose times key frames have.
        options: how often, how near.

    Attributes:
        scenes: how many have begun.
        done_ns: every measurement up to here has been given out.
        cuts: why scenes began, in words, with the time (ns).
    """

    def __init__(self, reference: str, options: KeyFrameOptions) -> None:
        self.reference, self.options = reference, options
        self.scenes = 0
        self.done_ns = 0
        self.cuts: list[tuple[int, str]] = []
        self._held: deque[tuple[str, int, Any]] = deque()
        self._frames: deque[KeyFrame] = deque()
        self._newest: KeyFrame | None = None
        self._last_reference_ns: int | None = None
        self._period_ns: int | None = None
        self._frames_in_scene = max(1, round(options.scene_s / options.period_s))

    def add(self, channel: str, time_ns: int, message: Any) -> None:
        """Hold a measurement; one of the reference may begin a key frame."""
        if channel == self.reference:
            self._consider(time_ns)
        self._held.append((channel, time_ns, message))

    def _consider(self, time_ns: int) -> None:
        last, self._last_reference_ns = self._last_reference_ns, time_ns
        options = self.options
        if self._newest is None or last is None:
            self._begin_scene(time_ns, 'the recording begins')
            return

        step = time_ns - last
        self._period_ns = step if self._period_ns is None else min(self._period_ns, max(step, 1))
        if step > options.longest_gap_s * NS:
            self._begin_scene(time_ns, f'{self.reference} was silent for {step / NS:.2f} s')
            return

        # the measurement that lies nearest to a period behind the last key frame
        if time_ns + self._period_ns / 2 >= self._newest.time_ns + options.period_s * NS:
            if self._newest.index + 1 == self._frames_in_scene:
                self._begin_scene(time_ns, '')
            else:
                self._begin_frame(self._newest.scene, self._newest.index + 1, time_ns)

    def _begin_scene(self, time_ns: int, words: str) -> None:
        if words:
            self.cuts.append((time_ns, words))
        self._begin_frame(self.scenes, 0, time_ns)
        self.scenes += 1

    def _begin_frame(self, scene: int, index: int, time_ns: int) -> None:
        self._newest = KeyFrame(scene, index, time_ns)
        self._frames.append(self._newest)

    def cut(self) -> Iterator[Placed]:
        """Give out all that is held; the next reference begins a scene, as the clock is another one."""
        yield from self.released(None)
        self._frames.clear()
        self._newest = self._last_reference_ns = None

    def released(self, now_ns: int | None) -> Iterator[Placed]:
        """The measurements whose place is certain now; all with None."""
        wait_ns = 2 * self.options.tolerance_s * NS
        while self._held and (now_ns is None or now_ns - self._held[0][1] > wait_ns):
            channel, time_ns, message = self._held.popleft()
            self.done_ns = max(self.done_ns, time_ns)
            placed = self._place(channel, time_ns, message)
            if placed is not None:
                yield placed

    def _place(self, channel: str, time_ns: int, message: Any) -> Placed | None:
        """The place of a measurement; None before the first key frame of all, and long behind the last."""
        tolerance_ns = self.options.tolerance_s * NS
        while len(self._frames) > 2 and self._frames[1].time_ns < time_ns - tolerance_ns:
            self._frames.popleft()

        for frame in self._frames:
            distance = abs(frame.time_ns - time_ns)
            near = distance <= (0 if channel == self.reference else tolerance_ns)
            if near and channel not in frame.filled and not self._nearer(channel, frame, distance):
                frame.filled.add(channel)
                return Placed(channel, time_ns, message, frame.scene, frame.index, True, frame.time_ns)

        # a sweep: of the key frame that comes next, which may not have been chosen yet
        after = next((frame for frame in self._frames if frame.time_ns > time_ns), None)
        if after is not None:
            return Placed(channel, time_ns, message, after.scene, after.index, False)
        if not self._frames:
            return None
        last = self._frames[-1]
        options = self.options
        if time_ns - last.time_ns > (options.period_s + options.longest_gap_s) * NS:
            return None  # the reference is silent
        if last.index + 1 == self._frames_in_scene:
            return Placed(channel, time_ns, message, last.scene + 1, 0, False)
        return Placed(channel, time_ns, message, last.scene, last.index + 1, False)

    def _nearer(self, channel: str, frame: KeyFrame, distance_ns: int) -> bool:
        """Whether a measurement that is still held lies nearer to a key frame."""
        return any(
            name == channel and abs(time_ns - frame.time_ns) < distance_ns for name, time_ns, _ in self._held)
